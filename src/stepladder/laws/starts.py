"""Where the search starts: parameters spread over their ranges, coefficients solved for each.

For given parameters a law is linear in its coefficients, so they need no search (variable
projection; Golub and Pereyra 1973): a least-squares problem with positive unknowns, solved for all
starts together by trying every set of coefficients that may be zero.
"""

from itertools import product

import numpy as np

from stepladder.laws.law import Array, Law, Mask
from stepladder.laws.problem import Problem

SEED_SHARE = 0.03  # a coefficient solved to zero starts at this part of the target instead


def starts(problem: Problem, count: int) -> Array:
    """Candidates (count, coordinates), best first."""
    searched = spread(problem, count)
    return solve_coefficients(problem, searched)


def spread(problem: Problem, count: int) -> Array:
    """Evenly spread searched coordinates (count, parameters): an additive recurrence."""
    low, high = searched_range(problem)
    return low + (high - low) * _low_discrepancy(count if len(low) else 1, len(low))


def searched_range(problem: Problem) -> tuple[Array, Array]:
    """Where starts are drawn: ends of each searched coordinate, (parameters,) each."""
    ranges = [p.search or (p.low, p.high) for p in problem.law.parameters]
    low, high = np.array(ranges, dtype=np.float64).reshape(-1, 2).T
    log = problem.logarithmic[: len(ranges)]
    low = np.where(log, np.log(np.where(log, low, 1.0)), low)
    high = np.where(log, np.log(np.where(log, high, 1.0)), high)
    return low, high


def solve_coefficients(problem: Problem, searched: Array) -> Array:
    """Append to searched coordinates (starts, parameters) the best coefficients; best first."""
    law = problem.law
    blank = np.zeros((len(searched), len(law.coefficients)))
    shape = (len(searched), len(problem.target))
    columns = [
        np.broadcast_to(column, shape)
        for column in problem._columns(problem.values(np.concatenate([searched, blank], axis=1)))
    ]
    design = np.stack(columns[: len(law.coefficients)], axis=-1) if law.coefficients else None
    if design is None:
        order = np.argsort(problem.value(searched))
        return searched[order]
    goal, weight = _linear_goal(problem)
    if len(columns) > len(law.coefficients):
        goal = goal - columns[-1]
    solved = nonnegative(design, np.broadcast_to(goal, design.shape[:2]), weight, _free(law))
    size = np.median(np.abs(design), axis=1) + 1e-300
    least = SEED_SHARE * np.median(np.abs(goal)) / size
    solved = np.where(_free(law), solved, np.maximum(solved, least))
    candidates = np.concatenate(
        [searched, np.where(_free(law), solved, np.log(np.maximum(solved, 1e-300)))], axis=1
    )
    return candidates[np.argsort(problem.value(candidates))]


def nonnegative(design: Array, goal: Array, weight: Array, free: Mask) -> Array:
    """Weighted least squares with positive unknowns: (starts, unknowns).

    Args:
        design: (starts, points, unknowns).
        goal: (starts, points).
        weight: (points,).
        free: (unknowns,) unknowns that may be negative.
    """
    with np.errstate(all="ignore"):
        scale = np.sqrt(np.einsum("snm,n->sm", design**2, weight)) + 1e-300
        unit = np.nan_to_num(design / scale[:, None, :])
    gram = np.matmul(unit.transpose(0, 2, 1) * weight, unit)
    right = np.einsum("snm,sn->sm", unit, goal * weight)
    best = np.zeros(right.shape)
    gain = np.full(len(right), -1.0)
    for active in product(*((True,) if is_free else (True, False) for is_free in free)):
        mask = np.array(active)
        trial = _solve_active(gram, right, mask)
        # what the fit removes from the sum of squares
        removed = np.sum(trial * right, axis=1)
        better = np.all((trial >= 0) | free, axis=1) & (removed > gain)
        best[better], gain[better] = trial[better], removed[better]
    return best / scale


def _solve_active(gram: Array, right: Array, active: Mask) -> Array:
    count = len(active)
    matrix = gram * (active[:, None] & active[None, :])
    matrix = matrix + np.diag(np.where(active, 1e-14, 1.0))
    return np.linalg.solve(matrix, (right * active)[..., None])[..., 0].reshape(-1, count)


def _free(law: Law) -> Mask:
    return np.array([c.free for c in law.coefficients], dtype=bool)


def _linear_goal(problem: Problem) -> tuple[Array, Array]:
    """What the linear sum should be, and the weight that makes its squares those of residuals."""
    y, log = problem.target, problem.objective.residual == "log"
    if problem.law.link == "exp":
        return np.log(y), problem.weights * (1.0 if log else y**2)
    if problem.law.link == "logistic":
        inner = y * (1.0 - y)
        return np.log(y / (1.0 - y)), problem.weights * (inner / y if log else inner) ** 2
    return y, problem.weights * (y**-2.0 if log else np.ones_like(y))


def _low_discrepancy(count: int, dimensions: int) -> Array:
    """Points of the unit cube (count, dimensions) from powers of the generalised golden ratio."""
    ratio = 1.5
    for _ in range(60):  # the positive root of ratio^(d+1) = ratio + 1
        ratio = (1.0 + ratio) ** (1.0 / (dimensions + 1))
    steps = ratio ** -np.arange(1, dimensions + 1)
    return (0.5 + np.arange(1, count + 1)[:, None] * steps) % 1.0
