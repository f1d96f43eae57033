"""The baseline's loss against what it costs, as a curve that can be read backwards.

A power law with a floor, L = E + A / x^a (as `laws/library/power.py`), fitted to the few rungs of a
comparison for thousands of resampled losses at once: for a given a the other two have a closed
form, so that a is all that is searched. numpy only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

EXPONENTS = np.geomspace(0.005, 4.0, 64)
GOLDEN = (np.sqrt(5.0) - 1) / 2
STEPS = 60  # of golden section: the bracket shrinks below what a float of the loss can tell


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Laws fitted to the same costs; each field has shape (draws,).

    `unit` is the cost at which `scale` is what the floor leaves to be removed.
    """

    floor: Array
    scale: Array
    exponent: Array
    unit: float

    def loss(self, x: ArrayLike) -> Array:
        """Loss at costs x (points,): (draws, points)."""
        return np.asarray(
            self.floor[:, None]
            + self.scale[:, None] * (np.asarray(x) / self.unit) ** -self.exponent[:, None]
        )

    def cost(self, loss: Array) -> Array:
        """The cost that reaches each loss (draws, points); infinite at or below the floor."""
        above = loss - self.floor[:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            x = (above / self.scale[:, None]) ** (-1.0 / self.exponent[:, None])
        return np.where((above > 0) & (self.scale[:, None] > 0), self.unit * x, np.inf)


def fit_curves(x: ArrayLike, losses: ArrayLike) -> Curves:
    """Fit a law to each row of losses, by least squares of relative residuals.

    Args:
        x: costs (points,), at least three and distinct.
        losses: (draws, points).

    Raises:
        ValueError: fewer than three distinct costs.
    """
    x, losses = np.asarray(x, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if len(np.unique(x)) < 3:
        raise ValueError(f"a law with a floor needs three distinct costs, not {x.tolist()}")
    unit = float(np.exp(np.log(x).mean()))
    ratio = np.log(x / unit)
    tried = np.stack([_residual(ratio, losses, np.full(len(losses), a)) for a in EXPONENTS])
    best = tried.argmin(axis=0)
    low = EXPONENTS[np.maximum(best - 1, 0)]
    high = EXPONENTS[np.minimum(best + 1, len(EXPONENTS) - 1)]
    exponent = _golden(ratio, losses, low, high)
    floor, scale = _solved(ratio, losses, exponent)
    return Curves(floor=floor, scale=scale, exponent=exponent, unit=unit)


def _golden(ratio: Array, losses: Array, low: Array, high: Array) -> Array:
    """Golden section on the logarithm of the exponent, all rows at once."""
    a, b = np.log(low), np.log(high)
    for _ in range(STEPS):
        left, right = b - GOLDEN * (b - a), a + GOLDEN * (b - a)
        falls = _residual(ratio, losses, np.exp(left)) > _residual(ratio, losses, np.exp(right))
        a, b = np.where(falls, left, a), np.where(falls, b, right)
    return np.asarray(np.exp((a + b) / 2))


def _residual(ratio: Array, losses: Array, exponent: Array) -> Array:
    floor, scale = _solved(ratio, losses, exponent)
    fitted = floor[:, None] + scale[:, None] * np.exp(-exponent[:, None] * ratio)
    return np.asarray(((1 - fitted / losses) ** 2).sum(axis=1))


def _solved(ratio: Array, losses: Array, exponent: Array) -> tuple[Array, Array]:
    """Floor and scale, neither negative, for given exponents: weighted least squares."""
    power, weight = np.exp(-exponent[:, None] * ratio), losses**-2.0
    total, first, second = (np.sum(weight * power**k, axis=1) for k in (0, 1, 2))
    plain, mixed = (np.sum(weight * losses * power**k, axis=1) for k in (0, 1))
    determinant = total * second - first**2
    floor = (second * plain - first * mixed) / determinant
    floor = np.where(floor > 0, floor, 0.0)
    scale = (mixed - floor * first) / second
    return np.where(scale > 0, floor, plain / total), np.maximum(scale, 0.0)
