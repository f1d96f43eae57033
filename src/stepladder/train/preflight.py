"""What is checked before a step is paid for."""

import shutil
from pathlib import Path

from stepladder.cost import cost
from stepladder.data import Dataset
from stepladder.optim import card
from stepladder.recipe import Recipe
from stepladder.train.execution import Execution
from stepladder.train.feedback import policy_of
from stepladder.train.timeline import rate_factor
from stepladder.train.trunk import trunk_steps


def preflight(
    recipe: Recipe, dataset: Dataset, execution: Execution, root: Path, processes: int = 1
) -> None:
    """Raise ValueError, naming the fix, where a run kept below `root` could not end well.

    Args:
        processes: how many share its memory, each with a device like this one.
    """
    _check_data(recipe, dataset)
    card(recipe.optimizer.name)
    policy_of(recipe)
    check_schedule(recipe)
    _check_memory(recipe, execution, processes)
    _check_disk(recipe, root)


def check_schedule(recipe: Recipe) -> None:
    """Raise ValueError where a schedule cannot be, or leaves no rate at all."""
    given, last = recipe.schedule, recipe.steps - 1
    if max(rate_factor(recipe, step) for step in (0, last // 2, last)) == 0:
        raise ValueError(
            f"schedule.warmup = {given.warmup} leaves {given.name!r} a rate of 0 all along: "
            "lower it"
        )


def _check_data(recipe: Recipe, dataset: Dataset) -> None:
    if recipe.model.vocab_size < dataset.vocab_size:
        raise ValueError(
            f"model.vocab_size is {recipe.model.vocab_size} and the tokenizer {dataset.tokenizer} "
            f"has {dataset.vocab_size}: set model.vocab_size = {dataset.vocab_size}"
        )
    if recipe.data.fingerprint != dataset.fingerprint:
        raise ValueError(
            f"data.fingerprint is {recipe.data.fingerprint or 'not set'} and {dataset.source} is "
            f"{dataset.fingerprint} now: the text has changed, or the recipe is from another "
            "machine; set it to the new value to train on what is here"
        )
    dataset.windows(recipe.model.context)


def _check_memory(recipe: Recipe, execution: Execution, processes: int) -> None:
    need, have = cost(recipe).peak_memory / processes, execution.memory
    if need > have:
        raise ValueError(
            f"the run needs about {need / 1e9:.1f} GB and {execution.device} has "
            f"{have / 1e9:.1f} GB: raise accumulate (now {recipe.accumulate}), or train a smaller "
            "model"
        )


def _check_disk(recipe: Recipe, root: Path) -> None:
    """A new checkpoint is written before the old one goes, so there must be room for two; and for a
    third where the run keeps the end of its trunk."""
    spent = cost(recipe)
    state = spent.memory.weights + spent.memory.optimizer
    there = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    count, said = (3, "three") if trunk_steps(recipe) else (2, "two")
    need, free = count * state, shutil.disk_usage(there).free
    if need > free:
        raise ValueError(
            f"{said} checkpoints take {need / 1e9:.1f} GB and {there} has {free / 1e9:.1f} GB "
            "free: free some space, or choose another --root"
        )
