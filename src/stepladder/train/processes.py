"""The processes that torchrun started: which one this is, and what they say to each other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from stepladder.train.execution import Execution, find_device


def is_launched() -> bool:
    """Whether torchrun started this process beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process is the one that speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def own_device(name: str) -> torch.device:
    """A device by name; of several CUDA devices this process's own.

    Raises:
        ValueError: there is no such device.
    """
    device = find_device(name)
    if device.type == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


@contextmanager
def joined(execution: Execution) -> Iterator[None]:
    """Membership of torchrun's group, or of one that is there already; words and wishes go over
    the CPU, without waiting for CUDA."""
    if dist.is_initialized():
        yield
        return
    if execution.device.type == "cuda":
        torch.cuda.set_device(execution.device)
    backend = "cpu:gloo,cuda:nccl" if execution.device.type == "cuda" else "gloo"
    dist.init_process_group(backend)
    try:
        yield
    finally:
        dist.destroy_process_group()


def told(what: Any, by: int = 0) -> Any:
    """What one process says, the first unless another is named, in all of them."""
    box = [what]
    dist.broadcast_object_list(box, src=by, device=torch.device("cpu"))
    return box[0]
