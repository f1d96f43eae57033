"""What a ladder says in the terminal: pure functions from its files to rich renderables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stepladder.cost import cost
from stepladder.ladder.plan import Plan
from stepladder.recipe import Recipe
from stepladder.report import words

Result = dict[str, Any]


def plan_table(plan: Plan) -> RenderableType:
    """A plan: every choice with its range and source, the rungs, and the bill by part."""
    device = f"{plan.device}, budget {plan.budget}"
    parts: list[RenderableType] = [
        Text.assemble((words.title(plan), "bold"), f"  ({device})"),
        _choices(plan),
        Text(),
        _rungs(plan),
        Text(),
        _bill(plan),
        *(Text(note, style="yellow") for note in plan.notes),
    ]
    return Group(*parts)


def tuning_table(tuning: Result) -> RenderableType:
    """The tuning: losses by rate at the base and one rung wider, the optimum, the verdict."""
    base, wider = tuning["check"]["widths"]
    best = tuning["optimum"]
    interval = f"{words.rate(best['low'])} to {words.rate(best['high'])}"
    said = f"best rate {words.rate(best['lr'])} ({interval}, {words.percent_level(best)})"
    if best["at_edge"]:
        said += f"; the {best['at_edge']}est rate tried: the true optimum may lie beyond"
    return Group(
        _losses(f"width {base}, seeds", tuning["losses"]),
        Text(),
        _losses(f"width {wider}, the check", tuning["check"]["losses"]),
        Text(),
        Text(said, style="yellow" if best["at_edge"] else ""),
        Text(words.transfer(tuning), style="green" if tuning["check"]["holds"] else "bold yellow"),
    )


def forecast_panel(forecast: Result) -> RenderableType:
    """A forecast: its value with the interval, the law, and what it rests on."""
    target = Recipe.from_dict(forecast["target"]["recipe"])
    rows = [
        ("target", f"{_shape(target)}, {words.flop(forecast['target']['flops'])} FLOP"),
        ("law", words.law(forecast)),
        ("rests on", f"{len(forecast['points'])} runs; reaches {words.reach(forecast)}"),
        ("seed noise", f"{words.percent(forecast['seed_noise'])} of the loss"),
        ("written", f"{forecast['created'][:19]} UTC, before the target"),
    ]
    if forecast["diverged"]:
        rows.append(("left out", f"{len(forecast['diverged'])} runs that diverged"))
    rows += [("beware", doubt) for doubt in forecast["beware"]]
    headline = Text(f"loss {words.forecast_words(forecast)}", style="bold cyan")
    return _panel("forecast", headline, rows, "cyan")


def score_panel(score: Result) -> RenderableType:
    """Forecast against outcome."""
    low, high = score["interval"]
    colour = "green" if score["inside"] else "yellow"
    where = "inside" if score["inside"] else "OUTSIDE"
    interval = f"{low:.4f} to {high:.4f} ({words.percent_level(score)})"
    rows = [
        ("forecast", words.loss(score["forecast"])),
        ("outcome", words.loss(score["outcome"])),
        ("interval", f"{interval}: the outcome is {where}"),
        ("target", f"{score['target_over_largest_rung']:.3g} times its largest rung's compute"),
        ("took", f"{words.time(score['seconds'])}, {words.flop(score['flops'])} FLOP"),
        ("run", score["target"]),
    ]
    if score.get("monitor"):
        rows.insert(3, ("watched", words.watched(score["monitor"])))
    return _panel("score", Text(_headline(score), style=f"bold {colour}"), rows, colour)


def _headline(score: Result) -> str:
    error = score["relative_error"]
    if words.loss(score["outcome"]) == "diverged":
        return "the target diverged"
    side = "above" if error > 0 else "below"
    return f"the forecast was {words.percent(abs(error))} {side} the outcome"


def _choices(plan: Plan) -> Table:
    """Each number with its range and source below it, so that it reads well at any width."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for choice in plan.choices:
        why = "; ".join(filter(None, [choice.source, choice.range]))
        table.add_row(choice.name, Text.assemble((choice.value, "bold"), "\n", (why, "dim")))
    return table


def _numbers(first: str, *rest: str) -> Table:
    """A plain table of numbers, to the right."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for name in rest:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _rungs(plan: Plan) -> Table:
    table = _numbers("rung", "shape", "params", "tokens", "batch", "steps", "FLOP", "runs")
    for i, rung in enumerate(plan.rungs):
        role = {plan.base: " base", plan.wider: " check"}.get(i, "")
        table.add_row(f"{i + 1}{role}", *_numbers_of(rung.recipe), str(len(rung.seeds)))
    table.add_row("target", *_numbers_of(plan.target), "1", style="bold")
    return table


def _numbers_of(recipe: Recipe) -> Sequence[str]:
    spent = cost(recipe)
    return (
        f"{recipe.model.width} x {recipe.model.depth}",
        words.count(spent.parameters.total),
        words.count(recipe.tokens),
        words.count(recipe.batch),
        words.count(recipe.steps),
        words.flop(spent.flops_total),
    )


def _bill(plan: Plan) -> Table:
    table = _numbers("bill", "FLOP", "time", "share of FLOP")
    whole = words.total(plan.flops)
    for part in words.PARTS:
        flops, seconds = plan.flops[part], plan.seconds[part]
        table.add_row(part, words.flop(flops), words.time(seconds), f"{100 * flops / whole:.0f}%")
    table.add_row(
        "total", words.flop(whole), words.time(words.total(plan.seconds)), "100%", style="bold"
    )
    return table


def _losses(title: str, losses: Sequence[tuple[float, Sequence[float]]]) -> Table:
    """Rates with the losses of their seeds; the lowest mean in bold."""
    table = _numbers("learning rate", "loss", title)
    means = [float(np.mean(values)) for _, values in losses]
    for (lr, values), mean in zip(losses, means, strict=True):
        style = "bold" if mean == min(means) else ""
        each = "  ".join(words.loss(value) for value in values)
        table.add_row(words.rate(lr), words.loss(mean), each, style=style)
    return table


def _shape(recipe: Recipe) -> str:
    return f"{recipe.model.width} x {recipe.model.depth}, {words.count(recipe.tokens)} tokens"


def _panel(title: str, headline: Text, rows: Sequence[tuple[str, str]], colour: str) -> Panel:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    for name, value in rows:
        table.add_row(name, Text(value))
    return Panel(Group(headline, table), title=title, border_style=colour, expand=False)
