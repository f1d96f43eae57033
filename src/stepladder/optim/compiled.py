"""Compiled kernels that many tensors share.

The call of a compiled function costs about 0.1 ms once large tensors have emptied the caches of its
code, as much as 100,000 entries of an elementwise step. So BATCH tensors go through one call.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

BATCH = 8
SMALL = 1 << 15  # entries; below it a kernel of its own does not pay
Row = dict[str, Tensor]  # a parameter ("p"), its gradient ("g"), its state and what was measured
Result = dict[str, Tensor]
Kind = tuple[tuple[Any, ...], ...]


class Batched:
    """`function(row, scalars)`, compiled once for rows of any size, and run over many rows.

    Args:
        function: changes the tensors of a row in place; returns small tensors that it measured.
    """

    def __init__(self, function: Callable[[Row, Any], Result]) -> None:
        def batch(rows: list[Row], scalars: Any) -> list[Result]:
            return [function(row, scalars) for row in rows]

        # torch limits the compilations of one piece of code, hence a copy for every function
        batch.__code__ = batch.__code__.replace()
        self._batch = torch.compile(batch, dynamic=True)
        self._spares: dict[Kind, list[Row]] = {}

    def __call__(self, rows: Sequence[Row], scalars: Callable[[torch.dtype], Any]) -> list[Result]:
        """The function's results, row by row.

        Args:
            rows: contiguous tensors; rows that do not share memory.
            scalars: the function's scalars as 0-d tensors of a dtype, which will be the
                parameters': numbers would be compiled in, others converted at every entry.
        """
        results: list[Result] = [{}] * len(rows)
        for kind, indices in _alike(rows).items():
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
            self._spares[kind] = [_spare(rows[0]) for _ in range(BATCH - 1)]
            _of_any_size(rows)
        missing = BATCH - len(rows)
        return self._batch(rows + self._spares[kind][:missing], scalars)


def _alike(rows: Sequence[Row]) -> dict[Kind, list[int]]:
    """The indices of rows that one compilation serves: a dimension of length 1 is compiled in."""
    found: dict[Kind, list[int]] = {}
    for index, row in enumerate(rows):
        kind = tuple((k, t.dtype, t.device, *(n == 1 for n in t.shape)) for k, t in row.items())
        found.setdefault(kind, []).append(index)
    return found


def _spare(row: Row) -> Row:
    """A row of the same kind with hardly an entry."""
    return {key: t.new_zeros([min(n, 2) for n in t.shape]) for key, t in row.items()}


def _of_any_size(rows: list[Row]) -> None:
    """Tell the compiler that these sizes have nothing to do with each other."""
    for t in (t for row in rows for t in row.values()):
        for dim in (d for d, n in enumerate(t.shape) if n > 1):
            torch._dynamo.mark_dynamic(t, dim)


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
