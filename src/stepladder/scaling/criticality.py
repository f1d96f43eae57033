"""Initial variances at which signals neither grow nor die with depth, for any activation.

Roberts, Yaida & Hanin 2022, *The Principles of Deep Learning Theory* (arXiv 2106.10165), chapter 5.
The variance K of preactivations follows K' = C_b + C_W <phi(z)^2>, z ~ N(0, K), where C_W is the
variance of weights times the fan-in and C_b that of biases. Criticality asks that perturbations
along and across a signal keep their size: C_W d<phi^2>/dK = 1 and C_W <phi'^2> = 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Activation = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Class = Literal["scale-invariant", "fixed point at zero", "half-stable"]

_GRID = np.geomspace(1e-3, 2e2, 61)
# Midpoints: exact to rounding for smooth activations, and no node on a kink at 0.
_NODES = (np.arange(-2400, 2400) + 0.5) / 200
_WEIGHTS = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()
_STEP = 1e-5


@dataclass(frozen=True, kw_only=True)
class Critical:
    """A critical initialisation.

    `weights`: C_W, so that weights have variance C_W / fan-in. `biases`: C_b. `kernel`: the
    variance K that is kept; 0 where it is only approached, NaN where every one is kept.
    """

    weights: float
    biases: float
    kernel: float
    universality: Class


def critical_initialization(activation: Activation) -> Critical:
    """Solve the criticality conditions for an activation.

    Args:
        activation: elementwise, on float64 arrays; continuous, differentiable almost everywhere.

    Raises:
        ValueError: the activation has no critical initialisation (sigmoid and softplus: their
            solution would need a negative variance of biases).
    """
    gaps = np.array([_gap(activation, kernel) for kernel in _GRID])
    slopes = np.array([_slope(activation, kernel) for kernel in _GRID])
    if np.all(np.abs(gaps) < 1e-6 * slopes):
        weights = 1 / float(slopes.mean())
        return Critical(
            weights=weights, biases=0.0, kernel=float("nan"), universality="scale-invariant"
        )
    found = _half_stable(activation, gaps) or _at_origin(activation)
    if found is None:
        raise ValueError(
            "the activation has no critical initialisation: use one with phi(0) = 0, such as tanh, "
            "GELU or ReLU"
        )
    return found


def _half_stable(activation: Activation, gaps: NDArray[np.float64]) -> Critical | None:
    """A variance above 0 at which both conditions hold, with a variance of biases to keep it."""
    from scipy.optimize import brentq  # half a second to import

    for index in np.flatnonzero(np.diff(np.sign(gaps)) != 0):
        kernel = brentq(
            lambda k: _gap(activation, k), _GRID[index], _GRID[index + 1], xtol=1e-13, rtol=1e-13
        )
        weights = 1 / _slope(activation, kernel)
        biases = kernel - weights * mean_of(lambda z: activation(z) ** 2, kernel)
        if biases >= 0:
            return Critical(
                weights=weights, biases=biases, kernel=kernel, universality="half-stable"
            )
    return None


def _at_origin(activation: Activation) -> Critical | None:
    """Without biases, a variance that falls to 0 slowly, as a power of depth."""
    slope = _derivative_at_zero(activation)
    if abs(_at_zero(activation)) > 1e-9 or abs(slope) < 1e-9:
        return None
    return Critical(weights=slope**-2, biases=0.0, kernel=0.0, universality="fixed point at zero")


def mean_of(function: Activation, kernel: float) -> float:
    """<f(z)> for z ~ N(0, kernel)."""
    return float(_WEIGHTS @ function(np.sqrt(kernel) * _NODES))


def _gap(activation: Activation, kernel: float) -> float:
    """d<phi^2>/dK - <phi'^2>: 0 where both conditions can hold at once."""
    along = float(_WEIGHTS @ (activation(np.sqrt(kernel) * _NODES) ** 2 * (_NODES**2 - 1)))
    return along / (2 * kernel) - _slope(activation, kernel)


def _slope(activation: Activation, kernel: float) -> float:
    """<phi'(z)^2>, with a central difference for phi'."""
    z = np.sqrt(kernel) * _NODES
    derivative = (activation(z + _STEP) - activation(z - _STEP)) / (2 * _STEP)
    return float(_WEIGHTS @ derivative**2)


def _at_zero(activation: Activation) -> float:
    return float(activation(np.zeros(1))[0])


def _derivative_at_zero(activation: Activation) -> float:
    high, low = activation(np.array([_STEP])), activation(np.array([-_STEP]))
    return float((high - low)[0] / (2 * _STEP))
