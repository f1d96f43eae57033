"""A law on data, in the coordinates that are searched; many candidates at once.

A coordinate is a parameter (its logarithm where the law says so), the logarithm of a positive
coefficient, or a free coefficient. Candidates are rows of an array (starts, coordinates).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Index, Law, Mask, apply_link, link_slope
from stepladder.laws.objective import Objective, Terms, terms
from stepladder.laws.prior import Prior, floor_prior, has_floor

if TYPE_CHECKING:
    from stepladder.laws.points import Points

COMPLEX_STEP = 1e-30  # exact to rounding: no difference is taken


class Overlay(NamedTuple):
    """What differs between candidates: weights or observations, each (starts, points) or None."""

    weights: Array | None = None
    observed: Array | None = None  # as residuals see the target: `Problem.observed`

    def rows(self, rows: Index | slice) -> "Overlay":
        """The overlay of some candidates."""
        return Overlay(*(None if field is None else field[rows] for field in self))


PLAIN = Overlay()  # every candidate sees the problem's own points


class Local(NamedTuple):
    """The objective around candidates: value, gradient, and the two curvatures of `Terms`."""

    value: Array  # (starts,)
    gradient: Array  # (starts, coordinates)
    curvature: Array  # (starts, coordinates, coordinates)
    bound: Array  # the same shape
    share: Array  # (starts, coefficients): the part of the sum that each one makes, over the points

    def rows(self, rows: Index | slice) -> "Local":
        """The same of some candidates."""
        return Local(*(field[rows] for field in self))


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A law, its points and what is minimised.

    Args:
        inputs: by name, points first.
        target: (points,).
        weights: (points,) of every point in the objective, `lean` included.
        lean: (points,) the part of them that is not due to noise; None for none.
        outcomes: how many of the last points count by squares whatever the loss: outcomes that
            were not measured, whose noise is normal.
        floor_noise: the noise of a run, where the floor of the law has a prior; None for none.
    """

    law: Law
    inputs: Mapping[str, Array]
    target: Array
    weights: Array
    objective: Objective
    lean: Array | None = None
    outcomes: int = 0
    floor_noise: float | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        return self.law.names

    @cached_property
    def logarithmic(self) -> Mask:
        """Which coordinates are logarithms: boolean (coordinates,)."""
        parameters = [p.log for p in self.law.parameters]
        return np.array(parameters + [not c.free for c in self.law.coefficients], dtype=bool)

    @cached_property
    def low(self) -> Array:
        return self._bounds([p.low for p in self.law.parameters], -np.inf)

    @cached_property
    def high(self) -> Array:
        return self._bounds([p.high for p in self.law.parameters], np.inf)

    @cached_property
    def observed(self) -> Array:
        """The target as residuals see it."""
        return np.log(self.target) if self.objective.residual == "log" else self.target

    @cached_property
    def prior(self) -> Prior | None:
        """What is believed of the floor."""
        if self.floor_noise is None or not has_floor(self.law):
            return None
        measured = self.target[: len(self.target) - self.outcomes]
        return floor_prior(self.law, measured, self.floor_noise)

    def values(self, coordinates: Array) -> dict[str, Array]:
        """The law's values, by name, of candidates (..., coordinates)."""
        natural = np.where(self.logarithmic, np.exp(coordinates * self.logarithmic), coordinates)
        return {name: natural[..., k] for k, name in enumerate(self.names)}

    def coordinates(self, values: Mapping[str, ArrayLike]) -> Array:
        """The candidate with these values; a coefficient of zero becomes the smallest number."""
        natural = np.stack([np.asarray(values[n], dtype=np.float64) for n in self.names], axis=-1)
        floor = np.maximum(natural, np.finfo(np.float64).tiny)
        return np.where(self.logarithmic, np.log(floor), natural)

    def residuals(self, coordinates: Array) -> Array:
        """(starts, points); not finite where the law has no logarithm."""
        values = self.values(coordinates)
        columns, weights = self._columns(values), self._weights(values)
        with np.errstate(all="ignore"):
            return self._residual(_weighted_sum(columns, weights))[0]

    def value(self, coordinates: Array, overlay: Overlay = PLAIN) -> Array:
        """The objective (starts,); infinite where the law cannot be evaluated."""
        with np.errstate(all="ignore"):
            residual = self.residuals(coordinates)
            if overlay.observed is not None:
                residual = residual + (self.observed - overlay.observed)
            w = self.weights if overlay.weights is None else overlay.weights
            total = np.sum(w * self._terms(residual).value, axis=-1)
            total = total if self.prior is None else total + self.prior.value(coordinates)
        return np.where(np.isfinite(total), total, np.inf)

    def local(self, coordinates: Array, overlay: Overlay = PLAIN) -> Local:
        """Value, gradient and curvature at each candidate."""
        with np.errstate(all="ignore"):
            residual, jacobian, share = self.linearised(coordinates)
            if overlay.observed is not None:
                residual = residual + (self.observed - overlay.observed)
            loss = self._terms(residual)
            w = self.weights if overlay.weights is None else overlay.weights
            value = np.matmul(loss.value[:, None, :], _column(w))[:, 0, 0]
            gradient, curvature, bound = self._products(jacobian, loss, w)
            if self.prior is not None:
                value = value + self.prior.value(coordinates)
                self.prior.bend(coordinates, gradient, curvature, bound)
            # what is not finite in the Jacobian is not finite in its sums
            ok = np.isfinite(value) & np.isfinite(gradient).all(axis=1)
            ok &= np.isfinite(bound).all(axis=(1, 2))
        return Local(np.where(ok, value, np.inf), gradient, curvature, bound, share)

    def reweighted(self, candidate: Array, weights: Array) -> Local:
        """As `local` at one candidate (coordinates,) under many weights (starts, points).

        Residuals and derivatives are computed once; what is left are matrix products.
        """
        residual, jacobian, share = self.linearised(candidate[None])
        loss, slopes = self._terms(residual[0]), jacobian[0]
        count, rows = len(slopes), len(weights)
        products = (slopes[:, None] * slopes[None]).reshape(count * count, -1)
        curvature, bound = (
            np.matmul(weights, (products * each).T).reshape(rows, count, count)
            for each in (loss.curvature, loss.bound)
        )
        gradient = np.matmul(weights, (slopes * loss.slope).T)
        shares = np.broadcast_to(share, (rows, share.shape[1])).copy()
        value = np.matmul(weights, loss.value)
        if self.prior is not None:
            value = value + self.prior.value(candidate)
            self.prior.bend(candidate, gradient, curvature, bound)
        return Local(value, gradient, curvature, bound, shares)

    def _products(self, jacobian: Array, loss: Terms, w: Array) -> tuple[Array, Array, Array]:
        """Gradient, curvature and bound: one product of the Jacobian with all that it meets."""
        count = jacobian.shape[1]
        curvatures = (loss.curvature,) if self.objective.quadratic else (loss.curvature, loss.bound)
        other = _apart(len(jacobian), 1 + count * len(curvatures), jacobian.shape[2])
        np.multiply(w, loss.slope, out=other[:, 0])
        for k, each in enumerate(curvatures):
            mine = slice(1 + k * count, 1 + (k + 1) * count)
            np.multiply(jacobian, (w * each)[:, None, :], out=other[:, mine])
        made = np.matmul(jacobian, other.transpose(0, 2, 1))
        curvature = made[..., 1 : 1 + count]
        return made[..., 0], curvature, curvature if len(curvatures) == 1 else made[..., -count:]

    def thinned(self, most: int) -> "Problem":
        """About `most` of the points, evenly spread over the target; itself where it has fewer."""
        step = len(self.target) // most
        if step < 2:
            return self
        return self.take(np.sort(np.argsort(self.target, kind="stable")[step // 2 :: step]))

    def take(self, kept: Index | Mask) -> "Problem":
        """The problem of some of the points."""
        return replace(
            self,
            inputs={name: x[kept] for name, x in self.inputs.items()},
            target=self.target[kept],
            weights=self.weights[kept],
            lean=None if self.lean is None else self.lean[kept],
        )

    @property
    def noise_weights(self) -> Array:
        """(points,): inverse squares of each point's noise, relative."""
        return self.weights if self.lean is None else self.weights / self.lean

    @np.errstate(all="ignore")
    def linearised(self, coordinates: Array) -> tuple[Array, Array, Array]:
        """Residuals (starts, points), their Jacobian (starts, coordinates, points), and shares."""
        values = self.values(coordinates)
        columns, weights = self._columns(values), self._weights(values)
        parts = [column * weight for column, weight in zip(columns, weights, strict=False)]
        total = np.broadcast_to(sum(parts[1:], parts[0]), (len(coordinates), len(self.target)))
        residual, slope = self._residual(total)
        jacobian = _apart(len(coordinates), len(self.names), len(self.target))
        shares = np.empty((len(coordinates), len(self.law.coefficients)))
        searched, relative = len(self.law.parameters), self._relative(total, slope)
        for j, coefficient in enumerate(self.law.coefficients):
            # d/dlog c of c * column is the part itself
            column = columns[j] if coefficient.free else parts[j]
            np.multiply(slope, column, out=jacobian[:, searched + j])
            own = relative is slope and not coefficient.free
            shares[:, j] = _size(jacobian[:, searched + j] if own else parts[j] * relative)
        for k, derivative in enumerate(self._slopes(values, columns, weights)):
            np.multiply(slope, derivative, out=jacobian[:, k])
        return residual, jacobian, shares

    def _relative(self, total: Array, slope: Array) -> Array:
        """One over the sum; the very same array as the slope where that is it."""
        own = self.law.link == "identity" and self.objective.residual == "log"
        return slope if own else 1.0 / total

    def _terms(self, residual: Array) -> Terms:
        loss = terms(self.objective, residual)
        if self.outcomes:
            squares = terms(Objective(loss="squares"), residual[..., -self.outcomes :])
            for term, square in zip(loss, squares, strict=True):
                term[..., -self.outcomes :] = square
        return loss

    def _bounds(self, natural: list[float], others: float) -> Array:
        bounds = np.array(natural + [others] * len(self.law.coefficients), dtype=np.float64)
        searched = len(natural)
        mask = self.logarithmic[:searched]
        bounds[:searched][mask] = np.log(bounds[:searched][mask])
        return bounds

    def _parameters(self, values: Mapping[str, Array]) -> dict[str, Array]:
        return {p.name: values[p.name][..., None] for p in self.law.parameters}

    def _columns(self, values: Mapping[str, Array]) -> list[Array]:
        with np.errstate(all="ignore"):
            columns = self.law.columns(self._parameters(values), self.inputs)
        return [np.atleast_2d(np.asarray(c, dtype=np.float64)) for c in columns]

    def _weights(self, values: Mapping[str, Array]) -> list[Array]:
        weights = [values[c.name][:, None] for c in self.law.coefficients]
        return [*weights, np.ones((1, 1))]

    def _residual(self, total: Array) -> tuple[Array, Array]:
        """The residual of a linear sum, and its derivative by that sum."""
        link, log = self.law.link, self.objective.residual == "log"
        if link == "exp" and log:
            return total - self.observed, np.ones_like(total)
        if link == "identity" and log:
            return np.log(total) - self.observed, 1.0 / total
        predicted = apply_link(link, total)
        inner = link_slope(link, predicted)
        if log:
            return np.log(predicted) - self.observed, inner / predicted
        return predicted - self.observed, inner

    def _slopes(
        self, values: Mapping[str, Array], columns: list[Array], weights: list[Array]
    ) -> list[Array]:
        """The derivative of the linear sum by each searched coordinate."""
        p = self._parameters(values)
        if self.law.slopes is not None:
            by_name = self.law.slopes(p, self.inputs, columns)
        else:
            by_name = {name: self._complex_slopes(p, name) for name in p}
        result = []
        for parameter in self.law.parameters:
            slope = _weighted_sum(by_name[parameter.name], weights)
            result.append(p[parameter.name] * slope if parameter.log else slope)
        return result

    def _complex_slopes(self, p: Mapping[str, Array], name: str) -> list[Array]:
        moved = {**p, name: p[name] + 1j * COMPLEX_STEP}
        columns = self.law.columns(moved, self.inputs)  # type: ignore[arg-type]
        return [np.imag(column) / COMPLEX_STEP for column in columns]


def problem_of(
    law: Law, points: "Points", objective: Objective, floor_noise: float | None = None
) -> Problem:
    """The problem of fitting a law to checked points."""
    lean = points.lean
    return Problem(
        law=law,
        inputs=points.inputs,
        target=points.target,
        weights=points.weights if lean is None else points.weights * lean,
        objective=objective,
        lean=lean,
        floor_noise=floor_noise,
    )


def _weighted_sum(columns: Sequence[ArrayLike], weights: list[Array]) -> Array:
    parts = [
        np.asarray(column) * weight
        for column, weight in zip(columns, weights, strict=False)
        if not (isinstance(column, float) and column == 0.0)
    ]
    return np.asarray(sum(parts[1:], parts[0]), dtype=np.float64)


def _column(weights: Array) -> Array:
    return np.atleast_2d(weights)[..., None]


def _apart(starts: int, rows: int, points: int) -> Array:
    """An empty (starts, rows, points), rows apart in memory: each is then written in one piece."""
    return np.empty((rows, starts, points)).transpose(1, 0, 2)


def _size(part: Array) -> Array:
    """Root mean square over points (starts,) of (starts or 1, points)."""
    return np.sqrt(np.einsum("sn,sn->s", part, part) / part.shape[1])
