"""How far do the intervals of forecasts hold? Coverage against the reach of a forecast.

    python evidence/make_reach.py

Every published table of losses by parameters and tokens is cut at its cheapest 30, 50, 75 and 90%
(the outside tables that STEPLADDER_UNSEEN names at 30, 60, 70 and 80%), and dear runs are forecast
as `stepladder forecast` does. The reach of an outcome is its compute over that of the dearest run
that was fitted. Coverage is given with the bars as they are and without their growth with reach
(`Panel.widening_at`), whose two numbers were chosen on these very tables.

Writes evidence/laws/reach.json and reach.svg.
"""

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from law_sets import every
from make_unseen import INTERVALS, STARTS, TABLES
from matplotlib import rc_context
from matplotlib.figure import Figure

from stepladder.cli.law_table import law_columns
from stepladder.durable import write_whole
from stepladder.laws import backtest
from stepladder.laws.backtesting import Backtest
from stepladder.laws.panel import GROWTH, NEAR
from stepladder.report import style

OUT = Path(__file__).parent / "laws"
COMMAND = "python evidence/make_reach.py"
LAW, LEVEL = "chinchilla", 90
BINS = (0.0, 2.0, 8.0, 40.0, np.inf)  # of the reach
OURS, OUTSIDE = (0.7, 0.5, 0.25, 0.1), (0.7, 0.4, 0.3, 0.2)  # held out


class Landed(NamedTuple):
    """Where an outcome landed: its distance from the forecast in bars, on its side."""

    reach: float
    bars: float


def ours() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The tables that come with the project."""
    for name, columns, laws in every():
        if LAW in laws:
            yield name, columns


def outside() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The tables from elsewhere, one row a run."""
    folder = Path(os.environ.get("STEPLADDER_UNSEEN", "/nowhere"))
    for table in TABLES:
        path = folder / f"{table.name}.csv"
        if table.law == LAW and table.kind == "final" and path.exists():
            yield table.name, dict(law_columns(LAW, path, table.maps, table.where).columns)


def landed(made: Backtest, columns: dict[str, np.ndarray]) -> list[Landed]:
    """Of every outcome that has an interval."""
    flops = 6 * columns["params"] * columns["tokens"]
    order = np.argsort(columns.get("flops", flops), kind="stable")
    fitted = flops[order[: made.trained]].max()
    found = []
    for o in made.outcomes:
        end = o.high if o.outcome > o.forecast else o.low
        bars = np.log(o.outcome / o.forecast) / np.log(end / o.forecast)
        found.append(Landed(flops[o.row - 1] / fitted, float(bars)))
    return found


def collected(
    tables: Iterator[tuple[str, dict[str, np.ndarray]]], cuts: tuple[float, ...]
) -> tuple[list[Landed], int]:
    """All outcomes, and how many backtests they are of."""
    found: list[Landed] = []
    count = 0
    for name, columns in tables:
        for held in cuts:
            try:
                made = backtest(LAW, columns, held=held, starts=STARTS, most=INTERVALS)
            except ValueError:  # too few runs, or too narrow
                continue
            found += landed(made, columns)
            count += 1
            print(name, held, f"{made.error:.2%} {made.coverage:.0%}", flush=True)
    return found, count


def by_reach(found: list[Landed]) -> list[dict[str, float]]:
    """Coverage in every bin of the reach, with bars as they are and without their growth."""
    reach, bars = (np.array(x) for x in zip(*found, strict=True))
    grown = np.maximum(reach / NEAR, 1.0) ** GROWTH
    rows = []
    for low, high in itertools.pairwise(BINS):
        here = (reach >= low) & (reach < high)
        if here.any():
            rows.append({
                "from": low, "to": float(min(high, reach.max())), "outcomes": int(here.sum()),
                "reach": float(np.exp(np.log(reach[here]).mean())),
                "coverage": float(np.mean(np.abs(bars[here]) <= 1)),
                "without_growth": float(np.mean(np.abs(bars[here] * grown[here]) <= 1)),
            })  # fmt: skip
    return rows


def draw(groups: dict[str, dict[str, object]]) -> Figure:
    """Coverage against reach."""
    every = [100 * row["coverage"] for group in groups.values() for row in group["by_reach"]]
    made, (axes,) = style.figure(
        f"Near and far, {min(every):.0f} to {max(every):.0f}% of outcomes lie in their {LEVEL}% "
        "interval"
    )
    for k, (name, group) in enumerate(groups.items()):
        rows = group["by_reach"]
        x = [row["reach"] for row in rows]
        colour = ("law", "outcome")[k]
        for key, look, said in (("coverage", "o-", ""), ("without_growth", "o:", ", not widened")):
            y = [100 * row[key] for row in rows]
            axes.plot(x, y, look, color=style.LIGHT[colour], label=f"{name}{said}")
    axes.axhline(LEVEL, lw=0.8, color=style.LIGHT["muted"])
    axes.set(xscale="log", ylim=(0, 103), xlabel="compute, times that of the dearest fitted run",
             ylabel=f"outcomes inside their {LEVEL}% interval, %")  # fmt: skip
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(loc="lower left")
    return made


def main() -> None:
    """Run the backtests; write numbers and figure."""
    path = OUT / "reach.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    groups: dict[str, dict[str, object]] = {}
    for name, tables, cuts in (
        ("tables of the project", ours(), OURS),
        ("tables from outside", outside(), OUTSIDE),
    ):
        found, count = collected(tables, cuts)
        if found:
            groups[name] = {"backtests": count, "by_reach": by_reach(found)}
        elif name in before:  # the tables are elsewhere
            groups[name] = before[name]
    document = {"command": COMMAND, "near": NEAR, "growth": GROWTH, **groups}
    write_whole(path, json.dumps(document, indent=1) + "\n")
    with rc_context(style.SETTINGS):
        write_whole(OUT / "reach.svg", style.svg(draw(groups), "reach"))


if __name__ == "__main__":
    main()
