"""Quantile regression by gradient-boosted trees, conformalized: all quantiles in one pass.

Boosting as Friedman (2001, Algorithm 1) with the pinball loss; trees are oblivious (one split a
depth for all leaves, as in CatBoost, arXiv:1706.09516), so that every tree is a few matrix products
over binned inputs and the quantiles' trees grow side by side.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]

TREES, DEPTH, RATE = 100, 3, 0.1  # scikit-learn's defaults, which the authors use
BINS = 16  # thresholds of each axis, at quantiles of the data


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Boosted quantiles: t oblivious trees for each of q quantiles.

    Attributes:
        quantiles: those that are predicted (q,), rising and symmetric about a half.
        start: the data's own quantiles (q,).
        thresholds: per axis (d, bins).
        splits: which threshold (row of `_bits`) is asked at each depth (q, t, depth).
        values: of the leaves (q, t, 2^depth).
        shift: by which outer quantiles are moved out, so that they cover (q,).
    """

    quantiles: Array
    start: Array
    thresholds: Array
    splits: Indices
    values: Array
    shift: Array

    def predict(self, x: Array) -> Array:
        """Quantiles (m, q) at points (m, d)."""
        bits = _bits(x, self.thresholds)
        return np.column_stack([self._sum(bits, q) for q in range(len(self.quantiles))])

    def predict_each(self, x: Array, which: Indices) -> Array:
        """One quantile, by its index `which` (m,), at each of points (m, d): (m,)."""
        bits = _bits(x, self.thresholds)
        out = np.empty(len(x))
        for q in range(len(self.quantiles)):
            out[which == q] = self._sum(bits[:, which == q], q)
        return out

    def _sum(self, bits: Flags, q: int) -> Array:
        """A quantile's trees on points (d * bins, m), added up (m,)."""
        leaves = _leaves(bits, self.splits[q])
        steps = np.take_along_axis(self.values[q], leaves, axis=1).sum(axis=0)
        return np.asarray(self.start[q] + self.shift[q] + RATE * steps)


def boost(x: Array, y: Array, quantiles: Array) -> Forest:
    """Fit quantiles of outputs (n,) given inputs (n, d)."""
    thresholds = np.quantile(x, (np.arange(BINS) + 0.5) / BINS, axis=0).T
    bits = _bits(x, thresholds)
    start = np.quantile(y, quantiles)
    fitted = np.tile(start[:, None], (1, len(y)))
    splits, values = [], []
    for _ in range(TREES):
        asked, leaves = _grow(bits, y[None] - fitted, quantiles)
        splits.append(asked)
        values.append(_leaf_values(y[None] - fitted, leaves, quantiles))
        fitted += RATE * np.take_along_axis(values[-1], leaves, axis=1)
    return Forest(
        quantiles=quantiles,
        start=start,
        thresholds=thresholds,
        splits=np.stack(splits, axis=1),
        values=np.stack(values, axis=1),
        shift=np.zeros(len(quantiles)),
    )


def conformal_shift(forest: Forest, x: Array, y: Array) -> Array:
    """How far each quantile must move out to cover held-out points (m, d) with outputs (m,).

    Symmetric pairs move together by the quantile of the worse of their two misses, at the pair's
    coverage raised by 1 + 1/m (Romano et al. 2019, arXiv:1905.03222, equation 8); the middle stays.
    """
    predicted = forest.predict(x)
    count = len(forest.quantiles)
    shift = np.zeros(count)
    for low in range(count // 2):
        high = count - 1 - low
        missed = np.maximum(predicted[:, low] - y, y - predicted[:, high])
        coverage = forest.quantiles[high] - forest.quantiles[low]
        needed = np.quantile(missed, min(1.0, coverage * (1 + 1 / len(y))))
        shift[low], shift[high] = -needed, needed
    return shift


def _bits(x: Array, thresholds: Array) -> Flags:
    """Which points lie above which thresholds (d * bins, n)."""
    return (x.T[:, None] > thresholds[:, :, None]).reshape(-1, len(x))


def _leaves(bits: Flags, splits: Indices) -> Indices:
    """The leaf of every point (n) in each of some trees (trees, depth): (trees, n)."""
    leaves = np.zeros((len(splits), bits.shape[1]), dtype=np.int64)
    for depth in range(splits.shape[1]):
        leaves += bits[splits[:, depth]].astype(np.int64) << depth
    return leaves


def _grow(bits: Flags, left: Array, quantiles: Array) -> tuple[Indices, Indices]:
    """Splits (q, depth) of a tree for each quantile on what is left of the outputs (q, n), and its
    points' leaves (q, n).

    Splits are those that explain the loss's negative gradient best in squares; a leaf's value is
    the quantile of what is left in it, which minimizes the loss there.
    """
    gradient = np.where(left > 0, quantiles[:, None], quantiles[:, None] - 1.0)
    above = bits.astype(float)
    leaves = np.zeros(left.shape, dtype=np.int64)
    splits = np.empty((len(quantiles), 0), dtype=np.int64)
    for depth in range(DEPTH):
        best = _best_splits(above, gradient, leaves, 1 << depth)
        splits = np.column_stack([splits, best])
        leaves = leaves + (bits[best].astype(np.int64) << depth)
    return splits, leaves


def _best_splits(above: Array, gradient: Array, leaves: Indices, count: int) -> Indices:
    """For each quantile, the threshold that splits all leaves with the largest gain (q,)."""
    member = leaves[:, :, None] == np.arange(count)  # (q, n, leaves)
    sums, sizes = member * gradient[:, :, None], member.astype(float)
    right, right_size = above @ sums, above @ sizes  # (q, thresholds, leaves)
    left = sums.sum(axis=1)[:, None] - right
    left_size = sizes.sum(axis=1)[:, None] - right_size
    gain = right**2 / np.maximum(right_size, 1) + left**2 / np.maximum(left_size, 1)
    return np.asarray(gain.sum(axis=2).argmax(axis=1))


def _leaf_values(left: Array, leaves: Indices, quantiles: Array) -> Array:
    """The quantile of what is left in each leaf (q, leaves); 0 where a leaf is empty."""
    values = np.zeros((len(quantiles), 1 << DEPTH))
    for q, quantile in enumerate(quantiles):
        ordered = left[q, np.lexsort((left[q], leaves[q]))]  # leaf by leaf, rising in each
        sizes = np.bincount(leaves[q], minlength=1 << DEPTH)
        first = np.cumsum(sizes) - sizes
        at = first + np.minimum((quantile * sizes).astype(int), np.maximum(sizes - 1, 0))
        values[q] = np.where(sizes > 0, ordered[np.minimum(at, len(ordered) - 1)], 0.0)
    return values
