"""`stepladder show wsd cosine`: schedules as curves, in the terminal or in a figure."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from stepladder.cli.options import parse

WIDTH, HEIGHT = 72, 12
BLOCKS = " ▁▂▃▄▅▆▇█"
POINTS = 401


@dataclass(frozen=True, kw_only=True)
class Options:
    """Plot learning-rate schedules: the factor of the peak rate over a run."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Schedules, as in: wsd cosine. `stepladder catalogue --family schedules` lists them."""
    warmup: float = 0.0
    """Fraction of the run over which the rate rises."""
    set: tuple[str, ...] = ()
    """The schedules' own parameters, as in: --set decay=0.1 cooldown=linear."""
    figure: Path | None = None
    """Also write a figure (.svg or .png)."""
    json: bool = False
    """Print the curves as JSON."""


def main(argv: list[str]) -> int:
    """Parse, compute, draw."""
    options: Options = parse(Options, argv, "show")
    from stepladder.cli.console import print_json

    if not options.names:
        raise ValueError(
            "name one or more schedules, as in: stepladder show wsd cosine; "
            "`stepladder catalogue --family schedules` lists them"
        )
    curves = {name: curve(name, options) for name in options.names}
    if options.figure:
        draw(curves, options.figure)
    if options.json:
        print_json({"progress": [i / (POINTS - 1) for i in range(POINTS)], "factors": curves})
    else:
        for name, factors in curves.items():
            print(f"{name}{describe(name, options)}\n{terminal_plot(factors)}\n")
    return 0


def curve(name: str, options: Options) -> list[float]:
    """The factors of a schedule at evenly spaced progress, both ends included.

    Raises:
        ValueError: no schedule asked for, or one that refuses its parameters.
    """
    from stepladder.schedules import get

    schedule, params = get(name), own_parameters(name, options.names, options.set)
    return [
        schedule.factor(i / (POINTS - 1), warmup=options.warmup, **params) for i in range(POINTS)
    ]


def own_parameters(name: str, names: Sequence[str], given: Sequence[str]) -> dict[str, Any]:
    """The `--set` parameters that a schedule has; each must belong to one of `names`.

    Raises:
        ValueError: not of the form key=value, or a key that no schedule shown has.
    """
    from stepladder.names import did_you_mean
    from stepladder.schedules import get

    known = {key for other in names for key in get(other).parameters}
    params: dict[str, Any] = {}
    for item in given:
        key, sign, value = item.partition("=")
        if not sign:
            raise ValueError(f"--set takes key=value, not {item!r}")
        if key not in known:
            near = did_you_mean(key, known)
            raise ValueError(f"{', '.join(names)}: no parameter {key!r}{near}")
        if key in get(name).parameters:
            params[key] = _literal(value)
    return params


def describe(name: str, options: Options) -> str:
    """The parameters behind a curve, as a suffix to its name."""
    from stepladder.schedules import get

    own = own_parameters(name, options.names, options.set)
    values = get(name).parameters | own | {"warmup": options.warmup}
    return f" ({', '.join(f'{key} {value}' for key, value in values.items())})"


def terminal_plot(factors: list[float]) -> str:
    """A curve in block characters, with its axis."""
    columns = [factors[round(i * (len(factors) - 1) / (WIDTH - 1))] for i in range(WIDTH)]
    top = max(1.0, *factors)
    lines = []
    for level in range(HEIGHT - 1, -1, -1):
        label = f"{top:4.2f}" if level == HEIGHT - 1 else "0.00" if level == 0 else "    "
        lines.append(f"{label} │{''.join(_block(c / top * HEIGHT - level) for c in columns)}")
    return "\n".join([*lines, f"     └{'─' * WIDTH}", f"      0{'progress':^{WIDTH - 2}}1"])


def draw(curves: dict[str, list[float]], path: Path) -> None:
    """Write the curves as a figure.

    Raises:
        ValueError: a file type that matplotlib cannot write.
    """
    from stepladder.report.style import LIGHT
    from stepladder.report.style import figure as titled

    figure, (axes,) = titled("Learning rate over a run")
    for name, factors in curves.items():
        axes.plot([i / (POINTS - 1) for i in range(POINTS)], factors, label=name)
    axes.set(xlabel="progress", ylabel="factor of the peak rate", ylim=(0, None), xlim=(0, 1))
    axes.legend(frameon=False, labelcolor=LIGHT["ink"])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _block(fill: float) -> str:
    return BLOCKS[round(min(1.0, max(0.0, fill)) * (len(BLOCKS) - 1))]


def _literal(text: str) -> Any:
    """A number or tuple where the text is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
