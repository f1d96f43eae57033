"""A user's script with runs in an executor, without `if __name__ == "__main__"`.

    python parent.py <executor> <dataset's folder> <its source> <store> <signal> <recipe.toml> ...

With the first step of any run it sends itself the signal, once.
"""

import os
import sys
from pathlib import Path

from stepladder.data import Dataset
from stepladder.execute.here import run_here
from stepladder.execute.ray import RayCluster
from stepladder.execute.stacked import run_stacked
from stepladder.execute.workers import run_workers
from stepladder.recipe import Recipe
from stepladder.store import Store

executor, folder, source, root, signal, *files = sys.argv[1:]


class Signaller:
    sent = False

    def __init__(self, label, recipe):
        pass

    def step(self, step):
        if not Signaller.sent:
            Signaller.sent = True
            os.kill(os.getpid(), int(signal))

    def row(self, row):
        pass


def run_ray(asked, *given):
    """On the cluster of RAY_ADDRESS."""
    with RayCluster(*given) as cluster:
        return cluster.run(asked)


RUN = {"here": run_here, "workers": run_workers, "stacked": run_stacked, "ray": run_ray}

RUN[executor](
    [(file, Recipe.load(file)) for file in files],
    Store(root),
    Dataset.open(Path(folder), source, "bytes"),
    Signaller,
    "cpu",
)
