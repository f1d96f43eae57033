"""`stepladder backtest RUNS.csv --law chinchilla`: would the cheap runs have told of the dear?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from stepladder.cli.options import parse


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit a law to the cheapest runs, forecast the others, and report errors and coverage."""

    runs: tyro.conf.Positional[Path]
    """CSV or Parquet file, or a folder of runs."""
    law: str = "auto"
    """A law's name, or auto: compare every law the columns allow."""
    map: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """name=column or name=expression; may be repeated."""
    where: str | None = None
    """Keep the rows for which this holds."""
    drop_worst: int = 0
    """Leave out this many of the highest losses."""
    held: float = 0.25
    """Part of the runs that is held out, the dearest."""
    above: float | None = None
    """Instead: hold out runs that cost more than this."""
    loss: Literal["auto", "huber", "squares", "asymmetric", "quantile"] = "auto"
    """What is minimised."""
    noise: float | None = None
    """Measured standard deviation of log loss between seeds."""
    level: float = 0.9
    """Level of the intervals."""
    json: bool = False
    """Print JSON."""


def main(argv: list[str]) -> int:
    """Parse, backtest, print."""
    options: Options = parse(Options, argv, "backtest")
    from stepladder.cli import law_view
    from stepladder.cli.console import print_json
    from stepladder.cli.law_table import every_column, law_columns, target_of
    from stepladder.laws import backtest
    from stepladder.laws.comparing import best_law

    settings: dict[str, Any] = {
        "held": options.held,
        "above": options.above,
        "loss": None if options.loss == "auto" else options.loss,
        "noise": options.noise,
        "drop_worst": options.drop_worst,
        "level": options.level,
    }
    if options.law == "auto":
        table = every_column(options.runs, options.map, options.where)
        ranking = best_law(table.columns, target_of(table.columns), rows=table.rows, **settings)
        if options.json:
            print_json([law_view.ranked_json(one) for one in ranking])
        else:
            law_view.show_ranking(ranking)
        return 0
    table = law_columns(options.law, options.runs, options.map, options.where)
    made = backtest(options.law, table.columns, rows=table.rows, **settings)
    if options.json:
        print_json(made.to_json())
    else:
        law_view.show_backtest(made)
    return 0
