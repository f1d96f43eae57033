"""Bytes that one training step holds at its peak, term by term.

Counted for the eager program, `models.fused`: master weights, gradients and optimizer state in
float32; in bfloat16, what enters a product is narrow, and the residual stream and the norms stay in
float32. Cheap elementwise results are computed again instead of being kept, as a compiled program
does too.
"""

from dataclasses import dataclass
from importlib import import_module

from stepladder.cost.counts import mlp_count, parameters
from stepladder.recipe import Model, Recipe

WIDE = 4  # bytes of float32: master weights, gradients, residual stream, norms, the loss
NARROW = {"float32": 4, "bfloat16": 2}  # bytes of what enters a matrix product
CHUNK_ELEMENTS = 1 << 22  # logits held at once, as in `models.loss`


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one step; `peak` says which of them are held together.

    `kept` are copies of gradients or parameters that a batch test or a controller looks at.
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    unwinding: float
    accumulated: bool
    kept: float = 0.0

    @property
    def peak(self) -> float:
        """Bytes held at the worst moment.

        Gradients are freed after each step and made while activations are freed, layer by layer:
        the worst moment is the loss, the first block of the backward pass (`unwinding` beside all
        activations), or its end. With accumulation, the
        earlier micro-batches' gradients stand beside the activations of the last one.
        """
        held = self.activations + max(self.logits, self.unwinding)
        work = held + self.gradients if self.accumulated else max(held, self.gradients)
        return self.weights + self.optimizer + self.kept + work


def memory(recipe: Recipe, state_bytes: float) -> Memory:
    """Peak memory of a step by part; `state_bytes` of optimizer state per parameter."""
    model, count = recipe.model, parameters(recipe.model)
    tokens = recipe.batch // recipe.accumulate
    return Memory(
        weights=WIDE * count.total,
        gradients=WIDE * count.total,
        optimizer=state_bytes * count.total,
        activations=tokens * activation_bytes(model, recipe.precision),
        logits=logits_bytes(model, tokens, recipe.precision),
        unwinding=unwinding_bytes(model, tokens, recipe.precision),
        accumulated=recipe.accumulate > 1,
        kept=WIDE * count.total * copies_kept(recipe),
    )


def copies_kept(recipe: Recipe) -> int:
    """Copies of all gradients or parameters that the recipe's reactions to training need: the
    shards' gradients for a batch test, the last step for a controller.

    Raises:
        ValueError: a batch policy or a schedule that is not registered.
    """
    copies = 0
    if recipe.batching.name:
        policy = import_module("stepladder.batching").REGISTRY[recipe.batching.name]
        copies += 0 if getattr(policy, "measures", "nothing") == "nothing" else recipe.accumulate
    if import_module("stepladder.schedules").reacting(recipe.schedule.name, recipe.schedule.params):
        copies += 1
    return copies


def activation_bytes(model: Model, precision: str) -> int:
    """Bytes kept for the backward pass per token, all blocks and the final norm, without logits.

    A norm keeps its normalised input and one scale a row; the MLP what its activation takes.
    """
    narrow = NARROW[precision]
    norm = WIDE * (model.width + 1)
    mlp = narrow * (mlp_count(model) - 1) * model.mlp_width
    token = 8  # its index, an int64
    return model.depth * (2 * norm + _attention_bytes(model, narrow) + mlp) + norm + token


def _attention_bytes(model: Model, narrow: int) -> int:
    """Queries, keys, values, output (again where heads are grouped) and one log-sum a head; queries
    and keys as they were before they were normalised."""
    query, key = model.heads * model.head_size, model.kv_heads * model.head_size
    grouped = query if model.kv_heads != model.heads else 0
    scores = narrow * (2 * query + 2 * key + grouped) + WIDE * model.heads
    norms = WIDE * (query + key + model.heads + model.kv_heads) if model.qk_norm else 0
    return scores + norms


def logits_held(model: Model, tokens: int) -> int:
    """Bytes of the logits of one chunk."""
    rows = min(tokens, max(1, CHUNK_ELEMENTS // model.vocab_size))
    return WIDE * rows * model.vocab_size


def logits_bytes(model: Model, tokens: int, precision: str) -> int:
    """Bytes of the loss: a chunk of logits, the hidden states that enter, and the gradients that
    are computed beside it; narrow copies of the logits' gradient and of the head's inputs."""
    inputs = model.width * (model.vocab_size + tokens)
    chunk, entering = logits_held(model, tokens), WIDE * model.width * tokens
    if precision == "float32":
        return chunk + entering + WIDE * inputs
    narrow = NARROW[precision]
    gradients = WIDE * model.width * model.vocab_size + narrow * model.width * tokens
    return chunk + narrow * chunk // WIDE + entering + narrow * inputs + gradients


def unwinding_bytes(model: Model, tokens: int, precision: str) -> int:
    """Bytes that the backward pass works with in its first MLP, beside the head's gradient and the
    stream's.

    First the gradients by all that the activation took and gave, and its value again; then one less
    of them, and the gradients of the matrices, with narrow copies of one and its gradient.
    """
    narrow, matrix = NARROW[precision], model.width * model.mlp_width
    row, tensors = narrow * tokens * model.mlp_width, 2 * (mlp_count(model) - 1)
    matrices = WIDE * mlp_count(model) * matrix + (2 * narrow * matrix if narrow < WIDE else 0)
    inside = max(tensors * row, (tensors - 1) * row + matrices)
    return inside + WIDE * model.width * (2 * tokens + model.vocab_size)
