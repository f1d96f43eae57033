"""Milliseconds that a search takes to think: one ask and one tell, up to 10,000 trials.

    python benchmarks/bench_search.py [--trials 10000]

The default (carbs under halving) plays a whole study with its journal on disk; every proposer is
timed on a study in memory that has as many trials already, after one ask in which it reads them.
Losses are drawn. Wall time and this process's own CPU time, which a busy machine changes less.
Writes benchmarks/results/search.json.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from stepladder.search.proposers import REGISTRY, Setup, build
from stepladder.search.space import Space
from stepladder.search.study import Study

RESULTS = Path(__file__).parent / "results" / "search.json"
SPACE = Space.parse(["lr=log:1e-4..1", "decay=0..0.3", "beta2=0.9..0.999", "name=a,b,c"])
COSTS = (1.0, 3.0, 9.0, 27.0)
DEFAULT = ("carbs", "halving")
ASKS, SLOW = 300, {"gp": 20}  # asks of a proposer that is timed on an old study


def turns(study: Study, count: int, seed: int = 0) -> np.ndarray:
    """Seconds of each of `count` asks with their tells: wall and CPU time (count, 2)."""
    rng, out = np.random.default_rng(seed), []
    for _ in range(count):
        began = np.array([time.perf_counter(), time.process_time()])
        job = study.ask()
        study.tell(job, 1 + 0.1 * rng.normal() ** 2)
        out.append(np.array([time.perf_counter(), time.process_time()]) - began)
    return np.array(out)


def described(seconds: np.ndarray) -> dict[str, float]:
    """Milliseconds."""
    wall, cpu = 1e3 * seconds.T
    return {
        "mean": wall.mean(),
        "median": float(np.median(wall)),
        "p99": float(np.quantile(wall, 0.99)),
        "cpu_mean": cpu.mean(),
        "cpu_p99": float(np.quantile(cpu, 0.99)),
    }


def main() -> None:
    """Time, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    trials = parser.parse_args().trials
    proposer, scheduler = DEFAULT
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.log"
        with Study.open(SPACE, COSTS, proposer=proposer, scheduler=scheduler, path=path) as study:
            whole = turns(study, trials)
        results[f"{proposer} x {scheduler}, whole study on disk"] = described(whole)
        results["the last 1,000 of it"] = described(whole[-1000:])
        began = time.perf_counter()
        Study.open(SPACE, COSTS, proposer=proposer, scheduler=scheduler, path=path).close()
        reopened = time.perf_counter() - began
    old = Study.open(SPACE, COSTS, proposer="random", scheduler="halving")
    turns(old, trials)
    for name in REGISTRY:
        old.optuna.sampler = build(
            name, Setup(distributions=SPACE.distributions, costs=COSTS, seed=(0, 0))
        )
        turns(old, 1)
        seconds = turns(old, SLOW.get(name, ASKS))
        results[f"{name} x halving, at {trials:,} trials"] = described(seconds)
    table = Table(title=f"ask and tell, ms; the study of {trials:,} reopens in {reopened:.1f} s")
    for column in ("", "mean", "median", "p99", "CPU mean", "CPU p99"):
        table.add_column(column, justify="right" if column else "left")
    for name, row in results.items():
        table.add_row(name, *(f"{row[key]:.1f}" for key in next(iter(results.values()))))
    Console().print(table)
    content = {"trials": trials, "reopen_seconds": reopened, "ms": results}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
