"""`stepladder check`: does hyperparameter transfer hold for your own torch model?"""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from stepladder.cli.options import parse
from stepladder.names import did_you_mean

if TYPE_CHECKING:
    from stepladder.scaling import CoordinateReport, TransferReport

FAILED = 1


@dataclass(frozen=True, kw_only=True)
class Check:
    """Say whether hyperparameters transfer over the size of your model.

    Trains builds of several sizes for a few steps, and names each layer and factor that does not
    scale. With --lrs it also sweeps the learning rate and measures how its optimum moves. The exit
    status is 0 where transfer holds, and 1 where it does not.
    """

    build: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.py:FUNCTION")]
    """A function (width), (width, depth) or (width, depth, lr) that returns a model, or
    (model, optimizer) to check a parametrization of your own."""
    rule: str = "completep"
    """The parametrization; `none` checks your own without comparing it with a rule."""
    widths: tuple[int, ...] = (32, 64, 128, 256)
    """Widths to compare; the smallest is the base."""
    depths: tuple[int, ...] = ()
    """Depths to compare; left out, only width is checked."""
    batches: str = ""
    """A function of the same file that returns a list of batches; without it, random tokens."""
    loss: str = ""
    """A function (model, batch) of the same file; without it, cross-entropy of the logits."""
    optimizer: str = "adamw"
    """The optimizer that the rule is for."""
    lr: float = 0.01
    """Learning rate at the base, for the coordinate check."""
    lrs: tuple[float, ...] = ()
    """Learning rates to sweep for the transfer check (at least five)."""
    steps: int = 4
    """Steps of the coordinate check."""
    sweep_steps: int = 100
    """Steps of each run of the transfer check."""
    seeds: int = 3
    """Repetitions of everything."""
    branches: tuple[str, ...] = ()
    """Globs over the modules that end a residual branch, where names do not tell."""
    readout_norm: str | None = None
    """The norm that feeds a tied readout; it takes the readout's multiplier."""
    table: bool = False
    """Print the plan's table for the largest size."""
    figure: Path | None = None
    """Draw the checks into this file (.svg or .png); the sweep gets `-lr` added to its name."""
    json: bool = False
    """Print the result as JSON."""


def main(argv: list[str]) -> int:
    """Parse, check, print."""
    asked: Check = parse(Check, argv, "check")
    path = Path(asked.build.rpartition(":")[0])
    with _told_where_it_fails(path, asked):
        module, build = _load(asked.build)
        coordinate = _coordinate(asked, module, build)
        transfer = _transfer(asked, module, build) if asked.lrs else None
    if asked.json:
        from stepladder.cli.console import print_json

        print_json(_as_json(coordinate, transfer))
    else:
        _print(asked, build, coordinate, transfer)
    held = coordinate.passed and (transfer is None or transfer.verdict != "drifts")
    return 0 if held else FAILED


@contextmanager
def _told_where_it_fails(path: Path, asked: Check) -> Iterator[None]:
    """What a user's file raises becomes a ValueError that says at which of its lines."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:
        lines = [f for f in extract_tb(error.__traceback__) if Path(f.filename) == path.resolve()]
        if not lines and not isinstance(error, SyntaxError):
            raise  # not the user's
        at = f", line {lines[-1].lineno}, in {lines[-1].name}" if lines else ""
        tokens = not asked.batches and any(line.name == "forward" for line in lines)
        hint = " (without --batches a model is given random tokens)" if tokens else ""
        raise ValueError(f"{path}{at}: {type(error).__name__}: {error}{hint}") from error


def _load(where: str) -> tuple[ModuleType, Any]:
    path, _, name = where.rpartition(":")
    if not path:
        raise ValueError(f"{where!r} names no function: write FILE.py:FUNCTION")
    spec = importlib.util.spec_from_file_location(Path(path).stem, Path(path).resolve())
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise ValueError(f"there is no Python file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(Path(path).resolve().parent))
    spec.loader.exec_module(module)
    return module, _function(module, name)


def _function(module: ModuleType, name: str) -> Any:
    if not hasattr(module, name):
        raise ValueError(f"{module.__file__} has no {name!r}{did_you_mean(name, vars(module))}")
    return getattr(module, name)


def _options(asked: Check, module: ModuleType) -> dict[str, Any]:
    options: dict[str, Any] = {"optimizer": asked.optimizer, "seeds": asked.seeds}
    options["rule"] = None if asked.rule == "none" else asked.rule
    if asked.branches:
        options["branches"] = asked.branches
    if asked.readout_norm:
        options["readout_norm"] = asked.readout_norm
    return options | ({"loss": _function(module, asked.loss)} if asked.loss else {})


def _coordinate(asked: Check, module: ModuleType, build: Any) -> "CoordinateReport":
    from stepladder.scaling import coordinate_check

    report = coordinate_check(
        build,
        widths=asked.widths,
        depths=asked.depths,
        batches=_function(module, asked.batches)() if asked.batches else None,
        lr=asked.lr,
        steps=asked.steps,
        **_options(asked, module),
    )
    if asked.figure:
        report.figure(asked.figure)
    return report


def _transfer(asked: Check, module: ModuleType, build: Any) -> "TransferReport":
    from stepladder.scaling import transfer_check

    if not asked.batches:
        raise ValueError("a sweep of learning rates needs real data: give --batches FUNCTION")
    report = transfer_check(
        build,
        _function(module, asked.batches)(),
        widths=asked.widths,
        lrs=asked.lrs,
        steps=asked.sweep_steps,
        **_options(asked, module),
    )
    if asked.figure:
        report.figure(asked.figure.with_stem(asked.figure.stem + "-lr"))
    return report


def _print(
    asked: Check,
    build: Any,
    coordinate: "CoordinateReport",
    transfer: "TransferReport | None",
) -> None:
    from rich.console import Console

    from stepladder.cli.console import print_indented

    console = Console(highlight=False, soft_wrap=True)
    if asked.table:
        console.print(_table(asked, build), markup=False)
    for report, good in ((coordinate, coordinate.passed), (transfer, _held(transfer))):
        if report is not None:
            head, *rest = str(report).splitlines()
            console.print(head, style="bold green" if good else "bold red", markup=False)
            for line in rest:
                print_indented(console, line.strip())
    if coordinate.passed and transfer is None:
        console.print(_MORE, style="dim", markup=False)


_MORE = "These are the first steps only. Where the best rate lies: --lrs and --batches."


def _held(transfer: "TransferReport | None") -> bool:
    return transfer is not None and transfer.verdict == "transfers"


def _table(asked: Check, build: Any) -> str:
    from stepladder.scaling import Size
    from stepladder.scaling.trials import Recipe, call_build, plan_for

    deep = {"depth": max(asked.depths)} if asked.depths else {}
    shallow = {"depth": min(asked.depths)} if asked.depths else {}
    model = call_build(build, Size(width=max(asked.widths), **deep), asked.lr)
    extra = {"branches": asked.branches, "readout_norm": asked.readout_norm}
    recipe = Recipe(rule=asked.rule, optimizer=asked.optimizer, weight_decay=0.0, options=extra)
    base = Size(width=min(asked.widths), **shallow)
    return str(
        plan_for(build, model[0] if isinstance(model, tuple) else model, base, recipe, asked.lr)
    )


def _as_json(coordinate: "CoordinateReport", transfer: "TransferReport | None") -> dict[str, Any]:
    found: dict[str, Any] = {
        "passed": coordinate.passed,
        "failures": [str(failure) for failure in coordinate.failures],
        "rows": [
            {k: v for k, v in asdict(row).items() if k != "points"} for row in coordinate.rows
        ],
    }
    if transfer is not None:
        found["transfer"] = {"verdict": transfer.verdict, **asdict(transfer)}
    return found
