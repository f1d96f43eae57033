"""Bytes that one training step holds at its peak, term by term.

Counted for the eager program of `models.transformer`: master weights, gradients and optimizer state
in float32; in bfloat16, autocast keeps a narrow copy of every matrix and of what enters a product,
and leaves the residual stream and the norms in float32. A compiled program recomputes cheap
elementwise results instead of keeping them, so for it this is an upper bound.
"""

from dataclasses import dataclass

from stepladder.cost.counts import Parameters, mlp_count, parameters
from stepladder.recipe import Model, Recipe

WIDE = 4  # bytes of float32: master weights, gradients, residual stream, norms, the loss
NARROW = {"float32": 4, "bfloat16": 2}  # bytes of what enters a matrix product
CHUNK_ELEMENTS = 1 << 22  # logits held at once, as in `models.loss`
LOGITS_COPIES = 2  # the logits and their log-softmax, which the gradient replaces


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one step; `peak` says which of them are held together."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    accumulated: bool

    @property
    def peak(self) -> float:
        """Bytes held at the worst moment.

        Gradients are freed after each step and made while activations are freed, layer by layer:
        the worst moment is either the loss or the end of the backward pass. With accumulation, the
        earlier micro-batches' gradients stand beside the activations of the last one.
        """
        held = self.activations + self.logits
        work = held + self.gradients if self.accumulated else max(held, self.gradients)
        return self.weights + self.optimizer + work


def memory(recipe: Recipe, state_bytes: float) -> Memory:
    """Peak memory of a step by part; `state_bytes` of optimizer state per parameter."""
    model, count = recipe.model, parameters(recipe.model)
    tokens = recipe.batch // recipe.accumulate
    return Memory(
        weights=WIDE * count.total + narrow_copies(count, recipe.precision),
        gradients=WIDE * count.total,
        optimizer=state_bytes * count.total,
        activations=tokens * activation_bytes(model, recipe.precision),
        logits=logits_bytes(model, tokens),
        accumulated=recipe.accumulate > 1,
    )


def narrow_copies(count: Parameters, precision: str) -> int:
    """Bytes of the matrices' copies that autocast keeps for one forward and backward pass."""
    if precision == "float32":
        return 0
    return NARROW[precision] * (count.attention + count.mlp + count.head)


def activation_bytes(model: Model, precision: str) -> int:
    """Bytes kept for the backward pass per token, all blocks and the final norm, without logits.

    A norm keeps its input, its normalised input and one scale a row; a product keeps its input.
    """
    narrow = NARROW[precision]
    casts = precision != "float32"  # each product then keeps its own narrow copy of its input
    norm = WIDE * (2 * model.width + 1)
    attention = _attention_bytes(model, narrow) + narrow * model.width * (3 if casts else 1)
    mlp_inputs = mlp_count(model) - 1 if casts else 1
    mlp = narrow * (model.width * mlp_inputs + _mlp_kept(model) * model.mlp_width)
    token = 8  # its index, an int64
    return model.depth * (2 * norm + attention + mlp) + norm + narrow * model.width + token


def _attention_bytes(model: Model, narrow: int) -> int:
    """Queries, keys, values, output (again where heads are grouped) and one log-sum a head."""
    query, key = model.heads * model.head_size, model.kv_heads * model.head_size
    grouped = query if model.kv_heads != model.heads else 0
    scores = narrow * (2 * query + 2 * key + grouped) + WIDE * model.heads
    norms = WIDE * (2 * query + 2 * key + model.heads + model.kv_heads) if model.qk_norm else 0
    return scores + norms


def _mlp_kept(model: Model) -> int:
    """Tensors of mlp_width kept: gate, its SiLU, up and their product; or ReLU and its square."""
    return 4 if model.activation == "swiglu" else 2


def logits_held(model: Model, tokens: int) -> int:
    """Bytes of the logits of one chunk."""
    rows = min(tokens, max(1, CHUNK_ELEMENTS // model.vocab_size))
    return WIDE * rows * model.vocab_size


def logits_bytes(model: Model, tokens: int) -> int:
    """Bytes of the loss: a chunk of logits, and the gradients that are computed beside it."""
    return LOGITS_COPIES * logits_held(model, tokens) + WIDE * model.width * (
        model.vocab_size + tokens
    )
