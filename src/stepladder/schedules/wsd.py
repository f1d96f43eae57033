"""Warmup, stable, decay: a constant trunk and a short cooldown of a chosen shape."""

import math
from collections.abc import Callable
from types import MappingProxyType

from stepladder.card import Card
from stepladder.names import did_you_mean
from stepladder.schedules import rebase, register

CARD = Card(
    name="wsd",
    family="schedules",
    title="Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations",
    arxiv="2405.18392",
    claim="matches a tuned cosine with a cooldown of the last 10-20%, best shape 1-sqrt",
)

# share of the cooldown done -> factor; the paper and its code
COOLDOWNS: MappingProxyType[str, Callable[[float], float]] = MappingProxyType(
    {
        "1-sqrt": lambda t: 1.0 - math.sqrt(t),
        "linear": lambda t: 1.0 - t,
        "cosine": lambda t: 0.5 * (1.0 + math.cos(math.pi * t)),
        "mirror-cosine": lambda t: 2.0 * (1.0 - t) - 0.5 * (1.0 + math.cos(math.pi * t)),
        "square": lambda t: 1.0 - t * t,
        "none": lambda t: 1.0,
    }
)


@register(CARD)
def wsd(
    progress: float,
    warmup: float,
    /,
    *,
    decay: float = 0.2,
    cooldown: str = "1-sqrt",
    final: float = 0.0,
) -> float:
    """1 until progress 1 - decay, then `cooldown` down to `final`.

    Args:
        decay: fraction of the whole run that the cooldown takes; warmup + decay <= 1.
        cooldown: one of `COOLDOWNS`.
        final: the factor at progress 1.

    Raises:
        ValueError: an unknown cooldown, or no room for warmup and decay together.
    """
    if cooldown not in COOLDOWNS:
        near = did_you_mean(cooldown, COOLDOWNS)
        raise ValueError(f"no cooldown {cooldown!r}{near}; one of {', '.join(COOLDOWNS)}")
    if decay < 0.0 or warmup + decay > 1.0 + 1e-12:
        raise ValueError(f"wsd: warmup {warmup} + decay {decay} must fit into 1; shorten one")
    if progress <= 1.0 - decay:
        return 1.0
    return final + (1.0 - final) * COOLDOWNS[cooldown](rebase(progress, 1.0 - decay))


def branch(progress: float, trunk: float, *, decay: float) -> float:
    """Progress of a run that leaves a constant trunk at share `trunk` and cools over `decay`.

    One trunk serves many horizons: a branch that leaves after `trunk` of the trunk's length and
    cools for `decay` of its own length is, step for step, a WSD run of length trunk / (1 - decay).
    This maps the trunk's own clock to the branch's progress.

    Raises:
        ValueError: the branch's horizon has passed, or a decay outside [0, 1).
    """
    if not 0.0 <= decay < 1.0:
        raise ValueError(f"a branch's decay is a fraction in [0, 1): {decay!r}")
    horizon = trunk / (1.0 - decay)
    if progress > horizon * (1.0 + 1e-12):
        raise ValueError(f"the branch that leaves at {trunk} ends at {horizon}, before {progress}")
    return min(1.0, progress / horizon)
