"""One run on several processes: FSDP2, with tensor and sequence parallelism where asked.

    torchrun --nproc-per-node 8 -m stepladder train recipe.toml --tensor-parallel 2

The recipe, its key, its curve and its run directory are those of one process; how the model is
spread is said in `stepladder.train.sharding`.

Only the first process writes the run directory, and whole tensors: a run begun on one process goes
on on any number of them, and the reverse.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from stepladder import optim
from stepladder.branches import Branch
from stepladder.data import Dataset
from stepladder.execute.launched import is_first
from stepladder.models.build import build
from stepladder.models.transformer import Transformer
from stepladder.recipe import Recipe
from stepladder.run_directory import Run
from stepladder.scaling import Plan
from stepladder.store import Store
from stepladder.train.checkpoint import (
    Progress,
    load_weights,
    read_optimizer_state,
    read_progress,
    write_state,
)
from stepladder.train.evaluate import Evaluation, sequence_losses, summary
from stepladder.train.execution import Execution, find_device
from stepladder.train.feedback import controller_of, measures
from stepladder.train.loop import CHECKPOINT_SECONDS, Session, autocast
from stepladder.train.preflight import preflight
from stepladder.train.sharding import (
    Grid,
    Listener,
    columns,
    copies,
    local,
    make_grid,
    share_of,
    spread,
    summands,
    whole_of,
)
from stepladder.train.sitting import Row, Silent, Watcher, optimizer_over, parameter_groups

# Their updates are elementwise, so that a share of a parameter is updated as the whole would be.
OPTIMIZERS = ("adam", "adamw", "sgd")
CLIP_EPS = 1e-6  # as in torch's clip_grad_norm_


def train_distributed(
    recipe: Recipe,
    store: Store,
    dataset: Dataset,
    *,
    device: str = "auto",
    tensor_parallel: int = 1,
    watch: Watcher | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Row:
    """Train a recipe with all processes that torchrun started; each calls this alike.

    As `stepladder.train.train`, with the same curve but for the order of sums. Not compiled.

    Args:
        tensor_parallel: processes that share each matrix; the rest of them shares the batch.
        watch: who sees the run, in the first process.

    Raises:
        ValueError: as `train`, and where the recipe does not divide among the processes; in every
            process.
    """
    execution = Execution(device=_own_device(device), compiled=False)
    with _joined(execution):
        check_divides(recipe, dist.get_world_size(), tensor_parallel)
        grid = make_grid(execution.device.type, tensor_parallel)
        with _claimed(recipe, store, dataset, execution) as run:
            if run.result is None:
                watcher = watch if watch and is_first() else Silent()
                session = ShardedSession(recipe, run, dataset, execution, watcher, grid)
                session.take_every_step(checkpoint_seconds)
            result: Row = _told(run.result)
    return result


def check_divides(recipe: Recipe, processes: int, tensor_parallel: int) -> None:
    """Raise ValueError, naming the fix, where a recipe does not divide among processes."""
    model, name = recipe.model, recipe.optimizer.name
    if name not in OPTIMIZERS:
        raise ValueError(
            f"{name!r} does not run on several processes yet: use one of {', '.join(OPTIMIZERS)}, "
            "or one process"
        )
    if model.tied and processes > 1:
        raise ValueError("a tied head does not run on several processes yet: set tied = false")
    if tensor_parallel < 1 or processes % tensor_parallel:
        raise ValueError(
            f"{processes} processes do not make groups of {tensor_parallel}: choose a "
            "--tensor-parallel that divides them"
        )
    for what in ("kv_heads", "mlp_width", "context"):
        if getattr(model, what) % tensor_parallel:
            raise ValueError(
                f"model.{what} ({getattr(model, what)}) does not divide among {tensor_parallel} "
                "processes: choose another --tensor-parallel"
            )
    if processes > 1 and (controller_of(recipe) or measures(recipe) != "nothing"):
        what = recipe.batching.name or recipe.schedule.name
        raise ValueError(
            f"{what!r} reacts to whole gradients, which several processes do not hold: choose "
            "another, or one process"
        )
    groups = processes // tensor_parallel
    rows = recipe.batch // model.context // recipe.accumulate
    if rows % groups:
        raise ValueError(
            f"{rows} sequences of a micro-batch do not divide among {groups} groups of processes: "
            "start fewer, or lower accumulate"
        )


class ShardedSession(Session):
    """A sitting at one run by all processes of a grid, each with its share.

    The optimizer holds the shares as plain tensors: its arithmetic is elementwise, and it need not
    know of meshes.
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
        self.shares = [nn.Parameter(local(p)) for p in self.parameters]
        of = {id(p): share for p, share in zip(self.parameters, self.shares, strict=True)}
        for group in groups:
            group["params"] = [of[id(p)] for p in group["params"]]
        return model, plan, optimizer_over(self.recipe, groups)

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
        state = read_optimizer_state(folder, "cpu")
        for name, parameter in zip(self.names, self.parameters, strict=True):
            local(parameter).copy_(share_of(values[name].detach(), parameter))
        for index, of_one in state["state"].items():
            like = self.parameters[index]
            for name, value in of_one.items():
                if value.shape == like.shape:
                    of_one[name] = share_of(value, like)
        self.optimizer.load_state_dict(state)
        return read_progress(folder)

    def _gathered(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and the optimizer's state, whole, in the memory of the first process's CPU."""
        weights = {
            name: _kept(whole_of(local(parameter), parameter))
            for name, parameter in zip(self.names, self.parameters, strict=True)
        }
        state = self.optimizer.state_dict()
        state["state"] = {
            index: {
                name: _kept(whole_of(value, like)) if value.shape == share.shape else value
                for name, value in state["state"][index].items()
            }
            for index, (like, share) in enumerate(zip(self.parameters, self.shares, strict=True))
            if index in state["state"]
        }
        return weights, state

    def _write_checkpoint(self, folder: Path) -> None:
        weights, state = self.whole
        model = Transformer(self.recipe.model)
        model.load_state_dict(weights)
        write_state(folder, model, state, self.progress)

    def _share(self, x_BT: Tensor, y_BT: Tensor) -> tuple[Tensor, Tensor]:
        """This process's sequences of a micro-batch, the targets of its tokens of them."""
        x, y = (z.chunk(self.grid.data.size())[self.grid.row] for z in (x_BT, y_BT))
        return x, columns(y, self.grid)

    def _clip(self, bound: float) -> Tensor:
        """As torch's clip_grad_norm_ of whole gradients; leaves the shares of them to step with."""
        for parameter, share in zip(self.parameters, self.shares, strict=True):
            share.data = local(parameter)  # where FSDP keeps it
            share.grad = None if parameter.grad is None else local(cast(DTensor, parameter.grad))
        norm = self._norm()
        for parameter, share in zip(self.parameters, self.shares, strict=True):
            if share.grad is not None:
                share.grad.div_(summands(parameter, self.grid))
        factor = (bound / (norm + CLIP_EPS)).clamp(max=1.0)
        for share in self.shares:
            if share.grad is not None:
                share.grad.mul_(factor.to(share.grad.dtype))
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


def _kept(whole: Tensor) -> Tensor:
    """A gathered tensor, in the one process that writes it."""
    return whole.detach().cpu() if is_first() else torch.empty(0)


class _Follower:
    """The face of a run for processes that write nothing."""

    def __init__(self, result: Row | None, latest: tuple[int, Path] | None) -> None:
        self.result, self._latest = result, latest

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        return self._latest

    def curve_rows(self) -> list[Row]:
        return []

    def log(self, text: str) -> None:
        """Nothing, as all below."""

    def append(self, row: Row) -> None: ...
    def truncate_curve(self, step: int) -> None: ...
    def save_checkpoint(self, step: int, write: Callable[[Path], None]) -> None: ...
    def finish(self, result: Row) -> None: ...


@contextmanager
def _claimed(recipe: Recipe, store: Store, dataset: Dataset, execution: Execution) -> Iterator[Run]:
    """The run in the first process, which claims it for all; what refuses it refuses all."""
    if not is_first():
        problem, result, latest = _told(None)
        if problem:
            raise ValueError(problem)
        yield cast(Run, _Follower(result, latest))
        return
    try:
        known = store.get(recipe.key)
        if known is None or known.result is None:
            preflight(recipe, dataset, execution, store.root, dist.get_world_size())
        claim = store.claim(recipe.key, recipe.to_toml())
        run = claim.__enter__()
        run.keep(dataset.tokenizer_path)
    except ValueError as error:
        _told((str(error), None, None))
        raise
    try:
        _told(("", run.result, run.latest_checkpoint()))
        yield run
    finally:
        claim.__exit__(None, None, None)


def _told(what: Any) -> Any:
    """What the first process says, in all of them."""
    box = [what]
    dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]


@contextmanager
def _joined(execution: Execution) -> Iterator[None]:
    """Membership of torchrun's group, or of one that is there already; words and wishes go over
    the CPU, without waiting for CUDA."""
    if dist.is_initialized():
        yield
        return
    if execution.device.type == "cuda":
        torch.cuda.set_device(execution.device)
    backend = "cpu:gloo,cuda:nccl" if execution.device.type == "cuda" else "gloo"
    dist.init_process_group(backend)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _own_device(name: str) -> torch.device:
    device = find_device(name)
    if device.type == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device
