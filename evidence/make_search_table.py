"""A table of small trainings to try search methods on: every point of a grid, at several scales.

    python evidence/make_search_table.py [--seeds 4] [--minutes 5]

Rate x spread of the embedding x beta1 x gain of the matrices x weight decay (720 points), at three
scales (width and tokens grow together: 8, 12 and 20 wide, depth 2, 32 to 68 steps), bytes of
Python's standard library, context 32, by stacked runs: 2,160 trainings a seed. Rows are appended to
evidence/search/table.csv as stacks end, seed by seed, so that it goes on where it was stopped and
is usable whenever. Runs are kept in a scratch folder while they are made, and deleted with it. One
thread: about 3 minutes of a core for a seed.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from stepladder.data import prepare
from stepladder.execute.stacked import run_stacked
from stepladder.recipe import Data, Model, Optimizer, Parametrization, Recipe
from stepladder.search.levels import Levels
from stepladder.search.space import apply
from stepladder.store import Store
from stepladder.train import Silent

TABLE = Path(__file__).parent / "search" / "table.csv"
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None  # where syncing costs nothing
SCALES = (1.0, 1.5, 2.5)
AXES = {
    "optimizer.lr": tuple(2.0 ** (k / 2) for k in range(-13, -4)),
    "parametrization.embedding_std": (0.25, 0.5, 1.0, 2.0, 4.0),
    "optimizer.beta1": (0.0, 0.5, 0.8, 0.95),
    "parametrization.hidden_gain": (0.5, 1.0),
    "optimizer.weight_decay": (0.0, 1.0),
}
KEYS = ("seed", "level", *(name.rpartition(".")[2] for name in AXES))
COLUMNS = (*KEYS, "loss", "flops")
AT_ONCE = 144  # runs that are made before their rows are written
BASE = Recipe(
    model=Model(
        width=8,
        depth=2,
        heads=1,
        kv_heads=1,
        head_size=8,
        mlp_width=24,
        context=32,
        vocab_size=257,
    ),
    optimizer=Optimizer(lr=0.02),
    tokens=32 * 128,
    batch=128,
    parametrization=Parametrization(base_width=8, base_depth=2, base_heads=1),
    data=Data(source="stdlib", tokenizer="bytes"),
    validation=128 * 32,
    evaluations=1,
)
Point = tuple[float, ...]


def points() -> list[Point]:
    """The grid."""
    return list(product(*AXES.values()))


def done() -> set[tuple[str, ...]]:
    """What the table holds: seed, level and point, as written."""
    if not TABLE.exists():
        return set()
    with TABLE.open() as file:
        return {tuple(row[name] for name in KEYS) for row in csv.DictReader(file)}


def missing(seeds: int) -> Iterator[tuple[int, int, list[Point]]]:
    """Seed, level and points that are not in the table, the cheapest level first."""
    known = done()
    for seed, level in product(range(seeds), range(len(SCALES))):
        left = [p for p in points() if written(seed, level, p) not in known]
        for first in range(0, len(left), AT_ONCE):
            yield seed, level, left[first : first + AT_ONCE]


def said(result: dict[str, Any]) -> str:
    """A loss as the file has it."""
    return "inf" if result["diverged"] else f"{result['loss']:.5f}"


def written(seed: int, level: int, point: Point) -> tuple[str, ...]:
    """A row's key as the file has it."""
    return (str(seed), str(level), *(f"{value:.6g}" for value in point))


def main() -> None:
    """Train what is missing until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=5.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    until = time.monotonic() + 60 * given.minutes
    dataset = prepare(BASE.data.source, BASE.data.tokenizer)
    base = BASE.on_data(dataset.fingerprint)
    levels = Levels.of(base, SCALES)
    TABLE.parent.mkdir(exist_ok=True)
    if not TABLE.exists():
        TABLE.write_text(",".join(COLUMNS) + "\n")
    for seed, level, left in missing(given.seeds):
        began = time.monotonic()
        if began > until:
            break
        recipes = [
            levels.recipe(replace(apply(base, dict(zip(AXES, p, strict=True))), seed=seed), level)
            for p in left
        ]
        with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
            asked = [("", recipe) for recipe in recipes]
            results = run_stacked(asked, Store(folder), dataset, lambda *_: Silent(), "cpu")
        rows = [
            ",".join((*written(seed, level, p), said(result), f"{levels.costs[level]:.6g}")) + "\n"
            for p, result in zip(left, results, strict=True)
        ]
        with TABLE.open("ab", buffering=0) as file:  # one write: all rows of a chunk or none
            file.write("".join(rows).encode())
        took = time.monotonic() - began
        print(f"seed {seed} level {level}: {len(left)} runs in {took:.1f} s", flush=True)
    print(f"{len(done())} trainings in {TABLE}")


if __name__ == "__main__":
    main()
