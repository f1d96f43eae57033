"""`stepladder range recipe.toml`: one short run through all learning rates, for a first rate."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from stepladder.cli.options import parse

if TYPE_CHECKING:
    from rich.console import Console

    from stepladder.recipe import Recipe
    from stepladder.search.rate_range import RateRange


@dataclass(frozen=True, kw_only=True)
class Options:
    """The learning-rate range test: a rate that rises through one short run, until it diverges.

    For a first rate where none is known; `stepladder search` is more exact and costs more runs.

    Args:
        recipe: recipe file (.toml); its schedule and length are left out.
        low: base rate to start from; 128 times below the recipe's if 0.
        high: base rate to end at; 128 times above the recipe's if 0.
        steps: of the run.
        figure: also write a figure (.svg or .png).
        device: auto, cpu or cuda.
        root: folder of runs.
        json: print the result as JSON.
    """

    recipe: tyro.conf.Positional[Path]
    low: float = 0.0
    high: float = 0.0
    steps: int = 200
    figure: Path | None = None
    device: str = "auto"
    root: Path = Path()
    json: bool = False


def main(argv: list[str]) -> int:
    """Parse, run, read, print."""
    options: Options = parse(Options, argv, "range")
    from rich.console import Console

    from stepladder.cli.console import print_json

    console = Console(stderr=options.json)
    recipe, found = _run(options, console)
    if options.figure:
        from stepladder.report.range import range_figure

        name = recipe.optimizer.name
        title = f"Range test of {name} at width {recipe.model.width}"
        options.figure.parent.mkdir(parents=True, exist_ok=True)
        range_figure(found, title).savefig(options.figure)
    if options.json:
        print_json(found.to_dict() | {"run": recipe.key})
    else:
        console.print(sentences(found))
    return 0


def sentences(found: "RateRange") -> str:
    """What was found, and what to do with it."""
    from stepladder.report.words import rate

    beyond = "" if found.bounded else ", the highest rate tried: look further with --high"
    return (
        f"[bold]optimizer.lr = {rate(found.suggested)}[/], for a first rate: a quarter of "
        f"{rate(found.limit)}\n"
        f"the loss fell fastest at {rate(found.steepest)} and was lowest at "
        f"{rate(found.limit)}{beyond}"
    )


def _run(options: Options, console: "Console") -> "tuple[Recipe, RateRange]":
    from stepladder.cli.ladder import read_data
    from stepladder.cli.progress import Bar
    from stepladder.cost import cost
    from stepladder.execute.here import run_here
    from stepladder.ladder.folder import RUNS
    from stepladder.recipe import Recipe
    from stepladder.search.rate_range import range_recipe, rate_range
    from stepladder.store import Store

    given, store = Recipe.load(options.recipe), Store(options.root / RUNS)
    data = given.data
    dataset = read_data(data.source, data.tokenizer, console, data.text_field)
    made = range_recipe(
        given.on_data(dataset.fingerprint),
        low=options.low or None,
        high=options.high or None,
        steps=options.steps,
    )
    with Bar(console, cost(made).flops_total, 0.0) as bar:
        run_here([("range test", made)], store, dataset, bar.watch, options.device)
    stored = store.get(made.key)
    assert stored is not None
    return made, rate_range(stored.curve)
