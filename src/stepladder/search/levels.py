"""The fidelity of a search: points on a ladder, from a cheap scale up to the one that counts.

Base hyperparameters stay what they are along it; the recipe's parametrization carries them. What a
run costs at each level is known from the cost model, never learned.

Every level is a run of its own. A promotion in tokens alone could go on from the trunk of a
warmup-stable-decay run, but the training loop does not continue one recipe's checkpoint under
another's key yet, so it is trained anew (and an interrupted run resumes from its own checkpoint).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stepladder.comparing.growth import grown, grown_model
from stepladder.cost import cost, parameters
from stepladder.recipe import Recipe

Grow = Callable[[Recipe, float], Recipe]  # (base recipe, scale) -> the recipe at that scale


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Scales, rising, with the rule that grows a base recipe and what a run costs at each.

    Attributes:
        costs: FLOP of one run, evaluation and optimizer included.
    """

    scales: tuple[float, ...]
    grow: Grow
    costs: tuple[float, ...]

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
        costs = [flops(rule(base, scale)) for scale in scales]
        for (low, less), (high, more) in pairwise(zip(scales, costs, strict=True)):
            if more <= less:
                raise ValueError(
                    f"scales {low:g} and {high:g} cost the same here: let scales rise, further "
                    "apart"
                )
        return cls(scales=tuple(map(float, scales)), grow=rule, costs=tuple(costs))

    def recipe(self, tuned: Recipe, level: int) -> Recipe:
        """A tuned base recipe at a level."""
        return self.grow(tuned, self.scales[level])


def shape_and_tokens(base: Recipe, scale: float) -> Recipe:
    """`scale` times the width, and everything else as along a ladder (`comparing.growth`)."""
    size = parameters(base.model).non_embedding_with_head
    data = parameters(grown_model(base, scale)).non_embedding_with_head / size
    return grown(base, scale, data)


def tokens_only(base: Recipe, scale: float) -> Recipe:
    """The same shape on `scale` times the tokens."""
    return grown(base, 1.0, scale)


def flops(recipe: Recipe) -> float:
    """FLOP of a run: matrix products, optimizer, and measurements on the validation set."""
    spent = cost(recipe)
    return spent.flops_total + spent.flops_optimizer + spent.flops_evaluation
