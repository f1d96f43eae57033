"""`stepladder runs`: the runs that are paid for; `stepladder runs show KEY`: one of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from stepladder.cli.options import parse

if TYPE_CHECKING:
    from stepladder.store import StoredRun


@dataclass(frozen=True, kw_only=True)
class List:
    """List all runs.

    Args:
        root: folder of ladders and runs.
        json: print them as JSON.
    """

    root: Path = Path()
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show a run: its recipe, its result, where it ran, its curve.

    Args:
        key: of the run, or its first letters.
        root: folder of ladders and runs.
        json: print it as JSON.
    """

    key: tyro.conf.Positional[str]
    root: Path = Path()
    json: bool = False


Command = (
    Annotated[List, tyro.conf.subcommand("list")] | Annotated[Show, tyro.conf.subcommand("show")]
)


def main(argv: list[str]) -> int:
    """Parse, read, print; without a subcommand the runs are listed."""
    if not argv or (argv[0].startswith("--") and argv[0] != "--help"):
        argv = ["list", *argv]
    command: List | Show = parse(Command, argv, "runs")
    return _list(command) if isinstance(command, List) else _show(command)


def _list(options: List) -> int:
    from rich.console import Console

    from stepladder.cli.console import print_json
    from stepladder.report.runs import runs_table, summary

    found = read_all(options.root)
    if options.json:
        print_json([summary(run) for run in found])
    elif found:
        Console().print(runs_table(found))
    else:
        print(f"no runs in {options.root.resolve()}: stepladder demo makes some")
    return 0


def _show(options: Show) -> int:
    from rich.console import Console

    from stepladder.cli.console import print_json
    from stepladder.report.runs import run_panel, summary

    run = find_run(options.root, options.key)
    if options.json:
        more = {"recipe": run.recipe, "result": run.result, "curve": run.curve}
        print_json(summary(run) | more)
    else:
        Console().print(run_panel(run))
    return 0


def read_all(root: Path) -> "list[StoredRun]":
    """Every run below a folder, the damaged ones too."""
    from stepladder.ladder.folder import RUNS
    from stepladder.store import Store

    store = Store(root / RUNS)
    return [run for run in map(store.get, store.keys()) if run is not None]


def find_run(root: Path, prefix: str) -> "StoredRun":
    """The one run whose key starts with `prefix`.

    Raises:
        ValueError: none does, or several do; the text names them or the nearest.
    """
    from stepladder.ladder.folder import RUNS
    from stepladder.names import did_you_mean
    from stepladder.store import Store

    store = Store(root / RUNS)
    keys = store.keys()
    matches = [prefix] if prefix in keys else [key for key in keys if key.startswith(prefix)]
    if not matches:
        near = did_you_mean(prefix, keys)
        raise ValueError(
            f"no run in {store.root} starts with {prefix!r}{near}; see stepladder runs"
        )
    if len(matches) > 1:
        raise ValueError(f"{prefix!r} is the start of {', '.join(matches)}: give more of the key")
    run = store.get(matches[0])
    if run is None:
        raise ValueError(f"run {matches[0]} has just been removed")
    return run
