"""What both arms' mean losses are, and how sure: paired seeds, and more seeds of the baseline.

Both arms run on the same seeds at a rung, and noise that a seed brings to both cancels. A baseline
that serves many levers may run on more: those say how lucky it was on the paired ones, and as much
of that luck as a lever shares (its slope on the baseline over paired seeds, pooled over rungs) is
taken off the lever too. These are the means of greatest likelihood of a normal pair of which one is
observed more often (Anderson 1957, doi:10.1080/01621459.1957.10501379). numpy alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

DRAWS = 4000
BASE, LEVER = 0, 1


@dataclass(frozen=True, kw_only=True)
class Means:
    """Logarithms of the arms' mean losses.

    Attributes:
        value: (2, rungs), the baseline's and the lever's.
        drawn: (draws, 2, rungs), as other seeds might have given them.
    """

    value: Array
    drawn: Array


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """How log losses scatter over seeds, pooled over rungs.

    Attributes:
        deviation: standard deviation of each arm (2,); the baseline's over all its seeds.
        pairing: the arms' correlation over the seeds that they share.
        follows: how much of the baseline's luck the lever shares: its slope on the baseline.
        follows_error: standard error of that.
        own: variance of the lever that the baseline's luck does not explain.
    """

    deviation: Array
    pairing: float
    follows: float
    follows_error: float
    own: float


def means_of(
    losses: ArrayLike,
    more: ArrayLike | None = None,
    *,
    count: int = DRAWS,
    seed: int = 0,
    lost: Sequence[Array] | None = None,
) -> Means:
    """Both arms' mean losses, and draws of what other seeds might have given.

    Draws are normal, both arms together, with Student's tails for as few paired seeds as there are.

    Args:
        losses: (2, rungs, seeds), seeds paired, at least two.
        more: losses of the baseline's further seeds (rungs, any number); None for none.
        lost: for each arm, draws (count,) of the relative loss that imperfect tuning cost it
            (`search.lost_by_tuning`): each arm is credited with what it lost.
    """
    logs, every = _logs(losses, more)
    noise = seed_noise(losses, more)
    _, rungs, seeds = logs.shape
    luck = every.mean(axis=1) - logs[BASE].mean(axis=1)
    value = logs.mean(axis=2) + np.outer([1.0, noise.follows], luck)

    random = np.random.default_rng(seed)
    freedom = rungs * (seeds - 1)
    root = _root(_errors(noise, seeds, every.shape[1]))
    error = np.swapaxes(random.normal(size=(count, rungs, 2)) @ root, 1, 2)
    tails = np.sqrt(freedom / random.chisquare(freedom, size=count))
    error[:, LEVER] += noise.follows_error * random.normal(size=(count, 1)) * luck
    drawn = value + error * tails[:, None, None]
    if lost is not None:
        drawn = drawn - np.stack(lost, axis=1)[:, :, None]
    return Means(value=value, drawn=drawn)


def seed_noise(losses: ArrayLike, more: ArrayLike | None = None) -> SeedNoise:
    """How losses scatter over seeds; shapes as in `means_of`."""
    logs, every = _logs(losses, more)
    _, rungs, seeds = logs.shape
    deviation = (logs - logs.mean(axis=2, keepdims=True)).reshape(2, rungs * seeds)
    squares = deviation @ deviation.T
    (base, both), (_, lever) = squares
    variance = every.var(axis=1, ddof=1).mean(), lever / (rungs * (seeds - 1))
    follows = both / base if base > 0 else 0.0
    own = max(0.0, lever - follows * both) / (rungs * (seeds - 1))
    return SeedNoise(
        deviation=np.sqrt(variance),
        pairing=float(both / np.sqrt(base * lever)) if base * lever > 0 else 0.0,
        follows=float(follows),
        follows_error=float(np.sqrt(own / base)) if base > 0 else 0.0,
        own=float(own),
    )


def _errors(noise: SeedNoise, seeds: int, every: int) -> Array:
    """Covariance (2, 2) of the arms' mean log losses over `seeds` pairs, `every` of the baseline.

    The slope's own error is left out: it is common to all rungs.
    """
    base = noise.deviation[BASE] ** 2 / every
    shared = noise.follows * base
    return np.array([[base, shared], [shared, noise.follows * shared + noise.own / seeds]])


def _logs(losses: ArrayLike, more: ArrayLike | None) -> tuple[Array, Array]:
    """Log losses: (2, rungs, seeds) of the pairs, (rungs, all seeds) of the baseline."""
    logs = np.log(np.asarray(losses, dtype=np.float64))
    further = np.empty((logs.shape[1], 0)) if more is None else np.log(np.asarray(more, float))
    return logs, np.concatenate([logs[BASE], further], axis=1)


def _root(covariance: Array) -> Array:
    """The symmetric root; seeds without any noise are no error."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
