"""The verbs of a ladder as a user drives them: plan, climb, train, score on a text of their own."""

import json
import random
from pathlib import Path

import pytest

from .conftest import Verb, finished, interrupt

PLAN = ("plan", "6e11", "--data", "text", "--tokenizer", "bytes", "--context", "32")
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


def test_the_whole_story(place: Path, cache: Path, stepladder: Verb) -> None:
    planned = stepladder(*PLAN, *SMALL, "--json")
    assert planned.status == 0, planned.err
    plan = json.loads(planned.out)
    assert plan["target"]["data"]["source"] == "text"
    early = stepladder("train")
    assert (early.status, "climb first" in early.err) == (2, True)

    paid = interrupt(("climb",), place, cache, runs=2)
    climbed = stepladder("climb", "--json")
    assert climbed.status == 0, climbed.err
    forecast = json.loads(climbed.out)
    assert forecast["interval"][0] < forecast["forecast"] < forecast["interval"][1]
    assert paid.items() < finished(place).items()

    trained = stepladder("train", "--json")
    assert trained.status == 0, trained.err
    outcome = json.loads(trained.out)
    assert "at 50% of its way, heading for" in trained.err
    scored = json.loads(stepladder("score", "--json").out)
    assert scored["outcome"] == outcome["loss"]
    assert scored["forecast"] == forecast["forecast"]
    assert scored["relative_error"] == pytest.approx(
        forecast["forecast"] / outcome["loss"] - 1, rel=1e-12
    )
    looks = [look["progress"] for look in scored["monitor"]["headings"]]
    assert looks == pytest.approx([0.25, 0.5, 0.75], abs=0.05)  # in whole steps of a small target
    shown = stepladder("score")
    assert (place / "ladders" / plan["name"] / "report.html").exists(), shown.err
    assert "report" in shown.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plan", "ten"), "cannot read the budget 'ten'"),
        (("plan", "0"), "an amount above 0"),
        (("plan", "8", "parsecs"), "cannot read the budget '8parsecs'"),
        (("plan", "1e9", "--data", "nowhere"), "nowhere"),
        (("plan", "1e6", "--data", "text", "--tokenizer", "bytes", *SMALL), "is too small"),
        (("plan", "1e12", "--ratio", "-1"), "ratio must be 0 or more"),
        (("plan", "1e12", "--device", "cray"), "it is one of auto, cpu, cuda, b200"),
        (("climb", "zzz"), "there is no ladder"),
        (("score",), "no target"),
        (("train", "missing.toml"), "missing.toml"),
        (("clmb",), "did you mean 'climb'"),
    ],
)
def test_bad_input_is_named_in_one_line(
    place: Path, stepladder: Verb, words: tuple[str, ...], said: str
) -> None:
    empty = place / "elsewhere"
    empty.mkdir(exist_ok=True)
    root = () if words[0] in ("clmb",) else ("--root", str(empty))
    result = stepladder(*words, *root)
    assert result.status == 2
    assert said in result.err
    assert "Traceback" not in result.err
