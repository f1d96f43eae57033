"""Tuning both arms equally: the same number of runs, spent by the same rule.

Each arm starts with the same number of rates around its own, a factor of two apart. Where the best
of one is at an end, the search goes on for both: that arm tries the next rate outward, and the
other, where it has its best in the middle already, refines around it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepladder.comparing.differences import flat
from stepladder.comparing.growth import tuned_to
from stepladder.ladder.tune import Losses, optimum
from stepladder.names import did_you_mean
from stepladder.recipe import Recipe, Setting

Result = dict[str, Any]
Execute = Callable[[Sequence[tuple[str, Recipe]]], list[Result]]  # (label, recipe) -> results
Array = NDArray[np.float64]

STEP = 2.0  # between rates
NAMES = ("the baseline", "the lever")
MOST_GROWTH = 4  # rates added to each arm's, at most
LEAST_RATES = 3
NEXT_TO = 1.001  # a rate this near to another is that one
FIRST_SEED = 1000  # of the tuning runs: other seeds than the rungs', so that luck is not tuned to
OWN_TABLES = ("optimizer.params.", "schedule.params.")


@dataclass(frozen=True, kw_only=True)
class Search:
    """What each arm's tuning may spend: `rates` x `seeds` x combinations of `fields` runs.

    `fields` are further fields of the recipe with the values to try, such as
    {"optimizer.weight_decay": (0.0, 0.1)}.
    """

    rates: int = 5
    seeds: int = 1
    fields: Mapping[str, tuple[Setting, ...]] | None = None

    def __post_init__(self) -> None:
        if self.rates < LEAST_RATES:
            raise ValueError(
                f"rates must be {LEAST_RATES} or more, not {self.rates}: a best rate has one on "
                "either side"
            )
        if self.seeds < 1:
            raise ValueError(f"tuning seeds must be 1 or more, not {self.seeds}")

    @property
    def combinations(self) -> int:
        """Settings of `fields` tried at each rate."""
        return math.prod(len(values) for values in (self.fields or {}).values())

    @property
    def runs(self) -> int:
        """Runs of each arm before the search grows."""
        return self.rates * self.runs_a_rate

    @property
    def runs_a_rate(self) -> int:
        """Runs of each arm at each rate."""
        return self.seeds * self.combinations


@dataclass(frozen=True, kw_only=True)
class Variant:
    """An arm with one combination of the tuned fields, and its losses by rate."""

    settings: Mapping[str, Setting]
    recipe: Recipe
    seeds: int
    losses: dict[float, list[float]]

    @property
    def best(self) -> float:
        """The lowest mean loss of its rates."""
        return min(map(_mean, self.losses.values()))


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What the search found for one arm: the rate, the other settings, and what was tried.

    `at_edge` is "low" or "high" where the best rate is still at an end of those tried.
    """

    lr: float
    settings: Mapping[str, Setting]
    at_edge: str
    runs: int
    variants: tuple[Variant, ...]
    chosen: Variant


def tune(arms: Sequence[Recipe], search: Search, execute: Execute) -> list[Tuned]:
    """Tune the baseline and the lever, or the baseline alone, at their smallest rung.

    Raises:
        ValueError: fewer than three rates of an arm trained without diverging.
    """
    both = [start(arm, search, first=k == 0) for k, arm in enumerate(arms)]
    _measure([(v, rate) for v in _all(both) for rate in first_rates(v, search.rates)], execute)
    for _ in range(MOST_GROWTH):
        if not any(edge(_best(variants)) for variants in both):
            break
        asked = [(v, next_rate(_best(variants))) for variants in both for v in variants]
        _measure(asked, execute)
    return [_tuned(variants, name) for variants, name in zip(both, NAMES, strict=False)]


def as_given(arm: Recipe) -> Tuned:
    """An arm that keeps the settings of its recipe; nothing was tried."""
    only = Variant(settings={}, recipe=arm, seeds=1, losses={})
    return Tuned(
        lr=arm.optimizer.lr, settings={}, at_edge="", runs=0, variants=(only,), chosen=only
    )


def start(arm: Recipe, search: Search, *, first: bool) -> list[Variant]:
    """An arm's variants before anything is run, with seeds so that both arms make as many runs.

    Parameters of an optimizer or schedule are the lever's alone: a baseline that does not have them
    spends the same runs on more seeds.
    """
    fields = search.fields or {}
    own = {n: v for n, v in fields.items() if not (first and n.startswith(OWN_TABLES))}
    choices = [dict(zip(own, values, strict=True)) for values in product(*own.values())]
    seeds = search.runs_a_rate // len(choices)
    return [
        Variant(settings=s, recipe=with_settings(arm, s), seeds=seeds, losses={}) for s in choices
    ]


def with_settings(recipe: Recipe, settings: Mapping[str, Setting]) -> Recipe:
    """The recipe with fields, by dotted name, set.

    Raises:
        ValueError: no such field, or a value that it refuses.
    """
    content = recipe.to_dict()
    for name, value in settings.items():
        known = flat(content)
        *path, last = name.split(".")
        table = content
        for part in path:
            table = table.get(part) if isinstance(table, dict) else None  # type: ignore[assignment]
        if not isinstance(table, dict) or (name not in known and not name.startswith(OWN_TABLES)):
            raise ValueError(f"a recipe has no field {name!r}{did_you_mean(name, known)}")
        table[last] = value
    return Recipe.from_dict(content)


def first_rates(variant: Variant, count: int) -> list[float]:
    """`count` rates around the recipe's own, a factor of two apart."""
    low = -(count // 2)
    return [variant.recipe.optimizer.lr * STEP**e for e in range(low, low + count)]


def edge(losses: Losses) -> str:
    """ "low" or "high" where the best rate, as tried or as fitted, is at that end of the rates.

    Rates that diverged count: the best rate below them is not at an end. Where all did, it is
    "low".
    """
    rates = sorted(losses)
    means = [_mean(losses[rate]) for rate in rates]
    at = int(np.argmin(means))
    if at == 0 or not math.isfinite(means[at]):
        return "low"
    if at == len(rates) - 1:
        return "high"
    if sum(map(math.isfinite, means)) < LEAST_RATES:
        return ""
    fitted = optimum(losses).lr  # kept within the rates, up to rounding
    return "low" if fitted < rates[0] * NEXT_TO else "high" if fitted > rates[-1] / NEXT_TO else ""


def next_rate(losses: Losses) -> float:
    """The rate to try next: outward where the best is at an end, else between the best two."""
    rates, where = sorted(losses), edge(losses)
    if where:
        return rates[0] / STEP if where == "low" else rates[-1] * STEP
    means = [_mean(losses[rate]) for rate in rates]
    at = int(np.argmin(means))
    beside = at - 1 if means[at - 1] < means[at + 1] else at + 1
    return math.sqrt(rates[at] * rates[beside])


def lost_by_tuning(tuned: Tuned, noise: float, count: int, seed: int) -> Array:
    """Draws (count,) of the relative loss that the chosen rate costs against the true best.

    The tuning runs are drawn again with the seeds' noise; where each draw has its best, the
    parabola's height above it at the chosen rate is what was lost. Never negative; nothing where
    an arm was taken as given: its rate is what is judged.

    Args:
        noise: standard deviation of the logarithm of the loss between seeds.
    """
    if not tuned.runs:
        return np.zeros(count)
    means = {rate: _mean(y) for rate, y in tuned.chosen.losses.items()}
    rates = np.array(sorted(rate for rate in means if math.isfinite(means[rate])))
    x, y = np.log2(rates / tuned.lr), np.log([means[rate] for rate in rates])
    near = np.exp(-((x - x[y.argmin()]) ** 2) / 4)  # as `ladder.tune.optimum` weighs them
    normal = np.random.default_rng(seed).normal(size=(count, len(x)))
    drawn = y + normal * noise / math.sqrt(tuned.chosen.seeds)
    curve, slope, _ = np.polyfit(x, drawn.T, 2, w=near)
    lowest = np.clip(-slope / (2 * np.where(curve > 0, curve, 1.0)), x[0], x[-1])
    lost = -(curve * lowest + slope) * lowest
    return np.asarray(np.where(curve > 0, np.maximum(lost, 0.0), 0.0))


def _measure(asked: Sequence[tuple[Variant, float]], execute: Execute) -> None:
    """Runs every rate over the variant's seeds, all at once, and keeps the losses."""
    runs = [
        (v, rate, replace(tuned_to(v.recipe, rate), seed=v.recipe.seed + FIRST_SEED + k))
        for v, rate in asked
        for k in range(v.seeds)
    ]
    results = execute([(f"tune lr {rate:.2g}", recipe) for _, rate, recipe in runs])
    for (variant, rate, _), result in zip(runs, results, strict=True):
        loss = math.inf if result["diverged"] else float(result["loss"])
        variant.losses.setdefault(rate, []).append(loss)


def _tuned(variants: Sequence[Variant], name: str) -> Tuned:
    chosen = min(variants, key=lambda v: v.best)
    try:
        lr = optimum(chosen.losses).lr
    except ValueError as error:
        raise ValueError(f"{name}: {error} in its recipe (optimizer.lr)") from None
    return Tuned(
        lr=lr,
        settings=chosen.settings,
        at_edge=edge(chosen.losses),
        runs=sum(len(y) for v in variants for y in v.losses.values()),
        variants=tuple(variants),
        chosen=chosen,
    )


def _best(variants: Sequence[Variant]) -> dict[float, list[float]]:
    return min(variants, key=lambda v: v.best).losses


def _all(both: Sequence[Sequence[Variant]]) -> list[Variant]:
    return [variant for variants in both for variant in variants]


def _mean(losses: Sequence[float]) -> float:
    return math.fsum(losses) / len(losses)
