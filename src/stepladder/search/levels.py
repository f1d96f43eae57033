"""The fidelity of a search: points on a ladder, from a cheap scale up to the one that counts.

Base hyperparameters stay what they are along it; the recipe's parametrization carries them. What a
run costs at each level is known from the cost model, never learned.

A level that changes the shape is a run of its own. One in tokens alone goes on from where the level
below left its trunk, where the schedule has one (`stepladder.train.trunk`): the store does it, and
here is only what it saves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from stepladder import schedules
from stepladder.comparing.growth import grown, grown_model
from stepladder.cost import cost, parameters
from stepladder.recipe import Recipe
from stepladder.train.trunk import lengthened, shared_steps

Grow = Callable[[Recipe, float], Recipe]  # (base recipe, scale) -> the recipe at that scale


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Scales, rising, with the rule that grows a base recipe and what a run costs at each.

    Attributes:
        costs: FLOP of one run, evaluation and optimizer included.
        promoted: FLOP of one that goes on from the level below.
    """

    scales: tuple[float, ...]
    grow: Grow
    costs: tuple[float, ...]
    promoted: tuple[float, ...]

    @classmethod
    def of(cls, base: Recipe, scales: Sequence[float], grow: Grow | None = None) -> "Levels":
        """The levels of a recipe, which is stated at scale 1.

        Args:
            grow: `shape_and_tokens` if None.

        Raises:
            ValueError: no scales, or a scale that costs no more than the one before.
        """
        rule = grow or shape_and_tokens
        if not scales:
            raise ValueError("a search needs a scale at least: --scales 1")
        recipes = [rule(base, scale) for scale in scales]
        costs = [flops(recipe) for recipe in recipes]
        for (low, less), (high, more) in pairwise(zip(scales, costs, strict=True)):
            if more <= less:
                raise ValueError(
                    f"scales {low:g} and {high:g} cost the same here: let scales rise, further "
                    "apart"
                )
        shared = [0.0, *(shared_flops(low, high) for low, high in pairwise(recipes))]
        return cls(
            scales=tuple(map(float, scales)),
            grow=rule,
            costs=tuple(costs),
            promoted=tuple(whole - paid for whole, paid in zip(costs, shared, strict=True)),
        )

    def recipe(self, tuned: Recipe, level: int) -> Recipe:
        """A tuned base recipe at a level."""
        return self.grow(tuned, self.scales[level])


def shape_and_tokens(base: Recipe, scale: float) -> Recipe:
    """`scale` times the width, and everything else as along a ladder (`comparing.growth`)."""
    size = parameters(base.model).non_embedding_with_head
    data = parameters(grown_model(base, scale)).non_embedding_with_head / size
    return grown(base, scale, data)


def tokens_only(base: Recipe, scale: float) -> Recipe:
    """The same run with `scale` times the tokens: shape, batch and decay stay, and so does what
    comes first of its schedule, in tokens of the base recipe."""
    given, own = base.schedule, dict[str, Any](base.schedule.params)
    known = schedules.timed(given.name, own)[0].parameters | own
    if "cooldown" in known:  # to a plateau, where it is a length; the decay is last
        own["cooldown"] = _in_tokens(known["cooldown"], base)
    schedule = replace(given, warmup=_in_tokens(given.warmup, base), params=own)
    longer = lengthened(replace(base, schedule=schedule), int(base.tokens * scale))
    return replace(longer, evaluations=1)


def _in_tokens(length: Any, base: Recipe) -> Any:
    """A fraction of a run in its tokens, a batch at least; anything else as it is."""
    if isinstance(length, str) or not 0 < length <= 1:
        return length
    return max(base.batch, round(length * base.tokens))


ALONG: dict[str, Grow] = {"shape": shape_and_tokens, "tokens": tokens_only}


def shared_flops(shorter: Recipe, longer: Recipe) -> float:
    """FLOP of a run that one that ended before has paid for it."""
    spent = cost(longer)
    share = shared_steps(shorter, longer) / longer.steps
    return share * (spent.flops_total + spent.flops_optimizer)


def flops(recipe: Recipe) -> float:
    """FLOP of a run: matrix products, optimizer, and measurements on the validation set."""
    spent = cost(recipe)
    return spent.flops_total + spent.flops_optimizer + spent.flops_evaluation
