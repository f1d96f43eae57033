"""One run with whatever was launched: this process, or all that torchrun started."""

from typing import Any

from stepladder.data import Dataset
from stepladder.execute.here import Watch, run_here
from stepladder.recipe import Recipe
from stepladder.store import Store
from stepladder.train.processes import is_launched


def run_launched(
    label: str,
    recipe: Recipe,
    store: Store,
    dataset: Dataset,
    watch: Watch,
    device: str = "auto",
    tensor_parallel: int = 1,
) -> dict[str, Any]:
    """Train a recipe and return its result; under torchrun every process calls this alike.

    Raises:
        ValueError: as `train`, or `train_distributed` where there are several processes;
            `tensor_parallel` is not 1 where there are not.
    """
    if is_launched():
        from stepladder.train.distributed import train_distributed  # half a second of torch's

        watcher = watch(label, recipe)
        return train_distributed(
            recipe, store, dataset, device=device, tensor_parallel=tensor_parallel, watch=watcher
        )
    if tensor_parallel != 1:
        raise ValueError(
            f"one process cannot share matrices {tensor_parallel} ways: start several with "
            "`torchrun --nproc-per-node N -m stepladder train ...`"
        )
    (result,) = run_here([(label, recipe)], store, dataset, watch, device)
    return result
