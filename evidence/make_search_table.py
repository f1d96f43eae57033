"""A table of small trainings to try search methods on: every point of a grid, at several scales.

    python evidence/make_search_table.py [--seeds 27] [--minutes 12] [--part 0/2]

Learning rate x weight decay x beta2 at four scales (width and tokens grow together), text of
Python's standard library, bpe:1024, context 64, by stacked runs. Rows are appended to
evidence/search/table.csv as they come, seed by seed, so that it goes on where it was stopped and is
usable whenever. Runs are kept in a scratch folder while they are made, and deleted with it. One
thread; --part makes every second seed, for two processes side by side.
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
COLUMNS = ("seed", "level", "lr", "weight_decay", "beta2", "loss", "flops")
SCALES = (1.0, 1.5, 2.0, 2.5)
AXES = {
    "optimizer.lr": tuple(2.0 ** (k / 2) for k in range(-16, -2)),
    "optimizer.weight_decay": (0.0, 0.1, 0.4, 1.6),
    "optimizer.beta2": (0.9, 0.98, 0.996),
}
BASE = Recipe(
    model=Model(
        width=8,
        depth=2,
        heads=2,
        kv_heads=2,
        head_size=4,
        mlp_width=24,
        context=64,
        vocab_size=1024,
    ),
    optimizer=Optimizer(lr=0.02),
    tokens=40 * 128,
    batch=128,
    parametrization=Parametrization(base_width=8, base_depth=2, base_heads=2),
    data=Data(source="stdlib", tokenizer="bpe:1024"),
    validation=32 * 64,
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
        return {tuple(row[name] for name in COLUMNS[:5]) for row in csv.DictReader(file)}


def missing(seeds: range) -> Iterator[tuple[int, int, list[Point]]]:
    """Seed, level and points that are not in the table, the cheapest level first."""
    known = done()
    for seed, level in product(seeds, range(len(SCALES))):
        left = [p for p in points() if written(seed, level, p) not in known]
        if left:
            yield seed, level, left


def said(result: dict[str, Any]) -> str:
    """A loss as the file has it."""
    return "inf" if result["diverged"] else f"{result['loss']:.5f}"


def written(seed: int, level: int, point: Point) -> tuple[str, ...]:
    """A row's key as the file has it."""
    return (str(seed), str(level), *(f"{value:.6g}" for value in point))


def main() -> None:
    """Train what is missing until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=27)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--part", default="0/1")
    given = parser.parse_args()
    first, step = map(int, given.part.split("/"))
    torch.set_num_threads(1)
    until = time.monotonic() + 60 * given.minutes
    dataset = prepare(BASE.data.source, BASE.data.tokenizer)
    base = BASE.on_data(dataset.fingerprint)
    levels = Levels.of(base, SCALES)
    TABLE.parent.mkdir(exist_ok=True)
    if not TABLE.exists():
        TABLE.write_text(",".join(COLUMNS) + "\n")
    for seed, level, left in missing(range(first, given.seeds, step)):
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
        with TABLE.open("ab", buffering=0) as file:  # one write, so that two parts do not mix
            file.write("".join(rows).encode())
        took = time.monotonic() - began
        print(f"seed {seed} level {level}: {len(left)} runs in {took:.1f} s", flush=True)
    print(f"{len(done())} trainings in {TABLE}")


if __name__ == "__main__":
    main()
