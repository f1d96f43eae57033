"""The square-root rule of Adam's SDE, with betas and epsilon."""

import math

from stepladder.batching import Settings, register_conversion
from stepladder.card import Card

CARD = Card(
    name="sde",
    family="batching",
    title="On the SDEs and Scaling Rules for Adaptive Gradient Algorithms",
    arxiv="2205.10287",
    claim="keeps the trajectory of Adam and RMSprop when noise dominates the gradient",
    note="The paper has no weight decay; `decay='timescale'` keeps lr weight_decay / batch, the "
    "forgetting per sample (arXiv 2405.13698), by weight_decay sqrt(k).",
)

ROUNDING = 1e-9  # of 1 - k (1 - beta), where a beta becomes exactly zero


@register_conversion(CARD)
def sde(settings: Settings, k: float, /, *, decay: str = "keep") -> dict[str, float]:
    """lr sqrt(k), 1 - beta -> k (1 - beta) for both, eps / sqrt(k)  (section 5).

    Raises:
        ValueError: k so large that a beta would not stay positive; an unknown `decay`.
    """
    if decay not in ("keep", "timescale"):
        raise ValueError(f"sde: decay is 'keep' or 'timescale', not {decay!r}")
    betas = {name: 1.0 - k * (1.0 - getattr(settings, name)) for name in ("beta1", "beta2")}
    if min(betas.values()) < -ROUNDING:
        most = 1.0 / (1.0 - min(settings.beta1, settings.beta2))
        raise ValueError(f"sde: a batch {k:g} times larger needs a negative beta; at most {most:g}")
    betas = {name: max(0.0, beta) for name, beta in betas.items()}
    kept = {"weight_decay": settings.weight_decay * math.sqrt(k)} if decay == "timescale" else {}
    root = math.sqrt(k)
    return {"lr": settings.lr * root, "eps": settings.eps / root, **betas, **kept}
