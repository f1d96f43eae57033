"""A sitting at one run by several processes, each with its share of the model and of the batch."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from stepladder import optim
from stepladder.branches import Branch
from stepladder.data import Dataset
from stepladder.models.build import build
from stepladder.models.transformer import Transformer
from stepladder.recipe import Recipe
from stepladder.run_directory import Run
from stepladder.scaling import Plan
from stepladder.train.checkpoint import (
    Progress,
    load_weights,
    read_optimizer_state,
    read_progress,
    write_state,
)
from stepladder.train.evaluate import Evaluation, sequence_losses, summary
from stepladder.train.execution import Execution
from stepladder.train.loop import Session, autocast
from stepladder.train.sharding import (
    Grid,
    Listener,
    columns,
    copies,
    local,
    share_of,
    spread,
    summands,
    whole_of,
)
from stepladder.train.sitting import Watcher, optimizer_over, parameter_groups
from stepladder.train.updates import kept, updates_for

CLIP_EPS = 1e-6  # as in torch's clip_grad_norm_


class ShardedSession(Session):
    """A sitting at one run by all processes of a grid, each with its share.

    The optimizer holds plain tensors and need not know of meshes: `stepladder.train.updates`.
    """

    def __init__(
        self,
        recipe: Recipe,
        run: Run,
        dataset: Dataset,
        execution: Execution,
        watch: Watcher,
        grid: Grid,
    ) -> None:
        self.grid = grid
        self.listener = Listener(execution.device)
        super().__init__(recipe, run, dataset, execution, watch)
        self.listener.attach(self.model)
        run.log(f"on {grid.size} processes, {grid.tensor.size()} to a matrix")
        inputs, targets = self.validation
        self.sequences = len(inputs)
        own = self._own_sequences()
        self.validation = inputs[own], columns(targets[own], grid)

    def save(self) -> None:
        """Gather the run's state, and have the first process write a checkpoint."""
        self.whole = self._gathered()
        super().save()
        del self.whole
        dist.barrier()

    def _built(self) -> tuple[Transformer, Plan, Optimizer]:
        arrange = partial(spread, grid=self.grid)
        model, plan = build(self.recipe, self.execution.device, arrange)
        groups = parameter_groups(self.recipe, plan)
        self.names: list[str] = [name for group in groups for name in group["names"]]
        self.parameters: list[DTensor] = [p for group in groups for p in group["params"]]
        self.updates = updates_for(self.recipe.optimizer, self.parameters)
        of = {id(p): own for p, own in zip(self.parameters, self.updates.own, strict=True)}
        for group in groups:
            group["params"] = [of[id(p)] for p in group["params"]]
        optimizer = optimizer_over(self.recipe, groups)
        self.updates.attach(optimizer)
        return model, plan, optimizer

    @property
    def branch_is_due(self) -> bool:
        """Never: shares would have to be gathered once more. Such a run starts from no other's
        trunk either."""
        return False

    def _branches(self) -> Iterable[Branch]:
        return ()

    def _read_checkpoint(self, folder: Path) -> Progress:
        whole = Transformer(self.recipe.model)
        load_weights(folder, whole)
        values = dict(whole.named_parameters())
        for name, parameter in zip(self.names, self.parameters, strict=True):
            local(parameter).copy_(share_of(values[name].detach(), parameter))
        self.updates.load(self.optimizer, read_optimizer_state(folder, "cpu"))
        return read_progress(folder)

    def _gathered(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and the optimizer's state, whole, in the memory of the first process's CPU."""
        weights = {
            name: kept(whole_of(local(parameter), parameter))
            for name, parameter in zip(self.names, self.parameters, strict=True)
        }
        return weights, self.updates.state_of(self.optimizer)

    def _write_checkpoint(self, folder: Path) -> None:
        weights, state = self.whole
        model = Transformer(self.recipe.model)
        model.load_state_dict(weights)
        write_state(folder, model, state, self.progress)

    def _loss_function(self) -> Callable[[Tensor, Tensor], Tensor]:
        return self.model.loss  # its modules gather and scatter what they share

    def _share(self, x_BT: Tensor, y_BT: Tensor) -> tuple[Tensor, Tensor]:
        """This process's sequences of a micro-batch, the targets of its tokens of them."""
        x, y = (z.chunk(self.grid.data.size())[self.grid.row] for z in (x_BT, y_BT))
        return x, columns(y, self.grid)

    def _clip(self, bound: float) -> Tensor:
        """As torch's clip_grad_norm_ of whole gradients; leaves them to be stepped with."""
        norm = self._norm()
        factor = (bound / (norm + CLIP_EPS)).clamp(max=1.0)
        for parameter in self.parameters:
            if parameter.grad is not None:
                grad = local(cast(DTensor, parameter.grad)).div_(summands(parameter, self.grid))
                grad.mul_(factor.to(grad.dtype))
        return norm

    def _norm(self) -> Tensor:
        squares = torch.zeros((), device=self.execution.device, dtype=torch.float64)
        for parameter in self.parameters:
            if parameter.grad is not None:
                grad = local(cast(DTensor, parameter.grad)).double()
                square = grad.square().sum() / summands(parameter, self.grid) ** 2
                squares += square / copies(parameter)
        dist.all_reduce(squares)
        return squares.sqrt()

    def _backward(self) -> tuple[Tensor, Tensor]:
        """Where a step has one micro-batch, the small batch is a process's share of it."""
        self.listener.squares.zero_()
        loss, first = super()._backward()
        if self._small() < self.recipe.batch // self.recipe.accumulate:
            squares = self.listener.squares.clone()
            dist.all_reduce(squares)
            own, summed = squares.unbind()
            first = self._norm() * (self.grid.size * own / summed).sqrt()
        return loss, first

    def _small(self) -> int:
        small = super()._small()
        alone = self.grid.tensor.size() == 1 and small == self.taken * self.recipe.batch
        return small // self.grid.size if alone else small

    def _agreed(self, wish: bool) -> bool:
        wishes = torch.tensor(int(wish))
        dist.all_reduce(wishes, dist.ReduceOp.MAX)
        return bool(wishes)

    def _mean(self, losses: Tensor) -> Tensor:
        total = losses.double()
        dist.all_reduce(total)
        return total / self.grid.size

    def _own_sequences(self) -> Tensor:
        """Every so-manieth sequence of the validation set; as many in each process, by repeating
        the last, since all must call the model alike."""
        rows = self.grid.data.size()
        each = -(-self.sequences // rows)
        return (torch.arange(each) * rows + self.grid.row).clamp(max=self.sequences - 1)

    def _evaluate(self) -> Evaluation:
        with optim.evaluating(self.optimizer), autocast(self.recipe, self.execution):
            own_N = sequence_losses(self.model, *self.validation)
        cast(FSDPModule, self.model).reshard()  # after a backward pass FSDP would do it itself
        everyone = [torch.empty_like(own_N) for _ in range(self.grid.size)]
        dist.all_gather(everyone, own_N)
        by_row = (
            torch.stack(everyone).view(self.grid.data.size(), self.grid.tensor.size(), -1).mean(1)
        )
        return summary(by_row.T.flatten()[: self.sequences])
