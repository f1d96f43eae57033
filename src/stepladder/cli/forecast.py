"""`stepladder forecast FIT.json --params 7e9 --tokens 1.4e11`: what one run will give."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from stepladder.cli.options import parse_known

if TYPE_CHECKING:
    from stepladder.laws.result import Fit


@dataclass(frozen=True, kw_only=True)
class Options:
    """Forecast one run under a fitted law, with an interval for its outcome.

    Every input of the law is an option: --params 7e9 --tokens 1.4e11, --flops 1e21, ...
    """

    fit: tyro.conf.Positional[Path]
    """What stepladder fit --out (or --json) wrote; or the table of runs itself, which is then
    fitted as stepladder fit would."""
    law: str = "auto"
    """Of a table: the law to fit."""
    map: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Of a table: name=column or name=expression; may be repeated."""
    where: str | None = None
    """Of a table: keep the rows for which this holds."""
    level: float = 0.9
    """Level of the interval."""
    rival: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Another law to weigh in, by how it forecasts the dearest runs; may be repeated. Where none
    is given: those that the law itself names as plausible."""
    next_runs: int = 0
    """Also name this many runs that would shrink the interval most for their cost."""
    json: bool = False
    """Print JSON: forecast, interval and the rest."""


def main(argv: list[str]) -> int:
    """Parse, forecast, print."""
    options, rest = parse_known(Options, argv, "forecast")
    from stepladder.cli import law_view
    from stepladder.cli.console import print_json
    from stepladder.cli.law_table import flag_names, input_flags
    from stepladder.laws.design import next_runs

    fitted, notes = _fitted(options, flag_names(rest))
    inputs = input_flags(rest, [i.name for i in fitted.law.inputs])
    made = fitted.forecast(inputs, level=options.level, rivals=options.rival or None)
    candidates = next_runs(fitted, inputs)[: options.next_runs] if options.next_runs else []
    if options.json:
        more = {"law": fitted.law.name, "next_runs": [one.to_json() for one in candidates]}
        print_json({**made.to_json(), **more, "notes": list(notes)})
    else:
        law_view.show_notes(notes)
        law_view.show_forecast(made, candidates)
    return 0


def _fitted(options: Options, told: list[str]) -> "tuple[Fit, tuple[str, ...]]":
    from stepladder.cli.law_table import fit_table
    from stepladder.laws.result import Fit

    if options.fit.suffix.lower() == ".json":
        return Fit.load(options.fit), ()
    made, _, notes = fit_table(
        options.fit, options.law, options.map, options.where, told, bootstrap=0
    )
    return made, (*notes, f"fitted {made.law.name}  {made.law.form}")
