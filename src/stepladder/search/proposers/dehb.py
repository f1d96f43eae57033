"""DEHB: differential evolution, a population a level, fed from the level below."""

import numpy as np

from stepladder.card import Card
from stepladder.search.book import Book, Step
from stepladder.search.brackets import sizes
from stepladder.search.cube import Array, Cube, Indices, Seen
from stepladder.search.proposers import Setup, register
from stepladder.search.sampler import PointSampler

CARD = Card(
    name="dehb",
    family="proposers",
    title="DEHB: Evolutionary Hyperband for Scalable, Robust and Efficient Hyperparameter "
    "Optimization",
    arxiv="2105.09821",
    claim="up to 1000 times faster than random search, robust in many and in discrete dimensions",
    note="rand/1 mutation and binomial crossover with F = p = 0.5, as in the authors' code "
    "(automl/DEHB). From the second Hyperband iteration on, places that would be promoted to are "
    "filled by evolution from the best of the level below. Populations are read off the journal "
    "by replay, so that nothing is lost when a study is killed. Made for the scheduler "
    "`hyperband`; under others, which have no iterations, only new configurations evolve.",
)

FACTOR = 0.5  # of the difference that a mutant is made with
CROSSOVER = 0.5  # chance of each coordinate to come from the mutant
PARENTS = 3  # least, of a mutation
LARGEST = np.finfo(float).max


class Dehb(PointSampler):
    """Populations are the surviving trials of each level."""

    def renews(self, step: Step, book: Book) -> bool:
        """Promotions happen in the first Hyperband iteration only."""
        return step.bracket > book.top

    def propose(self, seen: Seen, level: int, cube: Cube, rng: np.random.Generator) -> Array | None:
        size = self._size(level)
        here = np.flatnonzero(seen.level == level)
        if len(here) < size:  # not all places have been tried: what is new is random
            return None
        place = (len(here) + int((seen.pending_level == level).sum())) % size
        population = here[survivors(seen.loss[here], size)]
        target = seen.x[population[place]]
        pool = self._pool(seen, level, population, rng)
        a, b, c = pool[rng.choice(len(pool), size=PARENTS, replace=False)]
        mutant = inside(a + FACTOR * (b - c), rng)
        return crossed(target, mutant, rng)

    def _pool(self, seen: Seen, level: int, own: Indices, rng: np.random.Generator) -> Array:
        """Parents of a mutation: the best of the level below (its own at the lowest), as many as
        would be promoted; made up to three by random members of all populations."""
        below = max(level - 1, 0)
        trials = np.flatnonzero(seen.level == below)
        if below != level and len(trials):
            trials = trials[survivors(seen.loss[trials], self._size(below))]
        else:
            trials = own
        best = trials[np.argsort(seen.loss[trials], kind="stable")][: self._size(level)]
        short = max(0, PARENTS - len(best))
        return np.concatenate([seen.x[best], rng.random((short, seen.x.shape[1]))])

    def _size(self, level: int) -> int:
        """Members at a level: the most that a bracket has there."""
        top = len(self.costs) - 1
        return max(sizes(self.costs, start, top)[level - start] for start in range(level + 1))


def survivors(loss: Array, size: int) -> Indices:
    """Of trials (n,) in the order asked, the one that holds each of `size` places, where filled.

    Trial i was made for place i modulo size, and took it if it was as good (greedy selection of
    differential evolution, Storn & Price 1997).
    """
    rounds = -(-len(loss) // size)
    padded = np.full(rounds * size, np.nan)
    padded[: len(loss)] = loss
    latest_first = padded.reshape(rounds, size)[::-1, : len(loss)]
    # The least of each place, and the latest of equals; an empty place holds no trial.
    ranked = np.where(np.isnan(latest_first), np.inf, np.minimum(latest_first, LARGEST))
    held = rounds - 1 - ranked.argmin(axis=0)
    return np.asarray(held * size + np.arange(latest_first.shape[1]))


def crossed(target: Array, mutant: Array, rng: np.random.Generator) -> Array:
    """Binomial crossover of points (d,): one coordinate at least is the mutant's."""
    from_mutant = rng.random(len(target)) < CROSSOVER
    if not from_mutant.any():
        from_mutant[rng.integers(len(target))] = True
    return np.where(from_mutant, mutant, target)


def inside(point: Array, rng: np.random.Generator) -> Array:
    """Coordinates outside of the unit cube drawn anew."""
    return np.where((point < 0) | (point > 1), rng.random(len(point)), point)


@register(CARD)
def dehb(setup: Setup) -> Dehb:
    """DEHB's proposer for a space and its levels."""
    return Dehb(setup.distributions, setup.costs, setup.seed[0])
