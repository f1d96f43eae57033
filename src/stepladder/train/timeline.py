"""When things happen in a run: pure functions of its recipe."""

from stepladder import schedules
from stepladder.recipe import Recipe

ROWS = 200  # training rows of a curve, at most


def rate_factor(recipe: Recipe, step: int, taken: int = 1) -> float:
    """The schedule's multiplier of every rate at a step, from 0, that takes `taken` batches.

    Of a schedule that reacts to training, the part that progress decides.
    """
    given = recipe.schedule
    schedule, own = schedules.timed(given.name, given.params)
    return schedule.at(step, recipe.steps, recipe.batch, taken=taken, warmup=given.warmup, **own)


def warmup_steps(recipe: Recipe) -> float:
    """The length of the warmup."""
    warmup = recipe.schedule.warmup
    return warmup / recipe.batch if warmup > 1 else warmup * recipe.steps


def evaluation_steps(recipe: Recipe) -> set[int]:
    """The steps after which the validation set is measured; the last is always one."""
    count = recipe.evaluations
    return {max(1, round(i * recipe.steps / count)) for i in range(1, count + 1)}
