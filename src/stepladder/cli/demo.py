"""`stepladder demo`: the whole story on text that is already on the machine."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from stepladder.cli.options import parse


@dataclass(frozen=True, kw_only=True)
class Options:
    """Plan, climb, forecast, train and score on the sources of Python's standard library.

    Interrupted, the same command goes on where it stopped.

    Args:
        seed: of the whole demo; another seed makes another ladder.
        budget: of everything, in time on this device or in FLOP.
        device: auto, cpu or cuda.
        root: folder of ladders and runs.
        json: print the score as JSON.
    """

    seed: int = 0
    budget: str = "8min"
    device: str = "auto"
    root: Path = Path()
    json: bool = False

    # What suits a few minutes on a small machine.
    data: tyro.conf.Suppress[str] = "stdlib"
    tokenizer: tyro.conf.Suppress[str] = "bpe:1024"
    text_field: tyro.conf.Suppress[str] = "text"
    ratio: tyro.conf.Suppress[float] = 0.0
    context: tyro.conf.Suppress[int] = 64
    precision: tyro.conf.Suppress[str] = "auto"


def main(argv: list[str]) -> int:
    """Parse, then every step in turn."""
    options: Options = parse(Options, argv, "demo")
    console = Console(stderr=options.json)
    console.print("[bold]Stepladder[/]: climb small, forecast big\n")
    from stepladder.cli.console import print_json
    from stepladder.cli.ladder import open_workplace, plan_from
    from stepladder.cli.steps import climb_step, score_step, train_step
    from stepladder.ladder.folder import demo_of
    from stepladder.report.terminal import plan_table

    folder = demo_of(options.root, options.seed)
    plan = folder.plan() if folder else plan_from(options, console)
    console.print(plan_table(plan))
    place = open_workplace(options.root, plan.name, options.device, console)
    climb_step(place)
    train_step(place)
    scored = score_step(place.folder, place.store, console)
    if options.json:
        print_json(scored)
    return 0
