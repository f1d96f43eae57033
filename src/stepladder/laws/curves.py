"""Loss curves under a learning-rate schedule, as inputs of the multi-power law.

What the law needs of a schedule at step t: the learning rate summed up to t, and for every change
of the rate before t its size, the rate after it, and the rate summed since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stepladder.laws.law import Array, Index

BLOCKS = 128  # changes of rate are gathered into at most so many, of equal drop
TINY = 1e-300  # keeps a mean over changes of size zero a number


class Curve(NamedTuple):
    """A run: the learning rate of every step (steps,), and losses at some of them.

    `at` are step indices counted from zero; `loss` is measured after the step of that index.
    """

    lr: Array
    at: Index
    loss: Array


def schedule_inputs(lr: Array, at: Index, blocks: int | None = BLOCKS) -> dict[str, Array]:
    """Inputs of the law `multi-power` at step indices `at` of a schedule.

    Args:
        lr: (steps,) learning rate of every step, warmup included.
        blocks: gather the changes of rate into so many; None keeps every one (exact, and slow
            where the rate changes at every step).

    Returns:
        lr_sum (points,); drop, after and since, each (points, changes): by how much the rate fell
        (negative where it rose), the rate after the change, and the rate summed from the change up
        to and including the point.
    """
    lr = np.asarray(lr, dtype=np.float64)
    total = np.cumsum(lr)
    change = np.flatnonzero(np.diff(lr)) + 1
    if len(change) == 0:  # a constant rate: one change of size zero keeps the shapes
        change = np.array([1 if len(lr) > 1 else 0])
    previous = np.where(change > 0, lr[change - 1], lr[0])
    drop, after = previous - lr[change], lr[change]
    begun = total[change] - lr[change]  # summed before the change
    groups = np.arange(len(change)) if blocks is None else _groups(drop, blocks)
    # sums over the changes of each block that a point has seen, as differences of running sums:
    # a rate that falls at every step has too many changes for an array of points by changes
    ends = np.append(groups[1:], len(change))
    done = np.searchsorted(change, at, side="right")
    ends = np.clip(done[:, None], groups, ends)
    size = np.abs(drop) + TINY
    seen, moment = (_between(x, groups, ends) for x in (size, size * begun))
    return {
        "lr_sum": total[at],
        "drop": _between(drop, groups, ends),
        "after": np.broadcast_to(_means(after, drop, groups), (len(at), len(groups))).copy(),
        "since": np.where(ends > groups, total[at][:, None] - moment / (seen + TINY), 0.0),
    }


def stack(curves: Sequence[Curve], blocks: int = BLOCKS) -> dict[str, Array]:
    """Columns of several runs together, with their losses, ready for `fit("multi-power", ...)`.

    Runs with fewer changes of rate are filled up with changes of size zero.
    """
    parts = [schedule_inputs(c.lr, c.at, blocks) for c in curves]
    width = max(part["drop"].shape[1] for part in parts)
    fill = {"drop": 0.0, "since": 0.0, "after": float(curves[0].lr.max())}
    columns = {"lr_sum": np.concatenate([part["lr_sum"] for part in parts])}
    for name, value in fill.items():
        padded = [
            np.pad(p[name], ((0, 0), (0, width - p[name].shape[1])), constant_values=value)
            for p in parts
        ]
        columns[name] = np.concatenate(padded)
    return {**columns, "loss": np.concatenate([c.loss for c in curves])}


@dataclass(frozen=True, kw_only=True)
class CurveError:
    """How well a curve was predicted (the measures of arXiv:2503.12811, section 4)."""

    r2: float
    mae: float
    rmse: float
    prede: float  # mean of |error| / loss
    worste: float  # largest of the same


def curve_error(predicted: Array, measured: Array) -> CurveError:
    """The five measures of one curve."""
    miss = measured - predicted
    relative = np.abs(miss) / measured
    return CurveError(
        r2=float(1 - np.sum(miss**2) / np.sum((measured - measured.mean()) ** 2)),
        mae=float(np.mean(np.abs(miss))),
        rmse=float(np.sqrt(np.mean(miss**2))),
        prede=float(relative.mean()),
        worste=float(relative.max()),
    )


def _groups(drop: Array, blocks: int) -> Index:
    """First change of each block; blocks hold about the same sum of |drop|, and one sign."""
    done = np.cumsum(np.abs(drop))
    block = np.floor(done / max(done[-1], 1e-300) * blocks * (1 - 1e-12)).astype(int)
    new = (np.diff(block) > 0) | (np.diff(np.sign(drop)) != 0)
    return np.concatenate([[0], np.flatnonzero(new) + 1])


def _between(x: Array, begin: Index, end: Index) -> Array:
    """Sums of x from `begin` up to `end`."""
    running = np.append(0.0, np.cumsum(x))
    return np.asarray(running[end] - running[begin])


def _means(x: Array, drop: Array, groups: Index) -> Array:
    weight = np.abs(drop) + TINY
    return np.asarray(np.add.reduceat(x * weight, groups) / np.add.reduceat(weight, groups))
