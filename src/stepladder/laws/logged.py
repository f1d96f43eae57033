"""Logged runs: the rate of every step and the losses at some of them, from tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stepladder.laws.columns import readings, recognise
from stepladder.laws.curve_forecast import LEAST_ROWS
from stepladder.laws.curves import Curve
from stepladder.laws.expressions import Column
from stepladder.laws.law import Array, Index, Mask
from stepladder.laws.points import rows_text
from stepladder.laws.tables import Table, no_column, read_table, select

COLUMNS = ("steps", "lr", "loss")
NEGLIGIBLE = 0.01  # of a run: the rise before a first row that early needs no word


@dataclass(frozen=True, kw_only=True)
class Logged:
    """One run as it was logged.

    Args:
        lr: (steps,) rate of every step from zero up to the last row, interpolated between rows; a
            linear rise before the first. None where the table has no rates.
        at, loss: the losses to learn from.
        held_at, held_loss: those that `where` left out.
        notes: what was taken for granted.
    """

    name: str
    lr: Array | None
    at: Index
    loss: Array
    held_at: Index
    held_loss: Array
    notes: tuple[str, ...] = ()

    @property
    def rates(self) -> Array:
        """`lr`.

        Raises:
            ValueError: the table has none.
        """
        if self.lr is None:
            raise ValueError(f"{self.name} has no column 'lr': --map lr=COLUMN names it")
        return self.lr

    def curve(self, lr: Array) -> Curve:
        """The losses to learn from under rates, its own or given ones.

        Raises:
            ValueError: a loss lies beyond the rates.
        """
        if len(self.at) and self.at[-1] >= len(lr):
            raise ValueError(
                f"{self.name} has a loss at step {self.at[-1]} and its schedule ends at "
                f"{len(lr) - 1}"
            )
        return Curve(lr, self.at, self.loss)


def read_logged(path: Path, maps: Sequence[str], where: str | None) -> list[Logged]:
    """The runs of a table with a row a logged step: one, or one for each value of a column `run`.

    Args:
        where: losses of rows for which it does not hold are held out; their rates stay known.

    Raises:
        ValueError: no steps, or neither rates nor losses; a rate or loss that cannot be; two rates
            for one step.
    """
    table = read_table(path)
    chosen, said = _loss_column(table, maps)
    maps = [*maps, *chosen]
    columns = select(table, [*COLUMNS, "run"], maps=maps).columns
    absent = "" if "steps" in columns else "steps"
    if not absent and not {"lr", "loss"} & set(columns):
        absent = "loss"
    if absent:
        raise ValueError(no_column(path, absent, list(table.columns), columns))
    kept = np.ones(len(table), dtype=bool)
    if where is not None:
        rows = select(table, ["steps"], maps=[*maps, "step=steps"], where=where).rows
        kept = np.isin(np.arange(1, len(table) + 1), rows)
    runs = columns.get("run", np.full(len(table), ""))
    said = (*table.notes, *said)
    return [
        _one(f"{path.name} {run}".strip(), columns, runs == run, kept, said)
        for run in dict.fromkeys(runs.tolist())
    ]


def _loss_column(table: Table, maps: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """A map of the loss and a remark, where several columns may be it and nothing is said.

    A log of training has its validation loss now and then, its training loss at every step: of the
    likeliest columns the first that is logged often enough for a curve.
    """
    likely = [one.column for one in readings("loss", table.columns)]
    told = any(text.partition("=")[0].strip() == "loss" for text in maps)
    if told or "loss" not in recognise(["loss"], likely) or len(likely) < 2:
        return [], ()
    often = [c for c in likely if _count(table.columns[c]) >= LEAST_ROWS]
    chosen = (often or likely)[0]
    other = next(column for column in likely if column != chosen)
    return [f"loss={chosen}"], (f"read loss from {chosen!r}; --map 'loss={other}' takes another",)


def _count(cells: Column) -> int:
    return 0 if cells.dtype.kind in "US" else int(np.isfinite(cells).sum())


def _one(
    name: str, columns: Mapping[str, Column], mine: Mask, kept: Mask, said: tuple[str, ...]
) -> Logged:
    """One run of a table; `mine` are its rows, `kept` those to learn from, `said` its remarks."""
    rows = (np.flatnonzero(mine) + 1).tolist()
    empty = np.full(len(rows), np.nan)
    step, lr, loss = (
        _numbers(name, n, columns[n][mine]) if n in columns else empty for n in COLUMNS
    )
    _check(name, "steps", ~(np.isfinite(step) & (step >= 0)), "counts of at least 0", rows)
    _check(name, "lr", lr < 0, "rates of at least 0", rows)
    _check(name, "loss", ~np.isnan(loss) & ~((loss > 0) & np.isfinite(loss)), "positive", rows)
    order = np.argsort(step, kind="stable")
    at: Index = np.round(step[order]).astype(np.intp)
    lr, loss = lr[order], loss[order]
    there, known, rated = ~np.isnan(loss), kept[mine][order], ~np.isnan(lr)
    rates, notes = _rates(name, at[rated], lr[rated], int(at[-1]))
    if there.any() and not there.all():
        notes += (f"a loss in {int(there.sum())} of {len(rows)} rows",)
    return Logged(
        name=name,
        lr=rates,
        at=at[there & known],
        loss=loss[there & known],
        held_at=at[there & ~known],
        held_loss=loss[there & ~known],
        notes=(*said, *notes),
    )


def _numbers(name: str, column: str, cells: Column) -> Array:
    if cells.dtype.kind in "US":
        raise ValueError(f"{name}: column {column!r} must hold numbers, not {str(cells[0])!r}")
    return np.asarray(cells, dtype=np.float64)


def _check(name: str, column: str, bad: Mask, kind: str, rows: Sequence[int]) -> None:
    if bad.any():
        raise ValueError(f"{name}: column {column!r} must be {kind}: see {rows_text(bad, rows)}")


def _rates(name: str, step: Index, lr: Array, last: int) -> tuple[Array | None, tuple[str, ...]]:
    """The rate of every step up to the last row, and what was taken for granted."""
    if len(step) == 0:
        return None, ()
    twice = np.flatnonzero((np.diff(step) == 0) & (np.diff(lr) != 0))
    if len(twice):
        raise ValueError(
            f"{name}: two rates for step {step[twice[0]]}: are there several runs? "
            "A column called run tells them apart"
        )
    rates = np.interp(np.arange(last + 1), step, lr)
    if step[0] > 1:
        rates[: step[0]] = lr[0] * np.arange(step[0]) / step[0]
    if step[0] <= NEGLIGIBLE * last:
        return rates, ()
    return rates, ("rates before the first row are taken as a linear rise from 0",)
