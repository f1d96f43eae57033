"""Rate and batch when the data grows: Step Law and Time Transfer."""

import math

from stepladder.batching import register_measurement, require_positive
from stepladder.card import Card

STEP = Card(
    name="step-law",
    family="batching",
    title="Predictable Scale: Part I -- Optimal Hyperparameter Scaling Law in Large Language Model "
    "Pretraining",
    arxiv="2503.04715",
    claim="within 0.09% of the best loss of an exhaustive search, over 3,700 models",
    note="Rate and batch belong together: at another batch, convert from this point.",
)
TIME = Card(
    name="time-transfer",
    family="batching",
    title="Time Transfer: On Optimal Learning Rate and Batch Size In The Infinite Data Limit",
    arxiv="2410.05838",
    claim="the best rate goes as sqrt(T), 1 or 1/sqrt(T) by where the batch stands to a critical "
    "batch that grows as T",
    note="The three regimes and B_crit in proportion to T are the paper's (first version). Which "
    "is which (below the critical batch: 1/sqrt(T)), and the smooth passage between them, follow "
    "from the surge law of Adam (arXiv 2405.14578) and are not read from the paper.",
)


@register_measurement(STEP)
def step_law(params: float, tokens: float) -> tuple[float, float]:
    """Best peak rate and batch (in tokens): 1.79 N^-0.713 D^0.307 and 0.58 D^0.571.

    Args:
        params: N, non-embedding parameters.
        tokens: D, training tokens.

    Raises:
        ValueError: either not positive.
    """
    require_positive("step-law", params=params, tokens=tokens)
    return 1.79 * params**-0.713 * tokens**0.307, 0.58 * tokens**0.571


@register_measurement(TIME)
def time_transfer(ratio: float, *, batch: float, critical: float) -> float:
    """The factor of the best rate when the horizon grows by `ratio` at a fixed batch.

    Args:
        ratio: new tokens over old.
        batch: the batch, kept.
        critical: the critical batch at the old horizon; it grows by `ratio`.

    Raises:
        ValueError: a value that is not positive.
    """
    require_positive("time-transfer", ratio=ratio, batch=batch, critical=critical)
    return surge(batch / (critical * ratio)) / surge(batch / critical)


def surge(x: float) -> float:
    """The best rate of a sign-like optimizer at x = batch / critical, over its value at x = 1:
    2 / (sqrt(x) + 1/sqrt(x))  (arXiv 2405.14578)."""
    return 2.0 / (math.sqrt(x) + 1.0 / math.sqrt(x))
