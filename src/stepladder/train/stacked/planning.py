"""Which recipes train as one program, and how many at a time."""

from collections.abc import Hashable
from dataclasses import replace
from math import ceil

from stepladder.cost import cost
from stepladder.recipe import Data, Optimizer, Parametrization, Recipe, Schedule
from stepladder.train.execution import Execution

MEMORY_SHARE = 0.5  # of the device's; the model of the cost counts neither torch nor its caches


def shape_of(recipe: Recipe) -> Hashable:
    """What recipes must share to train as one program; all the rest may differ from trial to trial.

    Model, batch, precision and the optimizer with its own settings are the program's. Rates, decay,
    betas, epsilon, clipping, initial scales, schedule, seed and length are values in it.
    """
    given = recipe.parametrization
    base = Parametrization(
        rule=given.rule,
        base_width=given.base_width,
        base_depth=given.base_depth,
        base_heads=given.base_heads,
    )
    optimizer = Optimizer(name=recipe.optimizer.name, lr=1.0, params=recipe.optimizer.params)
    alike = replace(
        recipe,
        optimizer=optimizer,
        parametrization=base,
        schedule=Schedule(),
        data=Data(),
        tokens=recipe.batch,
        validation=1,
        evaluations=1,
        seed=0,
    )
    return alike.key


def room_for(recipe: Recipe, trials: int, execution: Execution) -> int:
    """How many of some trials of one shape to train at a time: rounds of equal size that fit."""
    most = max(1, int(MEMORY_SHARE * execution.memory / _bytes(recipe)))
    return ceil(trials / ceil(trials / most))


def _bytes(recipe: Recipe) -> float:
    """Bytes of one trial in a stack, where gradients are never freed."""
    held = cost(recipe).memory
    return held.weights + held.gradients + held.optimizer + held.activations + held.logits
