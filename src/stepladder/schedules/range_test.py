"""The learning-rate range test: raise the rate through one short run, and read the limit."""

from collections.abc import Sequence
from dataclasses import dataclass

from stepladder.card import Card
from stepladder.schedules import register

CARD = Card(
    name="range-test",
    family="schedules",
    title="Cyclical Learning Rates for Training Neural Networks",
    arxiv="1506.01186",
    claim="one run of a few epochs finds the largest stable rate",
    note="Exponential, so that decades get equal time; `stepladder range recipe.toml` makes the "
    "run and reads it.",
)


LEAST_LOSSES = 10


@register(CARD)
def range_test(progress: float, warmup: float, /, *, start: float = 1e-5) -> float:
    """start^(1 - progress): from `start` to 1 (the largest rate tried), evenly in its logarithm.

    Raises:
        ValueError: a warmup, or a start outside (0, 1).
    """
    if warmup > 0:
        raise ValueError("range-test starts at a small rate by itself: set warmup to 0")
    if not 0.0 < start < 1.0:
        raise ValueError(f"range-test: start is a factor in (0, 1): {start!r}")
    return float(start ** (1.0 - progress))


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """What the test found.

    Attributes:
        steepest: the rate at which the smoothed loss falls fastest.
        limit: the rate at which it is lowest. The true limit of stability lies below, by up to a
            few times: divergence takes steps to show.
    """

    steepest: float
    limit: float


def read(rates: Sequence[float], losses: Sequence[float], *, smoothing: float = 0.9) -> RangeTest:
    """Read a range test.

    Args:
        rates: the rates tried, rising.
        losses: the training loss after each; may end in non-finite values.
        smoothing: decay of the bias-corrected average that is read instead of the raw losses.

    Raises:
        ValueError: not as many rates as losses, fewer than ten finite losses, or a loss that never
            fell (start lower).
    """
    if len(rates) != len(losses):
        raise ValueError(
            f"a loss for every rate is needed: {len(rates)} rates, {len(losses)} losses"
        )
    smooth = smoothed(losses, smoothing)
    if len(smooth) < LEAST_LOSSES:
        raise ValueError(f"a range test needs at least ten finite losses, not {len(smooth)}")
    lowest = min(range(len(smooth)), key=smooth.__getitem__)
    if lowest == 0:
        raise ValueError("the loss never fell: start the range test at a lower rate")
    steepest = min(range(1, lowest + 1), key=lambda i: smooth[i] - smooth[i - 1])
    return RangeTest(steepest=rates[steepest], limit=rates[lowest])


def smoothed(losses: Sequence[float], decay: float = 0.9) -> list[float]:
    """Bias-corrected exponential averages, up to the first loss that is not finite."""
    average, smooth = 0.0, []
    for count, loss in enumerate(losses, start=1):
        if loss - loss != 0:  # NaN or infinite
            break
        average = decay * average + (1.0 - decay) * loss
        smooth.append(average / (1.0 - decay**count))
    return smooth
