"""What each process of test_distributed.py executes: runs in float64, one after another.

python sharded.py <jobs.json>
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from stepladder.data import Dataset
from stepladder.recipe import Recipe
from stepladder.store import Store
from stepladder.train import Silent
from stepladder.train.distributed import train_distributed

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
dist.init_process_group("gloo")  # once for all jobs


class Stopper(Silent):
    """Presses Ctrl-C, in the first process alone, after a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, step: int) -> None:
        """Interrupt this process where asked to."""
        if step == self.at:
            os.kill(os.getpid(), 2)


for job in json.loads(Path(sys.argv[1]).read_text()):
    dataset = Dataset.open(Path(job["data"]), job["source"], "bytes")
    said = ""
    try:
        train_distributed(
            Recipe.from_toml(job["recipe"]),
            Store(job["store"]),
            dataset,
            device="cpu",
            tensor_parallel=job["tensor"],
            watch=Stopper(job["stop"]),
        )
    except (ValueError, KeyboardInterrupt) as error:
        said = f"{type(error).__name__}: {error}"
    Path(f"{job['said']}-{os.environ['RANK']}").write_text(said)
dist.destroy_process_group()
