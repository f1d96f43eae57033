"""Configurations as points of the unit cube, and what a study has seen as arrays.

Each parameter is one axis: its range, in the logarithm where it is logarithmic; a choice takes an
equal part of its axis for every value. Where a conditional parameter is not active a point lies in
the middle of its axis.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import Study
from optuna.trial import FrozenTrial

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]

MIDDLE = 0.5
FIRST_ROOM = 64
REFIT_SHARE = 1 / 32  # of the results known, that are new when a model is fitted anew
OF_ENDED = ("x", "level", "loss", "trial", "config", "ended")  # arrays of trials that ended


class Cube:
    """The unit cube of a search space, with an axis a parameter, by name."""

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.names = sorted(distributions)
        self.axes = [distributions[name] for name in self.names]
        self.choices = np.array([_choices(axis) for axis in self.axes])
        self._cells = [_cells(axis) for axis in self.axes]

    def __len__(self) -> int:
        return len(self.names)

    def point(self, values: Mapping[str, Any]) -> Array:
        """Parameters (those that are there) as a point (d,)."""
        return np.array(
            [
                _to_unit(axis, values[name]) if name in values else MIDDLE
                for name, axis in zip(self.names, self.axes, strict=True)
            ]
        )

    def values(self, point: Array) -> dict[str, Any]:
        """The parameters of a point (d,)."""
        axes = zip(self.names, self.axes, np.clip(point, 0.0, 1.0), strict=True)
        return {name: _from_unit(axis, float(x)) for name, axis, x in axes}

    def unseen(self, points: Array, seen: "Seen", level: int) -> Array:
        """Of candidates (m, d), those that were not run at a level and are not at work there.

        All of them where an axis is continuous, so that none comes twice, or where none is left.
        The same recipe gives the same loss: to run it again teaches nothing.
        """
        if not all(self._cells):
            return points
        known = np.concatenate(
            [seen.x[seen.level == level], seen.pending[seen.pending_level == level]]
        )
        left = points[~np.isin(self._cell(points), self._cell(known))]
        return left if len(left) else points

    def _cell(self, points: Array) -> Indices:
        """A number (m,) for each configuration of a space without continuous axes."""
        counts = np.array(self._cells)
        at = np.minimum((points * counts).astype(int), counts - 1)
        return np.asarray(np.ravel_multi_index(tuple(at.T), tuple(self._cells)))


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Trials as arrays, in the order they were asked; good until the history is read again.

    Attributes:
        x: points (n, d) of trials that ended.
        level: of each (n,).
        loss: (n,), infinite where one diverged.
        trial, config: number of each trial, and of the first with its configuration (n,).
        ended: rank of each in the order they ended (n,).
        pending: points (m, d) of trials at work, and `pending_level` (m,).
    """

    x: Array
    level: Indices
    loss: Array
    trial: Indices
    config: Indices
    ended: Indices
    pending: Array
    pending_level: Indices

    def __len__(self) -> int:
        return len(self.x)

    @property
    def finite(self) -> Flags:
        """Which trials gave a loss (n,)."""
        return np.isfinite(self.loss)

    def only(self, which: Indices | Flags) -> "Seen":
        """Some of the trials that ended, with all that are at work."""
        own = {name: getattr(self, name)[which] for name in OF_ENDED}
        return replace(self, **own)

    def first(self, count: int) -> Flags:
        """The trials that were the first `count` to end (n,)."""
        return np.asarray(self.ended < count)

    def bounded(self, most: int, best: int) -> Indices:
        """`most` trials, in the order they were asked: the best, first by level and then by loss,
        and the others thinned out evenly. All of them where there are no more."""
        if len(self) <= most:
            return np.arange(len(self))
        ranked = np.lexsort((self.loss, -self.level))
        rest = np.sort(ranked[best:])
        thinned = rest[np.linspace(0, len(rest) - 1, most - best).astype(int)]
        return np.sort(np.concatenate([ranked[:best], thinned]))


class History:
    """What a sampler knows of its study, read as it grows: each trial once."""

    def __init__(self, cube: Cube) -> None:
        self.cube = cube
        self._count = 0
        self._next = 0
        self._open: list[int] = []
        # A row a trial: number, config, level, rank of its end; and loss, point.
        self._numbers = np.empty((FIRST_ROOM, 4), dtype=np.int64)
        self._values = np.empty((FIRST_ROOM, len(cube) + 1))

    @property
    def at_work(self) -> tuple[int, ...]:
        """Numbers of the trials that had not ended when it was read."""
        return tuple(self._open)

    def read(self, study: Study, now: int) -> Seen:
        """Everything before the trial `now`, which is about to be proposed."""
        trials = study.get_trials(deepcopy=False)
        unread = [trials[number] for number in (*self._open, *range(self._next, len(trials)))]
        self._next = len(trials)
        self._open = [trial.number for trial in unread if not trial.state.is_finished()]
        for trial in sorted(filter(_has_ended, unread), key=_end):
            self._add(trial)
        return self._seen([trials[number] for number in self._open if number != now])

    def _add(self, trial: FrozenTrial) -> None:
        level, loss = outcome(trial)
        if loss is None:
            return
        if self._count == len(self._numbers):
            self._numbers = np.concatenate([self._numbers, np.empty_like(self._numbers)])
            self._values = np.concatenate([self._values, np.empty_like(self._values)])
        at = int(np.searchsorted(self._numbers[: self._count, 0], trial.number))
        config = trial.user_attrs.get("config", trial.number)
        _insert(self._numbers, at, self._count, [trial.number, config, level, self._count])
        _insert(self._values, at, self._count, [loss, *self.cube.point(trial.params)])
        self._count += 1

    def _seen(self, running: list[FrozenTrial]) -> Seen:
        numbers, values = self._numbers[: self._count], self._values[: self._count]
        points = [self.cube.point(trial.params) for trial in running if trial.params]
        levels = [trial.user_attrs.get("level", 0) for trial in running if trial.params]
        return Seen(
            trial=numbers[:, 0],
            config=numbers[:, 1],
            level=numbers[:, 2],
            ended=numbers[:, 3],
            loss=values[:, 0],
            x=values[:, 1:],
            pending=np.array(points).reshape(-1, len(self.cube)),
            pending_level=np.array(levels, dtype=int),
        )


def _insert(rows: NDArray[Any], at: int, count: int, row: list[Any]) -> None:
    """A row into the first `count` of an array that has room for it."""
    rows[at + 1 : count + 1] = rows[at:count]
    rows[at] = row


def _has_ended(trial: FrozenTrial) -> bool:
    return trial.state.is_finished()


def _end(trial: FrozenTrial) -> tuple[Any, int]:
    return trial.datetime_complete, trial.number


def milestone(count: int) -> int:
    """The last count at which what is learned from as many results is learned anew.

    At every result at first, and then about every 3% more: one result among many changes little,
    and a study that is reopened learns from the same.
    """
    step = 2 ** max(0, int(np.log2(REFIT_SHARE * max(count, 1))))
    return count - count % step


def outcome(trial: FrozenTrial) -> tuple[int, float | None]:
    """Level and loss of a trial that ended; the loss is None where it failed or was never run.

    Works for any Optuna study: without levels, every trial is at level 0.
    """
    level = int(trial.user_attrs.get("level", 0))
    if trial.user_attrs.get("diverged"):
        return level, np.inf
    if trial.value is None:
        return level, None
    return level, float(trial.value) if np.isfinite(trial.value) else np.inf


def _choices(axis: BaseDistribution) -> int:
    return len(axis.choices) if isinstance(axis, CategoricalDistribution) else 0


def _cells(axis: BaseDistribution) -> int:
    """Equal parts of an axis that stand for one value each; 0 where it has none such."""
    if isinstance(axis, IntDistribution) and not axis.log:
        return axis.high - axis.low + 1
    return _choices(axis)


def _to_unit(axis: BaseDistribution, value: Any) -> float:
    if isinstance(axis, CategoricalDistribution):
        return (axis.to_internal_repr(value) + 0.5) / len(axis.choices)
    low, high, log = _range(axis)
    if log:
        return float(np.log(value / low) / np.log(high / low))
    return float((value - low) / (high - low))


def _from_unit(axis: BaseDistribution, x: float) -> Any:
    if isinstance(axis, CategoricalDistribution):
        return axis.choices[min(int(x * len(axis.choices)), len(axis.choices) - 1)]
    low, high, log = _range(axis)
    value = low * (high / low) ** x if log else low + (high - low) * x
    if isinstance(axis, IntDistribution):
        return int(np.clip(round(value), axis.low, axis.high))
    assert isinstance(axis, FloatDistribution)
    return float(np.clip(value, axis.low, axis.high))


def _range(axis: BaseDistribution) -> tuple[float, float, bool]:
    assert isinstance(axis, FloatDistribution | IntDistribution)
    margin = 0.5 if isinstance(axis, IntDistribution) else 0.0  # each integer has its equal part
    return axis.low - margin, axis.high + margin, axis.log
