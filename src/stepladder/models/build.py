"""From a recipe to its model, scaled by its parametrization."""

from collections.abc import Callable
from math import sqrt

import torch

from stepladder import optim
from stepladder.card import UNKNOWN
from stepladder.models.transformer import Transformer
from stepladder.recipe import Recipe
from stepladder.scaling import Plan, parametrize


def build(
    recipe: Recipe,
    device: torch.device | str = "cpu",
    arrange: Callable[[Transformer], None] | None = None,
) -> tuple[Transformer, Plan]:
    """The recipe's model with its initial values on a device, and the plan that scaled it.

    The values depend on the recipe alone (its seed included), not on the device, nor on how
    `arrange` spreads the parameters over processes before there is memory for them. On the device
    "meta" there are none.
    """
    with torch.device("meta"):
        model, base = Transformer(recipe.model), Transformer(recipe.base_model())
    plan = parametrize(
        model,
        base=base,
        rule=recipe.parametrization.rule,
        optimizer=scaled_like(recipe),
        init_std=base_scales(recipe),
        no_decay=("norm",),
    )
    if arrange is not None:
        arrange(model)
    model.to_empty(device=device)
    model.tie()
    if torch.device(device).type != "meta":  # where there is nothing to hold values
        plan.initialize(seed=recipe.seed)
    model.readout_multiplier = plan.multipliers().get("head.weight", 1.0)
    return model, plan


def scaled_like(recipe: Recipe) -> str:
    """The optimizer whose rows of the parametrization's table scale the recipe's rates.

    Raises:
        ValueError: neither the optimizer's card nor the recipe says.
    """
    name = recipe.optimizer.name
    known = recipe.parametrization.scale_like or optim.card(name).scaling
    if known == UNKNOWN:
        raise ValueError(
            f"nobody has said how the rates of {name!r} change with width: a ladder cannot carry "
            "them up; use an optimizer whose card names its scaling, such as 'adamw', or assume "
            'one with parametrization.scale_like = "adamw"'
        )
    return known


def base_scales(recipe: Recipe) -> dict[str, float]:
    """Initial standard deviations at the base shape, by role or parameter name.

    Hidden matrices start at gain / sqrt(fan-in); so do the projections that end a residual
    branch, with a gain of their own. A tied embedding is a readout too: at the scale of an untied
    one, of 1, logits would start as large as sqrt(width) and the loss at several times log(V).
    """
    base, given = recipe.base_model(), recipe.parametrization
    embedding = given.embedding_std / (sqrt(base.width) if base.tied else 1.0)
    return {
        "*.attention.output.weight": given.residual_gain / sqrt(base.heads * base.head_size),
        "*.mlp.down.weight": given.residual_gain / sqrt(base.mlp_width),
        "hidden": given.hidden_gain / sqrt(base.width),
        "embedding": embedding,
        "readout": given.readout_std,
    }
