"""A run while it is going: where it will end, judged by the curves of the rungs, and an alarm.

Rungs trained by one rule trace one curve once time is divided by the whole run and the loss above
the floor by its final value (arXiv:2507.02119). So the final validation loss of a run is foretold
by its training losses so far:

    log((final - floor) / (training loss at x of the way - floor)) = a(x) + b(x) log C

The rungs give a and b at every x, gap between training and validation text included, and how far a
run strays from them. What they say of a rung that is left out tells by how much that falls short.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from stepladder.laws.law import Array

FIRST = 0.1  # of the way: where the first look is taken
WINDOW = 0.1  # of the way: training losses that a look averages
GRID = np.linspace(FIRST, 1.0, 181)
LASTING = 0.05  # of the way that a run is outside its forecast before the alarm
LEAST_RUNS = 4
LEAST_SPREAD = 1e-3  # of the loss above the floor: runs that agree better still hold seed noise


class Trace(NamedTuple):
    """Training losses: progress (rows,) from 0 to 1 of the planned run, and the loss there."""

    progress: Array
    loss: Array


class Finished(NamedTuple):
    """A run of a rung: its compute in FLOP, its final validation loss, its training losses."""

    flops: float
    final: float
    trace: Trace


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the rungs say of a run of one compute, at every progress of `GRID`.

    Args:
        floor: the loss that normalisation takes away: E of the ladder's law.
        log_ratio: (grid,) expected logarithm of final validation over training loss, above the
            floor.
        spread: (grid,) standard error of one run's, `widened` included.
        freedom: degrees of freedom of the spread.
        widened: factor that leaving rungs out has asked for, 1 or more.
    """

    floor: float
    log_ratio: Array
    spread: Array
    freedom: int
    widened: float


@dataclass(frozen=True, kw_only=True)
class Heading:
    """Where a run will end, judged by its curve alone: a loss, and its interval at a level."""

    progress: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A run that left its forecast for good.

    Args:
        side: "above" or "below" the forecast, or "not finite".
        heading: where the run was heading when the alarm was raised.
        since: the progress at which it left.
    """

    side: str
    heading: Heading
    since: float


def shape(runs: Sequence[Finished], floor: float, flops: float) -> Shape:
    """What finished rungs say of a run of `flops`.

    Raises:
        ValueError: fewer than four runs or three scales, a curve that does not reach the end, or
            one that comes down to the floor.
    """
    scales = np.array([np.log(run.flops) for run in runs])
    if len(runs) < LEAST_RUNS or len(set(scales)) < 3:
        raise ValueError(
            f"{len(runs)} runs at {len(set(scales))} scales cannot say how a target will go: it "
            f"takes {LEAST_RUNS} at 3"
        )
    ratios = np.array([_log_ratio(run, floor, at) for at, run in enumerate(runs)])
    widened = _left_out(scales, ratios)
    expected, spread = _line(scales, ratios, float(np.log(flops)))
    return Shape(
        floor=floor,
        log_ratio=expected,
        spread=widened * spread,
        freedom=len(runs) - 2,
        widened=widened,
    )


def headings(shape: Shape, run: Trace, level: float) -> list[Heading]:
    """Where a run was heading at each of its rows, from the first look on."""
    reach = float(stdtrit(shape.freedom, 0.5 + level / 2))
    at = np.asarray(run.progress)[np.asarray(run.progress) >= FIRST - 1e-9]
    above = _averaged(run, at) - shape.floor
    with np.errstate(invalid="ignore"):
        middle = np.log(np.maximum(above, np.finfo(float).tiny)) + np.interp(
            at, GRID, shape.log_ratio
        )
    spread = reach * np.interp(at, GRID, shape.spread)
    ends = shape.floor + np.exp([middle, middle - spread, middle + spread])
    return [
        Heading(progress=float(x), value=float(value), low=float(low), high=float(high))
        for x, value, low, high in zip(at, *ends, strict=True)
    ]


def find_alarm(looks: Sequence[Heading], low: float, high: float) -> Alarm | None:
    """The first alarm of a run, or None.

    It is raised once every heading over `LASTING` of the way lay with its whole interval on one
    side of the forecast's, `low` to `high`; and at once where the loss is not finite.
    """
    since, before = 0.0, ""
    for look in looks:
        side = _side(look, low, high)
        if side != before:
            since, before = look.progress, side
        lasted = look.progress - since >= LASTING - 1e-9
        if side == "not finite" or (side and lasted):
            return Alarm(side=side, heading=look, since=since)
    return None


def _side(look: Heading, low: float, high: float) -> str:
    if not np.isfinite(look.value):
        return "not finite"
    return "above" if look.low > high else "below" if look.high < low else ""


def _log_ratio(run: Finished, floor: float, at: int) -> Array:
    """Of one run, [grid]."""
    if run.trace.progress[-1] < 1 - 1e-6:
        raise ValueError(f"run {at} ends at {run.trace.progress[-1]:.0%} of its way: leave it out")
    above = _averaged(run.trace, GRID) - floor
    if not (np.all(above > 0) and run.final > floor):
        raise ValueError(f"run {at} comes down to the floor {floor:g}: the floor is too high")
    return np.asarray(np.log(run.final - floor) - np.log(above))


def _averaged(run: Trace, at: Array) -> Array:
    """Means of the losses in the window before each progress."""
    progress, loss = np.asarray(run.progress), np.asarray(run.loss, dtype=np.float64)
    total = np.concatenate([[0.0], np.cumsum(loss)])
    last = np.maximum(1, np.searchsorted(progress, at + 1e-9, side="right"))
    first = np.searchsorted(progress, at - WINDOW + 1e-9, side="right")
    first = np.minimum(first, last - 1)
    with np.errstate(invalid="ignore"):
        return np.asarray((total[last] - total[first]) / (last - first))


def _line(scales: Array, ratios: Array, scale: float) -> tuple[Array, Array]:
    """The line through ratios [runs, grid] over scales [runs], at a scale: its value and the
    standard error of one more run there, [grid] each."""
    centred, reach = scales - scales.mean(), scale - scales.mean()
    slope = centred @ ratios / (centred @ centred)
    rest = ratios - ratios.mean(axis=0) - centred[:, None] * slope
    variance = (rest**2).sum(axis=0) / (len(scales) - 2)
    unsure = 1 + 1 / len(scales) + reach**2 / (centred @ centred)
    spread = np.sqrt(np.maximum(variance, LEAST_SPREAD**2) * unsure)
    return ratios.mean(axis=0) + reach * slope, spread


def _left_out(scales: Array, ratios: Array) -> float:
    """How many times their expected size the errors are at scales that were left out; 1 where it
    is less. Medians over progress and runs, since few runs give now and then a tiny spread."""
    times = []
    for scale in np.unique(scales):
        rest = scales != scale
        if rest.sum() < LEAST_RUNS - 1 or len(set(scales[rest])) < 2:
            continue
        expected, spread = _line(scales[rest], ratios[rest], float(scale))
        usual = stdtrit(rest.sum() - 2, 0.75) * spread  # the median size of an error
        times.append(np.median(np.abs(ratios[~rest] - expected) / usual))
    return float(max(1.0, np.mean(times))) if times else 1.0
