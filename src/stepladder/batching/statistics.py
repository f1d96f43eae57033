"""What a step's shard gradients say about noise: sufficient statistics, from a Gram matrix."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class GradientStatistics:
    """Statistics of the gradients g_i of equal shards (micro-batches or ranks) of one batch.

    Variances are of a single sample's gradient: a shard of b samples has 1/b of them.

    Attributes:
        shard_size: samples in a shard.
        shards: number of shards.
        mean_square: ||g||^2 of the batch's gradient g, the mean over shards (biased upwards by
            variance / batch).
        variance: trace of the covariance, sum_j Var(g_j).
        inner_variance: Var <g_i, g>.
        orthogonal_variance: trace of the covariance of the part of g_i orthogonal to g.
        coordinate_ratio: Var(g_j) / g_j^2 for every coordinate, where they were measured.
    """

    shard_size: float
    shards: int
    mean_square: float
    variance: float
    inner_variance: float
    orthogonal_variance: float
    coordinate_ratio: NDArray[np.float64] | None = None

    @classmethod
    def from_gram(cls, gram: ArrayLike, shard_size: float) -> Self:
        """From the inner products <g_i, g_j> of the shards' gradients, shape (shards, shards).

        Raises:
            ValueError: not a square matrix of at least two shards, or not finite, or a size that is
                not positive.
        """
        products = np.asarray(gram, dtype=np.float64)
        shards = len(products) if products.ndim else 0
        if not 0 < shard_size < np.inf:
            raise ValueError(f"a shard's size must be positive and finite: {shard_size!r}")
        if products.ndim != 2 or products.shape[1] != shards or shards < 2:
            raise ValueError(f"a Gram matrix of two or more shards is needed, not {products.shape}")
        if not np.isfinite(products).all():
            raise ValueError("gradients are not finite; there is no noise scale to measure")
        with_mean = products.mean(axis=1)  # <g_i, g>
        mean_square = float(with_mean.mean())
        spread = float(np.trace(products)) - shards * mean_square
        variance = shard_size * spread / (shards - 1)
        inner = shard_size * float(with_mean.var(ddof=1))
        along = inner / mean_square if mean_square > 0 else 0.0
        return cls(
            shard_size=shard_size,
            shards=shards,
            mean_square=mean_square,
            variance=variance,
            inner_variance=inner,
            orthogonal_variance=max(0.0, variance - along),
        )

    @classmethod
    def from_shards(cls, shards: ArrayLike, shard_size: float) -> Self:
        """From the gradients themselves, shape (shards, parameters); also by coordinate.

        Raises:
            ValueError: fewer than two shards, or not finite.
        """
        g = np.asarray(shards, dtype=np.float64)
        if g.ndim != 2:
            raise ValueError(f"gradients are needed as (shards, parameters), not {g.shape}")
        plain = cls.from_gram(g @ g.T, shard_size)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = shard_size * g.var(axis=0, ddof=1) / g.mean(axis=0) ** 2
        return cls(
            **{**vars(plain), "coordinate_ratio": np.nan_to_num(ratio, nan=0.0, posinf=np.inf)}
        )
