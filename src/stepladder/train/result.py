"""What a finished run says of itself: the content of `result.json`."""

import platform
from dataclasses import asdict
from typing import Any

import torch

from stepladder.cost import cost
from stepladder.recipe import Recipe
from stepladder.train.checkpoint import Progress
from stepladder.train.execution import Execution


def describe(
    recipe: Recipe, progress: Progress, rows: list[dict[str, Any]], execution: Execution
) -> dict[str, Any]:
    """Result of a run from its curve: loss, what it cost, and where it ran.

    `loss` is the last measurement on the validation set, None where a run diverged. `params` counts
    all parameters, as Chinchilla does; `parameters` has every part. Steps, FLOP and seconds are
    those of the whole curve; where another run paid for its first steps, `trunk` says which, and
    those named `paid` are the rest.
    """
    spent = cost(recipe)
    measured = [row for row in rows if "validation_loss" in row]
    trained = [row for row in rows if "loss" in row]
    last = measured[-1] if measured and not progress.diverged else {}
    return {
        "key": recipe.key,
        "diverged": progress.diverged,
        "loss": last.get("validation_loss"),
        "standard_error": last.get("standard_error"),
        "train_loss": trained[-1]["loss"] if trained else None,
        "steps": progress.step,
        "tokens": progress.done * recipe.batch,
        "params": spent.parameters.total,
        "parameters": asdict(spent.parameters)
        | {"non_embedding_with_head": spent.parameters.non_embedding_with_head},
        "flops": spent.flops_per_token * progress.done * recipe.batch,
        "started": progress.started,
        "seconds": progress.seconds,
        "trunk": _trunk(progress),
        "paid_steps": progress.step - progress.trunk_step,
        "paid_flops": spent.flops_per_token * (progress.done - progress.trunk_step) * recipe.batch,
        "paid_seconds": progress.seconds - progress.trunk_seconds,
        "where": _where(execution, progress),
    }


def _trunk(progress: Progress) -> dict[str, Any] | None:
    return {"run": progress.trunk, "step": progress.trunk_step} if progress.trunk else None


def _where(execution: Execution, progress: Progress) -> dict[str, Any]:
    return {
        "device": str(execution.device),
        "hardware": execution.hardware,
        "threads": execution.threads,
        "compiled": progress.compiled,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
