"""The CPUs that this process may use, also after torch is imported.

MKL, which torch brings, visits every CPU to count the cores, and on a busy machine it now and then
stays on one of them. All that the process starts would share that one.
"""

import os


def _allowed() -> set[int]:
    ask = getattr(os, "sched_getaffinity", None)  # not on macOS
    return set(ask(0)) if ask else set(range(os.cpu_count() or 1))


AT_START = _allowed()  # when the package was imported, which is before it imports torch


def cpu_count() -> int:
    """CPUs this process may use."""
    return len(AT_START)


def use_all_cpus() -> None:
    """Give the calling thread back the CPUs that the process had at its start."""
    if _allowed() != AT_START:
        os.sched_setaffinity(0, AT_START)
