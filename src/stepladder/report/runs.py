"""Runs in the terminal: a table of all, and one in full with its curve."""

import tomllib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from stepladder.report import words
from stepladder.store import StoredRun

COLOURS = {"done": "green", "diverged": "yellow", "partial": "cyan", "corrupt": "red"}
BLOCKS = "▁▂▃▄▅▆▇█"
SPARKS = 40  # characters of a curve


def summary(run: StoredRun) -> dict[str, Any]:
    """A run in one flat row: what it is, how it ended, what it cost."""
    what = _recipe(run)
    model, result = what.get("model", {}), run.result or {}
    return {
        "key": run.key,
        "status": run.status,
        "width": model.get("width"),
        "depth": model.get("depth"),
        "tokens": what.get("tokens"),
        "lr": what.get("optimizer", {}).get("lr"),
        "seed": what.get("seed"),
        "loss": result.get("loss"),
        "flops": result.get("flops"),
        "seconds": result.get("seconds"),
        "problem": run.problem or None,
    }


def runs_table(runs: Sequence[StoredRun]) -> RenderableType:
    """All runs, and below them how the corrupt ones are mended."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("key", "status", "shape"):
        table.add_column(name, no_wrap=True)
    for name in ("tokens", "lr", "seed", "loss", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        row = summary(run)
        table.add_row(run.key, Text(run.status, style=COLOURS[run.status]), *_cells(row, run))
    problems = [Text(f"{run.key}: {run.problem}", style="red") for run in runs if run.problem]
    return Group(table, *problems)


def run_panel(run: StoredRun) -> RenderableType:
    """One run: result, where it ran, curve and recipe; or what is wrong with it."""
    if run.problem:
        return Panel(Text(run.problem), title=f"run {run.key}: corrupt", border_style="red")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    for name, value in _facts(run):
        table.add_row(name, Text(value))
    title = f"run {run.key}: {run.status}"
    panel = Panel(table, title=title, border_style=COLOURS[run.status], expand=False)
    return Group(panel, Syntax(run.recipe.strip(), "toml", background_color="default"))


def sparkline(values: Sequence[float], width: int = SPARKS) -> str:
    """Finite values as block characters, means where there are more than `width`."""
    finite = [value for value in values if value - value == 0]
    if not finite:
        return ""
    count = min(width, len(finite))
    edges = [i * len(finite) // count for i in range(count + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(means), max(means)
    span = high - low or 1.0
    return "".join(BLOCKS[round((mean - low) / span * (len(BLOCKS) - 1))] for mean in means)


def _recipe(run: StoredRun) -> Mapping[str, Any]:
    """The recipe as plain data: a run of another version is listed too."""
    try:
        return tomllib.loads(run.recipe)
    except tomllib.TOMLDecodeError:
        return {}


def _cells(row: Mapping[str, Any], run: StoredRun) -> list[str]:
    shape = "" if row["width"] is None else f"{row['width']} x {row['depth']}"
    return [
        shape,
        "" if row["tokens"] is None else words.count(row["tokens"]),
        "" if row["lr"] is None else words.rate(row["lr"]),
        "" if row["seed"] is None else str(row["seed"]),
        "" if run.result is None else words.loss(row["loss"]),
        "" if row["seconds"] is None else words.time(row["seconds"]),
    ]


def _facts(run: StoredRun) -> list[tuple[str, str]]:
    """What is known of a run, in words."""
    losses = [row["loss"] for row in run.curve if "loss" in row]
    facts = []
    if losses:
        facts.append(("curve", f"{losses[0]:.3f} {sparkline(losses)} {losses[-1]:.3f}"))
    if run.result is None:
        step = run.curve[-1]["step"] if run.curve else 0
        return [*facts, ("partial", f"curve up to step {step:,}; the same command goes on")]
    result = run.result
    error = result.get("standard_error")
    spread = f" +-{error:.4f} (validation text of this kind)" if error is not None else ""
    where = ", ".join(f"{k} {v}" for k, v in result.get("where", {}).items())
    return [
        *facts,
        ("loss", words.loss(result.get("loss")) + spread),
        ("steps", f"{result['steps']:,}, {words.count(result['tokens'])} tokens"),
        ("parameters", words.count(result["params"])),
        ("cost", f"{words.flop(result['flops'])} FLOP, {words.time(result['seconds'])}"),
        ("started", result["started"]),
        ("where", where),
        ("folder", str(run.folder)),
    ]
