"""Tables: CSV, Parquet, JSON lines, or a folder of runs; and the columns that a law needs."""

import codecs
import csv
import io
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stepladder.laws.columns import COUNTED, LETTERS, readings, recognise, said
from stepladder.laws.expressions import Column, evaluate
from stepladder.laws.numerals import PLAIN, Numerals, numbers, numerals_of
from stepladder.names import did_you_mean

USUAL = ("params", "tokens", "flops", "loss", "samples", "steps", "batch")
# name, expression, what it needs; the first that can be computed is
DERIVED = (
    ("tokens", "samples", ("samples",)),
    ("tokens", "flops/(6*params)", ("flops", "params")),
    ("params", "flops/(6*tokens)", ("flops", "tokens")),
    ("params", "flops/(6*samples)", ("flops", "samples")),
)
HINTS = (
    ("flops", "6*params*tokens", ("params", "tokens")),
    ("tokens", "steps*batch*1024", ("steps", "batch")),  # sequences of so many tokens
    ("loss", "log(perplexity)", ("perplexity",)),
    ("loss", "log(ppl)", ("ppl",)),
)
SHOWN = 6  # columns named in a message


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
    """Read `.csv` (also `.tsv`), `.parquet`, `.jsonl`, or a folder of run directories.

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
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        table = _read_lines(path)
    else:
        raise ValueError(
            f"{path}: cannot read {path.suffix!r}; give .csv, .parquet, .jsonl or a folder"
        )
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

    Cells such as `1.3B` are counts. A column that follows from others (`DERIVED`) is computed. What
    was read from where is noted.

    Args:
        wanted: names that laws use; those that are not there are left out.
        maps: `name=column` renames and `name=expression` computes, in order.
        where: keeps the rows for which it holds; how many went is noted.
    """
    wanted = list(wanted)
    columns = dict(table.columns)
    told = [text.partition("=")[0].strip() for text in maps]
    found = recognise(dict.fromkeys([*wanted, *USUAL]), columns)
    columns.update(
        {name: _in_counts(table.columns[one.column], one.factor) for name, one in found.items()}
    )
    for text in maps:
        name, equals, expression = text.partition("=")
        if not equals or not expression.strip():
            raise ValueError(f"--map {text!r} must read name=column or name=expression")
        columns[name.strip()] = _in_counts(evaluate(expression, columns), 1.0)
    read = [said(name, one) for name, one in found.items() if name in wanted and name not in told]
    read += _derive(columns, wanted)
    names = [*wanted, *(n for n in ("flops",) if n in columns and n not in wanted)]
    notes = [*table.notes, *([f"read {', '.join(filter(None, read))}"] if any(read) else [])]
    keep = np.ones(len(table), dtype=bool)
    if where:
        keep = np.asarray(evaluate(where, columns), dtype=bool)
        notes.append(f"--where leaves {int(keep.sum())} of {len(keep)} rows")
        if not keep.any():
            raise ValueError(f"--where {where!r} leaves no rows")
    rows = tuple((np.flatnonzero(keep) + 1).tolist())
    return Table({n: columns[n][keep] for n in names if n in columns}, tuple(notes), rows)


def _derive(columns: dict[str, Column], wanted: Sequence[str]) -> list[str]:
    """Compute the wanted columns that follow from others; what was done."""
    made = []
    for name, expression, needs in DERIVED:
        if name in wanted and name not in columns and all(_is_numbers(columns, n) for n in needs):
            columns[name] = evaluate(expression, columns)
            made.append(f"{name} as {expression}")
    return made


def _is_numbers(columns: Mapping[str, Column], name: str) -> bool:
    return name in columns and columns[name].dtype.kind not in "US"


def no_column(path: Path, name: str, present: Sequence[str], columns: Iterable[str]) -> str:
    """What to say where a table lacks a column: the nearest, or the several that may be meant.

    Args:
        present: columns of the table.
        columns: names that were read from it or computed.
    """
    several = [one.column for one in readings(name, present)]
    if len(several) > 1:
        more = f", ... ({len(several)} in all)" if len(several) > SHOWN else ""
        return (
            f"several columns of {path.name} may be {name}: {', '.join(several[:SHOWN])}{more}. "
            f"--map '{name}={several[0]}' says which"
        )
    hint = missing_hint(name, {*columns, *present, *recognise(USUAL, present)})
    return (
        f"{path.name} has no column {name!r}{did_you_mean(name, present)}; it has "
        f"{', '.join(present)}. --map {name}=COLUMN names it{hint}"
    )


def missing_hint(name: str, columns: Iterable[str]) -> str:
    """How a missing column could be computed from those that are there."""
    present = set(columns)
    for of, expression, needs in HINTS:
        if of == name and present.issuperset(needs):
            return f"; --map {name}='{expression}' would compute it"
    return ""


def _read_csv(path: Path) -> Table:
    """A spreadsheet's export as it comes: any separator, either decimal mark, empty cells."""
    text = _decoded(path.read_bytes())
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise ValueError(f"{path} is no table: {error}") from None
    rows = [row for row in ([cell.strip() for cell in line] for line in lines) if any(row)]
    if not rows:
        raise ValueError(f"{path} is empty")
    header = _header(path, rows[0])
    columns = list(zip(*_even(path, rows[1:], len(header)), strict=True)) or [()] * len(header)
    way = numerals_of(columns, commas_first=delimiter == ";")
    cells = {name: _typed(column, way) for name, column in zip(header, columns, strict=True)}
    return Table(
        cells, () if way == PLAIN else (f"numbers are read as in {way} (a thousand and a half)",)
    )


def _decoded(data: bytes) -> str:
    """Text of a file: Unicode with or without its mark, else Latin-1, as old spreadsheets write."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _header(path: Path, row: Sequence[str]) -> list[str]:
    """Names of the columns; those at the end that have none are left out."""
    width = max(at for at, name in enumerate(row, start=1) if name)
    names = [name or f"column {at}" for at, name in enumerate(row[:width], start=1)]
    if numbers(names, PLAIN) is not None:
        raise ValueError(
            f"{path}: the first row holds numbers ({', '.join(names)}) where the names of columns "
            "belong: put them above, as in params,tokens,loss"
        )
    if len(set(names)) < width:
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"{path} has more than one column called {', '.join(twice)}")
    return names


def _even(path: Path, rows: Sequence[Sequence[str]], width: int) -> list[Sequence[str]]:
    """Rows of the header's width: longer ones may only be longer by empty cells."""
    for at, row in enumerate(rows, start=1):
        if len(row) < width or any(row[width:]):
            raise ValueError(f"{path}: row {at} has {len(row)} cells and the header {width}")
    return [row[:width] for row in rows]


def _read_lines(path: Path) -> Table:
    """A row a line, each an object; what a row lacks is NaN, or empty where it is text."""
    records = []
    for at, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            records.append(dict(_flat(json.loads(line))))
        except (ValueError, AttributeError):
            raise ValueError(f"{path}: line {at} is no JSON object") from None
    names = dict.fromkeys(name for record in records for name in record)
    return Table({n: _plain([record.get(n) for record in records]) for n in names})


def _typed(cells: Sequence[str], way: Numerals) -> Column:
    """Numbers where every cell that is not empty is one; an empty cell is then NaN."""
    made = numbers(cells, way)
    return np.array(cells) if made is None else made


def _in_counts(cells: Column, factor: float) -> Column:
    """Cells times a unit; text such as 135M is read as a count where every cell reads so."""
    if cells.dtype.kind not in "US":
        return np.asarray(cells * factor if factor != 1.0 else cells)
    digits, letters = [], []
    for cell in cells.tolist():
        letters.append(cell[-1:].lower() if cell[-1:].lower() in COUNTED else "")
        digits.append(cell[: len(cell) - len(letters[-1])].rstrip())
    made = numbers(digits, numerals_of([digits]))
    if made is None:
        return cells
    return made * factor * np.array([LETTERS.get(letter, 1.0) for letter in letters])


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
