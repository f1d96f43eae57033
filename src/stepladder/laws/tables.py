"""Tables of runs: CSV, Parquet, or a folder of runs; and the columns that a law needs from them."""

import csv
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stepladder.laws.columns import recognise
from stepladder.laws.expressions import Column, evaluate
from stepladder.names import did_you_mean


@dataclass(frozen=True)
class Table:
    """Columns by name, each (rows,), numbers or text; `notes` say what was left out, and why.

    `rows` are the numbers of the rows in the file, the first below its header being 1.
    """

    columns: Mapping[str, Column]
    notes: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def read_table(path: str | Path) -> Table:
    """Read `.csv` (also `.tsv`), `.parquet`, or a folder of run directories.

    Raises:
        ValueError: no such file, an unknown kind, no rows, or rows of different lengths.
    """
    path = Path(path)
    if path.is_dir():
        return _read_runs(path)
    if not path.exists():
        near = did_you_mean(path.name, [p.name for p in path.parent.glob("*")])
        raise ValueError(f"there is no file {path}{near}")
    if path.suffix.lower() in (".parquet", ".pq"):
        table = _read_parquet(path)
    elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
        table = _read_csv(path)
    else:
        raise ValueError(f"{path}: cannot read {path.suffix!r}; give .csv, .parquet or a folder")
    if not len(table):
        raise ValueError(f"{path} has no rows")
    return table


def select(
    table: Table,
    wanted: Iterable[str],
    *,
    maps: Sequence[str] = (),
    where: str | None = None,
) -> Table:
    """The wanted columns of a table, recognised by their usual spellings.

    Args:
        wanted: names that laws use; those that are not there are left out.
        maps: `name=column` renames and `name=expression` computes, in order.
        where: keeps the rows for which it holds; how many went is noted.
    """
    wanted = list(wanted)
    columns = dict(table.columns)
    recognised = recognise([*wanted, "params", "tokens", "flops", "loss"], columns)
    columns.update({name: columns[column] for name, column in recognised.items()})
    for text in maps:
        name, equals, expression = text.partition("=")
        if not equals or not expression.strip():
            raise ValueError(f"--map {text!r} must read name=column or name=expression")
        columns[name.strip()] = evaluate(expression, columns)
    names = [*wanted, *(n for n in ("flops",) if n in columns and n not in wanted)]
    notes = list(table.notes)
    keep = np.ones(len(table), dtype=bool)
    if where:
        keep = np.asarray(evaluate(where, columns), dtype=bool)
        notes.append(f"--where leaves {int(keep.sum())} of {len(keep)} rows")
        if not keep.any():
            raise ValueError(f"--where {where!r} leaves no rows")
    rows = tuple((np.flatnonzero(keep) + 1).tolist())
    return Table({n: columns[n][keep] for n in names if n in columns}, tuple(notes), rows)


def missing_hint(name: str, columns: Iterable[str]) -> str:
    """How a missing column could be computed from those that are there."""
    present = set(columns)
    hints = {
        "tokens": ("flops/(6*params)", {"flops", "params"}),
        "flops": ("6*params*tokens", {"params", "tokens"}),
        "params": ("flops/(6*tokens)", {"flops", "tokens"}),
    }
    expression, needs = hints.get(name, ("", set()))
    return f"; --map {name}='{expression}' would compute it" if needs and needs <= present else ""


def _read_csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        sample = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=sample.count)
        rows = list(csv.reader(file, delimiter=delimiter))
    rows = [row for row in rows if row]
    if not rows:
        raise ValueError(f"{path} is empty")
    header = [name.strip() for name in rows[0]]
    if len(set(header)) < len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise ValueError(f"{path} has more than one column called {', '.join(twice)}")
    for at, row in enumerate(rows[1:], start=1):
        if len(row) != len(header):
            raise ValueError(f"{path}: row {at} has {len(row)} cells and the header {len(header)}")
    cells = zip(*rows[1:], strict=True) if len(rows) > 1 else [()] * len(header)
    return Table({name: _typed(column) for name, column in zip(header, cells, strict=True)})


def _typed(cells: Sequence[str]) -> Column:
    """Numbers where every cell that is not empty is one; an empty cell is then NaN."""
    stripped = [cell.strip() for cell in cells]
    try:
        return np.array([float(cell) if cell else np.nan for cell in stripped])
    except ValueError:
        return np.array(stripped)


def _read_parquet(path: Path) -> Table:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(
            "reading Parquet needs pyarrow: pip install 'stepladder[parquet]'"
        ) from None
    table = parquet.read_table(path)
    return Table({name: _plain(table[name].to_pylist()) for name in table.column_names})


def _plain(cells: Sequence[Any]) -> Column:
    if all(cell is None or isinstance(cell, bool | int | float) for cell in cells):
        return np.array([np.nan if cell is None else float(cell) for cell in cells])
    return np.array(["" if cell is None else str(cell) for cell in cells])


def _read_runs(folder: Path) -> Table:
    """One row for each finished run: its result, and its recipe's settings by dotted name."""
    records, unfinished = [], 0
    for recipe in sorted(folder.glob("*/recipe.toml")):
        result = recipe.with_name("result.json")
        if not result.exists():
            unfinished += 1
            continue
        try:
            settings = dict(_flat(tomllib.loads(recipe.read_text())))
            records.append({**settings, **dict(_flat(json.loads(result.read_text())))})
        except ValueError as error:
            raise ValueError(
                f"{recipe.parent} is damaged ({error}): delete it and run again"
            ) from None
    if not records:
        raise ValueError(
            f"{folder} holds no finished run ({unfinished} unfinished): "
            "it should be a folder of runs, each with recipe.toml and result.json"
        )
    notes = (f"{unfinished} runs without a result are left out",) if unfinished else ()
    names = dict.fromkeys(name for record in records for name in record)
    return Table({n: _plain([record.get(n) for record in records]) for n in names}, notes)


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str) or value is None:
            yield f"{prefix}{key}", value
