"""`stepladder search` as a user drives it: on a text of their own, interrupted and gone on with."""

import json
from pathlib import Path

import pytest

from stepladder.recipe import Recipe

from .test_ladder_verbs import place, stepladder

__all__ = ["place"]

RECIPE = """
tokens = 1280
batch = 64
validation = 1024
evaluations = 1
[model]
width = 8
depth = 1
heads = 2
kv_heads = 2
head_size = 4
mlp_width = 16
context = 32
vocab_size = 257
[optimizer]
lr = 0.02
[parametrization]
base_width = 8
base_depth = 1
[data]
source = "text"
tokenizer = "bytes"
"""
SPACE = ("optimizer.lr=log:1e-3..1e-1", "optimizer.weight_decay=0..0.3")
SMALL = ("--scales", "1", "2", "--runs", "3", "--device", "cpu", "--name", "one")


@pytest.fixture(scope="module")
def recipe(place: Path) -> str:
    (place / "base.toml").write_text(RECIPE)
    return "base.toml"


def test_searches_and_goes_on(place: Path, recipe: str) -> None:
    done = stepladder(place, "search", recipe, *SPACE, *SMALL, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    folder = place / found["folder"]
    best, grown = (Recipe.load(folder / name) for name in ("best.toml", "grown.toml"))
    assert best.optimizer.lr == grown.optimizer.lr == found["best"]["optimizer.lr"]
    assert (best.model.width, grown.model.width) == (8, 8 * found["scale"])
    assert found["spent_flops"] <= found["plan"]["budget"]
    assert len(list(place.glob("runs/*/result.json"))) == sum(found["runs"])

    again = stepladder(place, "search", recipe, *SPACE, *SMALL, "--json")
    assert "going on with" in again.stderr
    assert json.loads(again.stdout) == found
    other = stepladder(place, "search", recipe, SPACE[0], *SMALL)
    assert (other.returncode, "differs in space" in other.stderr) == (2, True)


def test_bad_input_is_named(place: Path, recipe: str, capsys, monkeypatch) -> None:
    """In this process: what is refused needs no training."""
    from stepladder.cli import main

    monkeypatch.chdir(place)
    for words, message in (
        ((recipe,), "the search space is empty"),
        ((recipe, "optimizer.lrr=1..2"), "did you mean 'optimizer.lr'"),
        ((recipe, SPACE[0], "--executor", "stackt"), "did you mean 'stacked'"),
        ((recipe, SPACE[0], "--proposer", "bohbb"), "did you mean 'bohb'"),
        ((recipe, SPACE[0], "--scheduler", "hyperbnd"), "did you mean 'hyperband'"),
        ((recipe, SPACE[0], "--budget", "1e6"), "fewer --runs"),
        ((recipe, SPACE[0], "--runs", "0"), "--runs must be 1 or more"),
        ((recipe, "model.tied=true,false", "--executor", "stacked"), "changes the shape"),
        (("none.toml", SPACE[0]), "none.toml"),
    ):
        assert main(["search", *words, "--device", "cpu"]) == 2, words
        assert message in capsys.readouterr().err
