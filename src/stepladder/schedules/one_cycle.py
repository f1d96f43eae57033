"""One cycle: up, down, and far below the start; momentum runs the other way."""

from stepladder.card import Card
from stepladder.schedules import rebase, register

CARD = Card(
    name="one-cycle",
    family="schedules",
    title="A disciplined approach to neural network hyper-parameters: Part 1 -- learning rate, "
    "batch size, momentum, and weight decay",
    arxiv="1803.09820",
    claim="large reductions in training time from one cycle to the largest stable rate",
    note="The rise is the warmup: asks for warmup 0. `momentum` gives the inverse cycle.",
)


@register(CARD)
def one_cycle(
    progress: float,
    warmup: float,
    /,
    *,
    rise: float = 0.45,
    start: float = 0.1,
    final: float = 0.001,
) -> float:
    """Linear: `start` to 1 over `rise`, back to `start` over as long, then down to `final`.

    Raises:
        ValueError: a warmup, or a rise that leaves no room for the way down.
    """
    if warmup > 0:
        raise ValueError("one-cycle rises by itself: set warmup to 0 and use `rise`")
    _check_rise(rise)
    tail = rebase(progress, 2 * rise)
    if progress > 2 * rise:
        return start + (final - start) * tail
    return start + (1.0 - start) * (1.0 - abs(progress - rise) / rise)


def momentum(
    progress: float, *, rise: float = 0.45, high: float = 0.95, low: float = 0.85
) -> float:
    """The momentum (beta1) that goes with the cycle: `high` at the ends, `low` at the peak.

    Raises:
        ValueError: progress outside [0, 1], or a rise outside (0, 0.5].
    """
    if not 0.0 <= progress <= 1.0:
        raise ValueError(f"progress {progress!r} is outside [0, 1]")
    _check_rise(rise)
    return high - (high - low) * max(0.0, 1.0 - abs(progress - rise) / rise)


def _check_rise(rise: float) -> None:
    if not 0.0 < rise <= 0.5:
        raise ValueError(f"one-cycle: rise is a fraction in (0, 0.5]: {rise!r}")
