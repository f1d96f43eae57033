"""How far from the optimum is too far: the noise of a fit, and the scale of its objective.

Twice the rise of the objective over its minimum, times `Scale.factor`, is compared with the square
of a normal (or Student) quantile. For squares this is the likelihood ratio; for other losses the
ratio test of M-estimators (Heritier and Ronchetti 1994), whose factor is
mean(curvature) / mean(slope^2) of the loss at the residuals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from stepladder.laws.law import Array
from stepladder.laws.objective import Objective, terms

NORMAL_MEDIAN = 0.6744897501960817  # of the absolute value of a standard normal
NORMAL_TAIL = 1.6448536269514722  # nine of ten absolute values of a standard normal lie below
MOST_FREEDOM = 1e6
WINDOW = 0.5  # standard deviations of the noise
ROUNDING = 1e-12  # residuals below this are arithmetic, not noise: points that are a law's own


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The noise of a fit.

    Args:
        noise: standard deviation of a point of weight one around the law, in units of residuals.
        factor: what makes twice the rise of the objective a squared standard deviation.
        freedom: degrees of freedom that the noise was estimated with.
    """

    noise: float
    factor: float
    freedom: float

    def quantile(self, level: float) -> float:
        """How many standard deviations the central `level` of outcomes spans on each side."""
        return float(stdtrit(min(self.freedom, MOST_FREEDOM), 0.5 + level / 2))


def residual_scale(
    objective: Objective,
    residual: Array,
    weights: Array,
    unknowns: int,
    known: float | None,
    lean: Array | None = None,
) -> Scale:
    """The scale from residuals (points,) of a fit of `unknowns` values.

    `known` is the standard deviation of seeds where it was measured: the noise is then at least
    that, and a fit that is closer to its points than seeds are to each other gains nothing by it.
    `lean` is how much each point counted in the fit whatever its noise; the noise is then that of
    the points that count, and the covariance the sandwich of leaning weights with even noise.
    """
    lean = np.ones_like(residual) if lean is None else lean / lean.mean()
    count = effective(lean)
    freedom = max(count - unknowns, 1.0)
    loss = terms(objective, residual)
    size = np.sqrt(weights) * np.abs(residual)
    if objective.quadratic:
        noise = max(float(np.sqrt(np.mean(lean * size**2) * count / freedom)), ROUNDING)
        factor = 1.0 / noise**2
    else:
        noise = max(_robust(size, lean) * float(np.sqrt(count / freedom)), ROUNDING)
        steepness = max(float(np.mean(lean * weights * loss.slope**2) * count / freedom),
                        ROUNDING**2)  # fmt: skip
        factor = _curvature(objective, size, lean, noise, unknowns) / steepness
    factor *= count / len(residual)
    if known is not None and known > noise:
        factor *= (noise / known) ** 2
        return Scale(noise=known, factor=factor, freedom=MOST_FREEDOM)
    return Scale(noise=noise, factor=factor, freedom=freedom)


def effective(weights: Array) -> float:
    """How many equal points have as much to say: (sum w)^2 / sum w^2 (Kish 1965)."""
    return float(np.sum(weights) ** 2 / np.sum(weights**2))


def _robust(size: Array, lean: Array) -> float:
    """Standard deviation from absolute residuals: by the middle, or by the tail if that is more."""
    middle, tail = weighted_quantile(size, lean, [0.5, 0.9])
    return float(max(middle / NORMAL_MEDIAN, tail / NORMAL_TAIL))


def weighted_quantile(values: Array, weights: Array, levels: Sequence[float]) -> Array:
    """Quantiles of values (points,) that count by their weights; numpy's where all are equal."""
    order = np.argsort(values, kind="stable")
    before = np.cumsum(weights[order])
    place = (before - weights[order]) / max(before[-1] - weights[order[-1]], 1e-300)
    return np.interp(levels, place, values[order])


def _curvature(
    objective: Objective, size: Array, lean: Array, noise: float, unknowns: int
) -> float:
    """Mean second derivative of the loss: the share of residuals within delta.

    Few residuals lie within a small delta, and the fit itself passes through as many points as it
    has unknowns; the density near zero is counted over a wider window without those.
    """
    window = max(objective.delta, WINDOW * noise)
    count = effective(lean)
    within = float(np.mean(lean * (size < window))) * count
    inside = max(within - unknowns, 1.0) / max(count - unknowns, 1.0)
    return float(inside * objective.delta / window)
