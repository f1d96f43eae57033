"""`stepladder search RECIPE.toml FIELD=RANGE ...`: the best base hyperparameters, along scale."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console, Group
from rich.table import Table

from stepladder.cli.options import parse

if TYPE_CHECKING:
    from stepladder.data import Dataset
    from stepladder.devices import Device
    from stepladder.recipe import Recipe
    from stepladder.search.levels import Levels
    from stepladder.search.running import Found, Outline
    from stepladder.search.space import Space

SEARCHES = "searches"
JOURNAL, BEST, GROWN = "journal.log", "best.toml", "grown.toml"
EXECUTORS = ("auto", "stacked", "workers", "here")
RAY = "ray"  # the executor where the address of a cluster is given


@dataclass(frozen=True, kw_only=True)
class Options:
    """Search base hyperparameters of a recipe, cheaply at small scales and raced up a ladder.

    Ranges are written FIELD=LOW..HIGH, FIELD=log:LOW..HIGH or FIELD=a,b,c, as in
    optimizer.lr=log:1e-3..1e-1. Interrupted, the same command goes on where it stopped. The journal
    is Optuna's: its dashboard reads it.

    Args:
        recipe: recipe (.toml) at scale 1, where base hyperparameters are stated.
        space: what to search.
        scales: widths in widths of the recipe, rising; the last is the one that counts.
        along: what scales grow: shape (and tokens with it), or tokens alone, in tokens of the
            recipe: a promoted run then goes on from its trunk, if its schedule has one
            (docs/schedules.md).
        runs: what to spend, in runs at the last scale.
        proposer: which configuration next (stepladder catalogue --family proposers).
        scheduler: what to spend on it (stepladder catalogue --family schedulers).
        at_once: runs asked for together; 0: as many as the executor takes.
        executor: stacked (trials of one shape as one program), workers (processes), here, or auto:
            workers on a CPU of several cores, else stacked where the space allows it.
        ray: address of a Ray cluster to make the runs on instead ("auto", "host:port", "local" to
            start one here), whose nodes all see the root and the data; needs stepladder[ray].
        budget: refuse a search that costs more: 1e15 (FLOP), 20min, 2h; empty: no bound.
        seed: of the search; the runs take the recipe's.
        device: auto, cpu or cuda.
        root: folder of runs and searches.
        name: of the search's folder; empty: made from what is searched.
        plan: only show what would be run and what it costs.
        json: print the result as JSON.
    """

    recipe: tyro.conf.Positional[Path]
    space: tyro.conf.Positional[tuple[str, ...]] = field(default=())
    scales: tuple[float, ...] = (1.0, 1.5, 2.0)
    along: str = "shape"
    runs: float = 16.0
    proposer: str = "carbs"
    scheduler: str = "halving"
    at_once: int = 0
    executor: str = "auto"
    ray: str = ""
    budget: str = ""
    seed: int = 0
    device: str = "auto"
    root: Path = Path()
    name: str = ""
    plan: bool = False
    json: bool = False


def main(argv: list[str]) -> int:
    """Parse, plan, run, print."""
    options: Options = parse(Options, argv, "search")
    _require_sense(options)
    console = Console(stderr=options.json)
    from stepladder.ladder.budget import require_within
    from stepladder.recipe import Recipe
    from stepladder.search.levels import ALONG, Levels
    from stepladder.search.space import Space

    base = Recipe.load(options.recipe)
    space = Space.parse(options.space).of(base)
    dataset = _data(base, console)
    base = base.on_data(dataset.fingerprint)
    levels = Levels.of(base, options.scales, ALONG[options.along])
    executor = _executor(options, space, base)
    planned = _planned(space, base, levels, options, executor)
    if options.plan and options.json:
        _print_json(planned)
        return 0
    console.print(_plan_table(planned))
    require_within(
        options.budget,
        flops=sum(level["flops"] for level in planned["levels"]),
        seconds=sum(level["seconds"] for level in planned["levels"]),
        what="the search",
        fix="fewer --runs, or smaller --scales",
    )
    if not options.plan:
        _run(space, base, levels, dataset, planned, options, console)
    return 0


def _require_sense(options: Options) -> None:
    from stepladder.names import did_you_mean
    from stepladder.search.levels import ALONG

    if options.executor not in EXECUTORS:
        near = did_you_mean(options.executor, EXECUTORS)
        raise ValueError(f"there is no executor {options.executor!r}{near}: {EXECUTORS}")
    if options.along not in ALONG:
        near = did_you_mean(options.along, ALONG)
        raise ValueError(f"scales do not go along {options.along!r}{near}: {', '.join(ALONG)}")
    if not options.runs >= 1:
        raise ValueError(f"--runs must be 1 or more, not {options.runs:g}")
    if options.at_once < 0:
        raise ValueError(f"--at-once must be 0 or more, not {options.at_once}")


def _data(base: "Recipe", console: Console) -> "Dataset":
    from stepladder.cli.ladder import read_data

    return read_data(base.data.source, base.data.tokenizer, console, base.data.text_field)


def _executor(options: Options, space: "Space", base: "Recipe") -> str:
    """The executor's name; ValueError where a stacked one was asked for and cannot be."""
    from stepladder.execute.choose import suits_processes
    from stepladder.search.space import require_stackable

    if options.ray:
        return RAY
    if options.executor == "auto" and suits_processes(options.device):
        return "workers"
    if options.executor not in ("auto", "stacked"):
        return options.executor
    try:
        require_stackable(space, base)
    except ValueError:
        if options.executor == "stacked":
            raise
        return "workers"
    return "stacked"


def _planned(
    space: "Space", base: "Recipe", levels: "Levels", options: Options, executor: str
) -> dict[str, Any]:
    """What a search would run and cost, as plain data."""
    from stepladder.cli.ladder import described_device
    from stepladder.cost import cost
    from stepladder.search.proposers import REGISTRY
    from stepladder.search.running import rehearse

    REGISTRY.card(options.proposer)  # before anything is shown: an unknown one is refused
    device: Device = described_device(options.device)[0]
    at_once = options.at_once or (1 if executor == "here" else 8)
    budget = options.runs * levels.costs[-1]
    outline: Outline = rehearse(space, levels, options.scheduler, budget, at_once)
    recipes = [levels.recipe(base, level) for level in range(len(levels.scales))]
    seconds = [cost(recipe).seconds(device).total for recipe in recipes]
    return {
        "space": space.to_json(),
        "proposer": options.proposer,
        "scheduler": options.scheduler,
        "executor": executor,
        "at_once": at_once,
        "budget": budget,
        "device": device.name,
        "levels": [
            {
                "scale": scale,
                "width": recipe.model.width,
                "depth": recipe.model.depth,
                "tokens": recipe.tokens,
                "runs": runs,
                "flops": flops,
                "seconds": each * flops / whole,
            }
            for scale, recipe, runs, flops, each, whole in zip(
                levels.scales,
                recipes,
                outline.runs,
                outline.costs,
                seconds,
                levels.costs,
                strict=True,
            )
        ],
    }


def _plan_table(planned: dict[str, Any]) -> Group:
    from stepladder.ladder.budget import said_time

    seconds = sum(level["seconds"] for level in planned["levels"])
    flops = sum(level["flops"] for level in planned["levels"])
    title = (
        f"{planned['proposer']} under {planned['scheduler']}, {planned['executor']}: about "
        f"{flops:.2g} FLOP, {said_time(seconds)} one after another on {planned['device']}"
    )
    table = Table()
    for name in ("scale", "width x depth", "tokens", "runs", "FLOP", "time"):
        table.add_column(name, justify="right")
    for level in planned["levels"]:
        table.add_row(
            f"{level['scale']:g}",
            f"{level['width']} x {level['depth']}",
            f"{level['tokens']:,}",
            f"{level['runs']}",
            f"{level['flops']:.2g}",
            said_time(level["seconds"]),
        )
    last = planned["levels"][-1]
    short = f"no run is likely to reach scale {last['scale']:g}, the one that counts: more --runs"
    return Group(title, table, *([] if last["runs"] else [short]))


def _run(
    space: "Space",
    base: "Recipe",
    levels: "Levels",
    dataset: "Dataset",
    planned: dict[str, Any],
    options: Options,
    console: Console,
) -> None:
    from stepladder.cli.progress import Bar
    from stepladder.search.running import run
    from stepladder.search.study import Study

    folder = options.root / SEARCHES / (options.name or _named(space, base, options))
    seconds = sum(level["seconds"] for level in planned["levels"])
    study = Study.open(
        space,
        levels.costs,
        proposer=options.proposer,
        scheduler=options.scheduler,
        path=folder / JOURNAL,
        seed=options.seed,
        about=base.key,
        promoted=levels.promoted,
    )
    bar = Bar(console, planned["budget"], seconds)
    with study, bar, _pool(planned["executor"], dataset, bar, options) as pool:
        if study.book.trials:
            console.print(f"  going on with {study.book.trials} trials of {folder}")
        found = run(study, base, levels, pool.run, planned["budget"], planned["at_once"])
    _write(found, folder)
    if options.json:
        _print_json(_result(found, levels, planned, folder))
        return
    console.print(_found_table(found, levels))
    if found.best.level < len(levels.scales) - 1:
        console.print(f"no run reached scale {levels.scales[-1]:g}: more --runs would")
    console.print(f"written: {folder / BEST} (scale 1), {folder / GROWN}; {folder / JOURNAL}")


def _named(space: "Space", base: "Recipe", options: Options) -> str:
    """A name for what decides the study, so that the same command finds it again.

    Scales are not in it: further ones continue a study of the scheduler `deepening`.
    """
    given = [space.to_json(), base.key, options.proposer, options.scheduler, options.seed]
    given += [options.scales[0] if options.scheduler == "deepening" else list(options.scales)]
    given += [options.along] if options.along != "shape" else []
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:8]


def _pool(
    executor: str, dataset: "Dataset", bar: Any, options: Options
) -> AbstractContextManager[Any]:
    from stepladder.execute.stacked import Stacked
    from stepladder.execute.workers import Workers
    from stepladder.ladder.folder import RUNS
    from stepladder.store import Store

    store = Store(options.root / RUNS)
    if executor == RAY:
        from stepladder.execute.ray import RayCluster

        return RayCluster(store, dataset, bar.watch, options.device, options.ray)
    if executor == "stacked":
        return Stacked(store, dataset, bar.watch, options.device)
    count = 1 if executor == "here" else None
    return Workers(store, dataset, bar.watch, options.device, count)


def _write(found: "Found", folder: Path) -> None:
    from stepladder.durable import write_whole

    write_whole(folder / BEST, found.base.to_toml())
    write_whole(folder / GROWN, found.grown.to_toml())


def _result(
    found: "Found", levels: "Levels", planned: dict[str, Any], folder: Path
) -> dict[str, Any]:
    return {
        "best": dict(found.best.values),
        "loss": found.best.loss,
        "scale": levels.scales[found.best.level],
        "trial": found.best.trial,
        "runs": list(found.runs),
        "spent_flops": found.spent,
        "diverged": found.diverged,
        "folder": str(folder),
        "plan": planned,
    }


def _found_table(found: "Found", levels: "Levels") -> Group:
    best = found.best
    counts: Sequence[str] = [
        f"{runs} at {scale:g}" for runs, scale in zip(found.runs, levels.scales, strict=True)
    ]
    lost = f", {found.diverged} diverged" if found.diverged else ""
    table = Table()
    table.add_column("base hyperparameter")
    table.add_column("best", justify="right")
    for name, value in best.values.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    return Group(
        f"loss {best.loss:.4f} at scale {levels.scales[best.level]:g}",
        table,
        f"{found.spent:.2g} FLOP in {', '.join(counts)}{lost}",
    )


def _print_json(content: dict[str, Any]) -> None:
    from stepladder.cli.console import print_json

    print_json(content)
