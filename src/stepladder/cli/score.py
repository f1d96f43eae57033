"""`stepladder score`: forecast against outcome."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from stepladder.cli.options import parse


@dataclass(frozen=True, kw_only=True)
class Options:
    """Score the forecast of a trained target, and write the report.

    Args:
        ladder: its name; the newest whose target has been trained if none is given.
        root: folder of ladders and runs.
        json: print the score as JSON.
    """

    ladder: tyro.conf.Positional[str] = ""
    root: Path = Path()
    json: bool = False


def main(argv: list[str]) -> int:
    """Parse, score, print."""
    options: Options = parse(Options, argv, "score")
    console = Console(stderr=options.json)
    from stepladder.cli.console import print_json
    from stepladder.cli.steps import score_step
    from stepladder.ladder import find, newest_trained, score
    from stepladder.ladder.folder import RUNS
    from stepladder.store import Store

    store = Store(options.root / RUNS)
    folder = (
        find(options.root, options.ladder)
        if options.ladder
        else newest_trained(options.root, store)
    )
    if options.json:
        print_json(score(folder, store))
    else:
        score_step(folder, store, console)
    return 0
