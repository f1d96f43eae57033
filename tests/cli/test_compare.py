"""`stepladder compare` as a user drives it: a text and two recipes of their own."""

import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from stepladder.cli.compare import fields
from stepladder.recipe import Data, Model, Optimizer, Parametrization, Recipe

from .conftest import Verb, finished, interrupt

BASE = Recipe(
    model=Model(
        width=8, depth=1, heads=2, kv_heads=2, head_size=4, mlp_width=16, context=16, vocab_size=257
    ),
    optimizer=Optimizer(lr=0.06),
    parametrization=Parametrization(base_width=8, base_depth=1, base_heads=2),
    data=Data(source="text"),
    tokens=6_000,
    batch=128,
    validation=2_048,
)
PAIR = ("base.toml", "lever.toml")
SMALL = ("--scales", "1", "2", "3", "--seeds", "2", "--rates", "3", "--device", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some text and recipes."""
    root = tmp_path_factory.mktemp("place")
    (root / "text").mkdir()
    words = random.Random(0)
    for i in range(200):
        text = " ".join(words.choice(("ladder", "rung", "climb", "far")) for _ in range(60))
        (root / "text" / f"{i}.txt").write_text(f"{i} {text}")
    (root / "base.toml").write_text(BASE.to_toml())
    lever = replace(BASE, optimizer=Optimizer(name="adam-atan2", lr=0.06))
    (root / "lever.toml").write_text(lever.to_toml())
    other = replace(lever, model=replace(BASE.model, context=32))
    (root / "other.toml").write_text(other.to_toml())
    return root


@pytest.fixture
def compare(stepladder: Verb) -> Verb:
    """The verb; status, output, errors."""
    return partial(stepladder, "compare")


def test_the_whole_story(place: Path, cache: Path, compare: Verb) -> None:
    """Planned, interrupted, resumed, and then free: no run is paid for twice."""
    status, out, err = compare(*PAIR, *SMALL, "--plan")
    assert status == 0, err
    assert "optimizer.name: 'adamw' -> 'adam-atan2'" in out
    assert "18 runs" in out
    assert not (place / "runs").exists()

    paid = interrupt(("compare", *PAIR, *SMALL), place, cache, runs=1)
    status, out, err = compare(*PAIR, *SMALL, "--json")
    assert status == 0, err
    content = json.loads(out)
    assert len(content["rungs"]) == 3
    assert content["tuning"]["base"]["runs"] == content["tuning"]["lever"]["runs"] >= 3
    assert content["multiplier"]["low"] <= content["multiplier"]["value"]
    folder = place / content["folder"]
    assert {file.name for file in folder.iterdir()} >= {"comparison.json", "base.toml"}
    assert json.loads((folder / "comparison.json").read_text())["verdict"] == content["verdict"]
    results = finished(place)
    assert paid.items() <= results.items()

    status, out, err = compare(*PAIR, *SMALL)
    assert content["verdict"] in out
    assert results == finished(place)


def test_a_lever_as_given_is_planned_without_its_search(compare: Verb) -> None:
    words = (*PAIR, *SMALL, "--plan")
    runs = {}
    for given in ((), ("--lever-as-given",)):
        status, out, err = compare(*words, *given, "--json")
        assert status == 0, err
        runs[bool(given)] = json.loads(out)["bill"]["runs"]
    assert runs[False] - runs[True] == 3  # the rates that SMALL tries
    assert "the lever keeps the rate of its recipe" in compare(*words, "--lever-as-given")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("base.toml", "base.toml"), "the two recipes are one"),
        (("base.toml", "other.toml"), "model.context (16 and 32)"),
        (("base.toml", "none.toml"), "none.toml"),
        (("base.toml", "lever.toml", "--scales", "1", "2"), "rise from 1"),
        (("base.toml", "lever.toml", "--budget", "1e9"), "the budget is 1e+09 FLOP"),
        (("base.toml", "lever.toml", "--tune", "optimizer.eps"), "--tune takes"),
    ],
)
def test_bad_input_is_named_before_anything_runs(
    compare: Verb, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    status, _, err = compare(*words, "--root", str(tmp_path), "--device", "cpu")
    assert status == 2
    assert said in err
    assert not (tmp_path / "runs").exists()


def test_fields_to_tune_are_read_with_their_types() -> None:
    assert fields(("optimizer.eps=0,1e-8", "schedule.name=wsd,linear")) == {
        "optimizer.eps": (0.0, 1e-8),
        "schedule.name": ("wsd", "linear"),
    }
    with pytest.raises(ValueError, match="once a field"):
        fields(("optimizer.eps=0", "optimizer.eps=1"))
