"""`stepladder curve RUN.csv`: the rest of a run, or a run under another learning-rate schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from stepladder.cli.options import parse

if TYPE_CHECKING:
    from stepladder.laws.curve_forecast import CurveForecast, Score
    from stepladder.laws.law import Array, Index
    from stepladder.laws.logged import Logged

POINTS = 200  # of the forecast curve
# Of the interval that must lie above the goal. Of one source's runs that just reach theirs a
# quarter raise a false alarm at 90%, a tenth at 99%, where misses are noticed a little later
# (evidence/make_curve_goal.py).
ALARM_LEVEL = 0.99


@dataclass(frozen=True, kw_only=True)
class Options:
    """Forecast a loss curve from logged ones (multi-power law, arXiv:2503.12811).

    A log has a row a logged step: step, lr, loss. Rows without a loss, as those still to come, say
    what the rate will be. The last run is forecast to its end; or a run under --schedule. All runs
    must be of one model, data and batch size.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Logs to learn from: CSV, Parquet or JSON lines, one a run; or with a column `run`."""
    schedule: str | None = None
    """The run to forecast: a table with step and lr of the whole run (where it has losses, they
    score the forecast); or a schedule's name, as in wsd or cosine."""
    steps: int | None = None
    """Of a named schedule: steps of the run; the longest log's where not given."""
    peak: float | None = None
    """Of a named schedule: the highest rate; that of the logs where not given."""
    warmup: int | None = None
    """Of a named schedule: steps of warmup; the first log's where not given."""
    set: tuple[str, ...] = ()
    """Of a named schedule: its own parameters, as in: --set decay=0.1 final=0.1."""
    map: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """name=column or name=expression, as in --map loss=val_loss; may be repeated."""
    where: str | None = None
    """Learn from the losses of these rows only, as in --where "step < 17000"; the others score the
    forecast."""
    goal: float | None = None
    """Raise an alarm (exit status 1) where the curve's whole 99% interval ends above this."""
    level: float = 0.9
    """Level of the interval."""
    figure: Path | None = None
    """Draw the curves here (.png, .svg or .pdf)."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The run to forecast: its rates, where the forecast begins, and losses that score it."""

    name: str
    lr: "Array"
    begin: int
    at: "Index"
    loss: "Array"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is shown: the forecast along the run, its end, and its score where losses are known."""

    target: Target
    made: "CurveForecast"
    score: "Score | None"
    alarm: bool


def main(argv: list[str]) -> int:
    """Parse, fit, forecast, print; the status is 1 where the alarm is raised."""
    options: Options = parse(Options, argv, "curve")
    from stepladder.cli import curve_view
    from stepladder.cli.console import print_json
    from stepladder.laws.curve_forecast import fit_curves

    _check(options)
    runs = _runs(options)
    target, scheduled = _target(options, runs)
    # a log without rates was made under the schedule that is given
    curves = [run.curve(target.lr if run.lr is None else run.lr) for run in runs if len(run.at)]
    fitted = fit_curves(curves)
    answer = _answer(options, target, fitted.forecast)
    notes = _shared_notes([*runs, *scheduled])
    if not fitted.falls_seen:
        notes.append(
            "these logs do not tell what a fall of the rate gives: it is taken from published "
            "runs, and the interval is wide where the rate falls"
        )
    if options.figure is not None:
        curve_view.draw(answer, curves, options.figure)
    if options.json:
        print_json(curve_view.as_json(answer, fitted, notes))
    else:
        curve_view.show(answer, fitted, curves, notes)
    return int(answer.alarm)


def _check(options: Options) -> None:
    if not options.runs:
        raise ValueError("name at least one log: a table with columns step, lr and loss")
    if not 0 < options.level < 1:
        raise ValueError(f"--level must lie between 0 and 1, not {options.level:g}")
    named = options.schedule is not None and not Path(options.schedule).suffix
    own = {"--steps": options.steps, "--peak": options.peak, "--warmup": options.warmup}
    given = [flag for flag, value in own.items() if value is not None]
    given += ["--set"] if options.set else []
    if given and not named:
        raise ValueError(f"{', '.join(given)} shape a named schedule, as in --schedule wsd")


def _runs(options: Options) -> "list[Logged]":
    from stepladder.laws.logged import read_logged

    runs = [run for path in options.runs for run in read_logged(path, options.map, options.where)]
    if not any(len(run.at) for run in runs):
        raise ValueError("there are no losses to learn from")
    bare = [run.name for run in runs if run.lr is None]
    if bare and options.schedule is None:
        raise ValueError(
            f"{', '.join(bare)} has no column 'lr': --map lr=COLUMN names it, or --schedule says "
            "what the rate was"
        )
    return runs


def _shared_notes(runs: "Sequence[Logged]") -> list[str]:
    """Each note once, with the runs that it is of."""
    names: dict[str, list[str]] = {}
    for run in runs:
        for note in run.notes:
            names.setdefault(note, []).append(run.name)
    return [f"{', '.join(dict.fromkeys(of))}: {note}" for note, of in names.items()]


def _target(options: Options, runs: "Sequence[Logged]") -> "tuple[Target, list[Logged]]":
    """The run to forecast, and the log that it was read from besides `runs`."""
    if options.schedule is None:
        return _rest(runs[-1]), []
    path = Path(options.schedule)
    if path in options.runs:  # the losses learned from are no score
        return _rest([run for run in runs if run.name.startswith(path.name)][-1]), []
    if path.suffix:
        return _scheduled(path, options.map)
    return _named(options, runs), []


def _rest(run: "Logged") -> Target:
    """The end of a run, from its last loss on."""
    from stepladder.laws.curve_forecast import settled_at

    lr = run.rates
    begin = int(run.at[-1]) if len(run.at) else settled_at(lr)
    if begin >= len(lr) - 1:
        raise ValueError(
            f"{run.name}: nothing is left to forecast, its losses reach its last rate. --schedule "
            f'gives the run to forecast; --where "step < {int(0.7 * begin)}" holds its end out'
        )
    later = run.held_at > begin
    return Target(
        name=run.name, lr=lr, begin=begin, at=run.held_at[later], loss=run.held_loss[later]
    )


def _scheduled(path: Path, maps: tuple[str, ...]) -> "tuple[Target, list[Logged]]":
    """A run whose rates stand in a table."""
    from stepladder.laws.curve_forecast import settled_at
    from stepladder.laws.logged import read_logged

    runs = read_logged(path, maps, None)
    if len(runs) > 1:
        raise ValueError(f"{path.name} holds {len(runs)} runs: --schedule takes one")
    run = runs[0]
    lr = run.rates
    begin = settled_at(lr)
    later = run.at >= begin
    target = Target(name=run.name, lr=lr, begin=begin, at=run.at[later], loss=run.loss[later])
    return target, [run]


def _named(options: Options, runs: "Sequence[Logged]") -> Target:
    """A run under a schedule of the library, shaped as the logs are where nothing else is said."""
    import numpy as np

    from stepladder.laws.curve_forecast import settled_at, warmup_end

    rates = [run.lr for run in runs if run.lr is not None]
    steps = options.steps or max((len(lr) for lr in rates), default=0)
    peak = options.peak or max((float(lr.max()) for lr in rates), default=0.0)
    if not (steps and peak):
        raise ValueError("the logs have no rates: give --steps and --peak of the schedule too")
    warmup = options.warmup
    if warmup is None:
        warmup = warmup_end(rates[0]) if rates else 0
    lr = _rates(options, steps, peak, warmup)
    none = np.array([], dtype=int)
    return Target(
        name=str(options.schedule), lr=lr, begin=settled_at(lr), at=none, loss=none.astype(float)
    )


def _rates(options: Options, steps: int, peak: float, warmup: int) -> "Array":
    """(steps,) rates of a named schedule."""
    import numpy as np

    from stepladder.cli.show import own_parameters
    from stepladder.schedules import get

    name = str(options.schedule)
    if steps < 2 or not 0 <= warmup < steps or not peak > 0:
        raise ValueError(f"{steps} steps at a peak of {peak:g} with {warmup} of warmup are no run")
    shape, params = get(name), own_parameters(name, [name], options.set)
    factors = [
        shape.factor((k + 0.5) / steps, warmup=warmup / steps, **params) for k in range(steps)
    ]
    return peak * np.array(factors)


def _answer(options: Options, target: Target, forecast: Any) -> Answer:
    import numpy as np

    from stepladder.laws.curve_forecast import score

    last = len(target.lr) - 1
    along = np.unique(np.linspace(target.begin, last, POINTS).round().astype(int))
    made = forecast(target.lr, along, options.level)
    scored = None
    if len(target.at):
        scored = score(forecast(target.lr, target.at, options.level), target.loss)
    alarm = False
    if options.goal is not None:
        ending = forecast(target.lr, along[-1:], ALARM_LEVEL)
        alarm = bool(ending.law_low[0] > options.goal)
    return Answer(target=target, made=made, score=scored, alarm=alarm)
