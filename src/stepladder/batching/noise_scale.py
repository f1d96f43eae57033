"""The gradient noise scale, measured while training, with an interval."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stepladder.batching import register_measurement, require_count
from stepladder.card import Card

CARD = Card(
    name="noise-scale",
    family="batching",
    title="An Empirical Model of Large-Batch Training",
    arxiv="1812.06162",
    claim="tr(Sigma) / |G|^2 predicts the largest useful batch across many domains",
    note="The simple noise scale, which leaves the Hessian out. From the norms of a small and a "
    "large batch's gradients; with the mean over all shards as the small one, that is exactly the "
    "estimator from the variance between shards.",
)
LEAST_STEPS = 8
BLOCKS = 16  # of consecutive steps, so that slow drift widens the interval instead of hiding


@dataclass(frozen=True, kw_only=True)
class NoiseScale:
    """An estimate. `scale` = `trace` / `squared_norm`, in the unit of the batch; `high` is
    infinite where the data cannot tell |G|^2 from zero."""

    scale: float
    low: float
    high: float
    trace: float
    squared_norm: float
    steps: int


@register_measurement(CARD)
class NoiseScaleMeter:
    """Collects steps; `estimate` gives the noise scale over all or the latest of them.

    Example:
        >>> meter = NoiseScaleMeter()
        >>> for _ in range(8):
        ...     meter.add(small_square=3.0, big_square=1.5, small=1, big=4)
        >>> meter.estimate().scale
        2.0
    """

    def __init__(self, steps: Iterable[tuple[float, float]] = ()) -> None:
        self._steps = [(float(trace), float(square)) for trace, square in steps]

    @property
    def steps(self) -> list[tuple[float, float]]:
        """What it holds, to go on from: (trace, squared norm) of every step."""
        return list(self._steps)

    def add(self, *, small_square: float, big_square: float, small: float, big: float) -> None:
        """One step: squared norms of the gradients of a small batch and of a big one that holds it.

        Args:
            small_square: of one shard's gradient; or, better, the mean over all shards (over
                micro-batches, or over ranks before gradients are reduced).
            big_square: of the whole batch's gradient.
            small, big: samples in a shard and in the batch.

        Raises:
            ValueError: big not above small, or norms that are not finite.
        """
        if not 0 < small < big < math.inf:
            raise ValueError(
                f"the noise scale needs two batch sizes, small < big, not {small} and {big}: "
                "accumulate at least two micro-batches or use two ranks"
            )
        if not (0 <= small_square < math.inf and 0 <= big_square < math.inf):
            raise ValueError(
                "squared gradient norms are negative or not finite; there is no noise scale to "
                "measure"
            )
        trace = (small_square - big_square) / (1.0 / small - 1.0 / big)
        square = (big * big_square - small * small_square) / (big - small)
        self._steps.append((trace, square))

    def __len__(self) -> int:
        return len(self._steps)

    def estimate(self, *, last: int | None = None, level: float = 0.9) -> NoiseScale:
        """Ratio of means over steps (a mean of ratios is biased), with Fieller's interval.

        Args:
            last: use only the latest steps; None: all.
            level: coverage of the interval.

        Raises:
            ValueError: fewer than 8 steps, or a level outside (0, 1).
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"a level is between 0 and 1: {level!r}")
        if last is not None:
            require_count("noise scale", last=last)
        steps = np.array(self._steps[-last:] if last else self._steps, dtype=np.float64)
        if len(steps) < LEAST_STEPS:
            raise ValueError(f"a noise scale needs at least {LEAST_STEPS} steps, not {len(steps)}")
        trace, square = (float(x) for x in steps.mean(axis=0))
        blocks = np.array([b.mean(axis=0) for b in np.array_split(steps, min(BLOCKS, len(steps)))])
        low, high = fieller(blocks, level)
        scale = trace / square if square > 0 else math.inf
        return NoiseScale(
            scale=scale, low=low, high=high, trace=trace, squared_norm=square, steps=len(steps)
        )


def fieller(pairs: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Interval for mean(a) / mean(b) from independent pairs (a, b), both means positive.

    Fieller's theorem: the ratios r for which mean(a) - r mean(b) is within its own error of zero.
    Unbounded above, and honestly so, where mean(b) is not clearly positive.
    """
    from scipy.special import stdtrit

    count = len(pairs)
    a, b = pairs.mean(axis=0)
    (va, cab), (_, vb) = np.cov(pairs.T) / count
    t = float(stdtrit(count - 1, 0.5 + level / 2))
    q = b * b - t * t * vb
    if b <= 0 or q <= 0:
        return max(0.0, float((a - t * math.sqrt(va)) / (b + t * math.sqrt(vb) + 1e-300))), math.inf
    middle = a * b - t * t * cab
    spread = math.sqrt(max(0.0, middle * middle - q * (a * a - t * t * va)))
    return max(0.0, float((middle - spread) / q)), float((middle + spread) / q)
