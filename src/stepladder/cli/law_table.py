"""What the law verbs share: the columns of a law from a table, and inputs from flags."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from stepladder.laws import registry
from stepladder.laws.tables import Table, missing_hint, read_table, select
from stepladder.names import did_you_mean

TARGET = "loss"
USUAL = ("params", "tokens", "flops")  # one of them is an input of nearly every law of loss


def every_column(path: Path, maps: Sequence[str], where: str | None) -> Table:
    """The columns of a table that any law of loss could use.

    Raises:
        ValueError: there is no loss, or nothing that a law takes; the text names the nearest.
    """
    laws = [registry.get(name) for name in registry.names()]
    names = dict.fromkeys(n for law in laws for n in (*(i.name for i in law.inputs), law.target))
    table = _columns(path, maps, where, names)
    if TARGET not in table.columns or not set(USUAL) & set(table.columns):
        present = list(read_table(path).columns)
        absent = USUAL if TARGET in table.columns else (TARGET,)
        near = " or ".join(f"{name}{did_you_mean(name, present)}" for name in absent)
        raise ValueError(
            f"{path.name} has no column for {near}; it has {', '.join(present)}. "
            f"--map {absent[0]}=COLUMN names one"
        )
    return table


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
            raise ValueError(
                f"law {law.name} needs a column {name!r}{did_you_mean(name, present)}; "
                f"{path.name} has {', '.join(present)}. "
                f"--map {name}=COLUMN names it{missing_hint(name, table.columns)}"
            )
    return table


def input_flags(rest: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """`--params 7e9 --tokens=1.4e11` as numbers by input name.

    Raises:
        ValueError: an unknown flag, or a value that is not a number.
    """
    flags = [part for text in rest for part in text.split("=", 1)]
    if len(flags) % 2 or not all(flag.startswith("--") for flag in flags[::2]):
        raise ValueError(f"cannot read {' '.join(rest)!r}: give each input as --name number")
    result = {}
    for flag, text in zip(flags[::2], flags[1::2], strict=True):
        name = flag.lstrip("-").replace("-", "_")
        if name not in names:
            near = did_you_mean(name, names)
            raise ValueError(f"there is no option {flag}{near}; inputs are {', '.join(names)}")
        try:
            result[name] = float(text)
        except ValueError:
            raise ValueError(f"{flag} needs a number, not {text!r}") from None
    return result


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
