"""What a law says of runs that it was not shown, and how wrong its own error bars were there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stepladder.laws.descent import descend
from stepladder.laws.law import Array, Mask
from stepladder.laws.problem import Problem
from stepladder.laws.profile import covariance
from stepladder.laws.scale import residual_scale

CUTS = (0.5, 0.35, 0.2, 0.1)  # parts that are forecast from the others, the dearest
PRIOR = 1.0  # cuts' worth of belief that the error bars are right
LEAST_ERROR = 1e-150  # a standard deviation by which an error can be divided, and squared


class Held(NamedTuple):
    """Errors at the dearest runs of a law fitted without them, and its own standard deviations."""

    miss: Array  # (held,) residuals
    error: Array  # (held,) standard deviation of an outcome by the law


def dearest(cost: Array, part: float) -> Mask:
    """The dearest runs: at least `part` of them, and every run that costs as much as one."""
    count = max(1, round(part * len(cost)))
    return np.asarray(cost >= np.sort(cost)[-count] * (1 - 1e-9))


def left_out(tried: Sequence[Held | None]) -> float | None:
    """Root mean square residual at the dearest runs when the law is fitted without them: those of
    the last cut that is one of its own.

    None where fewer settings would be left than the law has unknowns.
    """
    held = [one for one in tried if one is not None]
    return float(np.sqrt(np.mean(held[-1].miss ** 2))) if held else None


def trials(
    problem: Problem, cost: Array, optima: Array, known: float | None
) -> tuple[Held | None, ...]:
    """Forecasts of the dearer part of the fitted runs from the cheaper, one for each of `CUTS`.

    None where too few settings are left, and where a cut is the same as the one before it.
    """
    masks = [dearest(cost, part) for part in CUTS]
    new = [k == 0 or (masks[k] != masks[k - 1]).any() for k in range(len(masks))]
    return tuple(
        hold_out(problem, optima, mask, known) if is_new else None
        for mask, is_new in zip(masks, new, strict=True)
    )


def missed(tried: Sequence[Held | None]) -> float | None:
    """Root mean square error over cuts, each counting alike; None where there are none."""
    squares = [float(np.mean(one.miss**2)) for one in tried if one is not None]
    return float(np.sqrt(np.mean(squares))) if squares else None


def widening(tried: Sequence[Held | None]) -> float:
    """By how much error bars of forecasts are too narrow, measured on the fitted runs themselves.

    The mean squared ratio of errors to their error bars is 1 where the law is right and its
    noise even, and more where it is not. The worst cut counts, against a prior of one cut's worth
    that the bars are right. At least 1.
    """
    ratios = [
        float(np.mean((one.miss / np.maximum(one.error, LEAST_ERROR)) ** 2))
        for one in tried
        if one is not None
    ]
    if not ratios:
        return 1.0
    count = len(ratios)
    return float(np.sqrt(max((PRIOR + count * max(ratios)) / (PRIOR + count), 1.0)))


def hold_out(problem: Problem, optima: Array, held: Mask, known: float | None) -> Held | None:
    """Fit without the masked runs and forecast them; None where too few settings are left."""
    if _settings(problem, ~held) <= len(problem.names):
        return None
    kept = problem.take(~held)
    found = descend(kept, optima, tolerance=1e-7)
    best = found.coordinates[np.argmin(found.value)]
    scale = residual_scale(
        problem.objective,
        kept.residuals(best[None])[0],
        kept.noise_weights,
        len(problem.names),
        known,
        kept.lean,
    )
    spread = covariance(kept, best, scale)
    residual, jacobian, _ = problem.linearised(best[None])
    slopes = jacobian[0][:, held]
    variance = np.einsum("ph,pq,qh->h", slopes, spread, slopes)
    noise = scale.noise / np.sqrt(problem.noise_weights[held])
    return Held(residual[0, held], np.sqrt(np.maximum(variance, 0.0) + noise**2))


def _settings(problem: Problem, kept: Mask) -> int:
    """How many different settings the kept runs have."""
    if not kept.any():  # all runs cost the same: held out together
        return 0
    table = [x[kept].reshape(int(kept.sum()), -1) for x in problem.inputs.values()]
    return len(np.unique(np.concatenate(table, axis=1), axis=0))
