"""What each process of test_distributed.py executes: runs in float64, one after another.

    python sharded.py <a file in which they find each other>

A line on its standard input lists runs; it answers with a line of what each raised.
"""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from stepladder.data import Dataset
from stepladder.recipe import Recipe
from stepladder.store import Store
from stepladder.train import Silent
from stepladder.train.distributed import train_distributed

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print is no answer
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
rank, world = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
dist.init_process_group(
    "gloo",
    init_method=f"file://{sys.argv[1]}",
    rank=rank,
    world_size=world,
    timeout=timedelta(minutes=5),  # for one of them that ended
)


class Stopper(Silent):
    """Presses Ctrl-C, in the first process alone, after a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, step: int) -> None:
        """Interrupt this process where asked to."""
        if step == self.at:
            os.kill(os.getpid(), 2)


def said_of(job: dict) -> str:
    """Makes one run; what it raised."""
    try:
        train_distributed(
            Recipe.from_toml(job["recipe"]),
            Store(job["store"]),
            Dataset.open(Path(job["data"]), job["source"], "bytes"),
            device="cpu",
            tensor_parallel=job["tensor"],
            watch=Stopper(job["stop"]),
        )
    except (ValueError, KeyboardInterrupt) as error:
        return f"{type(error).__name__}: {error}"
    return ""


for line in sys.stdin:
    print(json.dumps([said_of(job) for job in json.loads(line)]), file=answers, flush=True)
dist.destroy_process_group()
