"""Bootstrap intervals: the law refitted to resampled runs, all refits at once."""

import numpy as np
from scipy.special import ndtr, ndtri

from stepladder.laws.descent import Descent, descend
from stepladder.laws.law import Array
from stepladder.laws.objective import terms
from stepladder.laws.problem import Overlay, Problem

TOLERANCE = 1e-5  # of the objective; a standard error is some thousandths of it


def resample(problem: Problem, optima: Array, count: int, seed: int) -> Array:
    """Coordinates (count, coordinates) of the law refitted to runs drawn with replacement.

    Every refit descends from every optimum and keeps the lowest end.
    """
    weights = _times_drawn(len(problem.target), count, seed) * problem.weights
    found = [_refits(problem, optimum, weights) for optimum in optima]
    best = np.argmin([one.value for one in found], axis=0)
    return np.stack([one.coordinates for one in found])[best, np.arange(count)]


def _times_drawn(points: int, count: int, seed: int) -> Array:
    """How often each point is drawn, of as many draws as there are points: (count, points)."""
    drawn = np.random.default_rng(seed).integers(points, size=(count, points))
    drawn += points * np.arange(count)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * points).reshape(count, points).astype(float)


def _refits(problem: Problem, optimum: Array, weights: Array) -> Descent:
    """Descents from one optimum under each row of weights (refits, points)."""
    start = np.repeat(optimum[None], len(weights), axis=0)
    first = problem.reweighted(np.clip(optimum, problem.low, problem.high), weights)
    return descend(
        problem, start, overlay=Overlay(weights), tolerance=TOLERANCE, steps=60, first=first
    )


def percentile(samples: Array, level: float) -> tuple[float, float]:
    """The central `level` of the refits: from one of them to another, since a derived quantity may
    be infinite in some. Where it is no number it may lie on either side."""
    tail, unknown = (1 - level) / 2, np.isnan(samples)
    low = np.quantile(np.where(unknown, -np.inf, samples), tail, method="lower")
    high = np.quantile(np.where(unknown, np.inf, samples), 1 - tail, method="higher")
    return float(low), float(high)


def bca(samples: Array, estimate: float, influence: Array, level: float) -> tuple[float, float]:
    """Bias-corrected and accelerated (Efron 1987).

    Args:
        influence: (points,) how each run moves the estimate; its skewness is the acceleration.
    """
    below = np.clip(np.mean(samples < estimate), 1 / len(samples), 1 - 1 / len(samples))
    shift = ndtri(below)
    size = np.sum(influence**2) ** 1.5
    acceleration = np.sum(influence**3) / (6 * size) if size > 0 else 0.0
    tail = ndtri(np.array([(1 - level) / 2, (1 + level) / 2])) + shift
    level_at = ndtr(shift + tail / (1 - acceleration * tail))
    low, high = np.quantile(samples, np.clip(level_at, 0.0, 1.0))
    return float(low), float(high)


def influences(problem: Problem, optimum: Array, spread: Array, factor: float) -> Array:
    """How far each run moves each coordinate: (points, coordinates), to first order.

    `spread` is the covariance of the coordinates, that is the inverse curvature over `factor`.
    """
    residual, jacobian, _ = problem.linearised(optimum[None])
    slope = problem.weights * terms(problem.objective, residual[0]).slope
    return np.asarray(-(jacobian[0] * slope).T @ spread * factor)
