"""Numbers as spreadsheets write them, and whole tables that are written so."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepladder.laws.numerals import COMMAS, PLAIN, POINTS, numbers, numerals_of
from stepladder.laws.tables import read_table, select

EVERY_WAY = [*POINTS, *COMMAS]
counts = st.lists(st.integers(0, 10**13), min_size=2, max_size=9)
losses = st.lists(st.integers(10_001, 99_999).filter(lambda n: n % 10), min_size=2, max_size=9)


def written(x: float, way, decimals: int = 0) -> str:
    """A number in another way, by Python's own English formatting."""
    swap = {",": way.thousands[:1], ".": way.decimal}
    return re.sub("[,.]", lambda sign: swap[sign[0]], f"{x:,.{decimals}f}")


@pytest.mark.parametrize("way", EVERY_WAY)
@given(counts=counts, losses=losses)
def test_a_table_is_read_as_it_was_written(way, counts, losses):
    columns = [
        [written(n + 10**6, way) for n in counts],
        [written(x / 1e4, way, 4) for x in losses],
    ]
    found = numerals_of(columns)
    np.testing.assert_allclose(numbers(columns[0], found), np.array(counts) + 1e6)
    np.testing.assert_allclose(numbers(columns[1], found), np.array(losses) / 1e4)


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_plain_numbers_are_plain(values):
    cells = [repr(x) for x in values]
    for commas_first in (False, True):
        assert numerals_of([cells], commas_first=commas_first) == PLAIN
    assert numbers(cells, PLAIN).tolist() == values


def test_three_decimals_are_no_thousands_where_semicolons_separate():
    assert numerals_of([["3,142", "2,718"]]) == POINTS[0]
    assert numerals_of([["3,142", "2,718"]], commas_first=True) == COMMAS[0]
    assert numerals_of([["3.142", "2.718"]], commas_first=True) == PLAIN


@pytest.mark.parametrize("way", [PLAIN, *EVERY_WAY])
def test_powers_of_ten_are_read_in_every_way(way):
    assert way.read("4E+08") == 4e8
    assert way.read(f"-1{way.decimal}5e-3") == -1.5e-3
    assert way.read("4x") is None


def test_percents_gaps_and_words():
    cells = ["46.2%", "n/a", "", "50 %"]
    np.testing.assert_allclose(numbers(cells, PLAIN), [0.462, np.nan, np.nan, 0.5])
    assert numbers(["none", "1"], PLAIN) is None
    assert numbers(["n/a", "n/a"], PLAIN) is None  # a word, and nowhere a number
    assert np.isnan(numbers(["", ""], PLAIN)).all()


@pytest.mark.parametrize(
    "text",
    [
        'N,D,loss\n"20,000,000","400,000,000",4.6194\n"50,000,000","1,000,000,000",3.5\n',
        "N;D;loss\n20000000;400000000;4,6194\n50000000;1000000000;3,5\n",
        "N;D;loss\n20.000.000;400.000.000;4,6194\n50.000.000;1.000.000.000;3,5\n",
        "N;D;loss\n20 000 000;4E+08;4,6194\n50 000 000;1E+09;3,5\n",
        "N\tD\tloss\n20M\t0,4B\t4,6194\n50M\t1B\t3,5\n",
        "N,D,loss,,\n2e7,4e8,4.6194,,\n,,,,\n5e7,1e9,3.5,,\n",  # a sheet's empty edge
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_exports_of_spreadsheets(tmp_path, text, encoding):
    path = tmp_path / "Läufe.csv"
    note = {"\t": "größe\t", ";": "größe;"}.get(text[1], "größe,")
    lines = [note + text.splitlines()[0], *("é" + note[-1] + row for row in text.splitlines()[1:])]
    path.write_bytes("\r\n".join(lines).encode(encoding))
    if ",,,," in text:
        lines[2] = ",,,,,"
        path.write_bytes("\r\n".join(lines).encode(encoding))
    columns = select(read_table(path), ["params", "tokens", "loss"]).columns
    assert columns["params"] == pytest.approx([2e7, 5e7])
    assert columns["tokens"] == pytest.approx([4e8, 1e9])
    assert columns["loss"] == pytest.approx([4.6194, 3.5])


def test_how_numbers_were_read_is_said_where_it_is_not_plain(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("N;loss\n1;2,5\n")
    assert "1 000,5" in read_table(path).notes[0]
    path.write_text("N;loss\n1;2.5\n")
    assert read_table(path).notes == ()
