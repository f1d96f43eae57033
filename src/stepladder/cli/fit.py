"""`stepladder fit RUNS.csv`: a law fitted to a table of runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stepladder.cli.options import parse

DELTA = 1e-3


@dataclass(frozen=True, kw_only=True)
class Options:
    """Fit a scaling law to a table of runs, with intervals, and say what the runs cannot tell.

    The table needs a column for each input of the law (params, tokens, ...) and one for the loss;
    usual spellings (N, D, C, "Model Size", val_loss, ...) are recognised.
    """

    runs: tyro.conf.Positional[Path]
    """CSV or Parquet file, or a folder of runs."""
    law: str = "auto"
    """A law's name (see stepladder laws), or auto: every law the columns allow, compared by how
    well it forecasts the dearest quarter of the runs from the others."""
    map: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """name=column or name=expression, as in --map tokens="flops/(6*params)"; may be repeated."""
    where: str | None = None
    """Keep the rows for which this holds, as in --where "params > 1e8 and dataset == 'rw'"."""
    drop_worst: int = 0
    """Leave out this many of the highest losses."""
    loss: Literal["auto", "huber", "squares", "asymmetric", "quantile"] = "auto"
    """What is minimised; auto is Huber, or squares below 25 runs or with --noise."""
    residual: Literal["auto", "log", "plain"] = "auto"
    """Residuals of the logarithm, or of the loss itself (auto: where it may be negative)."""
    delta: float = DELTA
    """Where Huber turns linear."""
    quantile: float | None = None
    """The edge that asymmetric and quantile lean to (0.1 where not given)."""
    noise: float | None = None
    """Measured standard deviation of log loss between seeds."""
    starts: int = 500
    """Starts of the search."""
    bootstrap: int = 1000
    """Bootstrap refits."""
    level: float = 0.9
    """Level of the intervals."""
    seed: int = 0
    """Seed of the bootstrap."""
    out: Path | None = None
    """Write the fit here, for forecast and allocate."""
    figure: Path | None = None
    """Draw the fit here (.png, .svg or .pdf)."""
    json: bool = False
    """Print the whole result as JSON."""


def main(argv: list[str]) -> int:
    """Parse, fit, print."""
    options: Options = parse(Options, argv, "fit")
    from stepladder.cli import law_view
    from stepladder.cli.console import print_json
    from stepladder.cli.law_table import fit_table

    result, ranking, notes = fit_table(
        options.runs,
        options.law,
        options.map,
        options.where,
        loss=_objective(options),
        noise=options.noise,
        drop_worst=options.drop_worst,
        starts=options.starts,
        bootstrap=options.bootstrap,
        level=options.level,
        seed=options.seed,
    )
    if options.out is not None:
        result.save(options.out)
    if options.figure is not None:
        law_view.draw(result, options.figure)
    if options.json:
        compared = [law_view.ranked_json(one) for one in ranking]
        extra = {"compared": compared} if compared else {}
        print_json({**result.to_json(), **extra, "notes": list(notes)})
    else:
        law_view.show_fit(result, ranking, notes)
    return 0


def _objective(options: Options):  # type: ignore[no-untyped-def]
    """The objective, or None where the engine chooses."""
    from stepladder.laws.objective import LEANING, Objective

    given = (options.loss, options.residual, options.delta, options.quantile)
    if given == ("auto", "auto", DELTA, None):
        return None
    loss = "huber" if options.loss == "auto" else options.loss
    leaning = options.quantile or (LEANING if loss in ("asymmetric", "quantile") else 0.5)
    residual = "log" if options.residual == "auto" else options.residual
    return Objective(loss=loss, residual=residual, delta=options.delta, quantile=leaning)
