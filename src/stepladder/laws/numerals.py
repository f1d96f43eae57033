"""Numbers as spreadsheets write them: 1,000.5 or 1.000,5 or 1 000,5, and 46.2%; empty cells."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from stepladder.laws.law import Array

MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null"})
SPACES = " \u00a0\u202f'"  # plain, no-break and narrow; the Swiss apostrophe


class Numerals(NamedTuple):
    """A way to write numbers: what may stand between thousands, and before decimals."""

    thousands: str
    decimal: str

    def __str__(self) -> str:
        return f"1{self.thousands[:1]}000{self.decimal}5"

    def read(self, cell: str) -> float | None:
        """A cell's number, NaN where it is empty, None where it is neither."""
        if cell.lower() in MISSING:
            return float("nan")
        share = cell.endswith("%")
        number = self._plain(cell[:-1].rstrip() if share else cell)
        try:
            return float(number) * (0.01 if share else 1.0)
        except ValueError:
            return None

    def _plain(self, number: str) -> str:
        """As Python writes it; empty where it is not written in this way."""
        if not self.thousands:
            return number
        whole = rf"[-+]?(?:\d+|\d{{1,3}}(?:[{self.thousands}]\d{{3}})+)"
        rest = rf"(?:[{self.decimal}](\d*))?((?:[eE][-+]?\d+)?)"
        parts = re.fullmatch(f"({whole}){rest}", number)
        if not parts:
            return ""
        return f"{re.sub(rf'[{self.thousands}]', '', parts[1])}.{parts[2] or 0}{parts[3]}"


PLAIN = Numerals("", ".")
POINTS = (Numerals(",", "."), Numerals(SPACES, "."))
COMMAS = (Numerals(SPACES, ","), Numerals(".", ","))


def numerals_of(columns: Iterable[Sequence[str]], *, commas_first: bool = False) -> Numerals:
    """How a table writes its numbers: the way in which most of its columns can be read.

    Args:
        columns: cells of each column, stripped.
        commas_first: of ways that read as many, prefer a comma before decimals; else a point.
    """
    columns = list(columns)
    odd = [cells for cells in columns if numbers(cells, PLAIN) is None]
    ways = (*COMMAS, *POINTS) if commas_first else (*POINTS, *COMMAS)
    if not any(_reads(way, cells) for cells in odd for way in ways):
        return PLAIN  # without a look at every cell in every way
    return max((PLAIN, *ways), key=lambda way: sum(_reads(way, cells) for cells in columns))


def numbers(cells: Sequence[str], way: Numerals) -> Array | None:
    """The numbers of a column (cells,), NaN where a cell is empty; None where one is text.

    Words for nothing, in a column without a number, are text.
    """
    if way == PLAIN:
        with suppress(ValueError):  # as most are: fast
            return np.array([float(cell) if cell else np.nan for cell in cells])
    made = np.empty(len(cells))
    for at, cell in enumerate(cells):
        number = way.read(cell)
        if number is None:
            return None
        made[at] = number
    return None if np.isnan(made).all() and any(cells) else made


def _reads(way: Numerals, cells: Sequence[str]) -> bool:
    return numbers(cells, way) is not None
