"""What a run will give: laws at a recipe, with an interval for the outcome of one run.

No law is right far from its runs: one with a floor tends to forecast too high, one without too
low. A forecast therefore mixes the plausible laws, each by the inverse square of its error on the
dearest runs when it is fitted without them (Bates and Granger 1969). Their disagreement is the
width that misfit asks for; a law on its own is widened instead, by what its own bars missed on
held-out runs. Measured: `python evidence/make_laws.py backtests`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.fitting import fit_points
from stepladder.laws.law import Array
from stepladder.laws.predictive import Predictive, predictive
from stepladder.laws.profile import covariance
from stepladder.laws.registry import get
from stepladder.laws.result import Fit
from stepladder.laws.scale import ROUNDING
from stepladder.names import did_you_mean

HALVINGS = 50  # of the range of a quantile of a mixture
LAW_ONLY = 0.05  # part of a run's noise in the interval of the law itself
RIVAL_STARTS = 100
EACH = 3  # runs for every unknown of a rival


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


def forecast(
    fit: Fit, inputs: Mapping[str, ArrayLike], *, level: float = 0.9, rivals: tuple[Fit, ...] = ()
) -> Forecast:
    """Forecast one run at `inputs` (a number for every input of the law).

    Args:
        level: of the interval.
        rivals: other laws fitted to the same points (`rival_fits`), which share the forecast.

    Raises:
        ValueError: an input is missing, unknown or not a number of its kind.
    """
    point = _inputs(fit, inputs)
    fits = [fit, *rivals]
    weights = _weights(fits)
    value, low, high = _central(fits, weights, point, level, 1.0)
    _, law_low, law_high = _central(fits, weights, point, level, LAW_ONLY)
    back = np.exp if fit.settings.objective.residual == "log" else np.asarray
    return Forecast(
        value=float(back(value)),
        low=float(back(low)),
        high=float(back(high)),
        level=level,
        law_low=float(back(law_low)),
        law_high=float(back(law_high)),
        inputs={name: x.item() for name, x in point.items() if x.ndim == 0},
        weights=shares(fits),
        beyond={
            name: _beyond(fit.points.inputs[name], x.item())
            for name, x in point.items()
            if x.ndim == 0
        },
    )


def outcome_interval(
    fits: Sequence[Fit], inputs: Mapping[str, Array], level: float
) -> tuple[float, float]:
    """Low and high of one run by laws fitted to the same points."""
    _, low, high = _central(fits, _weights(fits), inputs, level, 1.0)
    back = np.exp if fits[0].settings.objective.residual == "log" else np.asarray
    return float(back(low)), float(back(high))


def shares(fits: Sequence[Fit]) -> dict[str, float]:
    """The weight of each law in a forecast, by its name."""
    return {f.law.name: float(w) for f, w in zip(fits, _weights(fits), strict=True)}


def together(fits: Sequence[Fit], inputs: Mapping[str, Array]) -> Array:
    """What laws fitted to the same points forecast together: (points,)."""
    log = fits[0].settings.objective.residual == "log"
    each = [fit.predict(inputs) for fit in fits]
    value = np.tensordot(_weights(fits), np.log(each) if log else each, axes=1)
    return np.asarray(np.exp(value) if log else value)


def rival_fits(fit: Fit, names: Iterable[str]) -> tuple[Fit, ...]:
    """Other laws fitted to the points of a fit, as it was fitted.

    Raises:
        ValueError: a law needs inputs that the fit does not have.
    """
    fits = []
    for name in names:
        law = get(name)
        missing = [i.name for i in law.inputs if i.name not in fit.points.inputs]
        if missing:
            raise ValueError(f"law {name} needs {', '.join(missing)}, which this fit has not")
        points = replace(fit.points, inputs={i.name: fit.points.inputs[i.name] for i in law.inputs})
        starts = min(fit.settings.starts, RIVAL_STARTS)
        fits.append(fit_points(law, points, replace(fit.settings, bootstrap=0, starts=starts)))
    return tuple(fits)


def plausible_rivals(fit: Fit) -> tuple[Fit, ...]:
    """The law's own rivals, those that these points support."""
    fits: tuple[Fit, ...] = ()
    for name in fit.law.rivals:
        rival = get(name)
        known = rival.target == fit.law.target and all(
            i.name in fit.points.inputs for i in rival.inputs
        )
        if known and len(fit.points) > EACH * len(rival.names):
            fits += rival_fits(fit, (name,))
    return fits


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
        x = point[i.name]
        if not (np.all(np.isfinite(x)) and np.all(x >= i.low) and np.all(x <= i.high)):
            raise ValueError(f"{i.name} cannot be {x}: it lies from {i.low:g} to {i.high:g}")
        if i.falls and np.any(x <= 0):
            raise ValueError(f"{i.name} must be above 0, not {x}")
    return point


def _central(
    fits: Sequence[Fit], weights: Array, point: Mapping[str, Array], level: float, share: float
) -> tuple[float, float, float]:
    """Value, low and high in units of residuals; `share` is the part of a run's noise counted."""
    parts = [_distribution(f, point, share * f.scale.noise, len(fits) == 1) for f in fits]
    tail = (1 - level) / 2
    low, high = _quantiles(parts, weights, [tail, 1 - tail])
    log = fits[0].settings.objective.residual == "log"
    each = [float(f.predict(point)) for f in fits]
    value = float(weights @ (np.log(each) if log else np.array(each)))
    return float(np.clip(value, low, high)), float(low), float(high)


def _distribution(fit: Fit, every: Mapping[str, Array], noise: float, alone: bool) -> Predictive:
    point = {i.name: every[i.name] for i in fit.law.inputs}
    spread = covariance(fit.problem, fit.coordinates[0], fit.scale)
    made = predictive(fit.problem, fit.coordinates, fit.scale, spread, point, noise)
    return replace(made, root=made.root / fit.widening) if alone else made


def _weights(fits: Sequence[Fit]) -> Array:
    """Of each law: its held-out error to the power -2; an unknown error counts as the largest."""
    error = np.array([np.nan if f.left_out is None else f.left_out for f in fits])
    if np.isnan(error).all():
        return np.eye(len(fits))[0]
    known = np.where(np.isnan(error), np.nanmax(error), error)
    raw = np.maximum(known, ROUNDING) ** -2.0
    return np.asarray(raw / raw.sum())


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
