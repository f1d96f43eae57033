"""From a recipe to the same recipe at a larger scale: the rungs of a comparison.

Both arms grow from their own shape by the same factor, as a ladder's rungs do (`ladder/rule.py`):
width, MLP and heads (or their size, where the recipe keeps the number of heads) in proportion,
depth as the ladder's depth, tokens as parameters, batch as the root of tokens. Base hyperparameters
stay; the recipe's parametrization carries them.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from stepladder.cost import cost, parameters
from stepladder.ladder.plan import at_rate
from stepladder.ladder.rule import BATCH_EXPONENT, depth_at
from stepladder.recipe import Model, Recipe

# A schedule's own parameters of these names are the run's, and follow it.
HORIZON, STEP, PEAK = "tokens", "batch", "peak"


def rungs(base: Recipe, lever: Recipe, scales: Sequence[float]) -> list[tuple[Recipe, Recipe]]:
    """Both arms at every scale: factors of the width, rising. Tokens grow as the baseline's.

    Raises:
        ValueError: two scales that make one shape.
    """
    first, out = _size(base.model), []
    for scale in scales:
        data = _size(grown_model(base, scale)) / first
        out.append((grown(base, scale, data), grown(lever, scale, data)))
    costs = [(scale, cost(arms[0]).flops_total) for scale, arms in zip(scales, out, strict=True)]
    for (low, less), (high, more) in pairwise(costs):
        if more <= less:
            raise ValueError(
                f"scales {low:g} and {high:g} make one shape of a model {base.model.width} wide: "
                "set them further apart"
            )
    return out


def grown(recipe: Recipe, scale: float, data: float) -> Recipe:
    """The recipe at `scale` times its width and `data` times its tokens.

    Weight decay keeps the memory of AdamW, batch / (rate x decay x tokens), the same fraction of
    the run (arXiv:2405.13698), as along a ladder.
    """
    tokens = int(recipe.tokens * data)
    unit = recipe.model.context * recipe.accumulate
    batch = max(1, round(recipe.batch * data**BATCH_EXPONENT / unit)) * unit
    memory = (batch / recipe.batch) / (tokens / recipe.tokens)
    decay = recipe.optimizer.weight_decay * memory
    return replace(
        recipe,
        model=grown_model(recipe, scale),
        tokens=tokens,
        batch=batch,
        optimizer=replace(recipe.optimizer, weight_decay=decay),
        schedule=_follow(
            recipe, {HORIZON: tokens / recipe.tokens, STEP: batch / recipe.batch, PEAK: 1.0}
        ),
        evaluations=1,
    )


def tuned_to(recipe: Recipe, lr: float) -> Recipe:
    """The recipe at another base rate; rate x weight decay is kept, a schedule's peak follows."""
    schedule = _follow(recipe, {PEAK: lr / recipe.optimizer.lr})
    return replace(at_rate(recipe, lr), schedule=schedule)


def grown_model(recipe: Recipe, scale: float) -> Model:
    """The recipe's shape at `scale` times its width."""
    model = recipe.model
    group, kv_heads, head_size = model.heads // model.kv_heads, model.kv_heads, model.head_size
    if recipe.parametrization.base_heads:  # the number of heads is kept, they widen
        head_size = max(2, 2 * round(head_size * scale / 2))
        exact = head_size / model.head_size
    else:
        kv_heads = max(1, round(kv_heads * scale))
        exact = kv_heads / model.kv_heads
    width = max(1, round(model.width * exact))
    unit = 8 if model.mlp_width % 8 == 0 else 1
    return replace(
        model,
        width=width,
        depth=max(1, round(model.depth * depth_at(width) / depth_at(model.width))),
        heads=group * kv_heads,
        kv_heads=kv_heads,
        head_size=head_size,
        mlp_width=max(1, round(model.mlp_width * exact / unit)) * unit,
    )


def _follow(recipe: Recipe, ratios: dict[str, float]) -> Any:
    given = recipe.schedule.params
    moved = {name: given[name] * ratio for name, ratio in ratios.items() if name in given}  # type: ignore[operator]
    return replace(recipe.schedule, params={**given, **moved})


def _size(model: Model) -> int:
    return parameters(model).non_embedding_with_head
