"""`stepladder train`: the target of a ladder, or any recipe."""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from stepladder.cli.options import parse


@dataclass(frozen=True, kw_only=True)
class Options:
    """Train a ladder's target, shown against its forecast; or a recipe of your own.

    Interrupted, the same command goes on where it stopped. On several processes:
    torchrun --nproc-per-node N -m stepladder train ...

    Args:
        what: a ladder's name, or a recipe file (.toml); the newest ladder if none is given.
        device: auto, cpu or cuda.
        tensor_parallel: under torchrun, processes that share each matrix; the batch is shared by
            the rest.
        root: folder of ladders and runs.
        json: print the result as JSON.
    """

    what: tyro.conf.Positional[str] = ""
    device: str = "auto"
    tensor_parallel: int = 1
    root: Path = Path()
    json: bool = False


def main(argv: list[str]) -> int:
    """Parse, train, print."""
    options: Options = parse(Options, argv, "train")
    from stepladder.cli.console import print_json
    from stepladder.cli.ladder import open_workplace
    from stepladder.cli.steps import recipe_step, train_step
    from stepladder.train.processes import is_first

    console = Console(stderr=options.json, quiet=not is_first())
    shared = options.tensor_parallel
    if options.what.endswith(".toml"):
        result = recipe_step(Path(options.what), options.root, options.device, console, shared)
    else:
        place = open_workplace(options.root, options.what, options.device, console)
        result = train_step(place, shared)
    if options.json and is_first():
        print_json(result)
    return 0
