"""Compiled kernels that many tensors share.

A compiled call costs some tenths of a millisecond once large tensors have emptied the caches of its
code, as much as 200,000 entries of an elementwise step. So BATCH tensors go through one call.

Memory is what a step waits for: what it reads, and hardly what it writes. So what a function sums
is summed in one loop, and a tensor is stepped while it may still be in a cache. The compiler does
so if sums are sums of `lines`, and if numbers that come of them are `held`.
"""

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

import torch
from torch import Tensor

from stepladder.optim.shortcut import Description, Options, Result, Row, Shortcut, description

BATCH = 8
SMALL = 1 << 15  # entries; below it a kernel of its own does not pay
# a product and a sum in one instruction, rounded once: an eighth of the step of Adam-atan2
FUSED: Options = {"cpp.enable_floating_point_contract_flag": "fast"}
LINE, SHORTEST = 1 << 10, 1 << 6  # entries of a line: at most (of few tensors twice), and at least
# The rows of a call by their indices, and spare rows that fill it up to BATCH: another number of
# rows would be compiled again.
Chunk = tuple[list[int], list[Row]]


class Batched:
    """`function(row, scalars)`, compiled once for rows of any size, and run over many rows.

    Args:
        function: changes the tensors of a row in place; returns small tensors that it measured.
        free: how many first dimensions of a tensor have any length; the others' are compiled in.
    """

    def __init__(self, function: Callable[[Row, Any], Result], free: int = 1) -> None:
        def batch(rows: list[Row], scalars: Any) -> list[Result]:
            return [function(row, scalars) for row in rows]

        self._batch = Shortcut(batch, FUSED)
        self._free = free
        self._spares: dict[Description, list[Row]] = {}
        self._plans: dict[tuple[Description, ...], list[Chunk]] = {}

    def __call__(self, rows: Sequence[Row], scalars: Callable[[torch.dtype], Any]) -> list[Result]:
        """The function's results, row by row.

        Args:
            rows: each a parameter ("p"), its gradient ("g"), its state and what else it takes, in
                contiguous tensors; rows share no memory.
            scalars: the function's scalars as 0-d tensors of a dtype, which will be the
                parameters': numbers would be compiled in, others converted at every entry.
        """
        results: list[Result] = [{}] * len(rows)
        described = tuple(map(description, rows))
        if described not in self._plans:
            self._plans[described] = self._plan(rows, described)
        values = {dtype: scalars(dtype) for dtype in {row["p"].dtype for row in rows}}
        for indices, spares in self._plans[described]:
            chosen = [rows[i] for i in indices]
            told = tuple(described[i] for i in indices)
            found = self._batch(chosen + spares, values[chosen[0]["p"].dtype], told)
            for i, result in zip(indices, found, strict=False):
                results[i] = result
        return results

    def _plan(self, rows: Sequence[Row], described: Sequence[Description]) -> list[Chunk]:
        """The calls for rows of given descriptions."""
        alike: dict[Description, list[int]] = {}
        for index, told in enumerate(described):
            alike.setdefault(self._kind(told), []).append(index)
        plan: list[Chunk] = []
        for kind, indices in alike.items():
            if kind not in self._spares:
                self._spares[kind] = [self._spare(rows[indices[0]]) for _ in range(BATCH - 1)]
                self._tell_sizes([*(rows[i] for i in indices[:BATCH]), *self._spares[kind]])
            for start in range(0, len(indices), BATCH):
                chosen = indices[start : start + BATCH]
                plan.append((chosen, self._spares[kind][: BATCH - len(chosen)]))
        return plan

    def _kind(self, told: Description) -> Description:
        """What rows of one compilation have in common: a length of 1 is compiled in too."""
        return tuple(
            (name, *(n == 1 for n in shape[: self._free]), *shape[self._free :], *others)
            for name, shape, *others in told
        )

    def _spare(self, row: Row) -> Row:
        """A row of the same kind with hardly an entry."""
        free = self._free
        return {
            key: t.new_zeros([*(min(n, 2) for n in t.shape[:free]), *t.shape[free:]])
            for key, t in row.items()
        }

    def _tell_sizes(self, rows: list[Row]) -> None:
        """Tell the compiler which sizes may change, and have nothing to do with each other."""
        for t in (t for row in rows for t in row.values()):
            for dim in (d for d, n in enumerate(t.shape) if n > 1):
                changes = dim < self._free
                mark = torch._dynamo.mark_dynamic if changes else torch._dynamo.mark_static
                mark(t, dim)


def worth_compiling(p: Tensor, g: Tensor) -> bool:
    """Large enough that one kernel pays for its launch, and stored so that it is a vector."""
    return p.is_contiguous() and g.is_contiguous() and p.numel() >= SMALL


def state_of(row: Row) -> dict[str, Tensor]:
    """A row without its parameter and its gradient."""
    return {key: t for key, t in row.items() if key not in ("p", "g")}


def vector(t: Tensor) -> Tensor:
    """The same memory as a vector; detached, else the compiler would guard on the view's base."""
    return t.view(-1).detach() if t.ndim else t


def matrix(t: Tensor) -> Tensor:
    """The same memory as a matrix of the tensor's rows."""
    return t.view(t.shape[0], -1).detach() if t.ndim else t


def lines(t: Tensor, longest: int = LINE) -> Tensor:
    """The same memory as a matrix with rows of `longest` entries, or as many as divide it; as a
    vector where they would be short, and on a GPU.

    A float32 sum of a few thousand entries is added up in registers, a longer one through memory.
    """
    length = gcd(t.numel(), longest)
    if t.ndim == 0 or t.is_cuda or length < SHORTEST:
        return vector(t)
    return t.view(-1, length).detach()


def longest_line(tensors: int) -> int:
    """Of that many tensors whose lines are summed and then written. The start of a page is waited
    for, so long ones are faster, if all stay in a core's first cache (24 kB of three tensors)."""
    return 2 * LINE if tensors <= 3 else LINE
