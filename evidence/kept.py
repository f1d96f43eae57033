"""What a maker does from the command line: measure, or read what is there; keep it, and draw."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from stepladder.comparing.multiplier import Estimate, Interval
from stepladder.comparing.verdict import verdict
from stepladder.durable import write_whole
from stepladder.laws.result import finite
from stepladder.report import style

HERE = Path(__file__).parent
Found = dict[str, Any]


def made(
    name: str,
    about: str | None,
    *,
    measure: Callable[[], Found],
    keep: Callable[[Found], None],
    draw: Callable[[Found], Figure],
) -> Found:
    """What was found; writes evidence/<name>.json, or with --record the catalogue, and the figure.

    Args:
        about: what --help says.
        keep: puts it into the catalogue.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--record", action="store_true", help="do no runs: catalogue and figure")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = HERE / f"{name}.json"
    if options.record:
        found: Found = json.loads(results.read_text())
        keep(found)
    else:
        found = measure()
        write_whole(results, json.dumps(finite(found), indent=1) + "\n")
    write_whole(HERE / f"{name}.svg", style.svg(draw(found), name.replace("_", "-")))
    return found


def reworded(content: Found) -> Found:
    """A kept comparison with its verdict in the words of today, from its numbers.

    What has no verdict stays as it is.
    """
    if "verdict" not in content:
        return content
    rungs = content["rungs"]
    smallest, *_, largest = (rung["compute"][0] for rung in rungs)
    made = Estimate(
        rungs=tuple(Interval(**rung["multipliers"]["compute"]) for rung in rungs),
        mean=Interval(**content["multiplier"]),
        trend=Interval(**content["trend_per_decade"]),
        reach=(),
    )
    return {**content, "verdict": verdict(made, largest / smallest)}
