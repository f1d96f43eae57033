"""The program of a stack: one forward and backward pass, one clipping, one update for all trials.

Its shapes and its memory stay as they are while trials come and go and hyperparameters change, so
that it is compiled once.

On a CPU the rows are shared out to threads, each of which computes its trials from the inputs to
the update with one thread: they wait for each other once a step and not in every operation.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepladder.closing import Closing
from stepladder.train.execution import Execution
from stepladder.train.stacked.rows import Rows
from stepladder.train.stacked.updates import Member, choose_updates

T = TypeVar("T")
R = TypeVar("R")
CLIP_EPS = 1e-6  # as in torch's clip_grad_norm_


class Threads(Closing):
    """Threads that each run their operations alone; none but this one where a device has its own
    ways (CUDA, a compiled program), or where torch was given one thread."""

    def __init__(self, execution: Execution) -> None:
        plain = execution.device.type == "cpu" and not execution.compiled
        self.count = torch.get_num_threads() if plain else 1

    def __enter__(self) -> Self:
        self._before = torch.get_num_threads()
        if self.count > 1:
            torch.set_num_threads(1)
            self._pool = ThreadPoolExecutor(self.count, initializer=_alone)
        return self

    def close(self) -> None:
        """End them; this thread has torch's own again."""
        if self.count > 1:
            self._pool.shutdown()
            torch.set_num_threads(self._before)

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`function` of each item, in their order."""
        if self.count == 1 or len(items) == 1:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))


class Share(Protocol):
    """Some of the rows, with a model that sees them and no others."""

    rows: slice

    def cover(self, rows: slice) -> None:
        """Take these rows from here on."""

    def backward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The losses [S] of a step on inputs [S, ...]; the gradients go to the rows."""


class Program:
    """Steps of as many trials as there are rows, or fewer.

    Args:
        rows: where the trials' parameters lie.
        optimizer: one trial's; the others have the same with other values.
        shares: who computes, in a thread each.
        fixed: whether rows without a trial are computed too, so that shapes never change.
    """

    def __init__(
        self,
        rows: Rows,
        optimizer: Optimizer,
        shares: Sequence[Share],
        threads: Threads,
        *,
        fixed: bool,
    ) -> None:
        self.rows, self.threads, self.fixed = rows, threads, fixed
        self.updates = choose_updates(rows, optimizer)
        self._shares = shares
        self._clips = torch.full((rows.room,), torch.inf, device=rows.device)

    def adopt(self, row: int, trial: Member) -> None:
        """Give a trial, new or from another row, its place."""
        self.rows.adopt(row, trial.model)
        self.updates.adopt(row, trial)
        self._clips[row] = trial.clip

    def shrink_to(self, count: int) -> None:
        """Leave empty rows at the end out of the work, unless the shapes are fixed."""
        count = self.rows.room if self.fixed else count
        shares = len(self._shares)
        for i, share in enumerate(self._shares):
            share.cover(slice(i * count // shares, (i + 1) * count // shares))

    def step(self, trials: Sequence[Member], inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """One optimizer step of the trials, which have the first rows, on inputs [S, ...].

        Returns:
            Losses and gradient norms before clipping, [S] each, of the trials.
        """

        def one(share: Share) -> tuple[Tensor, Tensor]:
            own = share.rows
            return self._step(share, trials[own], [x[own] for x in inputs])

        at_work = [share for share in self._shares if share.rows.start < share.rows.stop]
        losses, norms = zip(*self.threads.map(one, at_work), strict=True)
        return torch.cat(losses), torch.cat(norms)

    def _step(
        self, share: Share, trials: Sequence[Member], inputs: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        rows, total = share.rows, len(trials)
        count = rows.stop - rows.start
        losses_S = share.backward([_padded(x, count) for x in inputs])
        norms_S = self.rows.norms(rows)
        # torch clips by the same expression; an infinite bound leaves the gradients alone.
        factors_S = (self._clips[rows] / (norms_S + CLIP_EPS)).clamp_(max=1.0)
        self.rows.scale_gradients(factors_S, rows)
        if total:
            working = slice(rows.start, rows.start + total)
            self.updates.step(trials, losses_S[:total], working)
        return losses_S[:total], norms_S[:total]


def _alone() -> None:
    torch.set_num_threads(1)


def _padded(inputs: Tensor, count: int) -> Tensor:
    """Inputs for rows without a trial, where these are taken along."""
    missing = count - len(inputs)
    if not missing:
        return inputs
    return torch.cat((inputs, inputs.new_zeros(missing, *inputs.shape[1:])))
