"""How much faster small runs go side by side, a thread each, than one after another with all.

    GOMP_SPINCOUNT=10000 .venv/bin/python benchmarks/bench_workers.py [--rounds 3]

The variable is what the command line sets: threads that wait spin briefly and then sleep, which is
best for the runs of this process.

For each width of a small ladder (target width 144, base 40, on the standard library's sources), as
many short runs as there are CPUs, trained by `run_here` with all threads and by a warm pool of
`Workers`, in turn, so that what disturbs one disturbs the other. A ratio is the median over rounds
of seconds here / seconds in workers; `mixed` is all widths at once. What the processes take to
start is told apart.

Writes benchmarks/results/workers.json.
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

from stepladder.data import prepare
from stepladder.data.workers import cpu_count
from stepladder.execute.here import run_here
from stepladder.execute.workers import Workers
from stepladder.ladder.rule import Rule, rule_for
from stepladder.recipe import Recipe
from stepladder.store import Store
from stepladder.train import Silent

RESULTS = Path(__file__).parent / "results" / "workers.json"
WIDTHS = (32, 40, 48, 56, 64, 72)
Asked = list[tuple[str, Recipe]]


def short(rule: Rule, width: int, steps: int, seed: int) -> Recipe:
    """The beginning of a rung's run, measured on few sequences."""
    batch = rule.batch(width)
    made = rule.recipe(width, lr=0.01, seed=seed)
    return replace(made, tokens=steps * batch, validation=8 * rule.context)


def asked_for(rule: Rule, widths: tuple[int, ...], steps: int, first_seed: int) -> Asked:
    """A run a CPU at each width."""
    return [
        (f"width {width}", short(rule, width, steps, first_seed + i))
        for width in widths
        for i in range(cpu_count())
    ]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of some work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(
    rule: Rule, widths: tuple[int, ...], options: argparse.Namespace, here: Any, pool: Workers
) -> dict[str, float]:
    """Median seconds of both ways over rounds, and the median, least and largest of the ratio."""
    alone, together = [], []
    for i in range(options.rounds):
        asked = asked_for(rule, widths, options.steps, 1000 * i)
        alone.append(seconds(lambda asked=asked: here(asked)))  # type: ignore[misc]
        together.append(seconds(lambda asked=asked: pool.run(asked)))  # type: ignore[misc]
    ratios = [a / b for a, b in zip(alone, together, strict=True)]
    return {
        "seconds_here": statistics.median(alone),
        "seconds_workers": statistics.median(together),
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "largest": max(ratios),
    }


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All comparisons, in stores below a folder."""
    dataset = prepare("stdlib", "bpe:1024")
    rule = rule_for(144, 40, 3.0, dataset, context=128, precision="float32")

    def silent(_label: str, _recipe: Recipe) -> Silent:
        return Silent()

    def here(asked: Asked) -> object:
        return run_here(asked, Store(folder / "here"), dataset, silent, "cpu")

    warm = asked_for(rule, WIDTHS[:1], 2, 10**6)
    with Workers(Store(folder / "workers"), dataset, silent) as pool:
        here(warm)
        starting = seconds(lambda: pool.run(warm))
        by_width = {str(w): compare(rule, (w,), options, here, pool) for w in WIDTHS}
        mixed = compare(rule, WIDTHS, options, here, pool)
    return {"seconds_to_start": starting, "by_width": by_width, "mixed": mixed}


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    options = parser.parse_args()
    torch.set_num_threads(cpu_count())
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(options, Path(folder))
    where = {
        "machine": platform.machine(),
        "cpus": cpu_count(),
        "threads_here": torch.get_num_threads(),
        "load_before_and_after": [load, os.getloadavg()[0]],
        "spin_count": os.environ.get("GOMP_SPINCOUNT", "default"),
        "torch": torch.__version__,
        "rounds": options.rounds,
        "steps": options.steps,
    }
    table = Table("width", "here s", "workers s", "ratio", "least", "largest")
    for name, row in {**measured["by_width"], "mixed": measured["mixed"]}.items():
        table.add_row(name, *(f"{value:.2f}" for value in row.values()))
    Console().print(table)
    RESULTS.write_text(json.dumps({"where": where, **measured}, indent=2) + "\n")


if __name__ == "__main__":
    main()
