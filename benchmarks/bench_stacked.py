"""How much faster trials of one shape train as one program: against one at a time, and a pool.

    GOMP_SPINCOUNT=10000 .venv/bin/python benchmarks/bench_stacked.py [--rounds 5]

The variable is what the command line sets: threads that wait spin briefly and then sleep, which is
best for the runs of this process.

For each width of a small ladder (target width 144, base 40, on the standard library's sources), as
many short runs as `--trials`, trained by `run_here` with all threads, by a warm pool of `Workers`
(a process a core, a thread each), by Ray Tune with a trial a process (where it is installed: pip
install 'stepladder[bench]') and by `Stacked` with different room, in turn, so that what disturbs
one disturbs the others. A ratio is the median over rounds of the seconds of `run_here` over those
of the other: above 1 the other is faster. Everything a run does is timed, its model's initial
values, its evaluation and its last checkpoint included; starting the pool, or Ray, is not. Ray Tune
starts its actors anew with every sweep, and keeps them for all trials of it (`reuse_actors`).

Writes benchmarks/results/stacked.json.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from stepladder.data import Dataset, prepare
from stepladder.data.workers import cpu_count
from stepladder.execute.here import run_here
from stepladder.execute.stacked import Stacked
from stepladder.execute.workers import Workers
from stepladder.ladder.rule import Rule, rule_for
from stepladder.recipe import Recipe
from stepladder.store import Store
from stepladder.train import Silent, find_device

RESULTS = Path(__file__).parent / "results" / "stacked.json"
WIDTHS = (32, 64, 128)
Asked = list[tuple[str, Recipe]]
Way = Callable[[Asked], object]


def silent(_label: str, _recipe: Recipe) -> Silent:
    """Shows nothing."""
    return Silent()


def asked_for(rule: Rule, width: int, options: argparse.Namespace, first_seed: int) -> Asked:
    """Beginnings of runs that differ in rate and seed, measured on few sequences."""
    batch = rule.batch(width)
    recipes = [
        rule.recipe(width, lr=0.004 * (1 + i % 4), seed=first_seed + i)
        for i in range(options.trials)
    ]
    return [
        (f"width {width}", replace(r, tokens=options.steps * batch, validation=8 * rule.context))
        for r in recipes
    ]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of some work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(
    rule: Rule, width: int, options: argparse.Namespace, ways: dict[str, Way]
) -> dict[str, Any]:
    """Median seconds of each way, and of those rounds the median, least and largest ratio."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(options.rounds):
        asked = asked_for(rule, width, options, 1000 * i)
        for name, way in ways.items():
            times[name].append(seconds(lambda way=way, asked=asked: way(asked)))  # type: ignore[misc]
    found = {}
    for name, taken in times.items():
        ratios = [a / b for a, b in zip(times["here"], taken, strict=True)]
        found[name] = {
            "seconds": statistics.median(taken),
            "ratio": statistics.median(ratios),
            "least": min(ratios),
            "largest": max(ratios),
        }
    return {"sequences": rule.batch(width) // rule.context, "ways": found}


def ways_to_run(
    folder: Path, dataset: Dataset, options: argparse.Namespace, pool: Workers
) -> dict[str, Way]:
    """Name -> how to train recipes, each in a store of its own."""

    def stacked(room: int) -> Way:
        store = Store(folder / f"stacked-{room}")
        return Stacked(store, dataset, silent, options.device, room).run

    ways: dict[str, Way] = {
        "here": lambda asked: run_here(
            asked, Store(folder / "here"), dataset, silent, options.device
        )
    }
    if pool.parallel:
        ways["workers"] = pool.run
        tuned = ray_tune(folder, dataset)
        ways |= {"ray tune": tuned} if tuned else {}
    return ways | {f"stacked, {room} at a time": stacked(room) for room in options.room}


def ray_tune(folder: Path, dataset: Dataset) -> Way | None:
    """One trial a process and a core, or None where Ray Tune is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    try:
        import ray
        from ray import tune
    except ImportError:
        return None
    ray.init("local", num_cpus=cpu_count(), include_dashboard=False, log_to_driver=False)
    store = Store(folder / "tune")

    class One(tune.Trainable):  # type: ignore[misc]
        """A trial is one run, made in one `step`."""

        def setup(self, config: dict[str, Any]) -> None:
            torch.set_num_threads(1)
            self.text = config["recipe"]

        def reset_config(self, config: dict[str, Any]) -> bool:
            self.text = config["recipe"]
            return True

        def step(self) -> dict[str, Any]:
            (made,) = run_here([("", Recipe.from_toml(self.text))], store, dataset, silent, "cpu")
            return {"loss": made["loss"], "done": True}

        def save_checkpoint(self, _folder: str) -> None:
            """Nothing: the store has it."""

    def way(asked: Asked) -> object:
        space = {"recipe": tune.grid_search([recipe.to_toml() for _, recipe in asked])}
        results = tune.Tuner(
            tune.with_resources(One, {"cpu": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
        ).fit()
        if results.errors:
            raise RuntimeError(f"Ray Tune lost a trial: {results.errors[0]}")
        return results

    return way


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All comparisons, in stores below a folder."""
    dataset = prepare("stdlib", "bpe:1024")
    rule = rule_for(144, 40, 3.0, dataset, context=128, precision="float32")
    with Workers(Store(folder / "workers"), dataset, silent, options.device) as pool:
        ways = ways_to_run(folder, dataset, options, pool)
        warm = argparse.Namespace(**{**vars(options), "steps": 2, "trials": 2})
        for way in ways.values():
            way(asked_for(rule, WIDTHS[0], warm, 10**6))
        return {str(width): compare(rule, width, options, ways) for width in options.widths}


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--room", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(cpu_count())
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(options, Path(folder))
    if not any("ray tune" in row["ways"] for row in measured.values()):
        print("Ray Tune was left out: pip install 'stepladder[bench]'")
    where = {
        "machine": platform.machine(),
        "cpus": cpu_count(),
        "device": str(find_device(options.device)),
        "threads_here": torch.get_num_threads(),
        "load_before_and_after": [load, os.getloadavg()[0]],
        "spin_count": os.environ.get("GOMP_SPINCOUNT", "default"),
        "torch": torch.__version__,
        "rounds": options.rounds,
        "steps": options.steps,
        "trials": options.trials,
    }
    table = Table("width", "way", "seconds", "ratio", "least", "largest")
    for width, row in measured.items():
        for name, way in row["ways"].items():
            table.add_row(width, name, *(f"{value:.2f}" for value in way.values()))
    Console().print(table)
    RESULTS.write_text(json.dumps({"where": where, "by_width": measured}, indent=2) + "\n")


if __name__ == "__main__":
    main()
