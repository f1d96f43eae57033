"""Fitting a law to points: search, optima, intervals and what the data cannot say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from stepladder.allocator import keep_freed_memory
from stepladder.laws import registry
from stepladder.laws.bootstrap import bca, influences, percentile, resample
from stepladder.laws.descent import Descent
from stepladder.laws.holdout import left_out, trials, widening
from stepladder.laws.law import Array, Law, Mask
from stepladder.laws.noise import one_sided, uneven
from stepladder.laws.objective import Objective, leaning
from stepladder.laws.optima import polish, search, separate
from stepladder.laws.points import Points, check_support, rows_text, without_worst
from stepladder.laws.points import points as check
from stepladder.laws.problem import Problem, problem_of
from stepladder.laws.profile import Profile, covariance, profile
from stepladder.laws.result import Ends, Fit, Optimum, Settings, Status
from stepladder.laws.scale import ROUNDING, Scale, residual_scale

NEAR_EQUAL = 6.63  # twice the log likelihood ratio that chance exceeds once in a hundred
BARRIER = 0.1  # in the same unit: lower passes join two ends into one valley
IDENTIFIED = 1e8  # condition number above which the curvature itself has no digits left
ROUNDS = 3  # a profile that finds a lower point starts again from it
BOOTSTRAP_POINTS = 40  # fewer runs resample poorly
DISAGREE = 1.7  # even noise makes bootstrap intervals wider than this in one table of a hundred
OUTLYING = 12.0  # median residuals, some eight standard deviations of normal noise
FEW = 0.1  # of the points: more of them are the law's misfit, not outliers
GAUSSIAN_POINTS = 25  # fewer points are fitted by squares: an absolute loss wastes a third of them


def fit(
    law: str | Law,
    columns: Mapping[str, ArrayLike],
    *,
    loss: str | Objective | None = None,
    noise: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    drop_worst: int = 0,
    starts: int = 500,
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    rows: Sequence[int] | None = None,
) -> Fit:
    """Fit a law to measured runs.

    Args:
        law: its name, or a Law.
        columns: the law's inputs and its target by name, each (points,).
        loss: "huber", "squares", "asymmetric", "quantile" or an Objective. Where none is given:
            Huber at 1e-3 on logarithms, the field's custom (arXiv:2203.15556), or squares of
            logarithms below 25 points or where the noise is known; without the logarithm for laws
            of a signed target.
        noise: standard deviation of the logarithm of one run's target between seeds, a number or
            one a row; rows weigh by its inverse square.
        weights: instead of `noise`, one positive number a row.
        drop_worst: leave out this many of the highest targets; they are named in `reasons`.
        starts: of the search.
        bootstrap: refits; 0 leaves bootstrap intervals out.
        level: of the intervals.
        seed: of the bootstrap.
        rows: the number of each row in its table, for messages; counted from one where not given.

    Raises:
        ValueError: the columns do not support the law; the text says why.
    """
    law = registry.get(law) if isinstance(law, str) else law
    points, settings = prepare(
        law,
        columns,
        loss=loss,
        noise=noise,
        weights=weights,
        drop_worst=drop_worst,
        starts=starts,
        bootstrap=bootstrap,
        level=level,
        seed=seed,
        rows=rows,
    )
    return fit_points(law, points, settings)


def prepare(
    law: Law,
    columns: Mapping[str, ArrayLike],
    *,
    loss: str | Objective | None = None,
    noise: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    drop_worst: int = 0,
    starts: int = 500,
    bootstrap: int = 1000,
    level: float = 0.9,
    seed: int = 0,
    rows: Sequence[int] | None = None,
) -> tuple[Points, Settings]:
    """Check columns and settle how they are fitted; the arguments are those of `fit`."""
    if noise is not None and weights is not None:
        raise ValueError("give noise or weights, not both: noise already weighs the rows")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, not {level:g}")
    if starts < 1 or bootstrap < 0:
        raise ValueError("starts must be at least 1 and bootstrap at least 0")
    known, row_weights = _noise(noise, weights)
    size = np.size(columns[law.target]) if law.target in columns else 0
    objective = _objective(loss, size, known, law.signed)
    points = check(
        law, columns, weights=row_weights, positive=objective.residual == "log", rows=rows
    )
    points = without_worst(points, drop_worst) if drop_worst else points
    check_support(law, points)
    return points, Settings(
        objective=objective,
        starts=starts,
        bootstrap=bootstrap,
        level=level,
        seed=seed,
        noise=known,
    )


def fit_points(law: Law, points: Points, settings: Settings) -> Fit:
    """Fit a law to checked points."""
    keep_freed_memory()  # candidates by points come and go at every step: a third of the time
    return _Fitting(law=law, points=points, settings=settings).result()


@dataclass(frozen=True)
class _Fitting:
    """The steps of a fit; each is computed once."""

    law: Law
    points: Points
    settings: Settings

    @cached_property
    def problem(self) -> Problem:
        settings = self.settings
        return problem_of(self.law, self.points, settings.objective, settings.floor_noise)

    @cached_property
    def settled(self) -> tuple[Descent, Scale, Array, Profile]:
        """The optima, the scale, the covariance and the profiles, once none finds a lower point."""
        found = search(self.problem, self.settings.starts)
        for _ in range(ROUNDS):
            scale = self._scale(found)
            optima = self._near_equal(found, scale)
            spread = covariance(self.problem, optima.coordinates[0], scale)
            profiles = profile(self.problem, optima.coordinates, scale, spread, self.settings.level)
            lower = polish(self.problem, profiles.better[None])
            if lower.value[0] >= optima.value[0] * (1 - 1e-9):
                break
            found = polish(self.problem, np.concatenate([lower.coordinates, found.coordinates]))
        return optima, scale, spread, profiles

    @cached_property
    def refits(self) -> Array:
        """The law refitted to resampled runs: (bootstrap, coordinates)."""
        optima, settings = self.settled[0].coordinates, self.settings
        return resample(self.problem, optima, settings.bootstrap, settings.seed)

    def result(self) -> Fit:
        optima, scale, spread, profiles = self.settled
        values = [self._values(optima, row) for row in range(len(optima.value))]
        methods = self._intervals(optima, scale, spread, profiles)
        condition = self._condition(optima)
        reasons = self._reasons(optima, methods["profile"], condition)
        residual = self.problem.residuals(optima.coordinates[:1])[0]
        far = _outlying(residual)
        method = self._method(residual, methods)
        tried = trials(self.problem, self.points.cost, optima.coordinates, self.settings.noise)
        return Fit(
            law=self.law,
            points=self.points,
            settings=self.settings,
            values=values[0],
            derived={k: float(v) for k, v in self.law.derive(values[0]).items()},
            derived_intervals=self._derived_intervals(),
            objective=float(optima.value[0]),
            status=_status(reasons),
            reasons=tuple(text for _, text in reasons)
            + self.points.notes
            + _far_said(far, self.points.rows),
            optima=tuple(
                Optimum(
                    values=v,
                    objective=float(value),
                    deviance=float(2 * scale.factor * (value - optima.value[0])),
                )
                for v, value in zip(values, optima.value, strict=True)
            ),
            method=method,
            intervals=methods[method],
            methods=methods,
            condition=condition,
            left_out=left_out(tried),
            widening=widening(tried),
            one_sided=one_sided(-residual[~far]),
            scale=scale,
        )

    def _scale(self, found: Descent) -> Scale:
        return residual_scale(
            self.settings.objective,
            self.problem.residuals(found.coordinates[:1])[0],
            self.points.weights,
            len(self.law.names),
            self.settings.noise,
            self.points.lean,
        )

    def _near_equal(self, found: Descent, scale: Scale) -> Descent:
        unit = 1.0 / (2 * scale.factor)
        near = found.take(found.value <= found.value[0] + NEAR_EQUAL * unit)
        return separate(self.problem, near, BARRIER * unit)

    def _values(self, optima: Descent, row: int) -> dict[str, float]:
        values = {k: float(v) for k, v in self.problem.values(optima.coordinates[row]).items()}
        for coefficient, gone in zip(self.law.coefficients, optima.vanished[row], strict=True):
            if gone and not coefficient.free:
                values[coefficient.name] = 0.0
        return values

    def _intervals(
        self, optima: Descent, scale: Scale, spread: Array, profiles: Profile
    ) -> dict[str, dict[str, Ends]]:
        low, high = np.maximum(profiles.low, self.problem.low), profiles.high
        high = np.minimum(high, self.problem.high)
        methods = {"profile": self._named(low, high)}
        if not self.settings.bootstrap:
            return methods
        samples = self.refits
        moves = influences(self.problem, optima.coordinates[0], spread, scale.factor)
        level, best = self.settings.level, optima.coordinates[0]
        ends = np.array([percentile(column, level) for column in samples.T])
        methods["percentile"] = self._named(*ends.T)
        ends = np.array(
            [bca(samples[:, k], best[k], moves[:, k], level) for k in range(samples.shape[1])]
        )
        methods["bca"] = self._named(*ends.T)
        return methods

    def _derived_intervals(self) -> dict[str, Ends]:
        """Percentiles over the refits; none without refits."""
        if not self.settings.bootstrap:
            return {}
        made = self.law.derive(self.problem.values(self.refits))
        return {name: percentile(each, self.settings.level) for name, each in made.items()}

    def _method(self, residual: Array, methods: Mapping[str, Mapping[str, Ends]]) -> str:
        """Profiles cover where runs are alike (evidence/laws/coverage_*.json); where noise
        differs, or resampled runs disagree, those carry it along, which takes enough of them."""
        if "percentile" not in methods or len(residual) < BOOTSTRAP_POINTS:
            return "profile"
        wider = self._widths(methods["percentile"]) > DISAGREE * self._widths(methods["profile"])
        if uneven(residual, self.points.cost) or wider.any():
            return "percentile"
        return "profile"

    def _widths(self, intervals: Mapping[str, Ends]) -> Array:
        low, high = (
            self.problem.coordinates({name: ends[side] for name, ends in intervals.items()})
            for side in (0, 1)
        )
        return np.asarray(high - low)

    def _named(self, low: Array, high: Array) -> dict[str, Ends]:
        lows, highs = self.problem.values(low), self.problem.values(high)
        return {name: (float(lows[name]), float(highs[name])) for name in self.law.names}

    def _condition(self, optima: Descent) -> float:
        _, jacobian, _ = self.problem.linearised(optima.coordinates[:1])
        rows = jacobian[0] * np.sqrt(self.problem.weights)
        kept = np.ones(len(self.law.names), dtype=bool)
        kept[len(self.law.parameters) :] = ~optima.vanished[0]
        size = np.linalg.norm(rows[kept], axis=1)
        unit = rows[kept] / np.where(size > 0, size, 1.0)[:, None]
        singular = np.linalg.svd(unit, compute_uv=False)
        return float(singular[0] / singular[-1]) if singular[-1] > 0 else np.inf

    def _reasons(
        self, optima: Descent, intervals: Mapping[str, Ends], condition: float
    ) -> list[tuple[Status, str]]:
        """What is wrong, worst first."""
        reasons: list[tuple[Status, str]] = []
        if not optima.converged[0]:
            reasons.append(("not converged", "the descent was still moving when it was stopped"))
        for name, text in self._unbounded(intervals):
            reasons.append(("not identified", f"the points do not bound {name} {text}"))
        if condition > IDENTIFIED:
            reasons.append(
                ("not identified", f"values trade off freely (condition {condition:.1e})")
            )
        if len(optima.value) > 1:
            reasons.append(
                ("several optima", f"{len(optima.value)} optima fit the points about equally well")
            )
        for name in self._at_bounds(optima):
            reasons.append(("bound hit", f"{name} ended at its bound"))
        return reasons

    def _unbounded(self, intervals: Mapping[str, Ends]) -> list[tuple[str, str]]:
        found = []
        for p in self.law.parameters:
            low, high = intervals[p.name]
            below, above = low <= p.low + _rounding(p.low), high >= p.high - _rounding(p.high)
            if below and above:
                found.append((p.name, "on either side"))
            elif above:
                found.append((p.name, "from above"))
        found += [
            (c.name, "from above")
            for c in self.law.coefficients
            if not np.isfinite(intervals[c.name][1])
        ]
        return found

    def _at_bounds(self, optima: Descent) -> list[str]:
        at = optima.coordinates[0]
        hit = (at <= self.problem.low) | (at >= self.problem.high)
        hit[len(self.law.parameters) :] |= optima.vanished[0]
        return [name for name, is_hit in zip(self.law.names, hit, strict=True) if is_hit]


def _outlying(residual: Array) -> Mask:
    """Points (points,) that no noise explains; none where they are many."""
    size = np.abs(residual)
    far = size > max(OUTLYING * float(np.median(size)), ROUNDING)
    return np.asarray(far & (far.mean() <= FEW))


def _far_said(far: Mask, rows: Sequence[int]) -> tuple[str, ...]:
    """A remark on the points that are far from the law; they are kept."""
    if not far.any():
        return ()
    return (
        f"{rows_text(far, rows)} far from the law ({OUTLYING:g} times the typical distance or "
        "more); kept: --where or --drop-worst leaves them out",
    )


def _rounding(bound: float) -> float:
    """What a bound loses on the way to its logarithm and back."""
    return 1e-9 * abs(bound)


def _status(reasons: list[tuple[Status, str]]) -> Status:
    return reasons[0][0] if reasons else "converged"


def _objective(
    loss: str | Objective | None, size: int, known: float | None, signed: bool
) -> Objective:
    if isinstance(loss, Objective):
        return loss
    if loss is None:
        loss = "squares" if size < GAUSSIAN_POINTS or known is not None else "huber"
    return replace(leaning(loss), residual="plain" if signed else "log")


def _noise(
    noise: ArrayLike | None, weights: ArrayLike | None
) -> tuple[float | None, ArrayLike | None]:
    """The noise of a point of weight one, and the weights."""
    if noise is None:
        return None, weights
    each = np.asarray(noise, dtype=np.float64)
    if not np.all(each > 0) or not np.all(np.isfinite(each)):
        raise ValueError("noise must be positive: leave it out where it was not measured")
    if each.ndim == 0:
        return float(each), None
    return float(1.0 / np.sqrt(np.mean(each**-2.0))), each**-2.0
