"""Critical batch size: the largest batch that costs at most 20% more data than perfect scaling."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stepladder.batching import register_measurement, require_count, require_positive
from stepladder.card import Card

CARD = Card(
    name="critical-batch",
    family="batching",
    title="How Does Critical Batch Size Scale in Pre-training?",
    arxiv="2410.21676",
    claim="the critical batch grows with the data (about D^0.47) and hardly with the model",
    note="steps(B) = a + b/B, fitted in logarithms, reproduces the five critical batches printed "
    "in the authors' notebook to 0.01.",
)

NEGLIGIBLE = 1e-6  # share of the steps below which a term of the law was not seen


@dataclass(frozen=True, kw_only=True)
class CriticalBatch:
    """The batch whose steps exceed perfect linear scaling by exactly the overhead.

    Attributes:
        batch: the critical batch, in the unit of the given batches.
        low, high: 90% interval from resampled residuals.
        least_steps: a, the steps that no batch can go below.
        samples: b, the samples that a small batch needs.
        inside: whether it lies within the batches measured (else it is extrapolated).
    """

    batch: float
    low: float
    high: float
    least_steps: float
    samples: float
    inside: bool


@register_measurement(CARD)
def critical_batch(
    batches: Sequence[float],
    steps: Sequence[float],
    *,
    optimal: float | None = None,
    overhead: float = 0.2,
    resamples: int = 400,
    seed: int = 0,
) -> CriticalBatch:
    """Critical batch size from steps-to-target at several batch sizes.

    Solves steps(B) = (1 + overhead) steps(B_opt) B_opt / B with steps(B) = a + b / B:
    B = overhead b / a + (1 + overhead) B_opt  (as in the authors' notebook).

    Args:
        batches, steps: at least four pairs; the same loss is reached at each.
        optimal: the batch from which linear scaling is counted; None: the smallest given.
        overhead: the paper's 20%.

    Raises:
        ValueError: too few pairs, values that are not positive, or data that show no limit of
            scaling (a = 0: measure larger batches) or no scaling (b = 0: smaller ones).
    """
    b, y = np.asarray(batches, dtype=np.float64), np.asarray(steps, dtype=np.float64)
    if b.shape != y.shape or len(np.unique(b)) < 4:
        raise ValueError("give steps-to-target at four or more different batches")
    if not (np.isfinite(b).all() and np.isfinite(y).all() and (b > 0).all() and (y > 0).all()):
        raise ValueError("batches and steps must be positive and finite")
    start = float(b.min()) if optimal is None else optimal
    require_positive("critical-batch", optimal=start, overhead=overhead)
    require_count("critical-batch", resamples=resamples)
    least, samples = _fit(b, y)
    if not least > 0:
        raise ValueError("steps still fall as 1/batch: measure larger batches")
    if samples < NEGLIGIBLE * least * b.min():
        raise ValueError("steps do not fall with the batch: measure smaller batches")
    found = _solve(least, samples, start, overhead)
    low, high = _interval(b, y, (least, samples), start, overhead, resamples, seed)
    return CriticalBatch(
        batch=found,
        low=low,
        high=high,
        least_steps=least,
        samples=samples,
        inside=bool(b.min() <= found <= b.max()),
    )


def _solve(least: float, samples: float, start: float, overhead: float) -> float:
    return overhead * samples / least + (1.0 + overhead) * start


def _fit(b: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Least squares of log steps; parameters in logarithms keep them positive."""
    from scipy.optimize import least_squares

    begin = np.log([y.min() / 2, y[b.argmin()] * b.min()])
    fit = least_squares(lambda p: np.log(np.exp(p[0]) + np.exp(p[1]) / b) - np.log(y), begin)
    least, samples = np.exp(fit.x)
    negligible = least < NEGLIGIBLE * samples / b.max()
    return (0.0 if negligible else float(least)), float(samples)


def _interval(
    b: NDArray[np.float64],
    y: NDArray[np.float64],
    fit: tuple[float, float],
    start: float,
    overhead: float,
    resamples: int,
    seed: int,
) -> tuple[float, float]:
    """90% of refits to the curve with its own residuals, scaled up for the two parameters spent."""
    random = np.random.default_rng(seed)
    curve = np.log(fit[0] + fit[1] / b)
    residuals = (np.log(y) - curve) * np.sqrt(len(y) / (len(y) - 2))
    found = []
    for _ in range(resamples):
        least, samples = _fit(b, np.exp(curve + random.choice(residuals, len(y))))
        found.append(_solve(least, samples, start, overhead) if least > 0 else np.inf)
    low, high = np.quantile(found, [0.05, 0.95], method="nearest")
    return float(low), float(high)
