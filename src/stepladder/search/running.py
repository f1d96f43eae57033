"""The loop of a search: ask, train, tell, until a budget is spent."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stepladder.recipe import Recipe
from stepladder.search.levels import Levels
from stepladder.search.space import Space, apply
from stepladder.search.study import Best, Job, Study

Result = dict[str, Any]
Execute = Callable[[Sequence[tuple[str, Recipe]]], list[Result]]  # (label, recipe) -> results

PATIENCE = 8  # trials that may all diverge before a search gives up


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What a search will run, from a rehearsal of its scheduler with random losses.

    Attributes:
        runs, costs: at each level, and the FLOP of them; `cost`, of all.
    """

    runs: tuple[int, ...]
    costs: tuple[float, ...]

    @property
    def cost(self) -> float:
        """FLOP of all runs."""
        return sum(self.costs)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        base: the recipe with the best base hyperparameters, at scale 1; `grown`, where they won.
        runs: at each level; `spent`, FLOP of all of them.
        diverged: trials without a loss.
    """

    best: Best
    base: Recipe
    grown: Recipe
    runs: tuple[int, ...]
    spent: float
    diverged: int


def rehearse(space: Space, levels: Levels, scheduler: str, budget: float, at_once: int) -> Outline:
    """What a budget (FLOP) pays for: how often a run is made at each level, about."""
    draws, costs = np.random.default_rng(0), [0.0] * len(levels.costs)
    with Study.open(
        space, levels.costs, proposer="random", scheduler=scheduler, promoted=levels.promoted
    ) as study:
        while jobs := _affordable(study, budget, at_once):
            for job in jobs:
                costs[job.level] += job.cost
                study.tell(job, float(draws.random()))
        return Outline(runs=_runs(study), costs=tuple(costs))


def run(
    study: Study,
    base: Recipe,
    levels: Levels,
    execute: Execute,
    budget: float,
    at_once: int = 1,
) -> Found:
    """Search until the next run would exceed the budget; a study that was stopped goes on.

    Args:
        base: the recipe at scale 1.
        execute: trains recipes (label, recipe) and returns their results in order. What is in its
            store costs nothing again.
        budget: FLOP, what the study has spent already included.
        at_once: runs that are asked for together.

    Raises:
        ValueError: a run reported no loss, or all trials so far diverged.
    """
    while jobs := _affordable(study, budget, at_once):
        recipes = [(_label(job), levels.recipe(apply(base, job.values), job.level)) for job in jobs]
        for job, result in zip(jobs, execute(recipes), strict=True):
            study.tell(job, loss_of(result), run=result["key"])
        _require_some_trained(study)
    return _found(study, base, levels)


def loss_of(result: Result) -> float:
    """The loss of a run, infinite where it diverged.

    Raises:
        ValueError: neither: the metric was never reported.
    """
    if result.get("diverged"):
        return math.inf
    loss = result.get("loss")
    if loss is None:
        raise ValueError(
            f"run {result.get('key', '?')} ended without a `loss`: a search needs it; see that "
            "whoever trains reports the validation loss"
        )
    return float(loss)


def _affordable(study: Study, budget: float, at_once: int) -> list[Job]:
    """Runs that can go side by side now, within the budget."""
    jobs: list[Job] = []
    left = budget - study.spent
    while len(jobs) < at_once and (job := study.ask(within=left)) is not None:
        jobs.append(job)
        left -= job.cost
    return jobs


def _require_some_trained(study: Study) -> None:
    ended = [len(rung.ranked) for rung in study.book.rungs.values()]
    if sum(ended) < PATIENCE or any(rung.finite for rung in study.book.rungs.values()):
        return
    tried = ", ".join(f"{dim.name} {_said(dim.ends)}" for dim in study.space.dims)
    raise ValueError(
        f"all {sum(ended)} trials diverged: search lower rates or a milder range ({tried}), or "
        "lengthen the warmup of the base recipe; what was run is kept"
    )


def _found(study: Study, base: Recipe, levels: Levels) -> Found:
    best = study.best()
    if best is None:
        raise ValueError(
            "the budget ended before any trial trained without diverging: raise --runs"
        )
    tuned = apply(base, best.values)
    rungs = study.book.rungs.values()
    return Found(
        best=best,
        base=tuned,
        grown=levels.recipe(tuned, best.level),
        runs=_runs(study),
        spent=study.spent,
        diverged=sum(len(rung.ranked) - rung.finite for rung in rungs),
    )


def _runs(study: Study) -> tuple[int, ...]:
    counts = [0] * len(study.book.costs)
    for (_, level), rung in study.book.rungs.items():
        counts[level] += len(rung.ranked)
    return tuple(counts)


def _label(job: Job) -> str:
    return f"trial {job.trial}" if job.parent is None else f"trial {job.trial}, from {job.parent}"


def _said(ends: Sequence[Any]) -> str:
    return " to ".join(f"{end:g}" if isinstance(end, float) else str(end) for end in ends)
