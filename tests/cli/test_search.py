"""`stepladder search` as a user drives it: on a text of their own, interrupted and gone on with."""

import json
from pathlib import Path

import pytest

from stepladder.recipe import Recipe

from .conftest import Verb
from .test_ladder_verbs import place

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
HERE = ("--executor", "here")  # starts no processes


@pytest.fixture(scope="module")
def recipe(place: Path) -> str:
    (place / "base.toml").write_text(RECIPE)
    return "base.toml"


def test_searches_and_goes_on(place: Path, recipe: str, stepladder: Verb) -> None:
    done = stepladder("search", recipe, *SPACE, *SMALL, "--json")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    folder = place / found["folder"]
    best, grown = (Recipe.load(folder / name) for name in ("best.toml", "grown.toml"))
    assert best.optimizer.lr == grown.optimizer.lr == found["best"]["optimizer.lr"]
    assert (best.model.width, grown.model.width) == (8, 8 * found["scale"])
    assert found["spent_flops"] <= found["plan"]["budget"]
    assert len(list(place.glob("runs/*/result.json"))) == sum(found["runs"])

    again = stepladder("search", recipe, *SPACE, *SMALL, "--json")
    assert "going on with" in again.err
    assert json.loads(again.out) == found
    other = stepladder("search", recipe, SPACE[0], *SMALL)
    assert (other.status, "differs in space" in other.err) == (2, True)


def test_a_plan_says_where_no_run_will_reach_the_top(recipe: str, stepladder: Verb) -> None:
    for runs, said in (("1", True), ("20", False)):
        shown = stepladder("search", recipe, *SPACE, "--scales", "1", "3", "--runs", runs, "--plan")
        assert ("no run is likely to reach scale 3" in shown.out) is said
        assert "one after another on" in shown.out.splitlines()[0]


def test_bad_input_is_named(recipe: str, stepladder: Verb) -> None:
    for words, message in (
        ((recipe,), "the search space is empty"),
        ((recipe, "optimizer.lrr=1..2"), "did you mean 'optimizer.lr'"),
        ((recipe, SPACE[0], "--executor", "stackt"), "did you mean 'stacked'"),
        ((recipe, SPACE[0], "--proposer", "bohbb"), "did you mean 'bohb'"),
        ((recipe, SPACE[0], "--scheduler", "hyperbnd"), "did you mean 'hyperband'"),
        ((recipe, SPACE[0], "--budget", "1e6"), "fewer --runs"),
        ((recipe, SPACE[0], "--runs", "0"), "--runs must be 1 or more"),
        ((recipe, "model.tied=true,false", "--executor", "stacked"), "changes the shape"),
        ((recipe, "optimizer.lr=1..0.1"), "is empty"),
        ((recipe, "optimizer.lr=log:0..1"), "starts above 0"),
        ((recipe, SPACE[0], SPACE[0]), "searched twice"),
        ((recipe, "optimizer.beta1=0.5..1.5"), "optimizer.beta1 must lie in"),
        ((recipe, f"{SPACE[1]} if optimizer.name=muon"), "which is not searched"),
        ((recipe, SPACE[0], "--scales", "2", "1"), "let scales rise"),
        (("none.toml", SPACE[0]), "none.toml"),
    ):
        refused = stepladder("search", *words, "--device", "cpu")
        assert refused.status == 2, words
        assert message in refused.err


def test_all_trials_diverge(place: Path, recipe: str, stepladder: Verb) -> None:
    """Said once, with what to change; what was run is kept, and the same command says it again."""
    hot = ("optimizer.lr=log:1e4..1e6", "--runs", "12", "--device", "cpu", "--name", "hot")
    for _ in range(2):
        done = stepladder("search", recipe, *hot, *HERE)
        assert done.status == 2
        assert "trials diverged: search lower rates" in done.err
    journal = (place / "searches" / "hot" / "journal.log").read_text()
    assert journal.count('"diverged":true') >= 8


def test_a_cluster_that_is_not_there(recipe: str, stepladder: Verb) -> None:
    pytest.importorskip("ray")
    words = (recipe, SPACE[0], *SMALL[:-1], "far", *HERE)
    done = stepladder("search", *words, "--ray", "127.0.0.1:1")
    assert done.status == 2
    assert "no Ray cluster answers at '127.0.0.1:1'" in done.err
    assert stepladder("search", *words).status == 0  # nothing stands in the way
