"""Power Scheduler: the rate follows the tokens seen so far, whatever the horizon or batch."""

from stepladder.card import Card
from stepladder.schedules import rebase, register

CARD = Card(
    name="power",
    family="schedules",
    title="Power Scheduler: A Batch Size and Token Number Agnostic Learning Rate Scheduler",
    arxiv="2408.13359",
    claim="one setting serves every token count, batch and (with muP) width",
    note="The form (rate = min(peak, batch a n^b), b < 0, a linear warmup to that curve) is the "
    "paper's and the authors' code's (dolomite-engine, where a holds the batch and no decay "
    "follows); a = 4.6, b = -0.51 and batch counted in sequences are recalled, unconfirmed, and so "
    "is the linear shape of the decay.",
)


@register(CARD)
def power(
    progress: float,
    warmup: float,
    /,
    *,
    peak: float,
    batch: float,
    tokens: float,
    a: float = 4.6,
    b: float = -0.51,
    decay: float = 0.1,
    final: float = 0.0,
) -> float:
    """min(1, batch a (tokens seen)^b / peak), then linear decay over the last `decay` of the run.

    Args:
        peak: the rate that the factor multiplies (the paper's lr_max).
        batch: sequences in a batch.
        tokens: tokens at progress 1.
        a, b: the fitted law of the best rate.

    Raises:
        ValueError: peak, batch, tokens or a not positive; a decay outside [0, 1 - warmup].
    """
    if not min(peak, batch, tokens, a) > 0:
        raise ValueError("power: peak, batch, tokens and a must be positive")
    if not 0.0 <= decay <= 1.0 - warmup + 1e-12:
        raise ValueError(f"power: decay {decay} and warmup {warmup} must fit into 1; shorten one")
    seen = tokens * min(progress, 1.0 - decay)
    law = min(1.0, batch * a * seen**b / peak) if seen > 0 else 1.0
    return float(law * (1.0 - (1.0 - final) * rebase(progress, 1.0 - decay) * (decay > 0)))
