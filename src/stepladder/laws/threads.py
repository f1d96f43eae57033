"""Work shared out to threads: numpy lets go of the interpreter while it computes."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def thread_count() -> int:
    """One thread for each processor that this process may use; fewer where OMP_NUM_THREADS, which
    numpy's own libraries heed too, says so."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    there = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(there, int(told)) if told.isdigit() and int(told) > 0 else there


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`function` of each item, in their order; the first in this thread.

    The threads end with the call: a process that forks later has none to lose.
    """
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(len(items) - 1) as pool:
        others = [pool.submit(function, item) for item in items[1:]]
        return [function(items[0]), *(other.result() for other in others)]
