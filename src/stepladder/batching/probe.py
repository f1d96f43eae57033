"""Reads shards' gradients off a step that accumulates micro-batches: the noise scale, the tests."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stepladder.batching.noise_scale import NoiseScaleMeter
from stepladder.batching.statistics import GradientStatistics

if TYPE_CHECKING:
    from torch import Tensor


class AccumulationProbe:
    """Watches one step's accumulation; call `after_backward` after every micro-batch.

    The micro-batches' losses must be divided by their number, so that gradients add up to the mean.
    With `every_shard` the increments are measured one by one (steadier, costs a copy of the
    gradients); without it only the first micro-batch is set against the whole (costs nothing).

    Args:
        parameters: those whose gradients are measured.
        micro_batches: number of micro-batches in a step.
        micro_size: samples in a micro-batch.

    Raises:
        ValueError: fewer than two micro-batches.
    """

    def __init__(
        self,
        parameters: "Sequence[Tensor]",
        *,
        micro_batches: int,
        micro_size: float,
        every_shard: bool = False,
    ) -> None:
        if micro_batches < 2:
            raise ValueError("the noise scale needs at least two micro-batches in a step")
        self._parameters = list(parameters)
        self._count, self._size = micro_batches, micro_size
        self._every = every_shard
        self._squares: list[Tensor] = []
        self._before: list[Tensor] | None = None
        self._seen = 0

    def after_backward(self) -> None:
        """Measure what the micro-batch just done has added to the gradients."""
        self._seen += 1
        if self._seen == 1 or self._every:
            grads = [p.grad for p in self._parameters if p.grad is not None]
            added = grads if self._before is None else _difference(grads, self._before)
            self._squares.append(_square(added) * self._count**2)
            if self._every and self._seen < self._count:
                self._before = [g.detach().clone() for g in grads]

    def finish(self, meter: NoiseScaleMeter) -> None:
        """Give the step's norms to the meter and make ready for the next (fetches from the device).

        Raises:
            ValueError: not every micro-batch was seen.
        """
        if self._seen != self._count:
            raise ValueError(f"{self._seen} of {self._count} micro-batches were seen in this step")
        whole = _square([p.grad for p in self._parameters if p.grad is not None])
        meter.add(
            small_square=float(sum(float(s) for s in self._squares)) / len(self._squares),
            big_square=float(whole),
            small=self._size,
            big=self._size * self._count,
        )
        self._squares, self._before, self._seen = [], None, 0


class ShardProbe:
    """The gradients of equal shards of a step, read off as they add up; for the batch tests.

    Call `after_backward` after every micro-batch; as many in a row make a shard as `shards` says.
    Holds a copy of the gradients for every shard, and leaves the gradients as they are.

    Args:
        parameters: those whose gradients are measured.
        shards: at least two.
        micro_batches: of the step, a multiple of the shards; their losses are divided by it.
        micro_size: samples (or tokens) in a micro-batch.

    Raises:
        ValueError: fewer than two shards, or micro-batches that do not divide into them.
    """

    def __init__(
        self, parameters: "Sequence[Tensor]", *, shards: int, micro_batches: int, micro_size: float
    ) -> None:
        if shards < 2:
            raise ValueError("the gradient's variance needs at least two shards of a step")
        if micro_batches < shards or micro_batches % shards:
            raise ValueError(
                f"{micro_batches} micro-batches do not divide into {shards} shards; accumulate a "
                "multiple of them"
            )
        self._parameters = list(parameters)
        self._shards, self._each = shards, micro_batches // shards
        self._size = micro_size * self._each
        self._sums: list[list[Tensor]] = []  # gradients as they stood after each shard
        self._seen = 0

    def after_backward(self) -> None:
        """Keep what the gradients add up to, where a shard is complete."""
        self._seen += 1
        if self._seen % self._each == 0:
            grads = [p.grad for p in self._parameters]
            self._sums.append([g.detach().clone() for g in grads if g is not None])

    def statistics(self, *, coordinates: bool = False) -> GradientStatistics:
        """What the step's shards say (fetches from the device).

        Args:
            coordinates: by coordinate as well, for the coordinate-wise test.

        Raises:
            ValueError: gradients that are not finite, or a step that is not complete.
        """
        if len(self._sums) != self._shards:
            raise ValueError(f"{len(self._sums)} of {self._shards} shards were seen in this step")
        rows = (_unsummed(list(parts)) for parts in zip(*self._sums, strict=True))
        if not coordinates:
            return _statistics(rows, self._size)
        flat = [row.cpu().numpy() for row in rows]
        return GradientStatistics.from_shards(np.concatenate(flat, axis=1), self._size)


def shard_statistics(shards: "Sequence[Sequence[Tensor]]", shard_size: float) -> GradientStatistics:
    """Statistics from the gradients of every shard (a list of tensors each), for the batch tests.

    Holds nothing but the Gram matrix; the shards themselves must all be there.

    Raises:
        ValueError: gradients that are not finite.
    """
    return _statistics((_stacked(parts) for parts in zip(*shards, strict=True)), shard_size)


def _statistics(rows: "Iterable[Tensor]", shard_size: float) -> GradientStatistics:
    """From one tensor's gradients at a time, [shards, entries] each."""
    gram = sum((part @ part.mT).cpu().numpy() for part in rows)
    return GradientStatistics.from_gram(gram, shard_size)


def _stacked(parts: "Sequence[Tensor]") -> "Tensor":
    """A tensor's gradients in every shard, [shards, entries], float64."""
    import torch

    return torch.stack([part.detach().flatten() for part in parts]).double()


def _unsummed(sums: "Sequence[Tensor]") -> "Tensor":
    """As `_stacked`, from what the gradient stood at after each shard of the mean."""
    import torch

    rows = _stacked(sums)
    return len(sums) * torch.cat([rows[:1], rows.diff(dim=0)])


def _difference(left: "list[Tensor]", right: "list[Tensor]") -> "list[Tensor]":
    return [a - b for a, b in zip(left, right, strict=True)]


def _square(tensors: "Sequence[Tensor]") -> "Tensor":
    return _inner(tensors, tensors)


def _inner(left: "Sequence[Tensor]", right: "Sequence[Tensor]") -> "Tensor":
    import torch

    products = [
        (a.detach().float() * b.detach().float()).sum() for a, b in zip(left, right, strict=True)
    ]
    return torch.stack(products).sum()
