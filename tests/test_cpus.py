"""A process keeps its CPUs, whatever torch's libraries do while they are imported."""

import os
import subprocess
import sys

import pytest

# As MKL does on a busy machine: the process is left on one CPU once torch is there.
PINNED = """
import os, stepladder
before = os.sched_getaffinity(0)
import torch
os.sched_setaffinity(0, {min(before)})
from stepladder.train import find_device
assert os.sched_getaffinity(0) == before, os.sched_getaffinity(0)
from stepladder.cpus import cpu_count
assert cpu_count() == len(before)
"""


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_a_process_left_on_one_cpu_is_given_all_back() -> None:
    done = subprocess.run([sys.executable, "-c", PINNED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_cpus_that_were_never_given_are_not_taken() -> None:
    narrow = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n"
    done = subprocess.run([sys.executable, "-c", narrow + PINNED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
