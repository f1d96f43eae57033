"""A target's run beside its forecast: where it is heading, and the alarm.

Everything here follows from the forecast and from curves in the store, so that `train` and `score`
say the same, however often the run was interrupted.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from stepladder.laws.floored import Floor, fit_floored
from stepladder.laws.monitor import (
    Alarm,
    Finished,
    Heading,
    Shape,
    Trace,
    find_alarm,
    headings,
    shape,
)
from stepladder.recipe import Recipe
from stepladder.store import Store

# Of the forecast's interval and of the heading's. A healthy run leaves with its whole interval in
# less than one case in twenty (evidence/make_monitor.py).
LEVEL = 0.95

Result = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """What a target is held against.

    Args:
        shape: the rungs' curves, at the target's compute.
        tokens: of the target's run.
        value, low, high: the forecast, with its interval at `LEVEL`.
    """

    shape: Shape
    tokens: int
    value: float
    low: float
    high: float

    def headings(self, rows: Iterable[Row]) -> list[Heading]:
        """Where a run was heading at each row of its curve."""
        trace = trace_of(rows, self.tokens)
        return headings(self.shape, trace, LEVEL) if len(trace.loss) else []

    def alarm(self, looks: list[Heading]) -> Alarm | None:
        """The alarm of a run, or None."""
        return find_alarm(looks, self.low, self.high)


def monitor_of(forecast: Result, store: Store) -> Monitor:
    """The monitor of a forecast's target.

    Raises:
        ValueError: the rungs' curves are not in the store, or say nothing of the target's.
    """
    points, fit = forecast["points"], forecast["fit"]
    law = fit_floored(
        [p["flops"] for p in points], [p["loss"] for p in points], Floor(**fit["floor"])
    )
    target = forecast["target"]
    said = law.forecast(target["flops"], level=LEVEL)
    recipe = Recipe.from_dict(target["recipe"])
    runs = [_finished(store, point) for point in points]
    return Monitor(
        shape=shape(runs, fit["parameters"]["E"], target["flops"]),
        tokens=recipe.steps * recipe.batch,
        value=said.value,
        low=said.low,
        high=said.high,
    )


def watched(forecast: Result, store: Store) -> Result | None:
    """What the monitor has to say of a target's run: for `score.json`.

    Returns:
        Where it was heading at a quarter, half and three quarters of its way, and its alarm or
        None; None where there is no monitor.
    """
    run = store.get(forecast["target"]["key"])
    try:
        monitor = monitor_of(forecast, store)
    except ValueError:
        return None
    looks = monitor.headings(run.curve if run else ())
    alarm = monitor.alarm(looks)
    quarters = [at for q in (0.25, 0.5, 0.75) if (at := heading_at(looks, q))]
    return {
        "level": LEVEL,
        "forecast": [monitor.value, monitor.low, monitor.high],
        "headings": [asdict(look) for look in quarters],
        "alarm": asdict(alarm) if alarm else None,
    }


def heading_at(looks: Iterable[Heading], progress: float) -> Heading | None:
    """The first heading at or after a progress."""
    return next((look for look in looks if look.progress >= progress - 1e-9), None)


def trace_of(rows: Iterable[Row], tokens: int) -> Trace:
    """The training losses among the rows of a curve; of a step that was made again, the last."""
    losses = {row["tokens"]: row["loss"] for row in rows if "loss" in row}
    at = sorted(losses)
    return Trace(
        np.array(at, dtype=np.float64) / tokens,
        np.array([losses[tokens_done] for tokens_done in at], dtype=np.float64),
    )


def _finished(store: Store, point: Result) -> Finished:
    run = store.get(point["key"])
    if run is None or run.result is None or not run.curve:
        raise ValueError(f"run {point['key']}, on which the forecast rests, is not in {store.root}")
    return Finished(point["flops"], point["loss"], trace_of(run.curve, point["tokens"]))
