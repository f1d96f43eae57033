"""The compute multiplier: from paired losses at the rungs to factors with intervals.

At a rung the lever, at cost x1, reaches some loss. The multiplier is the cost at which the baseline
would reach it, over x1. The baseline's own rung stands for the law there: the law only says how far
to go from it, so that an error of its form cancels, and a lever equal to the baseline has exactly
multiplier 1. "Cost" is compute, tokens or seconds; the arithmetic is the same.

Intervals come from draws of both arms' mean losses together (`means.py`), each read as the losses
themselves are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepladder.comparing.curve import fit_curves
from stepladder.comparing.means import BASE, LEVER, Means

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with its interval; the level is that of the comparison."""

    value: float
    low: float
    high: float

    def __contains__(self, other: float) -> bool:
        return self.low <= other <= self.high


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Multipliers in one kind of cost.

    Attributes:
        rungs: one a rung, by rising cost.
        mean: the geometric mean over the rungs.
        trend: the factor by which the multiplier changes for each tenfold of cost.
        reach: how far beyond the baseline's largest rung it was read, at each rung (at most 1:
            not at all).
    """

    rungs: tuple[Interval, ...]
    mean: Interval
    trend: Interval
    reach: tuple[float, ...]


def estimate(x: ArrayLike, means: Means, *, level: float) -> Estimate:
    """Multipliers with their intervals.

    Args:
        x: cost (2, rungs) of the baseline's and the lever's runs.
        means: of the arms' losses at the rungs, from `means_of`.
        level: of the intervals.

    Raises:
        ValueError: the baseline's loss does not fall with its cost, so that nothing can be read.
    """
    x = np.asarray(x, dtype=np.float64)
    require_falling(x[BASE], means.value[BASE])
    value = log_multipliers(x, means.value[None])[0]
    spread = log_multipliers(x, means.drawn)
    slope, slopes = _slope(x[BASE], value[None])[0], _slope(x[BASE], spread)
    with np.errstate(over="ignore", invalid="ignore"):  # a draw may hold both infinities
        factors, means_drawn = np.exp(value), spread.mean(axis=1)
    return Estimate(
        rungs=tuple(_interval(v, column, level) for v, column in zip(value, spread.T, strict=True)),
        mean=_interval(value.mean(), means_drawn, level),
        trend=_interval(slope * np.log(10), slopes * np.log(10), level),
        reach=tuple(float(r) for r in factors * x[LEVER] / x[BASE].max()),
    )


def log_multipliers(x: Array, log_losses: Array) -> Array:
    """Logarithms of the multipliers, (draws, rungs), of log losses (draws, 2, rungs)."""
    curves = fit_curves(x[BASE], np.exp(log_losses[:, BASE]))
    lead = np.exp(log_losses[:, LEVER] - log_losses[:, BASE])
    needed = curves.cost(curves.loss(x[BASE]) * lead)
    flat = np.where(lead < 1, np.inf, np.where(lead > 1, 0.0, x[BASE]))  # nothing to read
    needed = np.where((curves.scale > 0)[:, None], needed, flat)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(needed / x[LEVER]))


def loss_difference(means: Means, *, level: float) -> list[Interval]:
    """Lever's loss less the baseline's at each rung, in nats per token."""
    arms, drawn = np.exp(means.value), np.exp(means.drawn)
    value, spread = arms[LEVER] - arms[BASE], drawn[:, LEVER] - drawn[:, BASE]
    return [
        _interval(v, column, level, log=False) for v, column in zip(value, spread.T, strict=True)
    ]


def require_falling(x: Array, log_losses: Array) -> None:
    """ValueError where the baseline does not get better as it costs more."""
    order = np.argsort(x)
    if log_losses[order[-1]] >= log_losses[order[0]]:
        first, last = np.exp(log_losses[order[[0, -1]]])
        raise ValueError(
            f"the baseline's loss does not fall from its smallest rung ({first:.4f}) to its "
            f"largest ({last:.4f}), so that no multiplier can be read from it: give it more "
            "tokens a parameter, or scales further apart"
        )


def _slope(x: Array, log_factors: Array) -> Array:
    """Least-squares slope against log x of every row; not a number where a factor is infinite."""
    centred = np.log(x) - np.log(x).mean()
    with np.errstate(invalid="ignore"):
        return np.asarray((log_factors * centred).sum(axis=1) / (centred**2).sum())


def _interval(value: float, spread: Array, level: float, *, log: bool = True) -> Interval:
    """The central interval of the draws around a value, which it always holds.

    A draw that is no number could be anything, and counts at both ends.
    """
    low, high = (
        np.quantile(np.where(np.isnan(spread), worst, spread), tail, method="nearest")
        for worst, tail in ((-np.inf, (1 - level) / 2), (np.inf, (1 + level) / 2))
    )
    ends = (value, min(low, value), max(high, value))
    with np.errstate(over="ignore"):
        numbers = [float(np.exp(end)) if log else float(end) for end in ends]
    return Interval(value=numbers[0], low=numbers[1], high=numbers[2])
