"""The next run: which one would shrink the interval at a target most for its cost."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Mask
from stepladder.laws.profile import covariance
from stepladder.laws.result import Fit

REACH = 2.0  # candidates go this many times beyond what was run
NOTABLE = 0.25
STEPS = 9  # of a grid along each input


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A run that could be made next.

    Args:
        cost: in the unit of the fitted runs' cost.
        shrinks: part by which the law's standard deviation at the target falls.
        per_cost: `shrinks` for each cost of the dearest run so far.
    """

    inputs: Mapping[str, float]
    cost: float
    shrinks: float
    per_cost: float

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)


def next_runs(
    fit: Fit,
    target: Mapping[str, ArrayLike],
    candidates: Mapping[str, ArrayLike] | None = None,
    cost: ArrayLike | None = None,
) -> list[Candidate]:
    """Candidate runs, best first: by what they shrink for their cost, of those that shrink enough.

    A run that shrinks less than `NOTABLE` of what the best would comes after the others.

    One run at x adds 1/noise^2 of information along its own gradient g(x); what that does to the
    variance g(t)' S g(t) of the law at the target t has a closed form (Sherman and Morrison 1950).

    Args:
        target: where the forecast has to be sharp.
        candidates: inputs to choose from, each (candidates,); where none are given a grid over the
            fitted range and somewhat beyond, of runs proportioned like those that were made.
        cost: (candidates,) of each; from compute where not given.
    """
    options = _grid(fit) if candidates is None else _arrays(candidates)
    price = _cost(fit, options) if cost is None else np.asarray(cost, dtype=np.float64)
    if candidates is None:
        allowed = (price <= REACH * fit.points.cost.max()) & _proportioned(fit, options)
        options, price = {n: x[allowed] for n, x in options.items()}, price[allowed]
    spread = covariance(fit.problem, fit.coordinates[0], fit.scale)
    slopes = _slopes(fit, options)
    at_target = _slopes(fit, _arrays(target))[:, 0]
    shared = slopes.T @ spread @ at_target
    own = np.einsum("pc,pq,qc->c", slopes, spread, slopes)
    before = float(at_target @ spread @ at_target)
    after = before - shared**2 / (fit.scale.noise**2 + own)
    shrinks = 1.0 - np.sqrt(np.maximum(after, 0.0) / before)
    rate = shrinks / (price / fit.points.cost.max())
    return [
        Candidate(
            inputs={name: float(x[k]) for name, x in options.items()},
            cost=float(price[k]),
            shrinks=float(shrinks[k]),
            per_cost=float(rate[k]),
        )
        for k in np.lexsort((-rate, shrinks < NOTABLE * shrinks.max()))
    ]


def _grid(fit: Fit) -> dict[str, Array]:
    """Every combination of values over the fitted range of each input, and a little above."""
    axes = []
    for i in fit.law.inputs:
        x = fit.points.inputs[i.name]
        if i.falls and x.min() > 0:
            axes.append(np.geomspace(x.min(), REACH * x.max(), STEPS))
        else:
            axes.append(np.unique(x)[:: max(1, len(np.unique(x)) // STEPS)])
    mesh = np.meshgrid(*axes, indexing="ij")
    return {i.name: m.reshape(-1) for i, m in zip(fit.law.inputs, mesh, strict=True)}


def _proportioned(fit: Fit, options: Mapping[str, Array]) -> Mask:
    """Which options have such tokens a parameter (and the like) as runs had, or nearly.

    What tells most of a law's exponents is a huge model on hardly any data, which nobody trains.
    """
    like = np.ones(len(next(iter(options.values()))), dtype=bool)
    falling = [i.name for i in fit.law.inputs if i.falls and fit.points.inputs[i.name].min() > 0]
    for a, b in combinations(falling, 2):
        made, ratio = fit.points.inputs[a] / fit.points.inputs[b], options[a] / options[b]
        like &= (ratio >= made.min() / REACH) & (ratio <= made.max() * REACH)
    return like


def _cost(fit: Fit, options: Mapping[str, Array]) -> Array:
    """Cost in the unit of the points: their own rule, by the law's compute where it has one."""
    if {"params", "tokens"} <= set(options):
        return fit.law.compute(options)
    falling = [i.name for i in fit.law.inputs if i.falls] or list(options)
    return np.asarray(np.prod([options[name] for name in falling], axis=0))


def _slopes(fit: Fit, options: Mapping[str, Array]) -> Array:
    """Gradient of the law, in residual units, at each option: (coordinates, options)."""
    count = len(next(iter(options.values())))
    there = replace(
        fit.problem, inputs=options, target=np.ones(count), weights=np.ones(count), outcomes=0
    )
    return there.linearised(fit.coordinates[:1])[1][0]


def _arrays(inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
    return {name: np.atleast_1d(np.asarray(x, dtype=np.float64)) for name, x in inputs.items()}
