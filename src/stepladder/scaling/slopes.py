"""Slopes on log-log scales with their intervals, and what is concluded from one."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, log2, sqrt
from typing import Literal

import numpy as np

Finding = Literal["ok", "unclear", "fails"]

# How far a slope may be off. Starts are right or wrong by the square root of the size, and free of
# bias. Moves are right or wrong by the size itself, and fall by up to 0.2 in models that are right
# (0.45 over evenly random data), because updates line up less at widths below the number of tokens.
TOLERANCE = {"start": 0.25, "move": 0.35}


@dataclass(frozen=True, kw_only=True)
class Slope:
    """d log2(y) / d log2(x), with a 95% interval; NaN where there was nothing to measure."""

    value: float
    low: float
    high: float


def fit_slope(x: Sequence[float], y: Sequence[float]) -> Slope:
    """Least squares on the points where y is finite and above 0.

    The interval is Student's t on the residuals; infinite with fewer than three points.
    """
    kept = [(log2(a), log2(b)) for a, b in zip(x, y, strict=True) if isfinite(b) and b > 0]
    if len({a for a, _ in kept}) < 2:
        return Slope(value=float("nan"), low=-inf, high=inf)
    u, v = np.array(kept).T
    spread = float(((u - u.mean()) ** 2).sum())
    value = float(((u - u.mean()) * (v - v.mean())).sum() / spread)
    left = v - v.mean() - value * (u - u.mean())
    free = len(kept) - 2
    reach = inf
    if free > 0:
        from scipy.stats import t as student  # half a second to import, and only checks need it

        reach = float(student.ppf(0.975, free)) * sqrt(float((left**2).sum()) / free / spread)
    return Slope(value=value, low=value - reach, high=value + reach)


def judge(slope: Slope, late: Slope, low: float, high: float, tolerance: float) -> Finding:
    """Whether a slope lies in [low, high] widened by a tolerance.

    It fails only when its whole interval is outside, and `late`, the slope over the two largest
    sizes, too: what is due to small sizes fades, and a wrong power does not. A value outside
    without both is unclear, and more seeds or larger sizes would tell.
    """
    low, high = low - tolerance, high + tolerance
    if not isfinite(slope.value) or low <= slope.value <= high:
        return "ok"
    above = slope.low > high and late.value > high
    below = slope.high < low and late.value < low
    return "fails" if above or below else "unclear"
