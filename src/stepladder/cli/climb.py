"""`stepladder climb`: a plan's small runs, and the forecast they give."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from stepladder.cli.options import parse


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run the small runs of a plan, fit the law, and write the forecast.

    Interrupted, the same command goes on where it stopped.

    Args:
        ladder: its name; the newest if none is given.
        device: auto, cpu or cuda.
        root: folder of ladders and runs.
        ray: address of a Ray cluster to make the runs on ("auto", "host:port", "local" to start
            one here), whose nodes all see the root and the data; needs stepladder[ray].
        json: print the forecast as JSON.
    """

    ladder: tyro.conf.Positional[str] = ""
    device: str = "auto"
    root: Path = Path()
    ray: str = ""
    json: bool = False


def main(argv: list[str]) -> int:
    """Parse, climb, print."""
    options: Options = parse(Options, argv, "climb")
    console = Console(stderr=options.json)
    from stepladder.cli.console import print_json
    from stepladder.cli.ladder import open_workplace
    from stepladder.cli.steps import climb_step

    place = open_workplace(options.root, options.ladder, options.device, console, options.ray)
    forecast = climb_step(place)
    if options.json:
        print_json(forecast)
        return 0
    console.print("next: [bold]stepladder train[/]")
    return 0
