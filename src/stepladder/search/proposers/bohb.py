"""BOHB: ratio of two densities, of good and of bad configurations, at the dearest level known."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from stepladder.card import Card
from stepladder.search.cube import Array, Cube, Flags, Seen
from stepladder.search.proposers import Setup, register
from stepladder.search.sampler import PointSampler

CARD = Card(
    name="bohb",
    family="proposers",
    title="BOHB: Robust and Efficient Hyperparameter Optimization at Scale",
    arxiv="1807.01774",
    claim="strong early like Hyperband and strong late like Bayesian optimization; up to 55 times "
    "faster than random search",
    note="Constants and rules of the authors' code (automl/HpBandSter): 15% best against the rest, "
    "at the highest level with enough trials, 64 candidates from widened good kernels, a third "
    "random, normal-reference bandwidths. Beyond 1,000 trials of one kind a density is made of "
    "evenly spaced ranks. Made for the scheduler `hyperband`.",
)

GOOD_SHARE = 0.15
CANDIDATES = 64
RANDOM_SHARE = 1 / 3
WIDER = 3.0  # bandwidths that candidates are drawn with, times
LEAST_WIDTH = 1e-3
MOST = 1000  # points of a density
TINY = 1e-32


class Bohb(PointSampler):
    """The multivariate Parzen estimator of BOHB."""

    def propose(self, seen: Seen, level: int, cube: Cube, rng: np.random.Generator) -> Array | None:
        if rng.random() < RANDOM_SHARE:
            return None
        split = split_at(seen, len(cube))
        if split is None:
            return None
        good, bad = (Density.of(x, cube.choices) for x in split)
        points = cube.unseen(good.draw(CANDIDATES, rng), seen, level)
        ratio = np.maximum(bad(points), TINY) / np.maximum(good(points), TINY)
        return np.asarray(points[int(np.argmin(ratio))])


def split_at(seen: Seen, dims: int) -> tuple[Array, Array] | None:
    """Good and bad points at the highest level that has more than `dims` of each; None if none."""
    least = dims + 1
    for level in range(int(seen.level.max(initial=-1)), -1, -1):
        here = seen.level == level
        x, loss = seen.x[here], seen.loss[here]
        count = max(least, int(GOOD_SHARE * len(x)))
        if len(x) - count >= least:
            order = np.argsort(loss, kind="stable")
            return _thin(x[order[:count]]), _thin(x[order[count:]])
    return None


@dataclass(frozen=True, kw_only=True)
class Density:
    """A product-kernel density: Gaussians along ranges, Aitchison and Aitken (1976) along choices.

    Attributes:
        x: points (n, d); widths: bandwidths (d,).
        choices: values of each axis, 0 where it is a range (d,).
    """

    x: Array
    widths: Array
    choices: Array

    @classmethod
    def of(cls, x: Array, choices: Array) -> "Density":
        """With bandwidths by the normal reference rule, 1.06 s n^(-1 / (4 + d)) (Scott 1992)."""
        count, dims = x.shape
        widths = 1.06 * x.std(axis=0) * count ** (-1 / (4 + dims))
        return cls(x=x, widths=np.maximum(widths, LEAST_WIDTH), choices=choices)

    def __call__(self, points: Array) -> Array:
        """The density at points (m, d)."""
        out = np.ones((len(points), len(self.x)))
        for j, width in enumerate(self.widths):
            if self.choices[j]:
                same = self._cell(points[:, j], j)[:, None] == self._cell(self.x[:, j], j)[None]
                out *= np.where(same, 1 - width, width / (self.choices[j] - 1))
            else:
                z = (points[:, j][:, None] - self.x[:, j][None]) / width
                out *= np.exp(-0.5 * z * z) / (np.sqrt(2 * np.pi) * width)
        return np.asarray(out.mean(axis=1))

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Points (count, d) of the unit cube near those of the density, with widened kernels."""
        centres = self.x[rng.integers(len(self.x), size=count)]
        columns = [
            self._draw_choice(centres[:, j], j, rng)
            if self.choices[j]
            else _draw_range(centres[:, j], WIDER * width, rng)
            for j, width in enumerate(self.widths)
        ]
        return np.column_stack(columns)

    def _cell(self, column: Array, j: int) -> Array:
        return np.minimum(np.floor(column * self.choices[j]), self.choices[j] - 1)

    def _draw_choice(self, centres: Array, j: int, rng: np.random.Generator) -> Array:
        keep: Flags = rng.random(len(centres)) < 1 - self.widths[j]
        other = (rng.integers(self.choices[j], size=len(centres)) + 0.5) / self.choices[j]
        return np.where(keep, centres, other)


def _draw_range(centres: Array, width: float, rng: np.random.Generator) -> Array:
    """A normal number around each centre (n,), of those within [0, 1]: by the inverse of its
    distribution (both bounds are on their own side of the centre, where that is exact)."""
    low, high = ndtr(-centres / width), ndtr((1 - centres) / width)
    return np.clip(centres + width * ndtri(rng.uniform(low, high)), 0.0, 1.0)


def _thin(x: Array) -> Array:
    return x if len(x) <= MOST else x[np.linspace(0, len(x) - 1, MOST).astype(int)]


@register(CARD)
def bohb(setup: Setup) -> Bohb:
    """BOHB's proposer for a space."""
    return Bohb(setup.distributions, setup.costs, setup.seed[0])
