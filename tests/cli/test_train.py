"""`stepladder train RECIPE.toml` as a user runs it, twice with different horizons."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from stepladder.recipe import Data, Model, Optimizer, Recipe, Schedule

from .conftest import Verb

SHAPE = Model(
    width=16, depth=1, heads=2, kv_heads=2, head_size=8, mlp_width=32, context=16, vocab_size=257
)
SHORT = Recipe(
    model=SHAPE,
    optimizer=Optimizer(lr=0.01),
    schedule=Schedule(name="wsd", warmup=320, params={"decay": 0.25}),
    data=Data(source="text"),
    tokens=40 * 64,
    batch=64,
    validation=256,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("place")
    (root / "text").mkdir()
    words = random.Random(0)
    for i in range(80):
        text = " ".join(words.choice(("ladder", "rung", "climb")) for _ in range(60))
        (root / "text" / f"{i}.txt").write_text(f"{i} {text}")
    (root / "short.toml").write_text(SHORT.to_toml())
    (root / "long.toml").write_text(replace(SHORT, tokens=80 * 64).to_toml())
    return root


def test_a_longer_run_pays_for_the_rest_and_says_so(stepladder: Verb) -> None:
    first, second, again = (
        stepladder("train", name, "--json", "--device", "cpu")
        for name in ("short.toml", "long.toml", "long.toml")
    )
    assert [run.status for run in (first, second, again)] == [0, 0, 0], second.err
    short, long = json.loads(first.out), json.loads(second.out)
    assert "goes on from" not in first.err + again.err
    said = " ".join(second.err.split())
    assert f"goes on from step 30 of 80, paid for by run {short['key']}: 62% of it is left" in said
    assert long["trunk"] == {"run": short["key"], "step": 30}
    assert (long["steps"], long["paid_steps"]) == (80, 50)
    assert json.loads(again.out) == long
