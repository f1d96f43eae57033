"""A comparison, run: both arms tuned equally, climbed on the same rungs, and measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepladder.comparing.growth import tuned_to
from stepladder.comparing.means import BASE, DRAWS, LEVER, Means, SeedNoise, means_of, seed_noise
from stepladder.comparing.multiplier import Estimate, Interval, estimate, loss_difference
from stepladder.comparing.plan import Plan
from stepladder.comparing.search import NAMES, Execute, Tuned, as_given, lost_by_tuning, tune
from stepladder.comparing.verdict import verdict
from stepladder.cost import cost
from stepladder.recipe import Recipe

Result = dict[str, Any]
Array = NDArray[np.float64]
Pair = tuple[Recipe, Recipe]

FORMAT = 1
LEVEL = 0.9
# What is said of an arm that diverges, by the rate that it had.
CHANGE = "lengthen its warmup, clip its gradients, or change its parametrization"
GIVEN = f"as its recipe has it: {CHANGE}"
AT_THE_EDGE = (
    "that was best on its tuning seeds, where it did not: its best rates are close to those that "
    "diverge; tune on more seeds (--tuning-seeds), lengthen its warmup, or clip its gradients"
)
TUNED = f"that was best at its smallest rung, and does not carry up: {CHANGE}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison found; `to_json` is the content of `comparison.json`.

    Attributes:
        tuned: the search of each arm.
        rungs: one a scale: widths, costs, losses by seed, and what the lever saves there.
        multipliers: by kind of cost: compute, tokens, and seconds as measured, where every rung
            took longer than the one before (beside other work it may not).
        noise: how log losses scatter between seeds, and how far the arms' luck is shared.
        notes: what the reader should know before trusting the verdict.
    """

    plan: Plan
    level: float
    tuned: Sequence[Tuned]
    rungs: Sequence[Result]
    multipliers: Mapping[str, Estimate]
    differences: Sequence[Interval]
    noise: SeedNoise
    spent: Result
    notes: Sequence[str]

    @property
    def multiplier(self) -> Interval:
        """The compute multiplier over all rungs."""
        return self.multipliers["compute"].mean

    @property
    def span(self) -> float:
        """Compute of the largest rung over that of the smallest, in the baseline."""
        return float(self.rungs[-1]["compute"][0] / self.rungs[0]["compute"][0])

    @property
    def verdict(self) -> str:
        """The answer in one line."""
        return verdict(self.multipliers["compute"], self.span)

    def to_json(self) -> Result:
        """Everything, as JSON types."""
        return {
            "format": FORMAT,
            "verdict": self.verdict,
            "multiplier": asdict(self.multiplier),
            "trend_per_decade": asdict(self.multipliers["compute"].trend),
            "span": self.span,
            "level": self.level,
            **self.plan.to_dict(),
            "tuning": {
                name: _tuning(tuned)
                for name, tuned in zip(("base", "lever"), self.tuned, strict=True)
            },
            "rungs": [
                rung
                | {"loss_difference": asdict(self.differences[i])}
                | {
                    "multipliers": {
                        kind: asdict(made.rungs[i]) for kind, made in self.multipliers.items()
                    },
                    "reach": self.multipliers["compute"].reach[i],
                }
                for i, rung in enumerate(self.rungs)
            ],
            "means": {kind: asdict(made.mean) for kind, made in self.multipliers.items()},
            "noise": self.noise.deviation.tolist(),
            "pairing": self.noise.pairing,
            "spent": self.spent,
            "notes": list(self.notes),
        }


def run(plan: Plan, execute: Execute, *, level: float = LEVEL) -> Comparison:
    """Run a comparison; what is in the store already costs nothing, so a stopped one goes on.

    Args:
        execute: trains recipes (label, recipe) and returns their results in order.
        level: of the intervals.

    Raises:
        ValueError: a level outside (0, 1), an arm diverged, or the baseline does not get better
            along the rungs.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level:g}")
    tuned = tune(plan.tuned_arms, plan.search, execute)
    if plan.lever_as_given:
        tuned.append(as_given(plan.lever))
    pairs = plan.rungs([t.settings for t in tuned])
    rungs = [(tuned_to(b, tuned[0].lr), tuned_to(r, tuned[1].lr)) for b, r in pairs]
    results = _climb(plan, rungs, execute)
    losses, more = _losses(results, len(plan.seeds))
    noise = seed_noise(losses, more)
    lost = [lost_by_tuning(t, noise.deviation[k], DRAWS, seed=k) for k, t in enumerate(tuned)]
    means = means_of(losses, more, lost=lost)
    measured = _costs(rungs, [[runs[: len(plan.seeds)] for runs in arm] for arm in results])
    return Comparison(
        plan=plan,
        level=level,
        tuned=tuned,
        rungs=[_rung(pair, i, results, means, measured) for i, pair in enumerate(rungs)],
        multipliers={
            kind: estimate(x, means, level=level)
            for kind, x in measured.items()
            if kind != "seconds" or _rises(x)
        },
        differences=loss_difference(means, level=level),
        noise=noise,
        spent=_spent(tuned, results),
        notes=_notes(plan, tuned, rungs, measured["seconds"]),
    )


def _climb(plan: Plan, rungs: Sequence[Pair], execute: Execute) -> list[list[list[Result]]]:
    """Results by arm, rung and seed; all are asked for at once, so that they can run together."""
    seeds = (plan.seeds + plan.more_seeds, plan.seeds)
    asked = [
        (f"rung {i + 1} of {len(rungs)}", replace(pair[arm], seed=seed))
        for arm in (0, 1)
        for i, pair in enumerate(rungs)
        for seed in seeds[arm]
    ]
    results = iter(execute(asked))
    nested = [[[next(results) for _ in seeds[arm]] for _ in rungs] for arm in (0, 1)]
    for arm, name in enumerate(NAMES):
        _require_trained(
            name,
            nested[arm],
            [pair[arm] for pair in rungs],
            given=arm == LEVER and plan.lever_as_given,
        )
    return nested


def _require_trained(
    name: str, results: Sequence[Sequence[Result]], recipes: Sequence[Recipe], *, given: bool
) -> None:
    for i, (recipe, runs) in enumerate(zip(recipes, results, strict=True)):
        lost = sum(r["diverged"] for r in runs)
        if lost:
            why = GIVEN if given else TUNED if i else AT_THE_EDGE
            raise ValueError(
                f"{name} diverged in {lost} of {len(runs)} seeds at width {recipe.model.width} "
                f"with the rate {recipe.optimizer.lr:.3g} {why}"
            )


def _losses(results: Sequence[Sequence[Sequence[Result]]], pairs: int) -> tuple[Array, Array]:
    """Losses of the paired seeds (2, rungs, pairs), and of the baseline's further ones."""
    paired = [[[r["loss"] for r in runs[:pairs]] for runs in arm] for arm in results]
    return np.array(paired), np.array([[r["loss"] for r in runs[pairs:]] for runs in results[BASE]])


def _costs(
    rungs: Sequence[Pair], results: Sequence[Sequence[Sequence[Result]]]
) -> dict[str, Array]:
    """Costs (2, rungs) by kind."""
    spent = [[cost(pair[arm]) for pair in rungs] for arm in (0, 1)]
    seconds = [[_mean([r["seconds"] for r in runs]) for runs in arm] for arm in results]
    return {
        "compute": np.array([[c.flops_total + c.flops_optimizer for c in arm] for arm in spent]),
        "tokens": np.array([[float(c.tokens) for c in arm] for arm in spent]),
        "seconds": np.array(seconds),
    }


def _rung(
    pair: Pair,
    i: int,
    results: Sequence[Sequence[Sequence[Result]]],
    means: Means,
    measured: Mapping[str, Array],
) -> Result:
    spent = [cost(recipe) for recipe in pair]
    return {
        "widths": [recipe.model.width for recipe in pair],
        "params": [c.parameters.total for c in spent],
        "batch": [recipe.batch for recipe in pair],
        "losses": [[r["loss"] for r in arm[i]] for arm in results],
        "loss": np.exp(means.value[:, i]).tolist(),
        **{kind: x[:, i].tolist() for kind, x in measured.items()},
        "memory": [c.peak_memory for c in spent],
        "optimizer_bytes": [c.memory.optimizer for c in spent],
        "keys": [recipe.key for recipe in pair],
    }


def _tuning(tuned: Tuned) -> Result:
    return {
        "lr": tuned.lr,
        "settings": dict(tuned.settings),
        "at_edge": tuned.at_edge,
        "runs": tuned.runs,
        "tried": [
            {
                "settings": dict(v.settings),
                "losses": [[rate, v.losses[rate]] for rate in sorted(v.losses)],
            }
            for v in tuned.variants
        ],
    }


def _spent(tuned: Sequence[Tuned], results: Sequence[Sequence[Sequence[Result]]]) -> Result:
    """Runs and seconds of the rungs and of the tuning, each arm by itself."""
    return {
        "tuning_runs": [t.runs for t in tuned],
        "rung_runs": [sum(map(len, arm)) for arm in results],
        "rung_seconds": [math.fsum(r["seconds"] for runs in arm for r in runs) for arm in results],
    }


def _notes(plan: Plan, tuned: Sequence[Tuned], rungs: Sequence[Pair], seconds: Array) -> list[str]:
    notes = []
    if plan.lever_as_given:
        notes.append(
            f"the lever was not tuned: its rate is its recipe's, {tuned[LEVER].lr:.3g}, and what "
            "tuning would gain counts against it"
        )
    for name, one in zip(NAMES, tuned, strict=True):
        if one.at_edge:
            notes.append(
                f"{name}'s best rate, {one.lr:.3g}, is still the {one.at_edge}est tried: it may "
                "be better beyond"
            )
    for name, recipe in zip(NAMES, rungs[0], strict=True):
        if assumed := recipe.parametrization.scale_like:
            notes.append(f"{name}'s rates are assumed to scale like {assumed}'s")
    if len(plan.differences) > 1:
        notes.append(
            f"the lever differs in {len(plan.differences)} fields: the multiplier is of all of "
            "them together"
        )
    if not _rises(seconds):
        notes.append("seconds are left out: a smaller rung took longer, the machine was busy")
    return notes


def _rises(seconds: Array) -> bool:
    """Whether every rung took longer than the one before, in both arms."""
    return bool(np.all(np.diff(seconds, axis=1) > 0))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
