"""One run on several processes: FSDP2, with tensor and sequence parallelism where asked.

    torchrun --nproc-per-node 8 -m stepladder train recipe.toml --tensor-parallel 2

The recipe, its key, its curve and its run directory are those of one process; how the model is
spread is said in `stepladder.train.sharding`.

Only the first process writes the run directory, and whole tensors: a run begun on one process goes
on on any number of them, and the reverse.
"""

import torch.distributed as dist

from stepladder.data import Dataset
from stepladder.recipe import Recipe
from stepladder.store import Store
from stepladder.train.execution import Execution
from stepladder.train.feedback import controller_of, measures
from stepladder.train.loop import CHECKPOINT_SECONDS
from stepladder.train.processes import is_first, joined, own_device, told
from stepladder.train.sharded_session import ShardedSession
from stepladder.train.sharding import make_grid
from stepladder.train.shared_run import claimed
from stepladder.train.sitting import Row, Silent, Watcher
from stepladder.train.updates import check_updates


def train_distributed(
    recipe: Recipe,
    store: Store,
    dataset: Dataset,
    *,
    device: str = "auto",
    tensor_parallel: int = 1,
    watch: Watcher | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Row:
    """Train a recipe with all processes that torchrun started; each calls this alike.

    As `stepladder.train.train`, with the same curve but for the order of sums. Not compiled.

    Args:
        tensor_parallel: processes that share each matrix; the rest of them shares the batch.
        watch: who sees the run, in the first process.

    Raises:
        ValueError: as `train`, and where the recipe does not divide among the processes; in every
            process.
    """
    execution = Execution(device=own_device(device), compiled=False)
    with joined(execution):
        check_divides(recipe, dist.get_world_size(), tensor_parallel)
        grid = make_grid(execution.device.type, tensor_parallel)
        with claimed(recipe, store, dataset, execution) as run:
            if run.result is None:
                watcher = watch if watch and is_first() else Silent()
                session = ShardedSession(recipe, run, dataset, execution, watcher, grid)
                session.take_every_step(checkpoint_seconds)
            result: Row = told(run.result)
    return result


def check_divides(recipe: Recipe, processes: int, tensor_parallel: int) -> None:
    """Raise ValueError, naming the fix, where a recipe does not divide among processes."""
    model = recipe.model
    if processes > 1:
        check_updates(recipe.optimizer)
    if model.tied and processes > 1:
        raise ValueError("a tied head does not run on several processes yet: set tied = false")
    if tensor_parallel < 1 or processes % tensor_parallel:
        raise ValueError(
            f"{processes} processes do not make groups of {tensor_parallel}: choose a "
            "--tensor-parallel that divides them"
        )
    for what in ("kv_heads", "mlp_width", "context"):
        if getattr(model, what) % tensor_parallel:
            raise ValueError(
                f"model.{what} ({getattr(model, what)}) does not divide among {tensor_parallel} "
                "processes: choose another --tensor-parallel"
            )
    if processes > 1 and (controller_of(recipe) or measures(recipe) != "nothing"):
        what = recipe.batching.name or recipe.schedule.name
        raise ValueError(
            f"{what!r} reacts to whole gradients, which several processes do not hold: choose "
            "another, or one process"
        )
    groups = processes // tensor_parallel
    rows = recipe.batch // model.context // recipe.accumulate
    if rows % groups:
        raise ValueError(
            f"{rows} sequences of a micro-batch do not divide among {groups} groups of processes: "
            "start fewer, or lower accumulate"
        )
