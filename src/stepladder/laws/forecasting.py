"""What a run will give: laws at a recipe, with an interval for the outcome of one run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array
from stepladder.laws.panel import Panel
from stepladder.laws.predictive import Predictive, predictive
from stepladder.laws.profile import covariance
from stepladder.laws.result import Fit
from stepladder.names import did_you_mean

HALVINGS = 50  # of the range of a quantile of a mixture
LAW_ONLY = 0.05  # part of a run's noise in the interval of the law itself


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A forecast of one run.

    Args:
        value: the law's own; of several laws, their weighted mean.
        low, high: central interval for the outcome of one run: parameters, choice of law and the
            noise of a run together.
        law_low, law_high: interval for what the law itself would be, without a run's noise.
        weights: of each law in the mixture.
        beyond: how far outside the fitted range each input lies, as a factor (1: inside).
    """

    value: float
    low: float
    high: float
    level: float
    law_low: float
    law_high: float
    inputs: Mapping[str, float]
    weights: Mapping[str, float]
    beyond: Mapping[str, float]

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high)."""
        return self.low, self.high

    def to_json(self) -> dict[str, Any]:
        """JSON types, with `forecast` and `interval` besides the fields."""
        return {"forecast": self.value, "interval": [self.low, self.high], **asdict(self)}


def forecast(laws: Panel, inputs: Mapping[str, ArrayLike], *, level: float = 0.9) -> Forecast:
    """Forecast one run at `inputs` (a number for every input of the first law).

    Raises:
        ValueError: an input is missing, unknown or not a number of its kind.
    """
    fit = laws.fits[0]
    point = _inputs(fit, inputs)
    value, low, high = _central(laws, point, level, 1.0)
    _, law_low, law_high = _central(laws, point, level, LAW_ONLY)
    value, low, high, law_low, law_high = _back(laws, value, low, high, law_low, law_high)
    return Forecast(
        value=value,
        low=low,
        high=high,
        level=level,
        law_low=law_low,
        law_high=law_high,
        inputs={name: x.item() for name, x in point.items() if x.ndim == 0},
        weights=laws.shares,
        beyond={
            name: _beyond(fit.points.inputs[name], x.item())
            for name, x in point.items()
            if x.ndim == 0
        },
    )


def outcome_interval(laws: Panel, inputs: Mapping[str, Array], level: float) -> tuple[float, float]:
    """Low and high of one run."""
    _, low, high = _central(laws, inputs, level, 1.0)
    low, high = _back(laws, low, high)
    return low, high


def _back(laws: Panel, *values: float) -> list[float]:
    """Targets from what laws are mixed in; what is too large for a number is endless."""
    with np.errstate(over="ignore"):
        return [float(np.exp(value) if laws.log else value) for value in values]


def together(laws: Panel, inputs: Mapping[str, Array]) -> Array:
    """What laws forecast together: (points,)."""
    each = [fit.predict(inputs) for fit in laws.fits]
    value = np.tensordot(laws.weights, np.log(each) if laws.log else each, axes=1)
    return np.asarray(np.exp(value) if laws.log else value)


def _inputs(fit: Fit, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
    names = [i.name for i in fit.law.inputs]
    for name in inputs:
        if name not in names:
            raise ValueError(
                f"law {fit.law.name} has no input {name!r}{did_you_mean(name, names)}; "
                f"it has {', '.join(names)}"
            )
    missing = [name for name in names if name not in inputs]
    if missing:
        raise ValueError(f"law {fit.law.name} needs {', '.join(missing)} too")
    point = {name: np.asarray(inputs[name], dtype=np.float64) for name in names}
    for i in fit.law.inputs:
        i.check(point[i.name])
    return point


def _central(
    laws: Panel, point: Mapping[str, Array], level: float, share: float
) -> tuple[float, float, float]:
    """Value, low and high in units of residuals; `share` is the part of a run's noise counted."""
    parts = [_distribution(f, point, share * f.scale.noise) for f in laws.fits]
    tail = (1 - level) / 2
    low, high = _quantiles(parts, laws.weights, [tail, 1 - tail])
    each = [float(f.predict(point)) for f in laws.fits]
    value = float(laws.weights @ (np.log(each) if laws.log else np.array(each)))
    low, high = value + laws.widening_at(point) * (np.array([low, high]) - value)
    return float(np.clip(value, low, high)), float(low), float(high)


def _distribution(fit: Fit, every: Mapping[str, Array], noise: float) -> Predictive:
    point = {i.name: every[i.name] for i in fit.law.inputs}
    spread = covariance(fit.problem, fit.coordinates[0], fit.scale)
    return predictive(fit.problem, fit.coordinates, fit.scale, spread, point, noise)


def _quantiles(parts: list[Predictive], weights: Array, levels: list[float]) -> Array:
    """Quantiles of a mixture, by halving the range that holds them."""
    if len(parts) == 1:
        return np.array([parts[0].quantile(level) for level in levels])
    each = np.array([[part.quantile(level) for level in levels] for part in parts])
    low, high = each.min(axis=0), each.max(axis=0)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        cdf = sum(weight * part.cdf(middle) for weight, part in zip(weights, parts, strict=True))
        below = np.asarray(cdf) < levels
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def _beyond(x: Array, at: float) -> float:
    if at <= 0 or x.min() <= 0:
        return 1.0 if x.min() <= at <= x.max() else float("inf")
    return float(max(at / x.max(), x.min() / at, 1.0))
