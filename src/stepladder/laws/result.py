"""What a fit found, and how far it can be trusted; reads back from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from stepladder.durable import write_whole
from stepladder.laws import registry
from stepladder.laws.law import Array, Law
from stepladder.laws.objective import Objective
from stepladder.laws.points import Points
from stepladder.laws.problem import Problem, problem_of
from stepladder.laws.scale import Scale

if TYPE_CHECKING:
    from stepladder.laws.forecasting import Forecast
    from stepladder.laws.panel import Panel

Status = Literal["converged", "bound hit", "several optima", "not identified", "not converged"]
Ends = tuple[float, float]
FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a fit was made; the same settings on the same points give the same result."""

    objective: Objective = field(default_factory=Objective)
    starts: int = 500
    bootstrap: int = 1000
    level: float = 0.9
    seed: int = 0
    noise: float | None = None  # of a point of weight one, where it was measured
    floor_noise: float | None = None  # noise of a run, where the floor has a prior (`prior`)


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """One valley: its values, its objective, and twice the likelihood ratio to the best."""

    values: Mapping[str, float]
    objective: float
    deviance: float


@dataclass(frozen=True, kw_only=True)
class OneSided:
    """Whether noise lies on one side of the law, as it does where runs are undertuned.

    `ratio` is twice the log likelihood ratio of a two-piece normal to a normal; `needed` says that
    chance gives as much in fewer than one of a hundred tables.
    """

    ratio: float
    p_value: float
    above: float  # spread of the points above the law, over that below it
    needed: bool


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A law fitted to points.

    Args:
        values: every parameter and coefficient by name, at the best optimum.
        derived: the law's derived quantities there; `derived_intervals` are percentiles of the
            bootstrap at `settings.level`, empty where it was left out.
        objective: the minimum of the objective, summed over points.
        status: the worst thing that was found; `reasons` says all of them.
        optima: every near-equal optimum, best first.
        intervals: by name, at `settings.level`, by the `method` that covers: profiles, or the
            bootstrap where runs are not alike.
        methods: the intervals of every method: profile, percentile, bca.
        condition: of the Jacobian with columns of unit size: 1 is ideal, above 1e4 values trade
            off against each other freely.
        left_out: error of the law (root mean square of logarithms) at the dearest runs when it is
            fitted without them; None where too few runs would be left.
        widening: factor on the error bars of forecasts, measured by forecasting the dearer part
            of the fitted runs from the cheaper (see `holdout.widening`).
        scale: noise and degrees of freedom.
    """

    law: Law
    points: Points
    settings: Settings
    values: Mapping[str, float]
    derived: Mapping[str, float]
    derived_intervals: Mapping[str, Ends]
    objective: float
    status: Status
    reasons: tuple[str, ...]
    optima: tuple[Optimum, ...]
    method: str
    intervals: Mapping[str, Ends]
    methods: Mapping[str, Mapping[str, Ends]]
    condition: float
    left_out: float | None
    widening: float
    one_sided: OneSided
    scale: Scale

    @cached_property
    def problem(self) -> Problem:
        """The fitted problem."""
        settings = self.settings
        return problem_of(self.law, self.points, settings.objective, settings.floor_noise)

    @cached_property
    def coordinates(self) -> Array:
        """The optima as coordinates (optima, coordinates), best first."""
        return np.stack([self.problem.coordinates(o.values) for o in self.optima])

    def predict(self, inputs: Mapping[str, ArrayLike]) -> Array:
        """The law at `inputs`, without uncertainty."""
        return self.law.predict(self.values, inputs)

    def forecast(
        self,
        inputs: Mapping[str, ArrayLike],
        *,
        level: float = 0.9,
        rivals: tuple[str, ...] | None = None,
    ) -> Forecast:
        """What one run at `inputs` will give, with an interval: see `forecasting.forecast`.

        `rivals` are names of other laws to weigh in: where none are given, those that the law
        itself names as plausible on the same inputs. () leaves them out, and forecasts by this
        fit alone, as it stands.
        """
        from stepladder.laws.forecasting import forecast
        from stepladder.laws.panel import panel

        laws = self._panel if rivals is None else panel(self, rivals)
        return forecast(laws, inputs, level=level)

    @cached_property
    def _panel(self) -> Panel:
        from stepladder.laws.panel import panel

        return panel(self)

    def to_json(self) -> dict[str, Any]:
        """The whole result as JSON types; `Fit.from_json` reads it back."""
        return {
            "format": FORMAT,
            "law": self.law.name,
            "form": self.law.form,
            "status": self.status,
            "reasons": list(self.reasons),
            "parameters": dict(self.values),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "level": self.settings.level,
            "method": self.method,
            "derived": dict(self.derived),
            "derived_intervals": {name: list(e) for name, e in self.derived_intervals.items()},
            "objective": self.objective,
            "optima": [asdict(optimum) for optimum in self.optima],
            "methods": {
                method: {name: list(ends) for name, ends in intervals.items()}
                for method, intervals in self.methods.items()
            },
            "condition": self.condition,
            "left_out": self.left_out,
            "widening": self.widening,
            "one_sided": asdict(self.one_sided),
            "scale": asdict(self.scale),
            "settings": asdict(self.settings),
            "points": {
                "inputs": {name: x.tolist() for name, x in self.points.inputs.items()},
                "target": self.points.target.tolist(),
                "weights": self.points.weights.tolist(),
                "cost": self.points.cost.tolist(),
                "rows": list(self.points.rows),
                "notes": list(self.points.notes),
            },
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Fit:
        """Read back what `to_json` wrote.

        Raises:
            ValueError: it is not a fit, or of another format.
        """
        if document.get("format") != FORMAT:
            raise ValueError("this is not a fit written by this version: run stepladder fit again")
        settings = dict(document["settings"])
        settings["objective"] = Objective(**settings["objective"])
        points = document["points"]
        return cls(
            law=registry.get(document["law"]),
            points=Points(
                inputs={name: np.array(x, dtype=float) for name, x in points["inputs"].items()},
                target=np.array(points["target"], dtype=float),
                weights=np.array(points["weights"], dtype=float),
                cost=np.array(points["cost"], dtype=float),
                rows=tuple(points["rows"]),
                notes=tuple(points["notes"]),
            ),
            settings=Settings(**settings),
            values=document["parameters"],
            derived={name: _number(value) for name, value in document["derived"].items()},
            derived_intervals=_ends(document["derived_intervals"]),
            objective=document["objective"],
            status=document["status"],
            reasons=tuple(document["reasons"]),
            optima=tuple(Optimum(**optimum) for optimum in document["optima"]),
            method=document["method"],
            intervals=_ends(document["intervals"]),
            methods={name: _ends(ends) for name, ends in document["methods"].items()},
            condition=_number(document["condition"]),
            left_out=document["left_out"],
            widening=document["widening"],
            one_sided=OneSided(**document["one_sided"]),
            scale=Scale(**document["scale"]),
        )

    def save(self, path: str | Path) -> None:
        """Write the fit as JSON."""
        write_whole(Path(path), json.dumps(finite(self.to_json()), indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Fit:
        """Read a fit that `save` (or `stepladder fit --json`) wrote."""
        try:
            document = json.loads(Path(path).read_text())
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON ({error}); write it with --out") from None
        return cls.from_json(document)


def finite(value: Any) -> Any:
    """The same document with null for NaN and infinities, which JSON has not."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _number(value: float | None) -> float:
    return np.inf if value is None else float(value)  # JSON has no infinity


def _ends(intervals: Mapping[str, list[float | None]]) -> dict[str, Ends]:
    return {
        name: (-np.inf if low is None else low, np.inf if high is None else high)
        for name, (low, high) in intervals.items()
    }
