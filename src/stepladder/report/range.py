"""The figure of a range test: training loss against the rate it was reached at."""

from typing import TYPE_CHECKING

from stepladder.report import style, words
from stepladder.report.style import LIGHT
from stepladder.schedules.range_test import smoothed
from stepladder.search.rate_range import RateRange

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def range_figure(found: RateRange, title: str) -> "Figure":
    """Losses as they came and smoothed, with the limit and what is suggested."""
    made, (axes,) = style.figure(title)
    axes.set_xscale("log")
    smooth = smoothed(found.losses)
    rates = found.rates[: len(smooth)]
    axes.plot(rates, found.losses[: len(smooth)], color=LIGHT["run"], lw=1, alpha=0.35, zorder=2)
    axes.plot(rates, smooth, color=LIGHT["run"], lw=2, zorder=3)
    low, top = min(found.losses[: len(smooth)]), max(smooth)
    axes.set_ylim(low - 0.05 * (top - low), top + 0.08 * (top - low))
    for rate, colour, text, side in (
        (found.suggested, "law", f"suggested: {words.rate(found.suggested)}", "right"),
        (found.limit, "outcome", f"lowest: {words.rate(found.limit)}", "left"),
    ):
        axes.axvline(rate, color=LIGHT[colour], lw=1.6, zorder=1)
        offset = (-7, 0) if side == "right" else (7, 0)
        style.label(axes, text, (rate, top), offset, colour, ha=side, va="top", fontweight="bold")
    axes.set_xlabel("base learning rate, rising through the run")
    axes.set_ylabel("training loss (nats per token), smoothed")
    return made
