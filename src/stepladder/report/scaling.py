"""The figure of a ladder: loss against compute, law, forecast and outcome."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from stepladder.laws.floored import Floor, fit_floored
from stepladder.report import style, words
from stepladder.report.style import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Result = dict[str, Any]
GRID = 40  # points of the law's curve


def scaling_figure(forecast: Result, score: Result | None) -> "Figure":
    """Loss against compute: runs, the law with its band, the forecast, and the outcome if any."""
    made, (axes,) = style.figure(words.verdict(forecast, score))
    runs = [(p["flops"], p["loss"]) for p in forecast["points"]]
    target = forecast["target"]["flops"]
    axes.set_xscale("log")
    low, high = _law(axes, forecast, runs, target)
    _runs(axes, forecast["points"])
    _forecast(axes, forecast, target)
    if score is not None and math.isfinite(score["outcome"]):
        _outcome(axes, score, target)
        low, high = min(low, score["outcome"]), max(high, score["outcome"])
    style.loss_ticks(axes, low - 0.2 * (high - low), high + 0.06 * (high - low))
    _reach(axes, forecast, max(flops for flops, _ in runs), target)
    axes.set_xlabel("training compute (FLOP)")
    axes.set_ylabel("validation loss (nats per token)")
    return made


def _law(
    axes: "Axes", forecast: Result, runs: list[tuple[float, float]], target: float
) -> tuple[float, float]:
    """The law with its band, solid where it was fitted; returns the span of losses."""
    level, floor = forecast["level"], Floor(**forecast["fit"]["floor"])
    fit = fit_floored([flops for flops, _ in runs], [loss for _, loss in runs], floor)
    first, last = min(f for f, _ in runs), max(f for f, _ in runs)
    span = target / first
    # With the last run, where the dashes begin; the band ends at the target's own interval.
    grid = np.sort(np.append(np.geomspace(first * span**-0.08, target, GRID), last))
    said = [fit.forecast(flops, level=level) for flops in grid]
    value = np.array([f.value for f in said])
    low, high = np.array([f.low for f in said]), np.array([f.high for f in said])
    axes.fill_between(grid, low, high, color=LIGHT["band"], lw=0, zorder=1)
    inside, outside = grid <= last, grid >= last
    axes.plot(grid[inside], value[inside], color=LIGHT["law"], lw=2.2, zorder=3)
    axes.plot(grid[outside], value[outside], color=LIGHT["law"], lw=2.2, ls=(0, (4, 2)), zorder=3)
    axes.set_xlim(grid[0], target * span**0.22)
    at = first * span**0.16
    top = float(np.interp(math.log(at), np.log(grid), high))
    style.label(axes, "rungs by parameters, one dot a seed", (at, top), (8, 12), "run")
    middle = math.sqrt(last * target)
    edge = float(np.interp(math.log(middle), np.log(grid), high))
    text = f"fitted law, {words.percent_level(forecast)} band"
    style.label(axes, text, (middle, edge), (8, 12), "law")
    losses = [loss for _, loss in runs]
    return min(float(low.min()), *losses), max(float(high.max()), *losses)


def _runs(axes: "Axes", points: list[Result]) -> None:
    """A dot a run, and below each rung its parameters."""
    x, y = [p["flops"] for p in points], [p["loss"] for p in points]
    axes.scatter(x, y, s=26, color=LIGHT["run"], alpha=0.75, lw=0, zorder=4)
    lowest = {p["params"]: p for p in sorted(points, key=lambda p: -p["loss"])}
    more = {"ha": "right", "va": "top", "fontsize": 9}
    for params, p in lowest.items():
        style.label(axes, words.count(params), (p["flops"], p["loss"]), (-3, -4), "muted", **more)


def _forecast(axes: "Axes", forecast: Result, target: float) -> None:
    low, high = forecast["interval"]
    value = forecast["forecast"]
    axes.plot([target, target], [low, high], color=LIGHT["law"], lw=3, zorder=5)
    axes.scatter([target], [value], s=70, color=LIGHT["ground"], ec=LIGHT["law"], lw=2.4, zorder=6)
    text = f"forecast {value:.3f}\n{low:.3f} to {high:.3f}"
    more = {"ha": "right", "va": "top", "fontweight": "bold"}
    style.label(axes, text, (target, value), (-22, -14), "law", **more)


def _outcome(axes: "Axes", score: Result, target: float) -> None:
    value = score["outcome"]
    axes.scatter([target], [value], s=64, marker="D", color=LIGHT["outcome"], lw=0, zorder=7)
    text = f"outcome {value:.3f}"
    more = {"ha": "left", "va": "center", "fontweight": "bold"}
    style.label(axes, text, (target, value), (14, 0), "outcome", **more)


def _reach(axes: "Axes", forecast: Result, last: float, target: float) -> None:
    """How far the forecast reaches, along the bottom."""
    bottom = axes.get_ylim()[0] * 1.012
    arrow = {"arrowstyle": "<->", "color": LIGHT["muted"], "lw": 1.1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (last, bottom), (target, bottom), arrowprops=arrow)
    text = f"{target / last:.3g} times the compute"
    more = {"ha": "center", "fontsize": 9.5}
    style.label(axes, text, (math.sqrt(last * target), bottom), (0, 5), "muted", **more)
