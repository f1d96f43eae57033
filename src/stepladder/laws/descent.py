"""Damped Newton descent from many candidates at once.

The damping is measured in the curvature that bounds the loss from above: with much of it a step is
that of iteratively reweighted least squares and cannot overshoot, with none it is Newton's. Both
are unchanged by any linear change of coordinates, so that badly scaled laws need no tuning.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np

from stepladder.laws.law import Array, Index, Mask
from stepladder.laws.problem import PLAIN, Local, Overlay, Problem

VANISHED = 1e-8  # a coefficient below this part of every prediction is at zero
ELEMENTS = 36_000  # of candidates times points that move together: their arrays stay in cache
FEWEST, MOST = 8, 1024  # candidates that move together
RIDGE = 1e-12  # of the unit diagonal: directions that the points do not determine stay put
TINY = 1e-280
LEAST_STEP = -0.95  # of a coefficient in its own unit: minus one would be zero, and stay there
STIFF = 1e10  # damping beyond which there is no way down
NEAR, FAR = 0.1, 1.0  # damping of the first step, close to an optimum and anywhere
TRUSTED, POOR = 0.7, 0.2  # parts of the promised decrease that make damping fall, and grow


class Descent(NamedTuple):
    """Where candidates ended."""

    coordinates: Array  # (starts, coordinates)
    value: Array  # (starts,)
    converged: Mask  # (starts,)
    vanished: Mask  # (starts, coefficients): coefficients that went to zero

    def take(self, rows: Index | list[int] | Mask) -> "Descent":
        """Some of the candidates."""
        at, value, converged, vanished = self
        return Descent(at[rows], value[rows], converged[rows], vanished[rows])


def descend(
    problem: Problem,
    start: Array,
    *,
    overlay: Overlay = PLAIN,
    fixed: Mask | None = None,
    tolerance: float = 1e-9,
    steps: int = 200,
    damping: float = NEAR,
    first: Local | None = None,
) -> Descent:
    """Minimise the objective from every row of `start` (starts, coordinates).

    Args:
        overlay: weights or observations of each candidate, instead of the problem's own.
        fixed: (starts, coordinates) boolean: coordinates that are held.
        tolerance: stop when a step promises less than this part of the objective.
        steps: at most so many.
        damping: of the first step: `NEAR` where the start is close to an optimum, else `FAR`.
        first: the objective around every start, where it is known already.
    """
    held = np.zeros(start.shape, dtype=bool) if fixed is None else fixed
    return _Candidates(problem, start, held, overlay, damping, first).run(tolerance, steps)


class _Candidates:
    """Where all candidates are; some of them move at a time, and the next come as those end."""

    def __init__(
        self,
        problem: Problem,
        start: Array,
        held: Mask,
        overlay: Overlay,
        damping: float,
        first: Local | None,
    ) -> None:
        self.problem = problem
        self.at = np.clip(start, problem.low, problem.high)
        self.held, self.overlay = held, overlay
        self.together = int(np.clip(ELEMENTS // len(problem.target), FEWEST, MOST))
        self.local = self._locals() if first is None else first
        self.damping = np.full(len(start), damping)
        self.converged = np.zeros(len(start), dtype=bool)
        self.refused = np.zeros(len(start), dtype=bool)  # the last step led up
        self.left = np.zeros(len(start), dtype=np.intp)  # steps
        self.last = np.zeros(start.shape)  # the step that was too small to go on for

    def run(self, tolerance: float, steps: int) -> Descent:
        self.left[:] = steps
        waiting = np.flatnonzero(np.isfinite(self.local.value))
        live = waiting[:0]
        while len(live) or len(waiting):
            room = self.together - len(live)
            live, waiting = np.concatenate([live, waiting[:room]]), waiting[room:]
            live = self._step(live, tolerance)
            self.left[live] -= 1
            live = live[self.left[live] > 0]
        self._take_last()
        return Descent(self.at, self.local.value, self.converged, self.local.share < VANISHED)

    def _take_last(self) -> None:
        """Take the last step of the candidates that converged, unless it leads up: it costs no
        derivatives, and ends some digits closer."""
        ended = np.flatnonzero(self.converged)
        for rows in np.split(ended, range(self.together, len(ended), self.together)):
            trial = self._moved(rows, self.last[rows])
            value = self.problem.value(trial, self.overlay.rows(rows))
            lower = value < self.local.value[rows]
            self.at[rows[lower]], self.local.value[rows[lower]] = trial[lower], value[lower]

    def _locals(self) -> Local:
        blocks = [slice(k, k + self.together) for k in range(0, len(self.at), self.together)]
        made = [self.problem.local(self.at[b], self.overlay.rows(b)) for b in blocks]
        return Local(*(np.concatenate(column) for column in zip(*made, strict=True)))

    def _step(self, live: Index, tolerance: float) -> Index:
        """One step of the live candidates; those that still move."""
        local = self.local.rows(live)
        step, promised = self._limited(live, local)
        done = (np.abs(promised) <= tolerance * local.value + TINY) | (self.damping[live] > STIFF)
        self.converged[live[done]] = True
        self.last[live[done]] = step[done]
        live, step, promised = live[~done], step[~done], promised[~done]
        if not len(live):
            return live
        trial = self._moved(live, step)
        new = self.problem.local(trial, self.overlay.rows(live))
        fall = self.local.value[live] - new.value
        better = fall > 0
        self.damping[live] = _damped(self.damping[live], fall, promised)
        self.refused[live] = ~better
        taken = live[better]
        self.at[taken] = trial[better]
        for field, fresh in zip(self.local, new, strict=True):
            field[taken] = fresh[better]
        return live

    def _moved(self, live: Index, step: Array) -> Array:
        return np.clip(self.at[live] + step, self.problem.low, self.problem.high)

    def _limited(self, live: Index, local: Local) -> tuple[Array, Array]:
        """The damped step, and the decrease that the quadratic model promises for it.

        A coefficient moves by its logarithm, which follows it along the valley it shares with its
        exponent; after a refusal it moves in its own unit, in which a floor goes straight to zero.
        What would pass a limit stops there, and the others move as is best for that.
        """
        at, problem = self.at[live], self.problem
        frozen = self.held[live] | self._at_bound(live, local)
        natural = self._positive & self.refused[live, None]
        low = np.where(natural, LEAST_STEP, problem.low - at)
        step = self._newton(local, frozen, np.zeros_like(at), self.damping[live])
        over = ~frozen & ((step < low) | (step > problem.high - at))
        if over.any():
            some = np.flatnonzero(over.any(axis=1))
            stop = np.where(over, np.clip(step, low, problem.high - at), 0.0)
            step[some] = self._newton(
                local.rows(some), (frozen | over)[some], stop[some], self.damping[live[some]]
            )
        bent = np.einsum("sp,spq,sq->s", step, local.curvature, step)
        promised = -np.sum(local.gradient * step, axis=1) - 0.5 * bent
        return np.where(natural, np.log1p(np.maximum(step, LEAST_STEP)), step), promised

    @cached_property
    def _positive(self) -> Mask:
        """Coordinates that are logarithms of coefficients."""
        coefficient = np.arange(self.at.shape[1]) >= len(self.problem.law.parameters)
        return np.asarray(coefficient & self.problem.logarithmic)

    def _newton(self, local: Local, frozen: Mask, given: Array, damping: Array) -> Array:
        """The damped Newton step where frozen coordinates make the given step."""
        matrix = local.curvature + damping[:, None, None] * local.bound
        gradient = local.gradient + np.einsum("spq,sq->sp", matrix, given)
        matrix = np.where(frozen[:, :, None] | frozen[:, None, :], 0.0, matrix)
        # unit diagonal: coordinates of very different size lose no digits
        index = np.arange(matrix.shape[1])
        root = np.sqrt(np.einsum("spp->sp", local.bound) + TINY)
        scaled = matrix / (root[:, :, None] * root[:, None, :])
        scaled[:, index, index] += np.where(frozen, 1.0, RIDGE * (1.0 + damping[:, None]))
        right = np.where(frozen, 0.0, gradient / root)
        step = -np.linalg.solve(scaled, right[..., None])[..., 0] / root
        return np.where(frozen, given, step)

    def _at_bound(self, live: Index, local: Local) -> Mask:
        at, problem = self.at[live], self.problem
        down, up = local.gradient > 0, local.gradient < 0
        frozen = ((at <= problem.low) & down) | ((at >= problem.high) & up)
        searched = len(problem.law.parameters)
        positive = problem.logarithmic[searched:]
        frozen[:, searched:] |= (local.share < VANISHED) & positive & down[:, searched:]
        return frozen


def _damped(damping: Array, fall: Array, promised: Array) -> Array:
    """Less damping where the quadratic model held, more where it did not (Fletcher 1971)."""
    grown = np.maximum(damping, 1e-3) * 4.0
    kept = np.where(fall > POOR * promised, damping, grown)
    return np.where(fall > TRUSTED * np.abs(promised), damping / 3.0, kept)
