"""A power law along a ladder whose floor the runs are too few and too close to show.

Runs over one decade of compute say where a loss is and how fast it falls, and almost nothing of
the floor it falls to; a fit of all three then ends at no floor or at a high one, by the noise. So
the floor comes with what is known of it beforehand, and everything else from the runs:

    L = E + A / C^alpha,   E ~ Student's t with three degrees, cut off at 0 and the lowest loss

The heavy tails let runs that do show their floor overrule what was thought of it.

For each E the law is a line in log(L - E) over log C, solved in closed form; the forecast mixes the
lines by how well they fit and how plausible their floor is. The unknowns besides E are taken as
flat in what runs do determine, the loss and its slope in the middle of the ladder, so that their
share of the posterior does not depend on E.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from stepladder.laws.forecasting import Forecast
from stepladder.laws.law import Array

FORM = "L = E + A / C^alpha"
FLOORS = 200  # values of E
PRIOR_FREEDOM = 3  # of the Student distribution of the floor
LEAST_REST = 0.02  # of the lowest loss that is left above the highest floor
HALVINGS = 60  # of the range of a quantile
LEAST_RUNS = 4
LEAST_NOISE = 1e-9  # of the loss: runs that are a law's own have noise of arithmetic


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What is known of the loss left with endless compute, before any run.

    Args:
        mean, sd: centre and scale, in the unit of the loss, before the cut at 0.
        source: where they are from.
    """

    mean: float
    sd: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Floored:
    """A fitted law; `flops` [N] and `loss` [N] are the runs it rests on."""

    flops: tuple[float, ...]
    loss: tuple[float, ...]
    floor: Floor

    @property
    def parameters(self) -> dict[str, float]:
        """Means over the plausible floors: E, alpha, and the A that fits the middle of the runs."""
        lines = self._lines
        floor = float(lines.weight @ lines.floor)
        alpha = float(-(lines.weight @ lines.slope))
        middle = float(lines.weight @ np.exp(lines.height))
        return {"E": floor, "A": float(middle * np.exp(alpha * self._centre)), "alpha": alpha}

    @property
    def noise(self) -> float:
        """Standard deviation of the logarithm of the loss around the law."""
        return float(np.sqrt(self._lines.weight @ self._lines.variance))

    def forecast(self, flops: float, level: float = 0.9) -> Forecast:
        """The outcome of one run at a compute, in FLOP.

        Raises:
            ValueError: the compute is not a positive number.
        """
        if not (np.isfinite(flops) and flops > 0):
            raise ValueError(f"compute must be a positive number of FLOP, not {flops}")
        centre, law_spread, spread = self._said(flops)
        tail = (1 - level) / 2
        low, high = (self._quantile(q, centre, spread) for q in (tail, 1 - tail))
        law_low, law_high = (self._quantile(q, centre, law_spread) for q in (tail, 1 - tail))
        first, last = min(self.flops), max(self.flops)
        return Forecast(
            value=float(self._lines.weight @ np.exp(centre)),
            low=low,
            high=high,
            level=level,
            law_low=law_low,
            law_high=law_high,
            inputs={"flops": float(flops)},
            weights={"power": 1.0},
            beyond={"flops": max(1.0, flops / last, first / flops)},
        )

    def to_json(self) -> dict[str, Any]:
        """What is shown of the fit; with the runs it makes the whole of it again."""
        return {
            "law": "power",
            "form": FORM,
            "parameters": self.parameters,
            "noise": self.noise,
            "floor": asdict(self.floor),
        }

    @property
    def _centre(self) -> float:
        return float(np.mean(np.log(self.flops)))

    @cached_property
    def _lines(self) -> "_Lines":
        return _solve(np.log(self.flops) - self._centre, np.asarray(self.loss), self.floor)

    def _said(self, flops: float) -> tuple[Array, Array, Array]:
        """Of each line [E]: log loss there, its standard error, and that of one run's log loss."""
        lines, x = self._lines, np.log(flops) - self._centre
        rest = np.exp(lines.height + lines.slope * x)
        loss = lines.floor + rest
        unsure = lines.var_height + 2 * x * lines.covariance + x**2 * lines.var_slope
        law_variance = unsure * (rest / loss) ** 2 * lines.variance
        return np.log(loss), np.sqrt(law_variance), np.sqrt(law_variance + lines.variance)

    def _quantile(self, q: float, centre: Array, spread: Array) -> float:
        """Of the mixture of Student distributions, by halving."""
        freedom, weight = len(self.loss) - 2, self._lines.weight
        far = stats.t.ppf(1 - min(q, 1 - q) / FLOORS, freedom) * spread.max()
        low, high = centre.min() - far, centre.max() + far
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = weight @ stats.t.cdf((middle - centre) / spread, freedom)
            low, high = (middle, high) if below < q else (low, middle)
        return float(np.exp(high))


@dataclass(frozen=True, kw_only=True)
class _Lines:
    """The line of each floor [E]; variances of height and slope are in units of `variance`."""

    floor: Array
    height: Array
    slope: Array
    var_height: Array
    var_slope: Array
    covariance: Array
    variance: Array
    weight: Array


def fit_floored(flops: ArrayLike, loss: ArrayLike, floor: Floor) -> Floored:
    """Fit the law of a ladder.

    Args:
        flops: training compute of each run, [N], in FLOP.
        loss: of each run, [N], in the unit of `floor`.

    Raises:
        ValueError: fewer than four runs, or of fewer than two scales; a value that is not a
            positive number; a floor whose spread is not positive.
    """
    c, y = np.asarray(flops, float).ravel(), np.asarray(loss, float).ravel()
    if c.shape != y.shape:
        raise ValueError(f"{len(c)} values of compute for {len(y)} losses: give one of each a run")
    if len(y) < LEAST_RUNS or len(set(c)) < 2:
        raise ValueError(
            f"{len(y)} runs at {len(set(c))} scales cannot hold a law: it takes {LEAST_RUNS} at 2"
        )
    if not (np.isfinite([*c, *y]).all() and min(*c, *y) > 0):
        raise ValueError("compute and losses must be positive numbers: leave diverged runs out")
    if not (np.isfinite([floor.mean, floor.sd]).all() and floor.sd > 0):
        raise ValueError(f"a floor needs a mean and a positive spread, not {floor}")
    return Floored(flops=_floats(c), loss=_floats(y), floor=floor)


def _floats(values: Array) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _solve(x: Array, loss: Array, floor: Floor) -> _Lines:
    """The weighted line through log(L - E) over centred log C, for every floor at once.

    The noise is even in log L, so that of log(L - E) is larger by L / (L - E): the weights.
    """
    e = np.linspace(0, (1 - LEAST_REST) * loss.min(), FLOORS)
    rest = loss - e[:, None]
    y, w = np.log(rest), (rest / loss) ** 2
    s0, s1, s2 = w.sum(1), w @ x, w @ x**2
    t0, t1 = (w * y).sum(1), (w * y) @ x
    determinant = s0 * s2 - s1**2
    height = (s2 * t0 - s1 * t1) / determinant
    slope = (s0 * t1 - s1 * t0) / determinant
    misfit = (w * (y - height[:, None] - slope[:, None] * x) ** 2).sum(1)
    freedom = len(loss) - 2
    variance = np.maximum(misfit / freedom, LEAST_NOISE**2)
    # Marginal over an unknown noise: misfit to the power of minus half the degrees of freedom.
    log_weight = -freedom / 2 * np.log(variance)
    log_weight += stats.t.logpdf((e - floor.mean) / floor.sd, PRIOR_FREEDOM)
    weight = np.exp(log_weight - log_weight.max())
    return _Lines(
        floor=e,
        height=height,
        slope=slope,
        var_height=s2 / determinant,
        var_slope=s0 / determinant,
        covariance=-s1 / determinant,
        variance=variance,
        weight=weight / weight.sum(),
    )


def text_floor(bytes_per_token: float) -> Floor:
    """The floor of text in nats per token: 0.3 bits a byte, give or take 0.2.

    Hoffmann et al. (2203.15556) find 1.69 nats per token and the refit of Besiroglu et al.
    (2404.10102) 1.82 on MassiveText, 10.5 TB in 2.34e12 tokens (Rae et al. 2112.11446): 0.54 and
    0.59 bits a byte of web pages and books. Code is more regular; no published floor of it was
    found, and the demo's own targets on code lie where 0.2 would have them. The spread covers both.
    """
    unit = np.log(2) * bytes_per_token
    return Floor(
        mean=0.3 * unit, sd=0.2 * unit, source="0.3 +- 0.2 bits a byte (2203.15556, 2404.10102)"
    )
