"""The range test of a recipe: the run it makes, what it reads, and the verb."""

import json
import math
from dataclasses import replace

import pytest

from stepladder.cli import main
from stepladder.recipe import Batching, Model, Optimizer, Recipe, Schedule
from stepladder.search.rate_range import MARGIN, range_recipe, rate_range

MODEL = Model(
    width=16, depth=2, heads=2, kv_heads=1, head_size=8, mlp_width=32, context=16, vocab_size=257
)
RECIPE = Recipe(
    model=MODEL,
    optimizer=Optimizer(name="lion", lr=0.03),
    schedule=Schedule(name="cosine"),
    batching=Batching(name="doubling", params={"end": 4}),
    tokens=10_000,
    batch=64,
)


def curve_of(losses, low=1e-3, high=1.0):
    """A curve whose rates rise evenly in their logarithm."""
    count = len(losses)
    rates = [low * (high / low) ** (i / (count - 1)) for i in range(count)]
    return [{"lr": r, "loss": y} for r, y in zip(rates, losses, strict=True)]


def valley(lowest: float, count: int = 400):
    """Falls to a rate, then rises, far slower than the smoothing forgets."""
    rates = [10 ** (-3 + 3 * i / (count - 1)) for i in range(count)]
    return [3 + math.log(r / lowest) ** 2 / 10 for r in rates]


def test_the_run_is_the_recipe_s_own_through_all_rates():
    made = range_recipe(RECIPE, low=1e-3, high=2.0, steps=50)
    assert (made.model, made.data, made.batch) == (MODEL, RECIPE.data, 64)
    assert (made.steps, made.optimizer.name, made.batching) == (50, "lion", Batching())
    assert made.optimizer.lr == 2.0
    assert made.schedule.params["start"] == pytest.approx(5e-4)
    wide = range_recipe(RECIPE)
    assert wide.optimizer.lr * wide.schedule.params["start"] == pytest.approx(0.03 / 128)


@pytest.mark.parametrize("lowest", [0.01, 0.05, 0.2])
def test_it_suggests_a_quarter_of_where_the_loss_is_lowest(lowest):
    found = rate_range([{"validation_loss": 1.0}, *curve_of(valley(lowest))])
    assert found.limit == pytest.approx(lowest, rel=0.3)
    assert found.suggested == pytest.approx(found.limit / MARGIN)
    assert found.bounded
    assert len(found.rates) == 400


def test_a_limit_that_was_not_reached_is_none():
    assert not rate_range(curve_of(valley(10.0))).bounded


@pytest.mark.parametrize(
    ("given", "says"),
    [({"low": 1.0, "high": 0.1}, "0 < low < high"), ({"steps": 19}, "give 20")],
)
def test_what_cannot_be_read_is_refused(given, says):
    with pytest.raises(ValueError, match=says):
        range_recipe(RECIPE, **given)


def test_the_verb_runs_once_and_draws(tmp_path, capsys):
    text = tmp_path / "text.jsonl"
    with text.open("w") as file:
        for n in range(200):
            file.write(json.dumps({"text": f"{n} " + "the quick rung climbs the ladder, " * 8}))
            file.write("\n")
    recipe = replace(RECIPE, validation=64)
    recipe = replace(recipe, data=replace(recipe.data, source=str(text)))
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    asked = ["range", str(tmp_path / "recipe.toml"), "--root", str(tmp_path), "--steps", "40"]
    asked += ["--figure", str(tmp_path / "figures" / "range.svg"), "--device", "cpu"]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["suggested"] == pytest.approx(found["limit"] / MARGIN)
    assert (tmp_path / "runs" / found["run"] / "result.json").exists()
    assert "lowest" in (tmp_path / "figures" / "range.svg").read_text()
    assert main(asked) == 0
    assert "for a first rate" in capsys.readouterr().out
    assert len(list((tmp_path / "runs").glob("*/recipe.toml"))) == 1
    assert main([*asked, "--high", "1e-9"]) == 2
