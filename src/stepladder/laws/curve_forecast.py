"""The rest of a loss curve, or the curve under another schedule: the multi-power law on logs.

One run, or a few, rarely tell all seven constants of the law (arXiv:2503.12811) apart: a run whose
rate has not fallen yet says nothing of what a fall gives. So the shape has a prior, wide, around
what published curves of four sources say of it, where rates are stated in parts of the peak. The
interval holds what the curves leave open, and how far the law itself strays: with the distance
between the schedules, with a fall of the rate that no log has seen, and with steps away from the
end of the longest log. How much of each was chosen on published curves, and checked on each source
by what the others alone would choose (evidence/make_curves.py). Leaving out parts of the logs to
see how wide it must be was tried: what that shows has nothing to do with the error that comes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares, nnls
from scipy.special import stdtrit

from stepladder.laws.curves import Curve, CurveError, curve_error, schedule_inputs, stack
from stepladder.laws.law import Array, Index
from stepladder.laws.library.multi_power import MULTI_POWER

SHAPE = ("alpha", "C", "beta", "gamma", "B")  # searched by the logarithm, as the others are
NAMES = (*SHAPE, "A", "L0")
# Of published curves, rates in parts of the peak and losses in parts of a curve's median.
CENTRE = np.log([0.5, 0.016, 0.6, 1.5, 0.06])
SPREAD = np.array([0.25, 1.2, 0.8, 0.95, 0.6])
STARTS = (0.3, 0.46, 0.8)  # of alpha
LEAST = np.log(1e-6)  # of any constant
# gamma: rates near zero to its power stay numbers
MOST = np.log([1e4, 1e4, 1e4, 30.0, 1e4, 1e4, 1e4])

ROWS = 200  # of a curve: neighbours beyond that are averaged
LEAST_ROWS = 8
BLOCKS = 32
SETTLED = (0.02, 0.1)  # of a run: its first losses, warmup mostly, that no power law follows
LOWEST_RATE = 1e-4  # of the peak: the law divides by powers of the rate
LEAST_NOISE = 1e-3  # of a logged loss
OUTLYING = 2.0  # standard deviations from which on a residual counts less
# How far the law strays, in parts of the loss:
DRIFT = 0.002  # for every factor of e in steps from the end of the longest log, either way
APART = 0.005  # for schedules that are a whole peak apart, and as the root of that distance
UNSEEN_FALL = 0.016  # for a fall of the rate by a whole peak below what the logs saw
STRAYS = np.array([DRIFT, APART, UNSEEN_FALL]) ** 2  # of each column of `straying`
ROUNDS = 4
STEPS = 60  # of a descent: beyond that it creeps along a valley that no curve tells
UNTOLD = 0.8  # of the prior's spread: curves that leave more have not told


@dataclass(frozen=True, kw_only=True)
class CurveForecast:
    """Losses to come, each (points,).

    Args:
        at: steps.
        low, high: interval for a logged loss, its noise included.
        law_low, law_high: interval for the curve itself, without the noise of one loss.
    """

    at: Index
    value: Array
    low: Array
    high: Array
    law_low: Array
    law_high: Array
    level: float

    def to_json(self) -> dict[str, Any]:
        """JSON types, lists by point."""
        return {
            "step": self.at.tolist(),
            "forecast": self.value.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
            "law_low": self.law_low.tolist(),
            "law_high": self.law_high.tolist(),
        }


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a forecast of a curve went: the five measures, and the part that its interval held."""

    error: CurveError
    coverage: float
    points: int


@dataclass(frozen=True, kw_only=True)
class CurveFit:
    """The law on logged curves.

    Args:
        coordinates: (7,) logarithms of `NAMES`, rates in parts of `peak`, losses of `unit`.
        covariance: (7, 7) of the coordinates.
        noise: standard deviation of the logarithm of a logged loss.
        freedom: of its estimate: losses that count as independent, less the constants.
        rates: of each curve, (steps,) up to its last loss, in parts of `peak`.
    """

    coordinates: Array
    covariance: Array
    noise: float
    freedom: float
    peak: float
    unit: float
    rates: tuple[Array, ...]

    @property
    def values(self) -> dict[str, float]:
        """Constants of the law `multi-power`, for the rates and losses as they were logged."""
        v = dict(zip(NAMES, np.exp(self.coordinates).tolist(), strict=True))
        return {
            **v,
            "C": v["C"] * self.peak ** (v["gamma"] - 1.0),
            "B": v["B"] * self.unit / self.peak,
            "A": v["A"] * self.unit * self.peak ** v["alpha"],
            "L0": v["L0"] * self.unit,
        }

    @property
    def falls_seen(self) -> bool:
        """Whether the curves say themselves what a fall of the rate gives."""
        at = NAMES.index("B")
        return bool(self.covariance[at, at] < (UNTOLD * SPREAD[SHAPE.index("B")]) ** 2)

    def forecast(self, lr: Array, at: Index, level: float = 0.9) -> CurveForecast:
        """Losses under a schedule.

        Args:
            lr: (steps,) rate of every step of the whole run.
            at: (points,) step indices.
        """
        middle, law_error = self._distribution(lr, at)
        error = np.hypot(law_error, self.noise)
        times = stdtrit(self.freedom, 0.5 + level / 2)
        return CurveForecast(
            at=np.asarray(at),
            value=np.exp(middle),
            low=np.exp(middle - times * error),
            high=np.exp(middle + times * error),
            law_low=np.exp(middle - times * law_error),
            law_high=np.exp(middle + times * law_error),
            level=level,
        )

    def _distribution(self, lr: Array, at: Index) -> tuple[Array, Array]:
        """Logarithm of the loss at each step, and the standard error of the law there."""
        inputs = schedule_inputs(_in_peaks(lr, self.peak), at, BLOCKS)
        middle = _log_loss(self.coordinates, inputs)
        slope = _slope(self.coordinates, inputs)
        variance = np.einsum("pi,ij,pj->p", slope, self.covariance, slope)
        rates = np.asarray(lr, dtype=np.float64) / self.peak
        strayed = straying(self.rates, rates, np.asarray(at)) @ STRAYS
        return middle + np.log(self.unit), np.sqrt(variance + strayed)


def fit_curves(curves: Sequence[Curve]) -> CurveFit:
    """The law on curves of one model and batch size.

    Raises:
        ValueError: a curve has fewer than eight losses after its warmup, or losses or rates that
            are not positive numbers.
    """
    settled = [_settled(curve) for curve in curves]
    peak = float(max(curve.lr.max() for curve in settled))
    unit = float(np.median(np.concatenate([curve.loss for curve in settled])))
    inputs = stack([Curve(_in_peaks(c.lr, peak), c.at, c.loss / unit) for c in settled], BLOCKS)
    seen = np.log(inputs.pop("loss"))
    ends = np.cumsum([len(curve.at) for curve in settled])[:-1]
    longest = 1 + max(int(curve.at[-1]) for curve in settled)
    drift = DRIFT * _away(np.concatenate([curve.at for curve in settled]), longest)
    noise = 3 * LEAST_NOISE
    starts = [_start(alpha, inputs, seen) for alpha in STARTS]
    ends_of = [_descended(start, inputs, seen, np.hypot(noise, drift)) for start in starts]
    found = min(ends_of, key=lambda one: one[1])[0]
    for _ in range(ROUNDS):
        residual = seen - _log_loss(found, inputs)
        noise = max(LEAST_NOISE, 1.4826 * float(np.median(np.abs(residual))))
        error = np.hypot(noise, drift)
        dependence = _dependence(np.split(residual / error, ends))
        error *= np.sqrt(dependence)
        found, _ = _descended(found, inputs, seen, error)
    slope = _slope(found, inputs) / error[:, None]
    precision = slope.T @ slope + np.diag(_prior_precision())
    return CurveFit(
        coordinates=found,
        covariance=np.asarray(np.linalg.pinv(precision, hermitian=True), dtype=np.float64),
        noise=noise,
        freedom=max(4.0, len(seen) / dependence - len(NAMES)),
        peak=peak,
        unit=unit,
        rates=tuple(curve.lr[: curve.at[-1] + 1] / peak for curve in settled),
    )


def straying(logged: Sequence[Array], rates: Array, at: Index) -> Array:
    """What the law strays by, (points, 3): squares of the way from the end of the longest log, as a
    logarithm of steps; the distance to the nearest logged schedule; squares of the fall of the rate
    that no log has seen.

    Args:
        logged: of each log, (steps,) rates up to its last loss.
        rates: (steps,) of the run that is forecast, in the same unit.
        at: (points,) step indices.
    """
    longest = max(len(log) for log in logged)
    away = _away(at, longest)
    apart = np.min([_apart(log, rates)[at] for log in logged], axis=0)
    lowest = min(float(log[settled_at(log) :].min()) for log in logged)
    unseen = np.maximum(lowest - rates[at], 0.0)
    return np.stack([away**2, apart, unseen**2], axis=1)


def _away(at: Index, longest: int) -> Array:
    """The way from the end of the longest log, of so many steps, as a logarithm of steps."""
    return np.log((at + 1) / longest)


def _apart(log: Array, rates: Array) -> Array:
    """(steps,) root mean square difference of two schedules up to each step; a log that has ended
    is taken to go on at its last rate."""
    same = log[np.minimum(np.arange(len(rates)), len(log) - 1)]
    return np.asarray(np.sqrt(np.cumsum((rates - same) ** 2) / np.arange(1, len(rates) + 1)))


def score(made: CurveForecast, loss: Array) -> Score:
    """A forecast against the losses that came."""
    inside = (made.low <= loss) & (loss <= made.high)
    return Score(
        error=curve_error(made.value, loss), coverage=float(inside.mean()), points=len(loss)
    )


def settled_at(lr: Array) -> int:
    """The step from which on the law may follow a run: the end of its warmup, within `SETTLED`."""
    first, last = (share * len(lr) for share in SETTLED)
    begin = float(np.clip(warmup_end(lr), first, last))
    return min(int(np.ceil(begin)), len(lr) - 1)


def warmup_end(lr: Array) -> int:
    """The step at which a rate has risen to its peak."""
    return int(np.argmax(lr >= 0.999 * np.max(lr)))


def _settled(curve: Curve) -> Curve:
    """A curve without its first losses, neighbours averaged to at most `ROWS`.

    Raises:
        ValueError: see `fit_curves`.
    """
    rates, losses = np.asarray(curve.lr, float), np.asarray(curve.loss, float)
    if not (np.all(np.isfinite(rates)) and np.all(rates >= 0) and rates.max() > 0):
        raise ValueError("rates must be numbers of at least 0, and some above it")
    if not (np.all(np.isfinite(losses)) and np.all(losses > 0)):
        raise ValueError("losses must be positive numbers")
    kept = np.asarray(curve.at) >= settled_at(rates)
    if kept.sum() < LEAST_ROWS:
        raise ValueError(
            f"{int(kept.sum())} losses after the warmup: a curve needs at least {LEAST_ROWS}"
        )
    return _averaged(Curve(rates, np.asarray(curve.at)[kept], losses[kept]))


def _averaged(curve: Curve) -> Curve:
    size = -(-len(curve.at) // ROWS)
    starts = np.arange(0, len(curve.at), size)
    counts = np.diff([*starts, len(curve.at)])
    at = np.add.reduceat(curve.at, starts) / counts
    loss = np.add.reduceat(curve.loss, starts) / counts
    return Curve(curve.lr, np.round(at).astype(int), loss)


def _start(alpha: float, inputs: Mapping[str, Array], seen: Array) -> Array:
    """Coordinates at the prior's centre, with the A and L0 that fit best there."""
    shape = CENTRE.copy()
    shape[0] = np.log(alpha)
    unscaled = np.append(shape, [0.0, 0.0])
    floor, power, fall = _columns(unscaled, inputs)
    columns = np.stack([power, floor], axis=1)
    scales, _ = nnls(columns, np.maximum(np.exp(seen) - np.exp(shape[-1]) * fall, 1e-6))
    return np.append(shape, np.log(np.clip(scales, 1e-3, None)))


def _descended(
    start: Array, inputs: Mapping[str, Array], seen: Array, error: Array
) -> tuple[Array, float]:
    """The nearest optimum, and its objective; `error` is the standard deviation of each loss."""
    weight: Array = np.sqrt(_prior_precision())
    centre = np.append(CENTRE, [0.0, 0.0])

    def residuals(at: Array) -> Array:
        return np.append((seen - _log_loss(at, inputs)) / error, (at - centre) * weight)

    def slopes(at: Array) -> Array:
        return np.concatenate([-_slope(at, inputs) / error[:, None], np.diag(weight)])

    start = np.clip(start, LEAST + 1e-3, MOST - 1e-3)
    found = least_squares(
        residuals, start, jac=slopes, bounds=(LEAST, MOST), loss="soft_l1", f_scale=OUTLYING,
        x_scale="jac", ftol=1e-6, xtol=1e-5, max_nfev=STEPS,
    )  # fmt: skip
    return found.x, float(found.cost)


def _prior_precision() -> Array:
    return np.append(SPREAD**-2.0, [0.0, 0.0])


def _dependence(residuals: Sequence[Array]) -> float:
    """How many neighbouring losses count as one: residuals as an autoregression of one step."""
    product = float(np.sum([r[1:] @ r[:-1] for r in residuals]))
    square = float(np.sum([r[:-1] @ r[:-1] for r in residuals]))
    correlation = float(np.clip(product / max(square, 1e-300), 0.0, 0.95))
    return (1 + correlation) / (1 - correlation)


def _in_peaks(lr: Array, peak: float) -> Array:
    return np.maximum(np.asarray(lr, dtype=np.float64) / peak, LOWEST_RATE)


def _columns(at: Array, inputs: Mapping[str, Array]) -> tuple[Array, Array, Array]:
    """What multiplies L0, A and B, each (points,)."""
    p = {name: np.exp(at[k]).reshape(1, 1) for k, name in enumerate(NAMES)}
    columns = MULTI_POWER.columns(p, inputs)
    shape = inputs["lr_sum"].shape
    one, two, three = (np.broadcast_to(np.asarray(c), (1, *shape))[0] for c in columns)
    return one, two, three


def _log_loss(at: Array, inputs: Mapping[str, Array]) -> Array:
    b, a, floor = np.exp(at[len(SHAPE) - 1 :])
    one, two, three = _columns(at, inputs)
    return np.asarray(np.log(np.maximum(floor * one + a * two + b * three, 1e-6)))


def _slope(at: Array, inputs: Mapping[str, Array]) -> Array:
    """Derivatives of the logarithm of the loss by each coordinate, (points, 7)."""
    step = 1e-5
    nonlinear = len(SHAPE) - 1
    moved = [
        (_log_loss(at + step * unit, inputs) - _log_loss(at - step * unit, inputs)) / (2 * step)
        for unit in np.eye(len(at))[:nonlinear]
    ]
    floor, power, fall = _columns(at, inputs)
    scaled = np.exp(at[nonlinear:]) * np.stack([fall, power, floor], axis=1)
    return np.column_stack([*moved, scaled / np.exp(_log_loss(at, inputs))[:, None]])
