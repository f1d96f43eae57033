"""The steps of a ladder as a user sees them: each runs, and shows what came of it."""

from pathlib import Path
from typing import Any

from rich.console import Console

from stepladder.cli.ladder import Workplace, read_data
from stepladder.cli.progress import Bar
from stepladder.cli.watching import watch_target
from stepladder.cost import cost
from stepladder.execute.launched import run_launched
from stepladder.ladder import Folder, climb, score, target_of
from stepladder.ladder.budget import said_time
from stepladder.ladder.folder import RUNS
from stepladder.recipe import Recipe
from stepladder.report import write_report
from stepladder.report.terminal import forecast_panel, score_panel, tuning_table
from stepladder.store import Store
from stepladder.train.processes import is_launched
from stepladder.train.trunk import branches_for

Result = dict[str, Any]
SMALL = ("tuning", "check", "rungs")


def climb_step(place: Workplace) -> Result:
    """The small runs under one bar; then the tuning and the forecast."""
    flops = sum(place.plan.flops[part] for part in SMALL)
    seconds = sum(place.plan.seconds[part] for part in SMALL)
    say = place.console.print
    if place.folder.read("forecast") is None:
        say(f"\n[bold]climb[/]: small runs, about {said_time(seconds)} and {flops:.1e} FLOP")
    with Bar(place.console, flops, seconds) as bar, place.many(bar) as pool:
        forecast = climb(place.folder, place.store, pool.run)
    tuning = place.folder.read("tuning")
    assert tuning is not None
    say(tuning_table(tuning))
    say(forecast_panel(forecast))
    return forecast


def train_step(place: Workplace, tensor_parallel: int = 1) -> Result:
    """The target, its loss beside the forecast; with all processes that torchrun started."""
    recipe = target_of(place.folder)
    seconds = place.plan.seconds["target"]
    flops = cost(recipe).flops_total
    forecast = place.folder.read("forecast")
    assert forecast is not None
    place.console.print(
        f"\n[bold]train[/]: the target, about {said_time(seconds)} and {flops:.1e} FLOP; "
        f"forecast {forecast['forecast']:.4f}"
    )
    with Bar(place.console, flops, seconds) as bar:
        result = run_launched(
            "target",
            recipe,
            place.store,
            place.dataset,
            watch_target(bar, forecast, place.store, place.console),
            place.device,
            tensor_parallel,
        )
    place.console.print(_outcome(result))
    return result


def score_step(folder: Folder, store: Store, console: Console) -> Result:
    """The score, and the report."""
    scored = score(folder, store)
    console.print(score_panel(scored))
    console.print(f"report: {write_report(folder, store)}")
    return scored


def recipe_step(
    file: Path, root: Path, device: str, console: Console, tensor_parallel: int = 1
) -> Result:
    """A recipe of the user's own; an empty data fingerprint is filled in with what is here."""
    recipe = Recipe.load(file)
    dataset = read_data(recipe.data.source, recipe.data.tokenizer, console, recipe.data.text_field)
    recipe = recipe.on_data(dataset.fingerprint)
    flops, store = cost(recipe).flops_total, Store(root / RUNS)
    console.print(
        f"[bold]train[/]: {file}, {flops:.1e} FLOP, run {recipe.key}{_paid(recipe, store)}"
    )
    with Bar(console, flops, 0.0) as bar:
        result = run_launched(file.stem, recipe, store, dataset, bar.watch, device, tensor_parallel)
    console.print(_outcome(result))
    return result


def _paid(recipe: Recipe, store: Store) -> str:
    """What other runs have paid of one that begins here, as the end of a line."""
    branch = next(branches_for(recipe, store.root), None)
    if branch is None or store.get(recipe.key) or is_launched():
        return ""
    return (
        f"\n  goes on from step {branch.step:,} of {recipe.steps:,}, paid for by run {branch.run}: "
        f"{1 - branch.step / recipe.steps:.0%} of it is left"
    )


def _outcome(result: Result) -> str:
    if result["diverged"]:
        return f"run {result['key']} diverged at step {result['steps']:,}: lower the learning rate"
    error = result["standard_error"]
    return (
        f"run {result['key']}: loss {result['loss']:.4f} (validation text of this kind "
        f"+-{error:.4f}) in {said_time(result['seconds'])}"
    )
