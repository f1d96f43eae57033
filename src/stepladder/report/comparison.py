"""What a comparison says: its plan, its table, its figure, its folder. Pure but for the last."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stepladder.comparing.plan import Bill, Plan
from stepladder.comparing.running import Comparison
from stepladder.comparing.verdict import effect_short
from stepladder.durable import write_whole
from stepladder.laws.result import finite
from stepladder.report import style, words
from stepladder.report.style import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Result = dict[str, Any]

GAP = (0, 2, 0, 0)  # between columns: all of them stand in 70 characters
COMPARISONS = "comparisons"
CONTENT, FIGURE = "comparison.json", "comparison"


def plan_table(plan: Plan, bill: Bill) -> RenderableType:
    """What differs, what will be run, and what it costs."""
    table = Table(box=None, pad_edge=False, padding=GAP)
    for column in ("rung", "width x depth", "parameters", "tokens", "batch", "FLOP a run"):
        table.add_column(column, justify="left" if column == "rung" else "right")
    for i, pair in enumerate(plan.rungs(), start=1):
        for name, recipe in zip(("baseline", "lever"), pair, strict=True):
            table.add_row(f"{i} {name}", *words_of(recipe))
    return Group(
        Text("the lever changes", style="bold"),
        *(Text(f"  {one}") for one in plan.differences),
        Text(),
        table,
        Text(),
        Text(f"tuning: {_tuning(plan)}; then {_seeds(plan)}"),
        Text(
            f"in all {bill.runs} runs, {words.flop(bill.flops)} FLOP, about "
            f"{words.time(bill.seconds)} here; what is in the store is not run again"
        ),
    )


def _tuning(plan: Plan) -> str:
    each = f"{plan.search.rates} rates x {plan.search.runs_a_rate} runs"
    if plan.lever_as_given:
        return (
            f"{each} for the baseline at the first rung, more where the best is at an end; the "
            "lever keeps the rate of its recipe"
        )
    return (
        f"{each} for each recipe at the first rung, more for both where the best of one is at an "
        "end"
    )


def _seeds(plan: Plan) -> str:
    more = f", and {len(plan.more_seeds)} more for the baseline" if plan.more_seeds else ""
    return f"{len(plan.seeds)} seeds a rung, the same for both{more}"


def words_of(recipe: Any) -> list[str]:
    """A recipe's row of the plan."""
    from stepladder.comparing.plan import flops
    from stepladder.cost import parameters

    model = recipe.model
    return [
        f"{model.width} x {model.depth}",
        words.count(parameters(model).total),
        words.count(recipe.tokens),
        words.count(recipe.batch),
        words.flop(flops(recipe)),
    ]


def comparison_table(content: Result) -> RenderableType:
    """The verdict, and the multipliers with what stands behind them."""
    table = Table(box=None, pad_edge=False, padding=GAP)
    kinds = list(content["means"])
    for head in ("width", "FLOP", "losses", *kinds, "memory"):
        table.add_column(head, justify="right")
    for rung in content["rungs"]:
        table.add_row(*_row(rung))
    compute, *others = content["means"].values()
    table.add_row("all", "", "", _times(compute), *map(_value, others), "")
    trend = content["trend_per_decade"]
    return Group(
        Text(content["verdict"], style="bold"),
        Text(),
        table,
        Text(),
        Text(
            f"{', '.join(kinds)}: for the lever's loss the baseline needs so many times the "
            f"lever's ({words.percent_level(content)} intervals)"
            + ("; seconds are as measured here" if "seconds" in kinds else "")
            + "; losses: baseline/lever; memory: lever over baseline"
        ),
        Text(f"each tenfold of compute changes it by a factor of {_times(trend)}"),
        *(Text(_rate(name, content["tuning"][name])) for name in ("base", "lever")),
        *(Text(note, style="yellow") for note in content["notes"]),
    )


def _row(rung: Result) -> list[str]:
    base, lever = rung["loss"]
    memory = rung["memory"][1] / rung["memory"][0]
    compute, *others = rung["multipliers"].values()
    return [
        " / ".join(map(str, dict.fromkeys(rung["widths"]))),
        words.flop(rung["compute"][0]),
        f"{base:.3f}/{lever:.3f}",
        _times(compute),
        *map(_value, others),
        f"{memory:.2f}",
    ]


def _times(interval: Result) -> str:
    return f"{_value(interval)} ({_factor(interval['low'])}-{_factor(interval['high'])})"


def _value(interval: Result) -> str:
    return _factor(interval["value"])


def _factor(number: float) -> str:
    """Two places, or as many digits where they would not do."""
    return f"{number:.2f}" if 0.1 <= number < 10 else f"{number:.2g}"


def _rate(name: str, tuning: Result) -> str:
    arm = "baseline" if name == "base" else "lever"
    if not tuning["runs"]:
        return f"{arm} at rate {words.rate(tuning['lr'])}, as its recipe has it"
    more = "".join(f", {field} = {value}" for field, value in tuning["settings"].items())
    return f"{arm} tuned to rate {words.rate(tuning['lr'])}{more} in {tuning['runs']} runs"


def comparison_figure(content: Result) -> "Figure":
    """Left: loss against compute of both arms. Right: the multiplier against compute."""
    made, (left, right) = style.figure(title(content), panels=2)
    _losses(left, content["rungs"])
    _multipliers(right, content)
    return made


def title(content: Result) -> str:
    """The lever and the verdict."""
    changed = [d for d in content["differences"] if d["name"].endswith(".name")]
    named = ", ".join(f"{d['lever']} over {d['base']}" for d in changed)
    return f"{named or 'The lever'}: {content['verdict']}"


def _losses(axes: "Axes", rungs: Sequence[Result]) -> None:
    axes.set_xscale("log")
    lower = 0 if rungs[0]["loss"][0] < rungs[0]["loss"][1] else 1
    for arm, colour, name in ((0, "run", "baseline"), (1, "outcome", "lever")):
        x = [rung["compute"][arm] for rung in rungs]
        means = [rung["loss"][arm] for rung in rungs]
        axes.plot(x, means, color=LIGHT[colour], lw=2, zorder=3)
        for at, rung in zip(x, rungs, strict=True):
            y = rung["losses"][arm]
            axes.scatter([at] * len(y), y, s=22, color=LIGHT[colour], alpha=0.75, lw=0, zorder=4)
        if arm == lower:
            at, offset, side = (x[-1], min(rungs[-1]["losses"][arm])), (-10, -5), "right"
        else:
            at, offset, side = (x[0], max(rungs[0]["losses"][arm])), (8, 4), "left"
        style.label(axes, name, at, offset, colour, fontweight="bold", ha=side)
    every = [loss for rung in rungs for losses in rung["losses"] for loss in losses]
    style.loss_ticks(axes, min(every) * 0.99, max(every) * 1.02)
    _rung_ticks(axes, rungs)
    axes.set_xlabel("training compute (FLOP)")
    axes.set_ylabel("validation loss (nats per token)")


def _rung_ticks(axes: "Axes", rungs: Sequence[Result]) -> None:
    """The compute of the baseline's rungs instead of powers of ten."""
    from matplotlib.ticker import NullLocator

    x = [rung["compute"][0] for rung in rungs]
    axes.set_xticks(x, [words.flop(flops) for flops in x])
    axes.xaxis.set_minor_locator(NullLocator())


def _multipliers(axes: "Axes", content: Result) -> None:
    axes.set_xscale("log")
    x = [rung["compute"][0] for rung in content["rungs"]]
    made = [rung["multipliers"]["compute"] for rung in content["rungs"]]
    mean = content["means"]["compute"]
    axes.axhline(1.0, color=LIGHT["muted"], lw=1.2, zorder=2)
    axes.axhspan(mean["low"], mean["high"], color=LIGHT["band"], lw=0, zorder=1)
    axes.axhline(mean["value"], color=LIGHT["law"], lw=1.6, zorder=2)
    bars = [[m["value"] - m["low"] for m in made], [m["high"] - m["value"] for m in made]]
    values = [m["value"] for m in made]
    axes.errorbar(
        x, values, yerr=bars, fmt="o", color=LIGHT["outcome"], ms=6, lw=2, capsize=3, zorder=4
    )
    for at, value in zip(x, values, strict=True):
        ground = {"facecolor": LIGHT["ground"], "edgecolor": "none", "pad": 1.5}
        more = {"fontsize": 9, "va": "center", "bbox": ground, "zorder": 5}
        style.label(axes, effect_short(value), (at, value), (9, 0), "outcome", **more)
    axes.margins(x=0.2)
    _rung_ticks(axes, content["rungs"])
    axes.set_xlabel("training compute of the baseline (FLOP)")
    axes.set_ylabel(f"compute multiplier ({words.percent_level(content)})")


def write_comparison(found: Comparison, root: Path) -> Path:
    """Write `comparison.json`, the recipes and the figure below `root/comparisons`."""
    folder = root / COMPARISONS / found.plan.name
    folder.mkdir(parents=True, exist_ok=True)
    content: Result = finite(found.to_json())
    write_whole(folder / "base.toml", found.plan.base.to_toml())
    write_whole(folder / "lever.toml", found.plan.lever.to_toml())
    if all(isinstance(m["high"], float) for m in _shown(content)):
        made = comparison_figure(content)
        write_whole(folder / f"{FIGURE}.svg", style.svg(made, found.plan.name))
        (folder / f"{FIGURE}.png").write_bytes(style.png(made))
    write_whole(folder / CONTENT, json.dumps(content, indent=1) + "\n")
    return folder


def _shown(content: Result) -> list[Result]:
    return [content["means"]["compute"], *(r["multipliers"]["compute"] for r in content["rungs"])]
