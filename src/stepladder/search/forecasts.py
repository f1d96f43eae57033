"""Where configurations will end, from the losses they have had: power laws that share their shape.

    L(C) = E + A / C^alpha

All configurations share E and alpha; A is each one's own. Along the logarithm of cost, log(L - E)
then falls in a straight line; how configurations stray from it is a random walk, so that a forecast
is the less certain the further it reaches. For a given E everything has a closed form (conjugate
normal and inverse gamma); forecasts mix a grid of floors by how well each explains the steps from
level to level that have been seen. numpy and scipy only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

# Floors lie so far below the lowest loss, in units of the losses' spread: from a law that has all
# but ended to one that is a straight line in log cost.
GAPS = np.geomspace(0.05, 50.0, 25)
# What is thought of the drift and of the walk before any step is seen: worth about one step, no
# drift, and a walk of a third of the losses' spread over a factor e of cost.
PRIOR_STEPS = 0.5
PRIOR_FREEDOM = 1.0
PRIOR_WALK = 0.3


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """Laws by floor [E]; a reach is in logarithms of cost.

    Attributes:
        floor: the E of each law. weight: how plausible it is, 1 in all.
        drift: by how much log(L - E) changes per unit of reach; below 0.
        variance: of the walk, per unit of reach. steps: reach that the drift was seen over.
    """

    floor: Array
    weight: Array
    drift: Array
    variance: Array
    steps: float

    def ahead(self, loss: ArrayLike, reach: ArrayLike) -> tuple[Array, Array]:
        """Mean and variance [E, N] of log(L - E), each loss [N] carried so far [N].

        The variance is of the walk, each one's own; that of the drift, which moves all together,
        is `variance` times the square of the reach over `steps`.
        """
        start = np.log(np.asarray(loss, float) - self.floor[:, None])
        far = np.asarray(reach, float)
        return start + self.drift[:, None] * far, self.variance[:, None] * far

    def expected(self, loss: ArrayLike, reach: ArrayLike) -> Array:
        """The middle [N] of what each loss [N] will come to, over the floors."""
        mean, _ = self.ahead(loss, reach)
        return np.asarray(self.weight @ (self.floor[:, None] + np.exp(mean)))


def fit_forecasts(
    lowest: float,
    first: tuple[float, float],
    before: ArrayLike,
    after: ArrayLike,
    reach: ArrayLike,
) -> Forecasts:
    """Fit the laws of a search.

    Args:
        lowest: loss that was seen: the floor is below.
        first: a good and a middling loss of the first level; they say what is a large difference.
        before, after, reach: steps from level to level: losses [M] at both ends, of one
            configuration, and the logarithm of the ratio of costs. There may be none.
    """
    good, middle = first
    spread = max(middle - good, 1e-9 * max(1.0, abs(lowest)))
    floor = lowest - spread * GAPS
    far = np.asarray(reach, float)
    excess = [np.log(np.asarray(end, float) - floor[:, None]) for end in (before, after)]
    moved = excess[1] - excess[0]  # [E, M]
    # Steps per unit of reach have variance v / reach: weighted by it, sums are plain ones.
    steps = PRIOR_STEPS + far.sum()
    drift = moved.sum(axis=1) / steps
    misfit = (moved**2 / far).sum(axis=1) - steps * drift**2
    walk = PRIOR_WALK * spread / (middle - floor)
    freedom = PRIOR_FREEDOM + len(far)
    scale = PRIOR_FREEDOM * walk**2 + np.maximum(misfit, 0.0)
    # Marginal over drift and walk, and the change of variables from log(L - E) to L.
    evidence = -freedom / 2 * np.log(scale) + PRIOR_FREEDOM / 2 * np.log(walk**2)
    evidence -= excess[1].sum(axis=1)
    weight = np.exp(evidence - evidence.max())
    return Forecasts(
        floor=floor,
        weight=weight / weight.sum(),
        drift=drift,
        variance=scale / freedom,
        steps=float(steps),
    )


def expected_improvement(
    forecasts: Forecasts, loss: ArrayLike, reach: ArrayLike, best: float
) -> Array:
    """By how much [N] losses [N] are expected to end below the best, each carried so far [N].

    What moves all together promises nothing: the walk alone counts.
    """
    mean, variance = forecasts.ahead(loss, reach)
    room = np.maximum(best - forecasts.floor, 1e-300)[:, None]
    spread = np.sqrt(variance)
    z = (np.log(room) - mean) / spread
    gain = room * ndtr(z) - np.exp(mean + variance / 2) * ndtr(z - spread)
    return np.asarray(forecasts.weight @ np.maximum(gain, 0.0))
