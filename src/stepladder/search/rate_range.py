"""The learning-rate range test of a recipe: one short run through all rates, and what it suggests.

For a first rate, where none is known: a search around it is more exact, and costs more runs.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from stepladder.recipe import Batching, Recipe, Schedule
from stepladder.schedules.range_test import LEAST_LOSSES, read

STEPS = 200
SPAN = 2.0**7  # below and above the recipe's rate
# Divergence takes steps to show: tuned rates lay a factor of 4 below the limit in the middle
# (`python evidence/make_range_test.py`).
MARGIN = 4.0


@dataclass(frozen=True, kw_only=True)
class RateRange:
    """What a range test found; rates are base rates, as the recipe's is.

    Attributes:
        suggested: a quarter of the limit.
        steepest: where the smoothed training loss falls fastest.
        limit: where it is lowest; above it, it rises.
        bounded: whether it rose again, so that the limit is one.
        rates, losses: the curve.
    """

    suggested: float
    steepest: float
    limit: float
    bounded: bool
    rates: Sequence[float]
    losses: Sequence[float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def range_recipe(
    recipe: Recipe, *, low: float | None = None, high: float | None = None, steps: int = STEPS
) -> Recipe:
    """The recipe's run with a rate that rises from `low` to `high`, evenly in its logarithm.

    Args:
        recipe: any; only its schedule, batch growth and length are left out.
        low, high: base rates; by default 2^7 below and above the recipe's own.
        steps: of the test.

    Raises:
        ValueError: rates out of order, or too few steps to read.
    """
    own = recipe.optimizer.lr
    low, high = low or own / SPAN, high or own * SPAN
    if not 0 < low < high:
        raise ValueError(f"the range test needs 0 < low < high, not {low:g} and {high:g}")
    if steps < 2 * LEAST_LOSSES:
        raise ValueError(f"a range test of {steps} steps cannot be read: give {2 * LEAST_LOSSES}")
    return replace(
        recipe,
        optimizer=replace(recipe.optimizer, lr=high),
        schedule=Schedule(name="range-test", warmup=0.0, params={"start": low / high}),
        batching=Batching(),
        tokens=steps * recipe.batch,
        validation=min(recipe.validation, recipe.batch),  # its end says nothing
        evaluations=1,
    )


def rate_range(curve: Sequence[dict[str, Any]]) -> RateRange:
    """Read the curve of a range test's run.

    Raises:
        ValueError: a loss that never fell, or a run too short.
    """
    rows = [row for row in curve if "loss" in row]
    rates, losses = [row["lr"] for row in rows], [row["loss"] for row in rows]
    found = read(rates, losses)
    return RateRange(
        suggested=found.limit / MARGIN,
        steepest=found.steepest,
        limit=found.limit,
        bounded=found.limit < rates[-1],
        rates=rates,
        losses=losses,
    )
