"""What a law says of runs that it was not shown, and how wrong its own error bars were there."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from stepladder.laws.descent import descend
from stepladder.laws.law import Array, Mask
from stepladder.laws.problem import Problem
from stepladder.laws.profile import covariance
from stepladder.laws.scale import residual_scale

HELD = 0.1  # part of the runs that `left_out` leaves out, the dearest first
CUTS = (0.5, 0.35, 0.2, 0.1)  # parts that are forecast from the others, to see whether bars hold
PRIOR = 1.0  # cuts' worth of belief that the error bars are right


class Held(NamedTuple):
    """Errors at the dearest runs of a law fitted without them, and its own standard deviations."""

    miss: Array  # (held,) residuals
    error: Array  # (held,) standard deviation of an outcome by the law


def dearest(cost: Array, part: float = HELD) -> Mask:
    """The dearest runs: at least `part` of them, and every run that costs as much as one."""
    count = max(1, round(part * len(cost)))
    return np.asarray(cost >= np.sort(cost)[-count] * (1 - 1e-9))


def left_out(problem: Problem, cost: Array, optima: Array) -> float | None:
    """Root mean square residual at the dearest runs when the law is fitted without them.

    None where fewer settings would be left than the law has unknowns.
    """
    held = hold_out(problem, optima, dearest(cost), None)
    return None if held is None else float(np.sqrt(np.mean(held.miss**2)))


def widening(problem: Problem, cost: Array, optima: Array, known: float | None) -> float:
    """By how much error bars of forecasts are too narrow, measured on the fitted runs themselves.

    The law is fitted to the cheaper part of its own runs, at several cuts, and forecasts the dearer
    part; the mean squared ratio of errors to their error bars is 1 where the law is right and its
    noise even, and more where it is not. The worst cut counts, against a prior of one cut's worth
    that the bars are right. At least 1.
    """
    masks = {mask.tobytes(): mask for mask in (dearest(cost, part) for part in CUTS)}
    tried = [hold_out(problem, optima, mask, known) for mask in masks.values()]
    ratios = [float(np.mean((one.miss / one.error) ** 2)) for one in tried if one is not None]
    if not ratios:
        return 1.0
    count = len(ratios)
    return float(np.sqrt(max((PRIOR + count * max(ratios)) / (PRIOR + count), 1.0)))


def hold_out(problem: Problem, optima: Array, held: Mask, known: float | None) -> Held | None:
    """Fit without the masked runs and forecast them; None where too few settings are left."""
    if _settings(problem, ~held) <= len(problem.names):
        return None
    kept = replace(
        problem,
        inputs={name: x[~held] for name, x in problem.inputs.items()},
        target=problem.target[~held],
        weights=problem.weights[~held],
    )
    found = descend(kept, optima, tolerance=1e-7)
    best = found.coordinates[np.argmin(found.value)]
    scale = residual_scale(
        problem.objective, kept.residuals(best[None])[0], kept.weights, len(problem.names), known
    )
    spread = covariance(kept, best, scale)
    residual, jacobian, _ = problem.linearised(best[None])
    slopes = jacobian[0][:, held]
    variance = np.einsum("ph,pq,qh->h", slopes, spread, slopes)
    noise = scale.noise / np.sqrt(problem.weights[held])
    return Held(residual[0, held], np.sqrt(np.maximum(variance, 0.0) + noise**2))


def _settings(problem: Problem, kept: Mask) -> int:
    """How many different settings the kept runs have."""
    if not kept.any():  # all runs cost the same: held out together
        return 0
    table = [x[kept].reshape(int(kept.sum()), -1) for x in problem.inputs.values()]
    return len(np.unique(np.concatenate(table, axis=1), axis=0))
