"""The figure of learning-rate transfer: does the rate tuned at the base hold one rung wider?"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stepladder.report import style, words
from stepladder.report.style import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Result = dict[str, Any]
Losses = Sequence[tuple[float, Sequence[float]]]


def rates_figure(tuning: Result) -> "Figure":
    """Loss above the best of its width against the base learning rate, at both widths."""
    made, (axes,) = style.figure(_title(tuning))
    axes.set_xscale("log", base=2)
    best, check = tuning["optimum"], tuning["check"]
    axes.axvspan(best["low"], best["high"], color=LIGHT["band"], lw=0, zorder=1)
    axes.axvline(best["lr"], color=LIGHT["law"], lw=1.6, zorder=2)
    base, wider = check["widths"]
    _width(axes, tuning["losses"], f"width {base} (base)", "run", over=True)
    _width(axes, check["losses"], f"width {wider}", "outcome", over=False)
    _ticks(axes, [rate for rate, _ in tuning["losses"]])
    interval = f"{words.rate(best['low'])} to {words.rate(best['high'])}"
    top = axes.get_ylim()[1]
    text = f"tuned: {words.rate(best['lr'])}\n{interval}"
    more = {"ha": "left", "va": "top", "fontweight": "bold"}
    style.label(axes, text, (best["high"], top), (7, -4), "law", **more)
    axes.set_xlabel("base learning rate")
    axes.set_ylabel("loss above the best of its width (%)")
    return made


def _title(tuning: Result) -> str:
    check = tuning["check"]
    base, wider = check["widths"]
    holds = "holds" if check["holds"] else "does not hold"
    cost = f"{words.percent(check['lost'])} above its best"
    return f"The rate tuned at width {base} {holds} at width {wider} ({cost})"


def _width(axes: "Axes", losses: Losses, name: str, colour: str, *, over: bool) -> None:
    """One width: a dot a seed, a line through the means, and its name over its end or beside it."""
    means = {rate: sum(values) / len(values) for rate, values in losses}
    finite = {rate: mean for rate, mean in means.items() if math.isfinite(mean)}
    best = min(finite.values())
    above = [100 * (mean / best - 1) for mean in finite.values()]
    axes.plot(list(finite), above, color=LIGHT[colour], lw=2, zorder=3)
    dots = [(rate, y) for rate, values in losses for y in values if math.isfinite(y)]
    x, y = [rate for rate, _ in dots], [100 * (loss / best - 1) for _, loss in dots]
    axes.scatter(x, y, s=28, color=LIGHT[colour], alpha=0.8, lw=0, zorder=4)
    end = (list(finite)[-1], above[-1])
    if over:
        style.label(axes, name, end, (0, 9), colour, ha="right", va="bottom")
    else:
        style.label(axes, name, end, (8, 0), colour, va="center")
    for rate in means.keys() - finite.keys():
        style.label(axes, "diverged", (rate, 0), (0, 4), colour, ha="center", rotation=90)


def _ticks(axes: "Axes", rates: Sequence[float]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xticks(list(rates), [words.rate(rate) for rate in rates])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.08, y=0.16)
