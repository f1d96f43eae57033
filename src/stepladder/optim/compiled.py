"""Compiled kernels that many tensors share.

A compiled call costs half a millisecond once large tensors have emptied the caches of its code, as
much as 400,000 entries of an elementwise step. So BATCH tensors go through one call.

Memory is what a step waits for: what it reads, and hardly what it writes. So what a function sums
is summed in one loop, and a tensor is stepped while it may still be in a cache. The compiler does
so if sums are sums of `lines`, and if numbers that come of them are `held`.
"""

from collections.abc import Callable, Sequence
from math import gcd
from typing import Any

import torch
from torch import Tensor

BATCH = 8
SMALL = 1 << 15  # entries; below it a kernel of its own does not pay
# a product and a sum in one instruction, rounded once: an eighth of the step of Adam-atan2
FUSED: dict[str, str | int | bool | Callable[..., Any]] = {
    "cpp.enable_floating_point_contract_flag": "fast"
}
LINE, SHORTEST = 1 << 10, 1 << 6  # entries of a line: at most, and at least
Row = dict[str, Tensor]  # a parameter ("p"), its gradient ("g"), its state and what else it takes
Result = dict[str, Tensor]
Kind = tuple[tuple[Any, ...], ...]


class Batched:
    """`function(row, scalars)`, compiled once for rows of any size, and run over many rows.

    Args:
        function: changes the tensors of a row in place; returns small tensors that it measured.
        free: how many first dimensions of a tensor have any length; the others' are compiled in.
    """

    def __init__(self, function: Callable[[Row, Any], Result], free: int = 1) -> None:
        def batch(rows: list[Row], scalars: Any) -> list[Result]:
            return [function(row, scalars) for row in rows]

        # torch limits the compilations of one piece of code, hence a copy for every function
        batch.__code__ = batch.__code__.replace()
        self._batch = torch.compile(batch, dynamic=True, options=FUSED)
        self._free = free
        self._spares: dict[Kind, list[Row]] = {}

    def __call__(self, rows: Sequence[Row], scalars: Callable[[torch.dtype], Any]) -> list[Result]:
        """The function's results, row by row.

        Args:
            rows: contiguous tensors; rows that do not share memory.
            scalars: the function's scalars as 0-d tensors of a dtype, which will be the
                parameters': numbers would be compiled in, others converted at every entry.
        """
        results: list[Result] = [{}] * len(rows)
        for kind, indices in self._alike(rows).items():
            values = scalars(rows[indices[0]]["p"].dtype)
            for start in range(0, len(indices), BATCH):
                chosen = indices[start : start + BATCH]
                found = self._run([rows[i] for i in chosen], kind, values)
                for i, result in zip(chosen, found, strict=False):
                    results[i] = result
        return results

    def _run(self, rows: list[Row], kind: Kind, scalars: Any) -> list[Result]:
        """One call. Spare rows fill it up: another number of rows would be compiled again."""
        if kind not in self._spares:
            self._spares[kind] = [self._spare(rows[0]) for _ in range(BATCH - 1)]
            self._tell_sizes(rows + self._spares[kind])
        missing = BATCH - len(rows)
        return self._batch(rows + self._spares[kind][:missing], scalars)

    def _alike(self, rows: Sequence[Row]) -> dict[Kind, list[int]]:
        """The indices of rows that one compilation serves: a length of 1 is compiled in too."""
        found: dict[Kind, list[int]] = {}
        for index, row in enumerate(rows):
            sizes = ((k, t, t.shape[: self._free], t.shape[self._free :]) for k, t in row.items())
            kind = tuple(
                (k, t.dtype, t.device, *(n == 1 for n in any_length), *compiled_in)
                for k, t, any_length, compiled_in in sizes
            )
            found.setdefault(kind, []).append(index)
        return found

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


def lines(t: Tensor) -> Tensor:
    """The same memory as a matrix with rows of LINE entries, or as many as divide it; as a vector
    where they would be short, and on a GPU.

    A float32 sum of a few thousand entries is added up in registers, a longer one through memory.
    """
    length = gcd(t.numel(), LINE)
    if t.ndim == 0 or t.is_cuda or length < SHORTEST:
        return vector(t)
    return t.view(-1, length).detach()
