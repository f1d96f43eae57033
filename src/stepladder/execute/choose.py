"""Which executor suits many small runs on a device, by what was measured.

On several CPU cores a process a run is fastest: the cores never wait for each other. On two cores,
shared with other work, at width 64: 1.9 times one at a time, where stacks reached 1.3 times
(benchmarks/bench_stacked.py). On one core, or on CUDA, processes would only share what one program
can fill: there runs are stacked.
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
    if find_device(device).type == "cpu" and cpu_count() > 1:
        return Workers(store, dataset, watch, device)
    return Stacked(store, dataset, watch, device)
