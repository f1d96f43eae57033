"""The decay of a weight average, when the batch changes."""

from stepladder.batching import Settings, register_conversion
from stepladder.card import Card

CARD = Card(
    name="ema",
    family="batching",
    title="How to Scale Your EMA",
    arxiv="2307.13813",
    claim="with rho^k the average covers the same samples: BYOL at batch 24,576 without loss",
    note="Changes the average only; combine it with the optimizer's rule: convert(('sde', 'ema')).",
)


@register_conversion(CARD)
def ema(settings: Settings, k: float, /) -> dict[str, float]:
    """rho^k (Definition 1.2).

    Raises:
        ValueError: the settings have no average.
    """
    if settings.ema is None:
        raise ValueError("ema: the settings need the average's decay `ema`")
    return {"ema": settings.ema**k}
