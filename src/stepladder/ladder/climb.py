"""Climbing: tune at the base, check one rung wider, run every rung, write the forecast."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from stepladder.cost import cost
from stepladder.ladder.folder import Folder
from stepladder.ladder.plan import CHECK_FACTORS, Plan, at_rate
from stepladder.ladder.tune import Losses, optimum, seed_noise
from stepladder.laws.floored import Floored, fit_floored
from stepladder.recipe import Recipe
from stepladder.store import Store

LEVEL = 0.9
MOST_GROWTH = 3  # rates added at an end of the grid, at most
LOST_TOO_MUCH = 0.01  # of the loss, at the wider rung
ROUGH = 3  # times the seed noise: runs that far from the law do not follow it

Result = dict[str, Any]
Execute = Callable[[Sequence[tuple[str, Recipe]]], list[Result]]  # (label, recipe) -> results


def climb(folder: Folder, store: Store, execute: Execute) -> Result:
    """Run a plan's small runs and write `tuning.json` and `forecast.json`.

    Runs that are already in the store cost nothing, so an interrupted climb goes on.

    Args:
        execute: trains recipes (label, recipe) and returns their results in order.

    Raises:
        ValueError: the target has been started, so that a forecast would be none.
    """
    plan = folder.plan()
    written = folder.read("forecast")
    if written is not None:
        return written
    tuned = folder.read("tuning") or tune(plan, execute)
    checked, results = run_rungs(plan, tuned["lr"], execute)
    if folder.read("tuning") is None:
        verdict = _verdict(tuned["lr"], checked, plan)
        tuned = tuned | {"check": verdict}
        folder.write("tuning", tuned)
    forecast = make_forecast(plan, tuned, results)
    refuse_after_start(store, forecast["target"]["key"])
    folder.write("forecast", forecast)
    return forecast


def tune(plan: Plan, execute: Execute) -> Result:
    """The base rate, tuned at the base over seeds."""
    base = plan.rungs[plan.base].recipe
    losses = _measure(base, plan.rates, plan.tuning_seeds, execute)
    for _ in range(MOST_GROWTH):
        edge = optimum(losses).at_edge
        if not edge:
            break
        further = min(losses) / 2 if edge == "low" else max(losses) * 2
        losses |= _measure(base, [further], plan.tuning_seeds, execute)
    best = optimum(losses)
    return {
        "lr": best.lr,
        "optimum": asdict(best),
        "losses": [[lr, losses[lr]] for lr in sorted(losses)],
    }


def run_rungs(plan: Plan, lr: float, execute: Execute) -> tuple[Losses, list[Result]]:
    """Every rung at the tuned rate, and beside them the check of that rate at the wider rung.

    Returns:
        The wider rung's losses by rate, and the results of the rungs, cheapest first. All are
        asked for at once, so that they can run side by side.
    """
    wider = plan.rungs[plan.wider]
    rates = [lr * factor for factor in CHECK_FACTORS]
    seed = wider.seeds[0]
    extra = [(f"check lr {r:.2g}", at_rate(replace(wider.recipe, seed=seed), r)) for r in rates]
    asked = [
        (f"rung {i + 1} of {len(plan.rungs)}", recipe)
        for i, rung in enumerate(plan.rungs)
        for recipe in rung.recipes(lr)
    ]
    results = execute([*extra, *asked])
    checks, rungs = results[: len(extra)], results[len(extra) :]
    own = at_rate(replace(wider.recipe, seed=seed), lr).key
    kept = next(r for r in rungs if r["key"] == own)
    losses = {rate: [_loss(r)] for rate, r in zip(rates, checks, strict=True)}
    return losses | {lr: [_loss(kept)]}, rungs


def make_forecast(plan: Plan, tuned: Result, results: Sequence[Result]) -> Result:
    """Fit the law to the rungs and evaluate it at the target: the content of `forecast.json`.

    A pure function of what stands before the target: nothing of the target's run can enter.

    Raises:
        ValueError: too few rungs trained without diverging, or the law does not fit them.
    """
    good = [r for r in results if not r["diverged"]]
    target = at_rate(plan.target, tuned["lr"])
    flops = _training_flops(target)
    noise = seed_noise(_by_scale(good))
    law = fit_floored([r["flops"] for r in good], [r["loss"] for r in good], plan.floor)
    said = law.forecast(flops, level=LEVEL)
    return {
        **said.to_json(),
        "created": datetime.now(UTC).isoformat(),
        "ladder": plan.name,
        "seed_noise": noise,
        "fit": law.to_json(),
        "beware": _doubts(law, noise),
        "runs": [r["key"] for r in good],
        "diverged": [r["key"] for r in results if r["diverged"]],
        "points": [{k: r[k] for k in ("key", "flops", "loss", "tokens", "params")} for r in good],
        "target": {"key": target.key, "flops": flops, "recipe": target.to_dict()},
    }


def _doubts(law: Floored, noise: float) -> list[str]:
    """What speaks against the fit, in words."""
    if law.noise <= ROUGH * noise:
        return []
    return [
        f"the rungs lie {law.noise:.1%} off the law and their seeds only {noise:.1%} apart: they "
        "do not follow it, and the target may not either"
    ]


def refuse_after_start(store: Store, key: str) -> None:
    """ValueError where a run has been started: what is said of it now is no forecast."""
    if store.get(key) is not None:
        raise ValueError(
            f"the target {key} has been started, and a forecast made now would be none: plan "
            "another target (stepladder plan), or move its run away"
        )


def _measure(
    recipe: Recipe, rates: Sequence[float], seeds: Sequence[int], execute: Execute
) -> dict[float, list[float]]:
    asked = [
        (f"tune lr {lr:.2g}", at_rate(replace(recipe, seed=seed), lr))
        for lr in rates
        for seed in seeds
    ]
    losses = [_loss(r) for r in execute(asked)]
    count = len(seeds)
    return {lr: losses[i * count : (i + 1) * count] for i, lr in enumerate(rates)}


def _loss(result: Result) -> float:
    return math.inf if result["diverged"] else float(result["loss"])


def _verdict(lr: float, checked: Losses, plan: Plan) -> Result:
    """Whether the optimum stayed: how far it moved, and what keeping it costs at the wider rung.

    Three rates cannot place an optimum that lies at or beyond their ends: then the distance is a
    bound, and it is only what keeping the rate costs that can still say it holds.
    """
    moved, lost = _moved(lr, checked)
    return {
        "widths": [plan.rungs[i].recipe.model.width for i in (plan.base, plan.wider)],
        "losses": [[rate, checked[rate]] for rate in sorted(checked)],
        "moved_octaves": moved,
        "bound_only": abs(moved) >= 1.0,
        "lost": lost,
        "holds": lost <= LOST_TOO_MUCH,
    }


def _moved(lr: float, checked: Losses) -> tuple[float, float]:
    means = {rate: sum(y) / len(y) for rate, y in checked.items()}
    lost = means[lr] / min(means.values()) - 1
    if not all(map(math.isfinite, means.values())):  # too high a rate diverged: look at the rest
        return (0.0 if means[lr] == min(means.values()) else -1.0), lost
    return math.log2(optimum(checked).lr / lr), lost


def _by_scale(results: Sequence[Result]) -> list[list[float]]:
    groups: dict[float, list[float]] = {}
    for r in results:
        groups.setdefault(r["flops"], []).append(r["loss"])
    return list(groups.values())


def _training_flops(recipe: Recipe) -> float:
    return cost(recipe).flops_total
