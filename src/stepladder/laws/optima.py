"""Every near-equal optimum of an objective, from many starts."""

import numpy as np

from stepladder.laws.descent import FAR, Descent, descend
from stepladder.laws.law import Array
from stepladder.laws.problem import Problem
from stepladder.laws.starts import searched_range, starts

POLISHED = 24  # distinct ends of the search that are descended to the bottom
NEAR = 1.05  # an end within this factor of the best is worth polishing
STEPS = (4, 4, 8, 8, 16)  # of the search; ends that still move far above the best are dropped
COARSE, COARSE_STAGES = 80, 3  # points that the first stages see
SAME = 0.02  # of the searched range: candidates this close to a better one follow its path
DISTANT = 0.1  # of a searched range
LOW = 0.1  # of the barrier between distant ends
PATH = np.linspace(0.0, 1.0, 17)[1:-1]


def search(problem: Problem, count: int) -> Descent:
    """Distinct local minima near the lowest found from `count` starts, best first."""
    rough = _gathered(problem, count)
    if not np.isfinite(rough.value).any():
        raise ValueError(f"law {problem.law.name} cannot be evaluated at any start on these points")
    near = rough.value <= NEAR * rough.value.min() + 1e-14 * len(problem.target)
    return polish(problem, _representatives(rough.coordinates[near], rough.value[near]))


def _gathered(problem: Problem, count: int) -> Descent:
    """Descend every start; those that meet a better one on the way go on as one.

    The first steps, which only lead into a valley, see `COARSE` of the points.
    """
    coarse = problem.thinned(COARSE)
    at = starts(coarse, count)
    for k, steps in enumerate(STEPS):
        seen = coarse if k < COARSE_STAGES else problem
        found = descend(seen, at, tolerance=1e-5, steps=steps, damping=FAR)
        found = found.take(_apart(problem, found))
        at = found.coordinates
    return found


def _apart(problem: Problem, found: Descent) -> list[int]:
    """Rows, best first, that lie apart from every better one in what is searched."""
    searched = len(problem.law.parameters)
    if not searched:
        return [int(np.argmin(found.value))]
    low, high = searched_range(problem)
    order = np.argsort(found.value, kind="stable")
    place = found.coordinates[order, :searched] / (high - low)
    alike = np.ones((len(order), len(order)), dtype=bool)
    for column in place.T:
        alike &= np.abs(column[:, None] - column) < SAME
    kept: list[int] = []
    for row, near in enumerate(alike):
        if not near[kept].any():
            kept.append(row)
    return order[kept].tolist()


def polish(problem: Problem, candidates: Array) -> Descent:
    """Descend candidates to the bottom; best first."""
    fine = descend(problem, candidates, tolerance=1e-13, steps=300)
    order = np.argsort(fine.value, kind="stable")
    return fine.take(order)


def separate(problem: Problem, found: Descent, barrier: float) -> Descent:
    """One row for each valley: ends that are joined by a path below `barrier` are the same.

    Ends that say different things, `DISTANT` of a searched range apart, are joined only by a path
    below `LOW` of that: a reader wants to know of both.

    Args:
        barrier: rise of the objective above the higher end.
    """
    kept: list[int] = []
    for row in range(len(found.value)):
        if all(_parted(problem, found, row, other, barrier) for other in kept):
            kept.append(row)
    return found.take(kept)


def _parted(problem: Problem, found: Descent, a: int, b: int, barrier: float) -> bool:
    ends = found.coordinates[[a, b]]
    path = ends[0] + PATH[:, None] * (ends[1] - ends[0])
    rise = problem.value(path).max() - max(found.value[a], found.value[b])
    low, high = searched_range(problem)
    gap = np.abs(np.diff(ends, axis=0)[0, : len(low)]) / (high - low)
    return bool(rise > barrier * (LOW if (gap > DISTANT).any() else 1.0))


def _representatives(coordinates: Array, value: Array) -> Array:
    """The best of each group of ends that agree to two decimals of their spread, best first."""
    order = np.argsort(value, kind="stable")
    ordered = coordinates[order]
    spread = np.maximum(np.ptp(ordered, axis=0), 1e-9)
    _, first = np.unique(np.round(ordered / spread, 1), axis=0, return_index=True)
    return ordered[np.sort(first)[:POLISHED]]
