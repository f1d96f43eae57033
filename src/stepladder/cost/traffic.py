"""Bytes that one optimizer step moves between memory and arithmetic, term by term.

Each operation reads its inputs and writes its output once. Elementwise passes are counted from the
program of `models.transformer`, in values read or written per token; a compiled program fuses each
chain of them into one pass. A backward pass moves twice what its forward pass does.
"""

from dataclasses import dataclass, fields

from stepladder.cost.counts import TRAINING, mlp_count, parameters
from stepladder.cost.memory import NARROW, WIDE
from stepladder.recipe import Model, Recipe

LOSS_PASSES = 4  # of each logit, counted; their time is measured at this count


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Bytes moved by one optimizer step.

    weights: matrices read by every micro-batch's products. gradients: written or added to by every
    micro-batch, read for clipping and for the update. optimizer: weights and state read and
    written. projections, mlp, head: values into and out of their matrix products. attention:
    queries, keys, values and output. elementwise: norms, activations, residual sums. heads: norms
    and rotary positions of queries and keys, rows of the head size. loss: logits.
    """

    weights: float
    gradients: float
    optimizer: float
    projections: float
    mlp: float
    attention: float
    head: float
    elementwise: float
    heads: float
    loss: float

    @property
    def total(self) -> float:
        """All bytes of one step."""
        return float(sum(getattr(self, f.name) for f in fields(self)))


def traffic(recipe: Recipe, state_bytes: float, *, compiled: bool = False) -> Traffic:
    """Bytes moved by one step of a recipe; `state_bytes` of optimizer state per parameter."""
    model, count = recipe.model, parameters(recipe.model)
    narrow = NARROW[recipe.precision]
    matrices = count.attention + count.mlp + count.head
    passes = 2 * recipe.accumulate  # forward, and once more for the gradient of the inputs
    writes = 2 * recipe.accumulate - 1  # the first is a write, the others read and write
    tokens = TRAINING * recipe.batch
    rows, heads = fused_passes(model) if compiled else eager_passes(model)
    elementwise = WIDE * TRAINING * rows
    if narrow != WIDE and not compiled:  # forward, and the gradient back
        elementwise += 2 * (WIDE + narrow) * cast_values(model)
    return Traffic(
        weights=narrow * matrices * passes,
        gradients=WIDE * count.total * (writes + 2),
        optimizer=2 * (WIDE + state_bytes) * count.total,
        projections=narrow * tokens * model.depth * (4 * model.width + attention_values(model)),
        mlp=narrow * tokens * model.depth * mlp_count(model) * (model.width + model.mlp_width),
        attention=narrow * tokens * model.depth * attention_values(model),
        head=narrow * tokens * (model.width + model.vocab_size),
        elementwise=recipe.batch * elementwise,
        heads=recipe.batch * WIDE * TRAINING * heads,
        loss=WIDE * recipe.batch * LOSS_PASSES * model.vocab_size,
    )


def attention_values(model: Model) -> int:
    """Queries, keys, values and output of one token in one block."""
    return 2 * model.head_size * (model.heads + model.kv_heads)


def eager_passes(model: Model) -> tuple[int, int]:
    """Values moved by one token's elementwise operations, each run by itself: in rows of the width,
    and in rows of the head size.

    A norm: five a value; a sum: three. Rotary positions: nine. SiLU and product: five; ReLU and
    square: four.
    """
    turned = model.head_size * (model.heads + model.kv_heads)
    activation = 5 if model.activation == "swiglu" else 4
    block = 16 * model.width + activation * model.mlp_width
    heads = (14 if model.qk_norm else 9) * turned
    return model.depth * block + 5 * model.width, model.depth * heads


def cast_values(model: Model) -> int:
    """Values of one token that autocast makes narrow: a copy for each product that reads a norm,
    and normalised queries and keys."""
    readers = 3 + mlp_count(model) - 1
    turned = model.head_size * (model.heads + model.kv_heads) if model.qk_norm else 0
    return model.depth * (readers * model.width + turned) + model.width


def fused_passes(model: Model) -> tuple[int, int]:
    """The same with every chain fused: residual sum and norm in four passes, norm and rotary
    positions of queries and keys in two, the activation in three or two."""
    turned = model.head_size * (model.heads + model.kv_heads)
    activation = 3 if model.activation == "swiglu" else 2
    block = 8 * model.width + activation * model.mlp_width
    return model.depth * block + 2 * model.width, model.depth * 2 * turned
