"""How fits, forecasts, allocations and backtests look: tables in the terminal, and a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stepladder.cli.console import print_indented
from stepladder.cli.law_table import count, counts
from stepladder.cli.text_chart import Marks, text_chart
from stepladder.laws.allocation import Allocation, Choice
from stepladder.laws.backtesting import Backtest
from stepladder.laws.comparing import Ranked
from stepladder.laws.design import Candidate
from stepladder.laws.forecasting import Forecast
from stepladder.laws.points import look_like_billions
from stepladder.laws.result import Ends, Fit

MANY_TIMES = 100
COLOURS = {"converged": "green", "bound hit": "yellow", "several optima": "yellow"}


def show_fit(fit: Fit, ranking: Sequence[Ranked], notes: Sequence[str]) -> None:
    """Print a fit: values, what is wrong with them, and a chart."""
    console = Console()
    if ranking:
        _show_ranking(console, ranking)
    colour = COLOURS.get(fit.status, "red")
    console.print(f"[bold]{fit.law.name}[/]  {fit.law.form}   [{colour}]{fit.status}[/]")
    show_notes((*notes, *fit.reasons))
    console.print(_values_table(fit))
    for text in _facts(fit):
        print_indented(console, text)
    console.print(chart(fit), highlight=False)


def chart(fit: Fit) -> str:
    """Measured points (o) and the law at the same inputs (·) along cost, in text."""
    cost, seen = np.log10(fit.points.cost), fit.points.target
    series = [Marks(cost, fit.predict(fit.points.inputs), "·"), Marks(cost, seen, "o")]
    ends = (f"{10 ** cost.min():.1e}", f"{10 ** cost.max():.1e}", _cost_name(fit))
    key = f"{fit.law.target}   (o measured, · law)"
    return text_chart(series, float(seen.min()), float(seen.max()), key, ends)


def draw(fit: Fit, path: Path) -> None:
    """A figure: measured against cost with the law, and residuals."""
    from stepladder.report.style import LIGHT, over_one_axis

    figure, (above, below) = over_one_axis(f"{fit.law.name}: {fit.law.form}")
    order = np.argsort(fit.points.cost)
    cost, seen = fit.points.cost[order], fit.points.target[order]
    made = fit.predict(fit.points.inputs)[order]
    above.plot(cost, seen, "o", ms=5, color=LIGHT["run"], label="measured")
    above.plot(cost, made, ".", ms=4, color=LIGHT["outcome"], label="the law at the same inputs")
    above.set(xscale="log", ylabel=fit.law.target)
    above.legend(frameon=False, labelcolor=LIGHT["ink"])
    below.axhline(0, color=LIGHT["muted"], lw=0.8)
    below.plot(cost, 100 * (seen / made - 1), ".", color=LIGHT["run"])
    below.set(xlabel=f"{_cost_name(fit)} of training", ylabel="residual, %")
    figure.savefig(path)


def _cost_name(fit: Fit) -> str:
    """What orders the runs."""
    inputs = fit.points.inputs
    counted = {"params", "tokens"} <= inputs.keys() and not look_like_billions(inputs)
    return "FLOP" if "flops" in inputs or counted else "cost"


def show_notes(notes: Sequence[str]) -> None:
    """Print remarks on how a table was read."""
    for note in notes:
        print_indented(Console(), note, "· ")


def show_forecast(made: Forecast, candidates: Sequence[Candidate]) -> None:
    """Print a forecast, and the runs that would sharpen it."""
    console = Console()
    console.print(f"at {counts(made.inputs)}", highlight=False)
    console.print(
        f"  [bold]{made.value:.4f}[/]   {made.level:.0%} of runs: {made.low:.4f} to {made.high:.4f}"
        f"   (the law itself: {made.law_low:.4f} to {made.law_high:.4f})",
        highlight=False,
    )
    for name, factor in made.beyond.items():
        if factor > 1:
            console.print(f"  {name} lies {factor:.3g} times beyond the fitted range")
    if len(made.weights) > 1:
        print_indented(console, _shares(made.weights))
    if candidates:
        console.print(_candidates_table(candidates))


def show_allocation(made: Allocation) -> None:
    """Print the best use of a budget, the region around it, and what other choices would give."""
    console = Console()
    console.print(
        f"[bold]{made.law}[/]: {made.value:.4f} at best, limited by {made.binding}", highlight=False
    )
    show_notes(_limits(made))
    table = Table("", "best", f"within {made.tolerance:.2%}")
    if made.intervals:
        table.add_column("best moves between")
    for name, x in made.inputs.items():
        moves = [_span(made.intervals.get(name, (x, x)))] if made.intervals else []
        table.add_row(name, count(x), _span(made.near[name]), *moves)
    table.add_row("tokens per parameter", f"{made.tokens_per_param:.3g}")
    table.add_row("training FLOP", f"{made.compute:.3g}")
    if made.stored != made.inputs["params"]:
        table.add_row("parameters in memory", count(made.stored))
    console.print(table)
    for name, choices in made.choices.items():
        console.print(_choices_table(name, choices, made.value))


def _limits(made: Allocation) -> list[str]:
    """Where the best choice ends: beyond the fitted runs, or with the choices."""
    lines = [
        f"{name} {count(made.inputs[name])} lies outside {count(low)} to {count(high)}, where the "
        "law was fitted"
        for name, (low, high) in made.outside.items()
    ]
    for name, choices in made.at_end.items():
        tried = ", ".join(f"{x:g}" for x in choices)
        lines.append(
            f"{name} {made.inputs[name]:g} is at the end of what was tried ({tried}): "
            f"--{name.replace('_', '-')} names others, as in a,b,c"
        )
    return lines


def _span(ends: tuple[float, float]) -> str:
    """`1B to 3B`; empty where nothing is left to choose."""
    low, high = (count(end) for end in ends)
    return "" if low == high else f"{low} to {high}"


def _choices_table(name: str, choices: Sequence[Choice], best: float) -> Table:
    """Each value of an input with the best of the rest."""
    table = Table(name, "params", "tokens", "at best", "worse by")
    for one in choices:
        worse = one.target / best - 1
        table.add_row(
            f"{one.value:g}", count(one.params), count(one.tokens), f"{one.target:.4f}",
            "best" if one.target == best else f"{worse:.2%}",
        )  # fmt: skip
    return table


def show_backtest(made: Backtest) -> None:
    """Print a backtest: errors first, then the dearest runs."""
    console = Console()
    console.print(
        f"[bold]{made.law}[/]  {made.trained} runs ({made.status}) forecast {made.held} "
        f"that cost up to {made.reach:.3g} times more\n"
        f"  error {made.error:.3%} (bias {made.bias:+.3%}), dearest run {made.largest:+.3%}, "
        f"R2 {made.r2:.3f}\n"
        f"  {made.level:.0%} intervals held {made.coverage:.0%} of outcomes",
        highlight=False,
    )
    if len(made.weights) > 1:
        print_indented(console, _shares(made.weights))
    table = Table("row", "cost", "outcome", "forecast", "interval", "")
    for one in sorted(made.outcomes, key=lambda o: -o.cost)[:10]:
        interval = f"{one.low:.4f} to {one.high:.4f}"
        inside = "inside" if one.inside else "[red]outside[/]"
        table.add_row(
            str(one.row), f"{one.cost:.2e}", f"{one.outcome:.4f}", f"{one.forecast:.4f}",
            interval, inside,
        )  # fmt: skip
    console.print(table)


def show_ranking(ranking: Sequence[Ranked]) -> None:
    """Print laws by their held-out error."""
    _show_ranking(Console(), ranking)


def ranked_json(one: Ranked) -> dict[str, Any]:
    """A ranked law as JSON, without its single outcomes."""
    if one.backtest is None:
        return {"law": one.law, "reason": one.reason}
    return {"law": one.law, **{k: v for k, v in one.backtest.to_json().items() if k != "outcomes"}}


def _shares(weights: Mapping[str, float]) -> str:
    told = ", ".join(f"{name} {weight:.0%}" for name, weight in weights.items())
    return f"laws, by their error on the dearest runs: {told}"


def _values_table(fit: Fit) -> Table:
    table = Table("", "value", f"{fit.settings.level:.0%} interval ({fit.method})", "meaning")
    for member in fit.law.members:
        ends = _interval(fit.intervals[member.name])
        table.add_row(member.name, _constant(fit.values[member.name]), ends, member.meaning)
    for name, value in fit.derived.items():
        ends = _interval(fit.derived_intervals[name]) if name in fit.derived_intervals else ""
        table.add_row(name, _constant(value), ends, fit.law.derived[name].meaning)
    for optimum in fit.optima[1:]:
        values = ", ".join(f"{k} {v:.4g}" for k, v in optimum.values.items())
        table.add_row(
            "also", f"{optimum.objective:.6g}", f"deviance {optimum.deviance:.2f}", values
        )
    return table


def _interval(ends: Ends) -> str:
    return " to ".join(_constant(end) for end in ends)


def _constant(x: float) -> str:
    """A constant for reading: no powers of ten where digits will do."""
    if not np.isfinite(x):
        return "unbounded"
    return f"{x:.0f}" if 1e4 <= abs(x) < 1e8 else f"{x:.4g}"


def _facts(fit: Fit) -> list[str]:
    facts = [
        f"objective {fit.objective:.8g} ({fit.settings.objective.loss}) on {len(fit.points)} runs, "
        f"noise {fit.scale.noise:.2%}, condition {fit.condition:.3g}"
    ]
    if fit.left_out is not None:
        facts.append(f"error at the dearest runs when they are left out: {fit.left_out:.2%}")
    if fit.one_sided.needed:
        facts.append(
            f"noise lies above the law more than below ({_times(fit.one_sided.above)}): "
            "--loss asymmetric fits the lower edge, if runs are undertuned"
        )
    return facts


def _times(x: float) -> str:
    """How many times, where that means something: points on one side only have no ratio."""
    return f"{x:.1f} times" if x < MANY_TIMES else f"over {MANY_TIMES} times"


def _show_ranking(console: Console, ranking: Sequence[Ranked]) -> None:
    table = Table("law", "error at the dearest", "intervals held", "fit to the others")
    for one in ranking:
        if one.backtest is None:
            table.add_row(one.law, "", "", f"[dim]{escape(one.reason.partition(':')[0])}[/]")
        else:
            b = one.backtest
            table.add_row(one.law, f"{b.error:.3%}", f"{b.coverage:.0%}", b.status)
    console.print(table)
    if len(ranking) > 1:
        print_indented(console, "errors within a tenth of each other are alike: simpler laws first")


def _candidates_table(candidates: Sequence[Candidate]) -> Table:
    table = Table("next run", "cost", "interval shrinks by", "per cost of the dearest")
    for one in candidates:
        table.add_row(
            counts(one.inputs), f"{one.cost:.2e}", f"{one.shrinks:.1%}", f"{one.per_cost:.3g}"
        )
    return table
