"""The program of a stack: one forward and backward pass, one clipping, one update for all trials.

Its shapes and its memory stay as they are while trials come and go and hyperparameters change, so
that it is compiled once.

On a CPU the rows are shared out to threads, each of which computes its trials from the tokens to
the update with one thread: they wait for each other once a step and not in every operation.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from stepladder.models.transformer import Transformer
from stepladder.recipe import Recipe
from stepladder.train.execution import Execution
from stepladder.train.loop import autocast
from stepladder.train.stacked.layers import stack_layers
from stepladder.train.stacked.losses import training_losses
from stepladder.train.stacked.rows import Rows
from stepladder.train.stacked.trial import Trial
from stepladder.train.stacked.updates import choose_updates

T = TypeVar("T")
R = TypeVar("R")
CLIP_EPS = 1e-6  # as in torch's clip_grad_norm_


class Threads(AbstractContextManager["Threads"]):
    """Threads that each run their operations alone; none but this one where a device has its own
    ways (CUDA, a compiled program), or where torch was given one thread."""

    def __init__(self, execution: Execution) -> None:
        plain = execution.device.type == "cpu" and not execution.compiled
        self.count = torch.get_num_threads() if plain else 1

    def __enter__(self) -> "Threads":
        self._before = torch.get_num_threads()
        if self.count > 1:
            torch.set_num_threads(1)
            self._pool = ThreadPoolExecutor(self.count, initializer=_alone)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.count > 1:
            self._pool.shutdown()
            torch.set_num_threads(self._before)

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`function` of each item, in their order."""
        if self.count == 1 or len(items) == 1:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))


class Program:
    """Steps of up to `room` trials that share the shape of the first.

    Raises:
        Unstackable: the model has a layer without a stacked form.
    """

    def __init__(self, first: Trial, room: int, threads: Threads) -> None:
        self.recipe, self.execution = first.recipe, first.execution
        self.room, self.threads = room, threads
        self.rows = Rows(first.model, _groups(first), alone=("embedding.weight",), room=room)
        self.updates = choose_updates(self.rows, first.optimizer)
        self._shares = [self._share(first.model) for _ in range(threads.count)]
        self._clips = torch.full((room,), torch.inf, device=self.execution.device)

    def adopt(self, row: int, trial: Trial) -> None:
        """Give a trial, new or from another row, its place."""
        self.rows.adopt(row, trial.model)
        self.updates.adopt(row, trial)
        self._clips[row] = trial.recipe.optimizer.clip or torch.inf

    def shrink_to(self, count: int) -> None:
        """Leave empty rows at the end out of the work, unless the program is compiled."""
        count = self.room if self.execution.compiled else count
        shares = len(self._shares)
        for i, share in enumerate(self._shares):
            share.cover(slice(i * count // shares, (i + 1) * count // shares))

    def step(self, trials: Sequence[Trial], x_SBT: Tensor, y_SBT: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step of the trials, which have the first rows.

        Returns:
            Losses and gradient norms before clipping, [S] each, of the trials.
        """

        def one(share: "_Share") -> tuple[Tensor, Tensor]:
            own = share.rows
            return self._step(share, trials[own], x_SBT[own], y_SBT[own])

        at_work = [share for share in self._shares if share.rows.start < share.rows.stop]
        losses, norms = zip(*self.threads.map(one, at_work), strict=True)
        return torch.cat(losses), torch.cat(norms)

    def _step(
        self, share: "_Share", trials: Sequence[Trial], x_SBT: Tensor, y_SBT: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows, total = share.rows, len(trials)
        count = rows.stop - rows.start
        losses_S = share.backward(_padded(x_SBT, count), _padded(y_SBT, count))
        norms_S = self.rows.norms(rows)
        # torch clips by the same expression; an infinite bound leaves the gradients alone.
        factors_S = (self._clips[rows] / (norms_S + CLIP_EPS)).clamp_(max=1.0)
        self.rows.scale_gradients(factors_S, rows)
        self.updates.step(trials, losses_S[:total], slice(rows.start, rows.start + total))
        return losses_S[:total], norms_S[:total]

    def _share(self, model: Transformer) -> "_Share":
        return _Share(self.rows, model, self.recipe, self.execution)


class _Share:
    """Some of the rows, with a model in stacked layers that sees them and no others."""

    def __init__(self, rows: Rows, model: nn.Module, recipe: Recipe, execution: Execution) -> None:
        self.all, self.recipe, self.execution = rows, recipe, execution
        self.rows = slice(0, 0)
        self.parameters = rows.parameters()
        self.stack = cast(Transformer, stack_layers(model, self.parameters))
        self._losses = torch.compile(self._plain) if execution.compiled else self._plain

    def cover(self, rows: slice) -> None:
        """Take these rows from here on."""
        self.rows = rows
        self.all.cover(self.parameters, rows)

    def backward(self, x_SBT: Tensor, y_SBT: Tensor) -> Tensor:
        """The losses of a step, shape [S]; the gradients go to the rows."""
        parts = self.recipe.accumulate
        total_S = torch.zeros(len(x_SBT), device=x_SBT.device)
        chunks = zip(x_SBT.chunk(parts, dim=1), y_SBT.chunk(parts, dim=1), strict=True)
        for i, (x, y) in enumerate(chunks):
            with autocast(self.recipe, self.execution):
                losses_S = self._losses(x, y) / parts
            grads = torch.autograd.grad(losses_S.sum(), list(self.parameters.values()))
            by_name = dict(zip(self.parameters, grads, strict=True))
            self.all.set_gradients(by_name, self.rows, add=i > 0)
            total_S = total_S + losses_S.detach()
        return total_S

    def _plain(self, x_SBT: Tensor, y_SBT: Tensor) -> Tensor:
        return training_losses(self.stack, x_SBT, y_SBT)


def _alone() -> None:
    torch.set_num_threads(1)


def _groups(trial: Trial) -> list[list[str]]:
    """Names of parameters by the plan's groups, each parameter once."""
    names = {id(p): name for name, p in trial.model.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in trial.plan.param_groups(lr=1.0)]


def _padded(tokens_SBT: Tensor, count: int) -> Tensor:
    """Tokens for rows without a trial, which a compiled program takes along."""
    missing = count - len(tokens_SBT)
    if not missing:
        return tokens_SBT
    return torch.cat((tokens_SBT, tokens_SBT.new_zeros(missing, *tokens_SBT.shape[1:])))
