"""`stepladder compare` as a user drives it: a text and two recipes of their own."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stepladder.cli import main
from stepladder.cli.compare import fields
from stepladder.recipe import Data, Model, Optimizer, Parametrization, Recipe

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
def stepladder(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the verb in the place, with a cache of its own; status, output, errors."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("STEPLADDER_CACHE", str(place / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def stepladder(*words: str) -> tuple[int, str, str]:
        status = main(["compare", *words])
        return status, *capsys.readouterr()

    return stepladder


def test_the_whole_story(place: Path, stepladder) -> None:
    """Planned, interrupted, resumed, and then free: no run is paid for twice."""
    status, out, err = stepladder("base.toml", "lever.toml", *SMALL, "--plan")
    assert status == 0, err
    assert "optimizer.name: 'adamw' -> 'adam-atan2'" in out
    assert "18 runs" in out
    assert not (place / "runs").exists()

    paid = interrupted(place)
    status, out, err = stepladder("base.toml", "lever.toml", *SMALL, "--json")
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

    status, out, err = stepladder("base.toml", "lever.toml", *SMALL)
    assert content["verdict"] in out
    assert results == finished(place)


def test_a_lever_as_given_is_planned_without_its_search(stepladder) -> None:
    words = ("base.toml", "lever.toml", *SMALL, "--plan")
    runs = {}
    for given in ((), ("--lever-as-given",)):
        status, out, err = stepladder(*words, *given, "--json")
        assert status == 0, err
        runs[bool(given)] = json.loads(out)["bill"]["runs"]
    assert runs[False] - runs[True] == 3  # the rates that SMALL tries
    assert "the lever keeps the rate of its recipe" in stepladder(*words, "--lever-as-given")[1]


def interrupted(place: Path) -> dict[Path, int]:
    """Stops a comparison with Ctrl-C after its first run; what is paid for by then."""
    going = subprocess.Popen(
        [sys.executable, "-m", "stepladder", "compare", "base.toml", "lever.toml", *SMALL],
        cwd=place,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 240
    while not finished(place):
        assert going.poll() is None, going.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    going.send_signal(signal.SIGINT)
    _, said = going.communicate(timeout=60)
    assert going.returncode == 130
    assert "the same command resumes" in said
    return finished(place)


def finished(place: Path) -> dict[Path, int]:
    """Results with the times they were written."""
    return {file: file.stat().st_mtime_ns for file in place.glob("runs/*/result.json")}


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
    stepladder, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    status, _, err = stepladder(*words, "--root", str(tmp_path), "--device", "cpu")
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
