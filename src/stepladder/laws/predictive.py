"""The distribution of an outcome that was not measured yet, by profile likelihood.

The outcome joins the points as one more, with the weight of one run, and the law is refitted to
each value it might take. The rise of the objective is the deviance of that value; for linear laws
this is exactly the Student prediction interval, and unlike a linearised interval it follows the
curved valleys of a floor against an exponent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr, stdtrit

from stepladder.laws.descent import descend
from stepladder.laws.law import Array
from stepladder.laws.problem import Overlay, Problem
from stepladder.laws.scale import MOST_FREEDOM, Scale

WIDEST = 1.0
FARTHEST = 1e3  # standard deviations: where the law cannot be evaluated an outcome is this far out
REACH = np.array([0.5, 1.0, 1.5, 2.0, 2.6, 3.3, 4.2, 5.5, 8.0, 12.0])


@dataclass(frozen=True, kw_only=True)
class Predictive:
    """A distribution over residual units (log or plain): signed roots of deviance on a grid.

    Args:
        at: (grid,), increasing.
        root: (grid,), increasing; zero at the centre.
        freedom: of the Student distribution of the roots.
    """

    at: Array
    root: Array
    freedom: float

    def cdf(self, y: Array) -> Array:
        """Probability of an outcome below each y."""
        z = _extend(y, self.at, self.root)
        return np.asarray(stdtr(min(self.freedom, MOST_FREEDOM), z))

    def quantile(self, probability: float) -> float:
        """The outcome below which `probability` lies."""
        z = np.array([stdtrit(min(self.freedom, MOST_FREEDOM), probability)])
        return float(_extend(z, self.root, self.at)[0])


def predictive(
    problem: Problem,
    optima: Array,
    scale: Scale,
    spread: Array,
    target_inputs: Mapping[str, Array],
    noise: float,
) -> Predictive:
    """The distribution of one outcome at `target_inputs`.

    Args:
        optima: (optima, coordinates), best first.
        spread: covariance of the coordinates.
        noise: standard deviation of one run there, in units of residuals.
    """
    grown = _with_point(problem, target_inputs)
    # its residual is centre - y with the grown problem's own dummy target
    residual, jacobian, _ = grown.linearised(optima[:1])
    centre = residual[0, -1] + grown.observed[-1]
    error = float(np.sqrt(np.abs(jacobian[0, :, -1] @ spread @ jacobian[0, :, -1]) + noise**2))
    if not error < WIDEST:  # nothing is known there: the grid still has to be finite
        error = WIDEST
    at = centre + error * np.concatenate([-REACH[::-1], [0.0], REACH])
    root = _roots(grown, optima, scale, at, centre, noise, spread @ jacobian[0, :, -1] / error**2)
    return Predictive(at=at, root=root, freedom=scale.freedom)


def _roots(
    grown: Problem, optima: Array, scale: Scale, at: Array, centre: float, noise: float, gain: Array
) -> Array:
    start = (optima[:, None, :] + (at - centre)[None, :, None] * gain).reshape(-1, optima.shape[1])
    outcome = np.tile(at, len(optima))
    value = _deviance(grown, start, outcome, scale, noise).reshape(len(optima), -1).min(axis=0)
    rise = np.clip(value - value.min(), 0.0, FARTHEST**2)
    root = np.sign(at - centre) * np.sqrt(rise)
    # strictly increasing, also where a second valley makes the deviance fall again
    return np.maximum.accumulate(root) + 1e-9 * np.arange(len(root))


def _deviance(grown: Problem, start: Array, outcome: Array, scale: Scale, noise: float) -> Array:
    observed = np.tile(grown.observed, (len(start), 1))
    observed[:, -1] = outcome
    weights = np.tile(grown.weights, (len(start), 1))
    weights[:, -1] = 1.0 / (scale.factor * noise**2)
    found = descend(grown, start, overlay=Overlay(weights, observed), steps=60)
    return 2 * scale.factor * found.value


def _with_point(problem: Problem, inputs: Mapping[str, Array]) -> Problem:
    grown = {name: np.concatenate([x, inputs[name][None]]) for name, x in problem.inputs.items()}
    return replace(
        problem,
        inputs=grown,
        target=np.append(problem.target, problem.target[-1]),
        weights=np.append(problem.weights, 0.0),
        lean=None,
        outcomes=1,
    )


def _extend(x: Array, at: Array, value: Array) -> Array:
    """Linear interpolation, and beyond the ends along the last piece."""
    index = np.clip(np.searchsorted(at, x), 1, len(at) - 1)
    slope = (value[index] - value[index - 1]) / (at[index] - at[index - 1])
    return np.asarray(value[index - 1] + slope * (x - at[index - 1]))
