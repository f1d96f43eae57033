"""CARBS: look near the Pareto front of loss and cost, where a model expects to beat it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from stepladder.card import Card
from stepladder.search.cube import Array, Cube, Flags, Indices, Seen
from stepladder.search.process import Process, fit
from stepladder.search.proposers import Setup, register
from stepladder.search.sampler import PointSampler

CARD = Card(
    name="carbs",
    family="proposers",
    title="Tune As You Scale: Hyperparameter Optimization For Compute Efficient Training",
    arxiv="2306.08055",
    claim="solves ProcGen by tuning plain PPO, and finds Chinchilla's law with other scaling laws "
    "on the way, for much less compute",
    note="Confirmed against the authors' code (imbue-ai/carbs): random trials first, Gaussian "
    "steps around the Pareto set; expected improvement over the front at the candidate's cost, "
    "times the density of the step, times the chance of success; losses made normal by ranks. "
    "Here costs are known and the scheduler chooses them (no model of cost, no drawn cost "
    "threshold), the kernel is Matern-5/2 with fixed lengths over parameters and log cost, a step "
    "may switch a choice, and Pareto points are not run again (the same recipe is never paid for "
    "twice). Made for the scheduler "
    "`spread`, and better under `halving`.",
)

FIRST = 4  # random trials, as the code's num_random_samples
RADIUS = 0.15  # of a step, in the unit cube; the code's 0.3 is of an axis that the user scales
SWITCH = 0.25  # chance of a step to draw a choice anew; the code has no choices
CANDIDATES = 100  # a dimension
MARGIN = 1.0  # by which the model's improvement must exceed the front (exploration_bias)
CHEAP = 0.2  # the front starts at the best of this share of the cheapest trials
MOST = 150  # trials that a model is fitted to: the front, and the newest
LENGTH, COST_LENGTH, NOISE = 0.3, 1.0, 0.1


class Carbs(PointSampler):
    """Candidates near the front, judged by a process over parameters and log cost together, so
    that what is learned at one level moves with scale to the next."""

    def propose(self, seen: Seen, level: int, cube: Cube, rng: np.random.Generator) -> Array | None:
        if seen.finite.sum() < FIRST:
            return None
        seen_cost = _axis(self.costs)[seen.level]
        front = pareto(seen_cost, seen.loss)
        near = Near(origins=seen.x[front], choices=cube.choices)
        points = cube.unseen(near.draw(CANDIDATES * len(cube), rng), seen, level)
        model = self._model(seen, seen_cost, front)
        cost = _axis(self.costs)[level]
        mean, deviation = model.predict(_joined(points, np.full(len(points), cost)))
        target = _front_value(model, seen.x[front], seen_cost[front], cost)
        gain = improvement(target - MARGIN * model.scale - mean, deviation)
        worth = gain * near.density(points) * _success(points, seen)
        return np.asarray(points[int(np.argmax(worth))])

    def _model(self, seen: Seen, cost: Array, front: Flags) -> Process:
        """Of normal scores of the losses (lower is better), trials at work believed."""
        keep = np.flatnonzero(seen.finite)
        if len(keep) > MOST:
            newest = keep[-MOST:]
            keep = np.union1d(newest, np.flatnonzero(front))
        lengths = np.array([LENGTH] * seen.x.shape[1] + [COST_LENGTH])
        scores = normal_scores(seen.loss[keep])
        model = fit(_joined(seen.x[keep], cost[keep]), scores, lengths, NOISE)
        waiting = _axis(self.costs)[seen.pending_level]
        return model.with_pending(_joined(seen.pending, waiting))


@dataclass(frozen=True, kw_only=True)
class Near:
    """Steps from the front: normal along ranges, now and then another value of a choice.

    Attributes:
        origins: points of the front (k, d).
        choices: values of each axis, 0 where it is a range (d,).
    """

    origins: Array
    choices: Indices

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Points (count, d) of the unit cube, a step away from an origin."""
        out = np.empty((0, self.origins.shape[1]))
        while len(out) < count:
            points = self.origins[rng.integers(len(self.origins), size=2 * count)]
            stepped = points + rng.normal(scale=RADIUS, size=points.shape)
            switch = rng.random(points.shape) < SWITCH
            chosen = np.where(switch, rng.random(points.shape), points)
            points = np.where(self.choices > 0, chosen, stepped)
            inside = np.all((points >= 0) & (points <= 1), axis=1)
            out = np.concatenate([out, points[inside]])
        return out[:count]

    def density(self, points: Array) -> Array:
        """Density (m,) of a step of that length from the nearest origin, up to a factor."""
        ranges = self.choices == 0
        apart = points[:, None, ranges] - self.origins[None][:, :, ranges]
        nearest = np.linalg.norm(apart, axis=-1).min(axis=1)
        return np.asarray(np.exp(-0.5 * (nearest / RADIUS) ** 2))


def pareto(cost: Array, loss: Array) -> Flags:
    """Which trials (n,) are on the front: no cheaper one, and none as cheap, is as good.

    The best of the cheapest fifth stands for all that is cheaper, as in the authors' code.
    """
    cheap = cost <= np.quantile(cost[np.isfinite(loss)], CHEAP)
    front = np.zeros(len(cost), dtype=bool)
    best = np.inf
    for members in (cheap, *[cost == c for c in np.unique(cost[~cheap])]):
        lowest = int(np.argmin(np.where(members, loss, np.inf)))
        if loss[lowest] < best:
            front[lowest], best = True, loss[lowest]
    return front


def normal_scores(loss: Array) -> Array:
    """Losses (n,) as normal quantiles of their ranks: outliers lose their weight."""
    ranks = np.argsort(np.argsort(loss, kind="stable"), kind="stable")
    return np.asarray(norm.ppf((ranks + 0.5) / len(loss)))


def improvement(gap: Array, deviation: Array) -> Array:
    """Expected improvement where the mean lies `gap` below the target (Jones et al. 1998)."""
    z = gap / deviation
    return np.asarray(deviation * (norm.pdf(z) + z * norm.cdf(z)))


def _front_value(model: Process, points: Array, costs: Array, cost: float) -> float:
    """The model's best loss along the front at a cost: its members there, as the model sees them,
    of which those that are dearer are taken at this cost."""
    at = np.minimum(costs, cost)
    return float(model.predict(_joined(points, at))[0].min())


def _success(points: Array, seen: Seen) -> Array:
    """Chance (m,) that a run at a point does not diverge: a process of -1 and 1."""
    lost = ~seen.finite
    if not lost.any():
        return np.ones(len(points))
    keep = np.concatenate([np.flatnonzero(lost)[-MOST:], np.flatnonzero(~lost)[-MOST:]])
    labels = np.where(lost[keep], 1.0, -1.0)
    lengths = np.full(seen.x.shape[1], LENGTH)
    mean, deviation = fit(seen.x[keep], labels, lengths, NOISE).predict(points)
    return np.asarray(norm.cdf(-mean / deviation))


def _joined(points: Array, cost: Array) -> Array:
    return np.column_stack([points, cost])


def _axis(costs: Sequence[float]) -> Array:
    """Log costs from 0 to 1, as the code scales them to one range."""
    logs = np.log(costs)
    span = logs[-1] - logs[0]
    return np.asarray((logs - logs[0]) / span if span > 0 else np.zeros(len(logs)))


@register(CARD)
def carbs(setup: Setup) -> Carbs:
    """CARBS for a space and the costs of its levels."""
    return Carbs(setup.distributions, setup.costs, setup.seed[0])
