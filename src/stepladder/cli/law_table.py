"""What the law verbs share: the columns of a law from a table, and inputs from flags."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stepladder.laws import registry
from stepladder.laws.columns import COUNTED, LETTERS, readings
from stepladder.laws.tables import Table, no_column, read_table, select
from stepladder.names import did_you_mean

if TYPE_CHECKING:
    from stepladder.laws.comparing import Ranked
    from stepladder.laws.result import Fit

TARGET = "loss"
SPLIT = 0.5  # of the variance of residuals
AXES = ("params", "tokens", "flops", "samples")  # one of them is an input of nearly every law


def every_column(path: Path, maps: Sequence[str], where: str | None) -> Table:
    """The columns of a table that any law of its target could use.

    Raises:
        ValueError: there is no target, or nothing that a law takes; the text names the nearest.
    """
    laws = [registry.get(name) for name in registry.names()]
    names = dict.fromkeys(n for law in laws for n in (*(i.name for i in law.inputs), law.target))
    table = _columns(path, maps, where, names)
    present = list(read_table(path).columns)
    if not target_of(table.columns):
        raise ValueError(no_column(path, TARGET, present, table.columns))
    if not set(AXES) & set(table.columns):
        free = [column for column in present if not readings(TARGET, [column])]
        near = " or ".join(f"{name}{did_you_mean(name, free)}" for name in AXES)
        raise ValueError(
            f"{path.name} has no column for {near}; it has {', '.join(present)}. "
            f"--map {AXES[0]}=COLUMN names one"
        )
    return table


def target_of(columns: Iterable[str]) -> str:
    """What a table's runs are judged by: its loss, or else that less a unigram model's, or ''."""
    present = set(columns)
    return next((name for name in (TARGET, "loss_unigram") if name in present), "")


def _columns(path: Path, maps: Sequence[str], where: str | None, names: Iterable[str]) -> Table:
    mapped = [text.partition("=")[0].strip() for text in maps]
    return select(read_table(path), [*dict.fromkeys([*names, *mapped])], maps=maps, where=where)


def law_columns(law_name: str, path: Path, maps: Sequence[str], where: str | None) -> Table:
    """The columns that a law needs.

    Raises:
        ValueError: one is missing; the text names the nearest column, or how to compute it.
    """
    law = registry.get(law_name)
    names = [*(i.name for i in law.inputs), law.target]
    table = _columns(path, maps, where, names)
    for name in names:
        if name not in table.columns:
            present = list(read_table(path).columns)
            raise ValueError(f"law {law.name}: {no_column(path, name, present, table.columns)}")
    return table


def fit_table(
    path: Path,
    law: str,
    maps: Sequence[str],
    where: str | None,
    told: Sequence[str] = (),
    **options: Any,
) -> "tuple[Fit, list[Ranked], tuple[str, ...]]":
    """Fit a law, or the one that forecasts best, to a table; the ranking, and remarks.

    Args:
        told: inputs that a law which is chosen must have, since a run is told by them.
        options: of `laws.fit`.
    """
    from stepladder.laws import fit
    from stepladder.laws.comparing import best_law

    ranking: list[Ranked] = []
    if law == "auto":
        table = every_column(path, maps, where)
        shared = {name: options[name] for name in ("noise", "drop_worst") if name in options}
        ranking = best_law(table.columns, target_of(table.columns), rows=table.rows, **shared)
        law = _first_with(told, ranking).law
    else:
        table = law_columns(law, path, maps, where)
    made = fit(law, table.columns, rows=table.rows, **options)
    return made, ranking, (*table.notes, *_splits(path, made))


def _first_with(told: Sequence[str], ranking: "Sequence[Ranked]") -> "Ranked":
    """The best law that has these inputs; the best of all where none has them."""
    has = {one.law: {i.name for i in registry.get(one.law).inputs} for one in ranking}
    suited = (one for one in ranking if one.backtest and has[one.law].issuperset(told))
    return next(suited, ranking[0])


def _splits(path: Path, made: "Fit") -> list[str]:
    """A remark where a column of text tells runs apart that the law takes for alike."""
    from stepladder.laws.noise import explained

    residual = made.problem.residuals(made.coordinates[:1])[0]
    at = np.array(made.points.rows) - 1
    columns = {n: x[at] for n, x in read_table(path).columns.items() if x.dtype.kind in "US"}
    share = {name: explained(residual, x.tolist()) for name, x in columns.items()}
    name = max(share, key=lambda n: share[n], default="")
    if not name or share[name] < SPLIT:
        return []
    labels = list(dict.fromkeys(columns[name].tolist()))
    quoted = name if name.isidentifier() else f"`{name}`"
    return [
        f"{share[name]:.0%} of what the law leaves goes with {name!r} ({', '.join(labels)}): "
        f"fit one at a time, as in --where \"{quoted} == '{labels[0]}'\""
    ]


def flag_names(rest: Sequence[str]) -> list[str]:
    """Names of inputs among flags, whatever their values: params and tokens."""
    flags = (text.partition("=")[0] for text in rest if text.startswith("--"))
    return [flag.lstrip("-").replace("-", "_") for flag in flags]


def input_flags(rest: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """`--params 7e9 --tokens=140B` as numbers by input name.

    Raises:
        ValueError: an unknown flag, or a value that is not one number.
    """
    lists = choice_flags(rest, names)
    for name, values in lists.items():
        if len(values) > 1:
            raise ValueError(f"--{name} needs one number, not {len(values)}")
    return {name: values[0] for name, values in lists.items()}


def choice_flags(rest: Sequence[str], names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Likewise, where each may be several numbers to choose from: `--experts 8,16,32`.

    Raises:
        ValueError: an unknown flag, or a value that is not a number.
    """
    flags = [part for text in rest for part in text.split("=", 1)]
    if len(flags) % 2 or not all(flag.startswith("--") for flag in flags[::2]):
        raise ValueError(f"cannot read {' '.join(rest)!r}: give each input as --name number")
    result: dict[str, tuple[float, ...]] = {}
    for flag, text in zip(flags[::2], flags[1::2], strict=True):
        name = flag.lstrip("-").replace("-", "_")
        if name not in names:
            near = did_you_mean(name, names)
            raise ValueError(f"there is no option {flag}{near}; inputs are {', '.join(names)}")
        try:
            result[name] = tuple(_number(part) for part in text.split(","))
        except ValueError:
            raise ValueError(f"{flag} needs a number, not {text!r}") from None
    return result


def _number(text: str) -> float:
    """7e9, or 7B as `count` writes it."""
    letter = text[-1:].lower()
    return float(text[:-1]) * LETTERS[letter] if letter in COUNTED else float(text)


def counts(inputs: Mapping[str, float]) -> str:
    """`params 7B, tokens 140B`."""
    return ", ".join(f"{name} {count(x)}" for name, x in inputs.items())


def count(x: float) -> str:
    """A number for reading: 7B, 1.4T, 3e24."""
    size = abs(x)
    if not np.isfinite(x):
        return "unbounded"
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if unit <= size < 1e15:
            return f"{x / unit:.4g}{letter}"
    return f"{x:.4g}"
