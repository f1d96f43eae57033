"""`stepladder compare BASE.toml LEVER.toml`: what a lever saves, and whether that lasts."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro
from rich.console import Console

from stepladder.cli.options import parse

if TYPE_CHECKING:
    from stepladder.comparing.place import Place
    from stepladder.comparing.plan import Bill, Plan
    from stepladder.data import Dataset
    from stepladder.recipe import Data, Setting


@dataclass(frozen=True, kw_only=True)
class Options:
    """The compute multiplier of a lever over a baseline, and its trend with scale.

    Both recipes get the same search over learning rates, are grown by the same rule to the same
    scales, and run on the same seeds. Interrupted, the same command goes on where it stopped.

    Args:
        base: recipe (.toml) of the baseline.
        lever: recipe (.toml) of what is tried against it.
        scales: widths of the rungs in widths of the recipes: three at least, rising from 1.
        seeds: runs of each recipe at each rung.
        baseline_seeds: runs of the baseline at each rung, if more: worth it where it serves several
            levers.
        rates: learning rates tried for each recipe, around its own, a factor of two apart.
        tuning_seeds: runs at each rate.
        tune: further fields to tune, as in: --tune optimizer.weight_decay=0,0.1.
        lever_as_given: the lever keeps the rate of its recipe, and only the baseline is tuned:
            what does it cost to take a rate from a rule, a paper or another batch?
        level: of the intervals.
        budget: refuse what costs more: 1e15 (FLOP), 20min, 2h; empty: no bound.
        device: auto, cpu or cuda.
        root: folder of runs and comparisons.
        plan: only show what would be run and what it costs.
        json: print the result as JSON.
    """

    base: tyro.conf.Positional[Path]
    lever: tyro.conf.Positional[Path]
    scales: tuple[float, ...] = (1.0, 1.5, 2.0)
    seeds: int = 3
    baseline_seeds: int | None = None
    rates: int = 5
    tuning_seeds: int = 1
    tune: tuple[str, ...] = ()
    lever_as_given: bool = False
    level: float = 0.9
    budget: str = ""
    device: str = "auto"
    root: Path = Path()
    plan: bool = False
    json: bool = False


def main(argv: list[str]) -> int:
    """Parse, plan, run, print."""
    options: Options = parse(Options, argv, "compare")
    console = Console(stderr=options.json)
    from stepladder.cli.console import print_json
    from stepladder.cli.ladder import read_data
    from stepladder.comparing.place import Place
    from stepladder.comparing.plan import make_plan
    from stepladder.comparing.search import Search
    from stepladder.ladder.budget import require_within
    from stepladder.report.comparison import plan_table

    def read(data: "Data") -> "Dataset":
        return read_data(data.source, data.tokenizer, console, data.text_field)

    place = Place.open(
        options.base, options.lever, root=options.root, device=options.device, read=read
    )
    search = Search(rates=options.rates, seeds=options.tuning_seeds, fields=fields(options.tune))
    made = make_plan(
        place.base,
        place.lever,
        scales=options.scales,
        seeds=options.seeds,
        baseline_seeds=options.baseline_seeds,
        search=search,
        lever_as_given=options.lever_as_given,
    )
    bill = _bill(made, options)
    if options.plan and options.json:
        print_json(made.to_dict() | {"bill": vars(bill)})
        return 0
    console.print(plan_table(made, bill))
    require_within(
        options.budget,
        flops=bill.flops,
        seconds=bill.seconds,
        what="the comparison",
        fix="fewer --seeds or --rates, smaller --scales, or recipes with fewer tokens",
    )
    if not options.plan:
        place.require_room(made)
        _run(made, bill, place, options, console)
    return 0


def fields(texts: tuple[str, ...]) -> "dict[str, tuple[Setting, ...]]":
    """Fields to tune from `name=value,value` texts.

    Raises:
        ValueError: no values, or one field twice.
    """
    out: dict[str, tuple[Setting, ...]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if not values or name in out:
            raise ValueError(
                f"--tune takes field=value,value once a field, as in "
                f"optimizer.weight_decay=0,0.1, not {text!r}"
            )
        out[name] = tuple(_value(value) for value in values.split(","))
    return out


def _value(text: str) -> "Setting":
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _bill(plan: "Plan", options: Options) -> "Bill":
    from stepladder.cli.ladder import described_device, side_by_side

    return plan.bill(described_device(options.device)[0], side_by_side(options.device))


def _run(plan: "Plan", bill: "Bill", place: "Place", options: Options, console: Console) -> None:
    from stepladder.cli.console import print_json
    from stepladder.cli.progress import Bar
    from stepladder.comparing.running import run
    from stepladder.report.comparison import comparison_table, write_comparison

    with Bar(console, bill.flops, bill.seconds) as bar, place.executor(watch=bar.watch) as pool:
        found = run(plan, pool.run, level=options.level)
    folder = write_comparison(found, options.root)
    if options.json:
        print_json(found.to_json() | {"folder": str(folder)})
        return
    console.print(comparison_table(found.to_json()))
    console.print(f"written: {folder}")
