"""Which recipes train as one program, and how many at a time."""

from collections.abc import Hashable
from dataclasses import replace
from math import ceil

from stepladder.cost import cost
from stepladder.recipe import Data, Recipe, Schedule
from stepladder.train.execution import Execution
from stepladder.train.feedback import reacts

# Per thread: where the time of a trial stops falling (at widths 32 and 64; 2 to 32 were tried).
CPU_ROOM = 16
MEMORY_SHARE = 0.5  # of the device's; the model of the cost counts neither torch nor its caches


def shape_of(recipe: Recipe) -> Hashable:
    """What recipes must share to train as one program; all the rest may differ from trial to trial.

    Model, batch, precision and the optimizer with its own settings are the program's. Rates, decay,
    betas, epsilon, clipping, initial scales, schedule, seed and length are values in it.
    """
    scales = {"embedding_std": 1.0, "hidden_gain": 1.0, "residual_gain": 1.0, "readout_std": 0.0}
    rates = {"lr": 1.0, "weight_decay": 0.0, "beta1": 0.0, "beta2": 0.0, "eps": 0.0, "clip": 0.0}
    alike = replace(
        recipe,
        optimizer=replace(recipe.optimizer, **rates),  # type: ignore[arg-type]
        parametrization=replace(recipe.parametrization, **scales),  # type: ignore[arg-type]
        schedule=recipe.schedule if reacts(recipe) else Schedule(),
        data=Data(),
        tokens=recipe.batch,
        validation=1,
        evaluations=1,
        seed=0,
    )
    return alike.key


def room_for(recipe: Recipe, trials: int, execution: Execution) -> int:
    """How many of some trials of one shape to train at a time: rounds of equal size that fit.

    Trials that react to their own gradients do not step together: one at a time.
    """
    if reacts(recipe):
        return 1
    return fitting(_bytes(recipe), trials, execution)


def fitting(bytes_each: float, trials: int, execution: Execution) -> int:
    """How many of some trials to train at a time: rounds of equal size that fit.

    Args:
        bytes_each: memory of one trial in a stack.
    """
    most = max(1, int(MEMORY_SHARE * execution.memory / bytes_each))
    if execution.device.type == "cpu":
        most = min(most, CPU_ROOM * execution.threads)
    return ceil(trials / ceil(trials / most))


def _bytes(recipe: Recipe) -> float:
    """Bytes of one trial in a stack, where gradients are never freed."""
    held = cost(recipe).memory
    return held.weights + held.gradients + held.optimizer + held.activations + held.logits
