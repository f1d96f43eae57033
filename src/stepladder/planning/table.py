"""Plans as rich tables: numbers side by side, then conflicts, then where every number is from."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stepladder.planning.conflicts import conflicts
from stepladder.planning.plan import UNITS, Plan, Quantity

if TYPE_CHECKING:
    from rich.console import RenderableType

SIZE = ("params", "params_body", "tokens", "passes", "width", "depth", "seconds")
TRAINING = ("batch", "steps", "lr", "lr_muon", "weight_decay", "beta2", "warmup")
HEADINGS = {"params_body": "in blocks", "weight_decay": "decay", "lr_muon": "muon lr"}
SCALES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))
TIMES = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
COUNTS = ("params", "params_body", "params_all", "tokens", "batch", "steps", "warmup")


def render(plans: Sequence[Plan], *, sources: bool = False) -> "RenderableType":
    """Everything that is to be printed: `Console().print(render(plans))`.

    Args:
        sources: also print where every number comes from.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [
        plans_table(plans, SIZE), Text(), plans_table(plans, TRAINING),
        Text(), schedules_table(plans),
    ]  # fmt: skip
    if any(q.beyond for p in plans for q in p.quantities.values()):
        parts.append(Text("* outside the range the law was fitted on", style="dim"))
    if any(not q.confirmed for p in plans for q in p.quantities.values()):
        parts.append(Text("? constants recalled, not confirmed in the paper", style="dim"))
    parts += [Text(), conflicts_table(plans)]
    if sources:
        parts += [Text(), sources_table(plans)]
    return Group(*parts)


def plans_table(plans: Sequence[Plan], names: Sequence[str]) -> "RenderableType":
    """One row a plan, one column a quantity that any of them states."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("recipe", no_wrap=True)
    used = [name for name in names if any(name in p.quantities for p in plans)]
    for name in used:
        heading = HEADINGS.get(name, name.replace("_", " "))
        table.add_column(heading, justify="right", no_wrap=True)
    for plan in plans:
        cells = [_cell(name, plan.quantities.get(name)) for name in used]
        table.add_row(plan.recipe, *cells, style="bold" if plan.recipe == "yours" else "")
    return table


def schedules_table(plans: Sequence[Plan]) -> "RenderableType":
    """The schedule of each plan that states one, in words."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("recipe", no_wrap=True)
    table.add_column("schedule")
    for plan in plans:
        if "schedule" in plan.quantities:
            table.add_row(plan.recipe, _cell("schedule", plan["schedule"]))
    return table


def conflicts_table(plans: Sequence[Plan]) -> "RenderableType":
    """One row a disagreement, with its reason."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", title="where they disagree",
                  title_justify="left")  # fmt: skip
    for name in ("quantity", "least", "most", "factor", "why"):
        table.add_column(name, justify="right" if name == "factor" else "left")
    for c in conflicts(plans):
        table.add_row(c.quantity.replace("_", " "), c.low, c.high, f"{c.factor:.3g}", c.why)
    return table


def sources_table(plans: Sequence[Plan]) -> "RenderableType":
    """One row a number, with its source and how far it is extrapolated."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", title="sources",
                  title_justify="left")  # fmt: skip
    for name in ("recipe", "quantity", "value", "source", "beyond"):
        table.add_column(name)
    for plan in plans:
        table.add_row(plan.recipe, "convention", "", plan.convention, "")
        for name, quantity in plan.quantities.items():
            source = quantity.source if quantity.confirmed else f"{quantity.source} (unconfirmed)"
            table.add_row("", name, _cell(name, quantity), source, quantity.beyond)
        for note in plan.notes:
            table.add_row("", "note", "", note, "")
    return table


def _cell(name: str, quantity: Quantity | None) -> str:
    if quantity is None:
        return ""
    mark = ("*" if quantity.beyond else "") + ("" if quantity.confirmed else "?")
    if isinstance(quantity.value, str):
        return quantity.value + mark
    return _number(name, quantity.value) + mark


def _number(name: str, value: float) -> str:
    assert name in UNITS, f"{name} has no unit"
    if name == "seconds":
        return next((f"{value / s:.3g} {u}" for s, u in TIMES if value >= s), f"{value:.3g} s")
    if name == "passes":
        return f"{value:.3g}"
    if name not in COUNTS:
        whole = value == int(value) and value <= 1e5
        return f"{value:g}" if whole else f"{value:.3g}"
    for scale, letter in SCALES:
        if value >= scale:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"
