"""The best learning rate from a few runs: a parabola through the loss over log2 of the rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAREST = 5  # rates around the best that the parabola goes through
DRAWS = 1000
LEVEL = 0.9

Losses = Mapping[float, Sequence[float]]  # rate -> loss of each seed; infinite where it diverged


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best rate with its interval, and how far the loss is from flat around it.

    Attributes:
        lr: the rate at the parabola's minimum.
        low, high: interval at `level`, by resampling seeds and their noise.
        at_edge: "low" or "high" where the best rate tried is the lowest or highest: unknown
            beyond.
        noise: standard deviation of the logarithm of the loss between seeds.
    """

    lr: float
    low: float
    high: float
    level: float
    at_edge: str
    noise: float


def optimum(losses: Losses, seed: int = 0) -> Optimum:
    """Fit the best rate.

    Args:
        losses: at least three rates, with the losses of their seeds.

    Raises:
        ValueError: fewer than three rates gave a finite loss.
    """
    finite = {lr: y for lr, y in losses.items() if np.all(np.isfinite(y))}
    if len(finite) < 3:
        raise ValueError(
            f"only {len(finite)} of {len(losses)} learning rates trained without diverging: "
            "start from lower rates"
        )
    rates = np.array(sorted(finite))
    means = np.array([np.mean(finite[lr]) for lr in rates])
    noise = seed_noise(list(finite.values()))
    best = _minimum(rates, means)
    draws = _resampled(rates, means, [len(finite[lr]) for lr in rates], noise, seed)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Optimum(
        lr=float(best),
        low=float(min(low, best)),
        high=float(max(high, best)),
        level=LEVEL,
        at_edge=_edge(rates, means),
        noise=noise,
    )


def seed_noise(groups: Sequence[Sequence[float]]) -> float:
    """Standard deviation of the logarithm of the loss between seeds, pooled over groups.

    Zero where no group has two finite seeds.
    """
    logs = [np.log(g) for g in groups if len(g) > 1 and np.all(np.isfinite(g))]
    freedom = sum(len(y) - 1 for y in logs)
    if not freedom:
        return 0.0
    return float(np.sqrt(sum(((y - y.mean()) ** 2).sum() for y in logs) / freedom))


def _minimum(rates: NDArray[np.float64], means: NDArray[np.float64]) -> float:
    """Where the parabola through the rates around the best is lowest, kept between the best one's
    neighbours: one unlucky run may tilt it to where no run was better."""
    at = int(np.argmin(means))
    first = int(np.clip(at - NEAREST // 2, 0, max(0, len(rates) - NEAREST)))
    x = np.log2(rates[first : first + NEAREST])
    y = np.log(means[first : first + NEAREST])
    # Rates far from the best say little about where the best is.
    close = np.exp(-((x - np.log2(rates[at])) ** 2) / 4)
    curve = np.polyfit(x, y, 2, w=close)
    if curve[0] <= 0:
        return float(rates[at])
    low, high = np.log2(rates[[max(at - 1, 0), min(at + 1, len(rates) - 1)]])
    return float(2.0 ** np.clip(-curve[1] / (2 * curve[0]), low, high))


def _resampled(
    rates: NDArray[np.float64],
    means: NDArray[np.float64],
    counts: Sequence[int],
    noise: float,
    seed: int,
) -> NDArray[np.float64]:
    spread = noise / np.sqrt(np.array(counts))
    shifts = np.random.default_rng(seed).normal(size=(DRAWS, len(rates))) * spread
    return np.array([_minimum(rates, means * np.exp(shift)) for shift in shifts])


def _edge(rates: NDArray[np.float64], means: NDArray[np.float64]) -> str:
    at = int(np.argmin(means))
    return "low" if at == 0 else "high" if at == len(rates) - 1 else ""
