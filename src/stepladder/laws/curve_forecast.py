"""The rest of a loss curve, or the curve under another schedule: the multi-power law on logs.

One run, or a few, rarely tell all seven constants of the law apart: a run whose rate has not fallen
yet says nothing of what a fall gives. So the shape has a prior, wide, around the published fits
(arXiv:2503.12811), where rates are stated in parts of the peak. The interval holds what the curves
leave open, the noise of a logged loss, how far the law strayed from parts of these curves when they
were left out, and a drift with every factor of steps beyond the longest curve. The drift and the
least noise were chosen on published curves (evidence/laws/curves.json).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares, nnls
from scipy.special import stdtrit

from stepladder.laws.curves import Curve, CurveError, curve_error, schedule_inputs, stack
from stepladder.laws.law import Array, Index
from stepladder.laws.library.multi_power import MULTI_POWER

SHAPE = ("alpha", "C", "beta", "gamma", "B")  # searched by the logarithm, as the others are
NAMES = (*SHAPE, "A", "L0")
# of the published fits, rates in parts of the peak and losses in parts of a curve's median
CENTRE = np.log([0.46, 0.11, 0.59, 0.64, 0.045])
SPREAD = np.array([0.3, 1.5, 0.3, 0.25, 0.5])
STARTS = (0.3, 0.46, 0.8)  # of alpha
LEAST, MOST = np.log(1e-6), np.log(1e4)  # of any constant

ROWS = 200  # of a curve: neighbours beyond that are averaged
LEAST_ROWS = 8
BLOCKS = 32
SETTLED = (0.02, 0.1)  # of a run: its first losses, warmup mostly, that no power law follows
LOWEST_RATE = 1e-4  # of the peak: the law divides by powers of the rate
LEAST_NOISE = 3e-3  # of a loss: how near the law comes to the ends of published curves
OUTLYING = 2.0  # standard deviations from which on a residual counts less
DRIFT = 0.008  # of the loss, for every factor of e in steps beyond the longest curve
PARTS = (0.5, 0.7)  # of every curve: what is forecast from them sets the interval's width
ROUNDS = 4
STEPS = 60  # of a descent: beyond that it creeps along a valley that no curve tells
UNSEEN = 0.8  # of the prior's spread: curves that leave more have not told


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
        last: the step up to which the longest curve is known.
        widened: factor that parts left out asked of the interval, 1 or more.
    """

    coordinates: Array
    covariance: Array
    noise: float
    freedom: float
    peak: float
    unit: float
    last: int
    widened: float = 1.0

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
        return bool(self.covariance[at, at] < (UNSEEN * SPREAD[SHAPE.index("B")]) ** 2)

    def forecast(self, lr: Array, at: Index, level: float = 0.9) -> CurveForecast:
        """Losses under a schedule.

        Args:
            lr: (steps,) rate of every step of the whole run.
            at: (points,) step indices.
        """
        middle, error = self._distribution(lr, at, self.noise)
        _, law_error = self._distribution(lr, at, LEAST_NOISE)
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

    def _distribution(self, lr: Array, at: Index, noise: float) -> tuple[Array, Array]:
        """Logarithm of the loss at each step, and its standard error."""
        inputs = schedule_inputs(_in_peaks(lr, self.peak), at, BLOCKS)
        middle = _log_loss(self.coordinates, inputs)
        slope = _slope(self.coordinates, inputs)
        drift = DRIFT * np.log(np.maximum(np.asarray(at) / self.last, 1.0))
        variance = np.einsum("pi,ij,pj->p", slope, self.covariance, slope)
        error = np.sqrt(variance + noise**2 + drift**2)
        return middle + np.log(self.unit), self.widened * error


def fit_curves(curves: Sequence[Curve]) -> CurveFit:
    """The law on curves of one model and batch size, with the width that leaving parts out asks.

    Raises:
        ValueError: a curve has fewer than eight losses after its warmup, or losses or rates that
            are not positive numbers.
    """
    settled = [_settled(curve) for curve in curves]
    made = _fit(settled)
    return replace(made, widened=_widening(settled))


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


def _fit(curves: Sequence[Curve]) -> CurveFit:
    """The posterior of the constants, for settled curves; `widened` is left at one."""
    peak = float(max(curve.lr.max() for curve in curves))
    unit = float(np.median(np.concatenate([curve.loss for curve in curves])))
    inputs = stack([Curve(_in_peaks(c.lr, peak), c.at, c.loss / unit) for c in curves], BLOCKS)
    seen = np.log(inputs.pop("loss"))
    ends = np.cumsum([len(curve.at) for curve in curves])[:-1]
    noise, dependence = 3 * LEAST_NOISE, 1.0
    ends_of = [_descended(_start(alpha, inputs, seen), inputs, seen, noise) for alpha in STARTS]
    found = min(ends_of, key=lambda one: one[1])[0]
    for _ in range(ROUNDS):
        residual = seen - _log_loss(found, inputs)
        noise = max(LEAST_NOISE, 1.4826 * float(np.median(np.abs(residual))))
        dependence = _dependence(np.split(residual, ends))
        found, _ = _descended(found, inputs, seen, noise * np.sqrt(dependence))
    slope = _slope(found, inputs) / (noise * np.sqrt(dependence))
    precision = slope.T @ slope + np.diag(_prior_precision())
    return CurveFit(
        coordinates=found,
        covariance=np.linalg.pinv(precision, hermitian=True),
        noise=noise,
        freedom=max(4.0, len(seen) / dependence - len(NAMES)),
        peak=peak,
        unit=unit,
        last=max(int(curve.at[-1]) for curve in curves),
    )


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
    start: Array, inputs: Mapping[str, Array], seen: Array, noise: float
) -> tuple[Array, float]:
    """The nearest optimum, and its objective."""
    weight: Array = np.sqrt(_prior_precision())
    centre = np.append(CENTRE, [0.0, 0.0])

    def residuals(at: Array) -> Array:
        return np.append((seen - _log_loss(at, inputs)) / noise, (at - centre) * weight)

    def slopes(at: Array) -> Array:
        return np.concatenate([-_slope(at, inputs) / noise, np.diag(weight)])

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


def _widening(curves: Sequence[Curve]) -> float:
    """How many standard errors the errors are at curves, and ends of curves, that were left out."""
    found = []
    for known, left in _trials(curves):
        made = _fit(known)
        for curve in left:
            middle, error = made._distribution(curve.lr, curve.at, made.noise)
            found.append(float(np.mean(((np.log(curve.loss) - middle) / error) ** 2)))
    return max(1.0, float(np.mean(found))) ** 0.5 if found else 1.0


def _trials(curves: Sequence[Curve]) -> Iterator[tuple[list[Curve], list[Curve]]]:
    """What is known, and what is forecast from it: each of three curves or more from the others,
    and the end of every curve from its beginning."""
    if len(curves) > 2:
        for k, curve in enumerate(curves):
            yield [*curves[:k], *curves[k + 1 :]], [curve]
    for part in PARTS:
        cuts = [_cut(curve, part) for curve in curves]
        whole = [cut for cut in cuts if len(cut[0].at) >= LEAST_ROWS and len(cut[1].at)]
        if whole:
            yield [known for known, _ in whole], [left for _, left in whole]


def _cut(curve: Curve, part: float) -> tuple[Curve, Curve]:
    """The losses of the first part of a curve, and of the rest."""
    early = curve.at < part * (curve.at[-1] + 1)
    return (
        Curve(curve.lr, curve.at[early], curve.loss[early]),
        Curve(curve.lr, curve.at[~early], curve.loss[~early]),
    )


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
