"""What an optimizer adds to every step, read from its card."""

from dataclasses import dataclass
from importlib import import_module

from stepladder.cost.counts import parameters
from stepladder.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Price:
    """Per parameter: bytes of state, and FLOPs of one step."""

    state_bytes: float
    flops: float


# Cards of methods that multiply matrices state a square matrix of this side, at this rank.
CARD_SIDE, CARD_RANK = 1024, 128

# AdamW's card, restated so that planning with the default does not import torch; a test compares.
ADAMW = Price(state_bytes=8, flops=15)


def price(name: str) -> Price:
    """The price of an optimizer.

    Raises:
        ValueError: no such optimizer; the text names the nearest.
    """
    if name == "adamw":
        return ADAMW
    card = import_module("stepladder.optim").card(name)
    return Price(state_bytes=card.state_bytes, flops=card.flops)


def price_in(recipe: Recipe) -> Price:
    """The price of a recipe's optimizer at the recipe's own shape, averaged over its parameters.

    Cards of methods that multiply matrices state one shape; hidden matrices here have the model's
    width as their smaller side, and count as square (a long one takes up to a third less).

    Raises:
        ValueError: no such optimizer.
    """
    stated = price(recipe.optimizer.name)
    if recipe.optimizer.name == "adamw":
        return stated
    grows_with = import_module("stepladder.optim").card(recipe.optimizer.name).grows_with
    width = recipe.model.width
    if grows_with == "side":
        count = parameters(recipe.model)
        hidden = (count.attention + count.mlp) / count.total
        return Price(
            state_bytes=hidden * stated.state_bytes + (1 - hidden) * ADAMW.state_bytes,
            flops=hidden * stated.flops * width / CARD_SIDE + (1 - hidden) * ADAMW.flops,
        )
    if grows_with == "rank":
        rank = min(width, float(recipe.optimizer.params.get("rank", CARD_RANK)))
        share = (rank / width) / (CARD_RANK / CARD_SIDE)
        return Price(state_bytes=stated.state_bytes * share, flops=stated.flops * rank / CARD_RANK)
    return stated
