"""The catalogue and `show`, driven as a user would."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from stepladder import card as cards
from stepladder.card import Card, Evidence, Registry, all_cards
from stepladder.cli import main
from stepladder.cli.catalogue import whole_card

DOCS = Path(__file__).parents[1] / "docs" / "catalogue.md"
CARD = Card(name="a", family="fold", title="T", arxiv="0", claim="c")


def run(capsys, *argv):
    status = main(list(argv))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_json_has_every_technique(capsys):
    status, out, _ = run(capsys, "catalogue", "--json")
    rows = json.loads(out)
    assert status == 0
    assert len(rows) == len(all_cards()) > 50
    assert all(row[key] for row in rows for key in ("name", "family", "title", "arxiv", "claim"))
    assert all((row["command"] is None) == (not row["measured"]) for row in rows)


def test_names_are_unique_in_a_family():
    names = [(card.family, card.name) for card in all_cards()]
    assert len(set(names)) == len(names)


def test_words_and_family_select(capsys):
    _, out, _ = run(capsys, "catalogue", "sharpness", "momentum", "--json")
    assert out == ""
    _, out, _ = run(capsys, "catalogue", "momentum", "--family", "optim", "--json")
    found = {row["name"] for row in json.loads(out)}
    assert "smag" in found
    assert "lion" not in found


def test_a_name_shows_the_whole_card(capsys, monkeypatch):
    """Of that technique alone, though its name is in others; what a recipe can set is said."""
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(capsys, "catalogue", "lion")
    assert out.startswith("lion (optim)")
    assert "mars-lion" not in out
    assert "arXiv 2302.06675" in out
    assert "python evidence/make_compare.py optim/lion" in out
    assert all(len(line) <= 80 or "python" in line for line in out.splitlines())
    _, out, _ = run(capsys, "catalogue", "norm-test")
    assert "largest = 'needed'" in out
    _, out, _ = run(capsys, "catalogue", "linear")
    assert re.findall(r"^linear \((\w+)\)", out, re.MULTILINE) == ["schedules", "batching"]
    _, out, _ = run(capsys, "catalogue", "linear", "--json")
    assert {row["name"] for row in json.loads(out)} == {"linear"}


@pytest.mark.parametrize("card", all_cards(), ids=lambda card: f"{card.family}-{card.name}")
def test_every_whole_card_can_be_shown(card):
    shown = whole_card(card)
    assert card.claim.split()[0] in shown
    if card.family in ("optim", "schedules", "batching"):
        assert "\n  scales " in shown


def test_the_page_is_what_the_code_says(capsys, tmp_path):
    """Run `stepladder catalogue --write docs/catalogue.md` after a change of cards."""
    page = tmp_path / "page.md"
    assert run(capsys, "catalogue", "--write", str(page))[0] == 0
    assert page.read_text() == DOCS.read_text()


def test_figures_that_the_page_links_are_there():
    linked = set(re.findall(r"\.\./(evidence/\S+?\.svg)", DOCS.read_text()))
    assert linked
    assert all((DOCS.parents[1] / figure).exists() for figure in linked)


def test_table_reads_well(capsys):
    _, out, _ = run(capsys, "catalogue", "--family", "schedules")
    assert "cosine" in out
    assert "not yet" in out or "measured here" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["catalogue", "--family", "optm"], "did you mean 'optim'"),
        (["catalogue", "liom"], "no technique matches, did you mean 'lion'"),
        (["show"], "name one or more schedules"),
        (["show", "cosin"], "did you mean 'cosine'"),
        (["show", "linear", "--set", "final=low"], "final is a number: 'low'"),
        (["show", "wsd", "--set", "decy=0.1"], "did you mean 'decay'"),
        (["show", "wsd", "--set", "decay"], "key=value"),
        (["show", "wsd", "--warmup", "0.9", "--set", "decay=0.5"], "must fit into 1"),
    ],
)
def test_bad_input_is_named(capsys, argv, message):
    status, _, err = run(capsys, *argv)
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_show_draws_curves(capsys, tmp_path):
    figure = tmp_path / "curves.svg"
    options = ["--warmup", "0.1", "--set", "decay=0.3", "power=3", "--figure", str(figure)]
    status, out, _ = run(capsys, "show", "wsd", "polynomial", *options)
    assert status == 0
    assert "wsd (decay 0.3" in out
    assert "polynomial (power 3" in out
    assert ET.parse(figure).getroot().tag.endswith("svg")


def test_show_json_is_the_curve(capsys):
    _, out, _ = run(capsys, "show", "linear", "--json")
    curve = json.loads(out)
    assert curve["factors"]["linear"] == pytest.approx([1 - p for p in curve["progress"]])


def test_terminal_plot_follows_the_curve(capsys):
    """Column heights of the linear schedule fall in a line."""
    _, out, _ = run(capsys, "show", "linear")
    rows = [line[6:] for line in out.splitlines() if "│" in line]
    heights = [sum(row[x] != " " for row in rows) for x in range(72)]
    assert heights == sorted(heights, reverse=True)
    assert (heights[0], heights[36]) == (12, 6)


def test_records_are_kept_and_replaced(monkeypatch, tmp_path):
    monkeypatch.setattr(cards, "_RECORDS", tmp_path / "measured.json")
    cards._records.cache_clear()
    try:
        for result in ("1.2x", "1.1x"):
            cards.record("optim", "lion", Evidence(result=result, command="bench"))
        cards.record("optim", "lion", Evidence(result="saves 3%", command="compare"))
        other = tmp_path / "measured.json"  # as another process would, behind the cache's back
        other.write_text(other.read_text().replace("1.1x", "1.05x"))
        cards.record("optim", "adamw", Evidence(result="1x", command="bench"))
        found = [(e.result, e.command) for e in cards.measured("optim", "lion")]
        assert found == [("1.05x", "bench"), ("saves 3%", "compare")]
        cards.record("optim", "lion", Evidence(result="1.3x", command="bench"))
        results = [e.result for e in cards.measured("optim", "lion")]
        assert results == ["1.3x", "saves 3%"], "what is measured again stays in its place"
    finally:
        cards._records.cache_clear()


def test_a_registry_refuses_what_does_not_fit():
    registry: Registry[int] = Registry("stepladder.fold")
    registry.register(CARD)(1)
    with pytest.raises(ValueError, match="two members are called 'a'"):
        registry.register(CARD)
    with pytest.raises(ValueError, match="family is 'fold', not 'optim'"):
        Registry("stepladder.optim").register(CARD)
