"""MOBSTER: one Gaussian process over configuration and level, and expected improvement in it."""

import numpy as np
from scipy.stats import norm

from stepladder.card import Card
from stepladder.search.cube import Array, Cube, Indices, Seen, milestone
from stepladder.search.process import Process, fit
from stepladder.search.proposers import Setup, register
from stepladder.search.sampler import PointSampler

CARD = Card(
    name="mobster",
    family="proposers",
    title="Model-based Asynchronous Hyperparameter and Neural Architecture Search",
    arxiv="2003.10865",
    claim="substantial speed-ups over the state of the art on tabular data, images and language",
    note="Joint Matern-5/2 kernel with a length for every parameter and for the level; expected "
    "improvement at the highest level with enough trials; trials at work count with their expected "
    "outcome, where the paper draws fantasies. Confirmed against syne-tune's documentation; the "
    "number of trials that is enough (3) is unconfirmed. At most 150 trials are fitted, the best "
    "and some of the others; lengths and noise at every result up to 64, then every 3% more. Made "
    "for the scheduler `halving`.",
)

FIRST = 8  # random trials
ENOUGH = 3  # trials that make a level the one to improve at
CANDIDATES = 500
LOCAL = 0.1  # spread of the candidates around the best; half of all are such
MOST = 150


class Mobster(PointSampler):
    """Lengths and noise are refitted now and then (`cube.milestone`)."""

    _known: tuple[int, Array, float] | None = None

    def propose(self, seen: Seen, level: int, cube: Cube, rng: np.random.Generator) -> Array | None:
        learned = seen.only(seen.first(milestone(len(seen))))
        if learned.finite.sum() < FIRST:
            return None
        at = level_to_improve(seen)
        model = self._model(seen, learned)
        here = np.flatnonzero(seen.finite & (seen.level == at))
        best = seen.x[here[int(np.argmin(seen.loss[here]))]]
        points = cube.unseen(candidates(best, rng), seen, level)
        mean, deviation = model.predict(self._joint(points, np.full(len(points), at)))
        known = model.predict(self._joint(seen.x[here], np.full(len(here), at)))[0].min()
        z = (known - mean) / deviation
        gain = deviation * (norm.pdf(z) + z * norm.cdf(z))
        return np.asarray(points[int(np.argmax(gain))])

    def _model(self, seen: Seen, learned: Seen) -> Process:
        """Of what was seen, with lengths and noise of what they are learned from."""
        if self._known is None or self._known[0] != len(learned):
            found = fit(*self._data(learned))
            self._known = len(learned), found.lengths, found.noise
        model = fit(*self._data(seen), self._known[1], self._known[2])
        return model.with_pending(self._joint(seen.pending, seen.pending_level))

    def _data(self, seen: Seen) -> tuple[Array, Array]:
        """Inputs and log losses of the trials that are fitted."""
        found = seen.only(seen.finite)
        found = found.only(found.bounded(MOST, MOST // 2))
        return self._joint(found.x, found.level), np.log(_positive(found.loss))

    def _joint(self, points: Array, level: Indices) -> Array:
        return np.column_stack([points, level / max(1, len(self.costs) - 1)])


def level_to_improve(seen: Seen) -> int:
    """The highest level with enough trials; else the one with any."""
    counts = np.bincount(seen.level[seen.finite])
    enough = np.flatnonzero(counts >= ENOUGH)
    return int(enough[-1] if len(enough) else np.flatnonzero(counts)[-1])


def candidates(best: Array, rng: np.random.Generator) -> Array:
    """Points of the unit cube, half of them around the best (CANDIDATES, d)."""
    points = rng.random((CANDIDATES, len(best)))
    half = CANDIDATES // 2
    points[:half] = np.clip(best + rng.normal(scale=LOCAL, size=(half, len(best))), 0, 1)
    return points


def _positive(loss: Array) -> Array:
    """Losses moved above zero, so that their logarithm is there."""
    return loss - min(0.0, loss.min()) + 1e-6 * (1.0 + np.abs(loss).max())


@register(CARD)
def mobster(setup: Setup) -> Mobster:
    """MOBSTER's proposer for a space and its levels."""
    return Mobster(setup.distributions, setup.costs, setup.seed[0])
