"""AdAdaGrad: the batch grows when the gradient's variance fails a test."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stepladder.batching import (
    Measures,
    register_policy,
    require_count,
    require_positive,
    round_up,
)
from stepladder.batching.statistics import GradientStatistics
from stepladder.card import Card

TITLE = "AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient Methods"
CLAIM = "O(1/K) to a stationary point for AdaGrad-Norm; large batches' speed at small batches' loss"
NORM = Card(name="norm-test", family="batching", title=TITLE, arxiv="2402.11215", claim=CLAIM)
INNER = Card(
    name="inner-product-test",
    family="batching",
    title=TITLE,
    arxiv="2402.11215",
    claim=CLAIM,
    note="With `nu` the orthogonality test as well (the augmented test).",
)
COORDINATE = Card(
    name="coordinate-norm-test",
    family="batching",
    title=TITLE,
    arxiv="2402.11215",
    claim=CLAIM,
    note="The condition on every coordinate, for full AdaGrad. Coordinates with almost no gradient "
    "ask for huge batches: `share` below 1 lets the worst ones fail (ours, not the paper's).",
)


@dataclass(frozen=True, kw_only=True)
class _Test:
    """Grows the batch to what the test needs; never shrinks it.

    Attributes:
        largest: no batch is larger.
        granularity: batches are multiples of it.
    """

    measures: ClassVar[Measures] = "shards"
    largest: int
    granularity: int = 1

    def __post_init__(self) -> None:
        require_count("batch test", largest=self.largest, granularity=self.granularity)
        if self.largest % self.granularity:
            raise ValueError(
                f"largest {self.largest} must be a multiple of granularity {self.granularity}"
            )
        for name in ("eta", "theta", "nu", "share"):
            if (value := getattr(self, name, None)) is not None:
                require_positive("batch test", **{name: value})

    def next_batch(
        self, batch: int, *, progress: float, statistics: GradientStatistics | None
    ) -> int:
        """The same batch where the test holds, else the smallest that would pass it.

        Raises:
            ValueError: no statistics; the tests need the gradients of two or more shards.
        """
        if statistics is None:
            raise ValueError("batch tests need gradient statistics: two or more shards a step")
        return max(batch, round_up(self.needed(statistics), self.granularity, self.largest))

    def needed(self, statistics: GradientStatistics) -> float:
        """The batch at which the test would just hold."""
        raise NotImplementedError


@register_policy(NORM)
@dataclass(frozen=True, kw_only=True)
class NormTest(_Test):
    """Var(g_i) / B <= eta^2 ||g||^2."""

    eta: float = 0.2

    def needed(self, statistics: GradientStatistics) -> float:
        return _ratio(statistics.variance, self.eta**2 * statistics.mean_square)


@register_policy(INNER)
@dataclass(frozen=True, kw_only=True)
class InnerProductTest(_Test):
    """Var <g_i, g> / B <= theta^2 ||g||^4; with `nu`, Var(orthogonal part) / B <= nu^2 ||g||^2."""

    theta: float = 0.9
    nu: float | None = None

    def needed(self, statistics: GradientStatistics) -> float:
        square = statistics.mean_square
        along = _ratio(statistics.inner_variance, self.theta**2 * square**2)
        if self.nu is None:
            return along
        return max(along, _ratio(statistics.orthogonal_variance, self.nu**2 * square))


@register_policy(COORDINATE)
@dataclass(frozen=True, kw_only=True)
class CoordinateNormTest(_Test):
    """Var(g_ij) / B <= eta^2 g_j^2 for (a share of) every coordinate j."""

    measures: ClassVar[Measures] = "coordinates"
    eta: float = 0.2
    share: float = 1.0

    def needed(self, statistics: GradientStatistics) -> float:
        if statistics.coordinate_ratio is None:
            raise ValueError("coordinate-norm-test needs GradientStatistics.from_shards")
        worst = np.quantile(statistics.coordinate_ratio, min(self.share, 1.0), method="lower")
        return float(worst) / self.eta**2


def _ratio(above: float, below: float) -> float:
    if above <= 0:
        return 0.0
    return above / below if below > 0 else float("inf")
