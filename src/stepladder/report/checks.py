"""Figures of the checks: do layers move alike over size, and does the best rate stay?"""

from math import inf
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from stepladder.report import style
from stepladder.report.style import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stepladder.scaling.coordinate import CoordinateReport, Row
    from stepladder.scaling.transfer import TransferReport

FINDINGS = {"ok": "law", "unclear": "muted", "fails": "outcome"}
PANELS = {"start": "gain at the start", "move": "gain of what was learned"}
LEAST_RANGE = 2.0  # gains to either side of 1 that are shown: noise is not made to look large


def coordinate_figure(report: "CoordinateReport", path: Path) -> Path:
    """Gains against size on log-log axes: flat lines transfer, orange ones, which are named, do
    not."""
    panels = sorted({(row.axis, row.quantity) for row in report.rows}, reverse=True)
    figure, all_axes = style.figure(str(report).splitlines()[0], len(panels))
    for axes, panel in zip(all_axes, panels, strict=True):
        rows = [row for row in report.rows if (row.axis, row.quantity) == panel]
        reach = max(LEAST_RANGE, *(_reach(row) for row in rows))
        for row in rows:
            _draw(axes, row)
        axes.set_yscale("log", base=2)
        axes.set_ylim(1 / (1.1 * reach), 1.1 * reach)
        _plain_powers(axes, [size for size, _, _ in rows[0].points], panel[0])
        axes.set_ylabel(f"{PANELS[panel[1]]}, relative")
    figure.savefig(path)
    return path


def _gains(row: "Row") -> tuple[list[int], list[float]]:
    """Sizes, and the mean gain at each over that at the smallest."""
    sizes = sorted({size for size, _, _ in row.points})
    means = [fmean(gain for at, _, gain in row.points if at == size) for size in sizes]
    return sizes, [mean / means[0] for mean in means]


def _reach(row: "Row") -> float:
    shown = [gain for gain in _gains(row)[1] if 0 < gain < inf]
    return max((max(gain, 1 / gain) for gain in shown), default=1.0)


def _draw(axes: "Axes", row: "Row") -> None:
    sizes, gains = _gains(row)
    colour = FINDINGS[row.finding]
    axes.plot(sizes, gains, "o-", ms=4, lw=1.4, color=LIGHT[colour])
    if row.finding != "ok":
        style.label(axes, row.parameter, (sizes[-1], gains[-1]), (-4, 6), colour, ha="right")


def _plain_powers(axes: "Axes", sizes: list[int], name: str) -> None:
    """Sizes as they are, and gains as 1/2, 1, 2, ..."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(sizes))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:g}"))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda gain, _: f"{gain:g}" if gain >= 1 else f"1/{1 / gain:g}")
    )
    axes.set_xlabel(name)


def transfer_figure(report: "TransferReport", path: Path) -> Path:
    """Loss against rate, a curve per size, with the best rate of each marked."""
    figure, (axes,) = style.figure(str(report).splitlines()[0])
    sizes = sorted(report.best)
    for size, colour in zip(sizes, style.shades(len(sizes)), strict=True):
        runs = [run for run in report.runs if run.size == size]
        lrs = sorted({run.lr for run in runs})
        means = [fmean(run.loss for run in runs if run.lr == lr) for lr in lrs]
        axes.plot(lrs, means, "o-", ms=4, color=colour, label=f"{report.axis} {size}")
        axes.axvline(2 ** report.best[size], color=colour, lw=0.8, ls=":")
    axes.set_xscale("log")
    axes.set_xlabel("learning rate at the base (dotted: the best)")
    axes.set_ylabel("loss (nats)")
    axes.legend(frameon=False, labelcolor=LIGHT["ink"])
    figure.savefig(path)
    return path
