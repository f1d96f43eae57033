"""Which executor suits many small runs on a device, by what was measured.

On several CPU cores a process a run is fastest: the cores never wait for each other. On two cores
at widths 32, 64 and 128 it makes 2.2, 1.9 and 1.7 times as many runs as one at a time, and stacks
of eight 1.6, 1.3 and 1.1 times as many (benchmarks/bench_stacked.py). On one core, or on CUDA,
processes would only share what one program can fill: there runs are stacked.
"""

from stepladder.data import Dataset
from stepladder.data.workers import cpu_count
from stepladder.execute.here import Watch
from stepladder.execute.stacked import Stacked
from stepladder.execute.workers import Workers
from stepladder.store import Store
from stepladder.train import find_device


def choose_executor(
    store: Store, dataset: Dataset, watch: Watch, device: str = "auto"
) -> Workers | Stacked:
    """An executor for many small runs: a context manager whose `run` trains recipes.

    Args:
        watch: what to show a run with, once it starts.
        device: auto, cpu or cuda.

    Raises:
        ValueError: the device is not there.
    """
    if suits_processes(device):
        return Workers(store, dataset, watch, device)
    return Stacked(store, dataset, watch, device)


def suits_processes(device: str = "auto") -> bool:
    """Whether many small runs on a device are better made by processes than in stacks.

    Raises:
        ValueError: the device is not there.
    """
    return find_device(device).type == "cpu" and cpu_count() > 1
