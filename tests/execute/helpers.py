"""What the tests of executors share: recipes by length, watchers that remember, signals."""

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from stepladder.recipe import Recipe
from stepladder.train import Silent

WHEN = ("started", "seconds", "paid_seconds")  # what differs between two runs of a recipe


class Seen:
    """What the watchers were told, by run, and in which thread."""

    def __init__(self):
        self.order, self.steps, self.rows, self.threads = [], {}, {}, set()
        self.at_step = lambda recipe: None

    def watch(self, label, recipe):
        self.order.append(recipe.key)
        self.steps[recipe.key], self.rows[recipe.key] = [], []
        return SeenRun(self, recipe)


class SeenRun:
    def __init__(self, seen, recipe):
        self.seen, self.recipe = seen, recipe

    def step(self, step):
        self.seen.steps[self.recipe.key].append(step)
        self.seen.threads.add(threading.current_thread())
        self.seen.at_step(self.recipe)

    def row(self, row):
        self.seen.rows[self.recipe.key].append(row)


def silent(label, recipe):
    return Silent()


def named(*recipes):
    return [(f"run {i}", recipe) for i, recipe in enumerate(recipes)]


def timeless(results):
    return [{k: v for k, v in result.items() if k not in WHEN} for result in results]


def steps(recipe: Recipe, count: int, seed: int = 0) -> Recipe:
    return replace(recipe, tokens=count * recipe.batch, seed=seed)


def holder(store, recipe):
    """The process that holds a run, never this one."""
    pid = int((store.root / ".locks" / recipe.key).read_text())
    assert pid != os.getpid()
    return pid


def signalled(number, executor, dataset, store, recipes, folder):
    """Runs the script that sends itself a signal, with an executor; exit status and errors."""
    files = [folder / f"{recipe.key}.toml" for recipe in recipes]
    for file, recipe in zip(files, recipes, strict=True):
        file.write_text(recipe.to_toml())
    script = Path(__file__).with_name("parent.py")
    given = [executor, dataset.folder, dataset.source, store.root, int(number), *files]
    done = subprocess.run(
        [sys.executable, script, *map(str, given)], capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stderr


def is_alive(pid):
    """Whether a process runs; one that ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
