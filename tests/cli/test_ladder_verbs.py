"""The verbs of a ladder as a user drives them: plan, climb, train, score on a text of their own."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PLAN = ("plan", "1e12", "--data", "text", "--tokenizer", "bytes", "--context", "32")
SMALL = ("--ratio", "0.1", "--device", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some text in it."""
    root = tmp_path_factory.mktemp("place")
    (root / "text").mkdir()
    words = random.Random(0)
    for i in range(300):
        text = " ".join(words.choice(("ladder", "rung", "climb", "far")) for _ in range(100))
        (root / "text" / f"{i}.txt").write_text(f"{i} {text}")
    return root


def stepladder(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a place, with a cache of its own."""
    return subprocess.run(command(words), cwd=place, env=surroundings(place), **CAPTURED)


CAPTURED = {"capture_output": True, "text": True, "timeout": 300}


def command(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "stepladder", *words]


def surroundings(place: Path) -> dict[str, str]:
    return os.environ | {"STEPLADDER_CACHE": str(place / "cache"), "OMP_NUM_THREADS": "1"}


def test_the_whole_story(place: Path) -> None:
    planned = stepladder(place, *PLAN, *SMALL, "--json")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert plan["target"]["data"]["source"] == "text"
    early = stepladder(place, "train")
    assert (early.returncode, "climb first" in early.stderr) == (2, True)

    interrupted = subprocess.Popen(
        command(("climb",)), cwd=place, env=surroundings(place), stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: len(list(place.glob("runs/*/result.json"))) >= 2, interrupted)
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    assert "the same command resumes" in said
    paid = set(place.glob("runs/*/result.json"))

    climbed = stepladder(place, "climb", "--json")
    assert climbed.returncode == 0, climbed.stderr
    forecast = json.loads(climbed.stdout)
    assert forecast["interval"][0] < forecast["forecast"] < forecast["interval"][1]
    assert paid < set(place.glob("runs/*/result.json"))

    trained = stepladder(place, "train", "--json")
    assert trained.returncode == 0, trained.stderr
    outcome = json.loads(trained.stdout)
    assert "at 50% of its way, heading for" in trained.stderr
    scored = json.loads(stepladder(place, "score", "--json").stdout)
    assert scored["outcome"] == outcome["loss"]
    assert scored["forecast"] == forecast["forecast"]
    assert scored["relative_error"] == pytest.approx(
        forecast["forecast"] / outcome["loss"] - 1, rel=1e-12
    )
    looks = [look["progress"] for look in scored["monitor"]["headings"]]
    assert looks == pytest.approx([0.25, 0.5, 0.75], abs=0.05)  # in whole steps of a small target
    shown = stepladder(place, "score")
    assert (place / "ladders" / plan["name"] / "report.html").exists(), shown.stderr
    assert "report" in shown.stdout


def wait_for(ready, process: subprocess.Popen, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, "it ended by itself"
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plan", "ten"), "cannot read the budget 'ten'"),
        (("plan", "8", "parsecs"), "cannot read the budget '8parsecs'"),
        (("plan", "1e9", "--data", "nowhere"), "nowhere"),
        (("plan", "1e6", "--data", "text", "--tokenizer", "bytes", *SMALL), "is too small"),
        (("plan", "1e12", "--ratio", "-1"), "ratio must be 0 or more"),
        (("plan", "1e12", "--device", "cray"), "cray"),
        (("climb", "zzz"), "there is no ladder"),
        (("score",), "no target"),
        (("train", "missing.toml"), "missing.toml"),
        (("clmb",), "did you mean 'climb'"),
    ],
)
def test_bad_input_is_named_in_one_line(place: Path, words: tuple[str, ...], said: str) -> None:
    empty = place / "elsewhere"
    empty.mkdir(exist_ok=True)
    root = () if words[0] in ("clmb",) else ("--root", str(empty))
    result = stepladder(place, *words, *root)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
