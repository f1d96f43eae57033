"""Backtests: fit on the cheapest runs, forecast the dearest, and count what the intervals held."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws import registry
from stepladder.laws.fitting import fit_points, prepare
from stepladder.laws.forecasting import outcome_interval, together
from stepladder.laws.holdout import dearest
from stepladder.laws.law import Array, Law, Mask
from stepladder.laws.panel import Panel, panel
from stepladder.laws.points import Points, check_support
from stepladder.laws.result import Settings

HELD = 0.25
MOST_FORECASTS = 400  # of a large held-out part every k-th run gets an interval


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One run that the law was not shown: its row, its cost, what came and what was forecast."""

    row: int
    cost: float
    outcome: float
    forecast: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether the interval held the outcome."""
        return self.low <= self.outcome <= self.high


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """A law tested on the dearest runs.

    Args:
        trained, held: how many runs were fitted and forecast.
        reach: cost of the dearest run over that of the dearest fitted run.
        error: root mean square of log(forecast / outcome) over the held-out runs.
        bias: mean of the same.
        largest: log(forecast / outcome) of the dearest run.
        r2: share of the held-out variance that the forecasts explain.
        coverage: share of outcomes inside their interval at `level`.
        weights: of each law in the forecasts.
    """

    law: str
    trained: int
    held: int
    reach: float
    error: float
    bias: float
    largest: float
    r2: float
    coverage: float
    level: float
    status: str
    weights: Mapping[str, float]
    outcomes: tuple[Outcome, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)


def backtest(
    law: str | Law,
    columns: Mapping[str, ArrayLike],
    *,
    held: float = HELD,
    above: float | None = None,
    level: float = 0.9,
    rivals: tuple[str, ...] | None = None,
    most: int = MOST_FORECASTS,
    **options: Any,
) -> Backtest:
    """Fit `law` to the cheapest runs and forecast the others.

    Args:
        held: part of the runs that is held out, the dearest.
        above: instead of `held`, hold out the runs that cost more than this (in FLOP where the
            columns hold flops or params and tokens).
        rivals: other laws that share the forecasts, as in `Fit.forecast`: the law's own where not
            given, () for the law alone.
        most: intervals are computed for about so many of the held-out runs, evenly spread.
        options: of `fit`: loss, noise, starts, ...

    Raises:
        ValueError: the cheaper runs do not support the law.
    """
    law = registry.get(law) if isinstance(law, str) else law
    options.setdefault("bootstrap", 0)
    points, settings = prepare(law, columns, level=level, **options)
    if above is None and not 0 < held < 1:
        raise ValueError(f"held must lie between 0 and 1, a part of the runs, not {held:g}")
    mask = dearest(points.cost, held) if above is None else points.cost > above
    return backtest_points(law, points, mask, settings, rivals, most)


def backtest_points(
    law: Law,
    points: Points,
    held: Mask,
    settings: Settings,
    rivals: tuple[str, ...] | None = None,
    most: int = MOST_FORECASTS,
) -> Backtest:
    """Fit the points outside the mask, forecast those inside."""
    if not held.any() or held.all():
        low, high = points.cost.min(), points.cost.max()
        raise ValueError(
            f"a backtest needs runs on both sides of the cut; they cost {low:.4g} to {high:.4g}"
        )
    train = points.take(~held)
    check_support(law, train)
    fitted = fit_points(law, train, replace(settings, bootstrap=0))
    test = points.take(held)
    laws = panel(fitted, rivals)
    forecast, outcome = together(laws, test.inputs), test.target
    outcomes = tuple(
        _outcome(laws, test, k, float(forecast[k]))
        for k in range(0, len(test), 1 + len(test) // most)
    )
    miss = np.log(forecast / outcome) if np.all(outcome > 0) else forecast - outcome
    return Backtest(
        law=law.name,
        trained=len(train),
        held=len(test),
        reach=float(test.cost.max() / train.cost.max()),
        error=float(np.sqrt(np.mean(miss**2))),
        bias=float(np.mean(miss)),
        largest=float(miss[np.argmax(test.cost)]),
        r2=_r2(forecast, outcome),
        coverage=float(np.mean([o.inside for o in outcomes])),
        level=settings.level,
        status=fitted.status,
        weights=laws.shares,
        outcomes=outcomes,
    )


def _outcome(laws: Panel, test: Points, at: int, forecast: float) -> Outcome:
    inputs = {name: x[at] for name, x in test.inputs.items()}
    low, high = outcome_interval(laws, inputs, laws.fits[0].settings.level)
    return Outcome(
        row=test.rows[at],
        cost=float(test.cost[at]),
        outcome=float(test.target[at]),
        forecast=forecast,
        low=low,
        high=high,
    )


def _r2(predicted: Array, target: Array) -> float:
    around = np.sum((target - target.mean()) ** 2)
    return float(1 - np.sum((target - predicted) ** 2) / around) if around > 0 else float("nan")
