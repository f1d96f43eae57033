"""What a comparison writes and shows."""

import io
import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from rich.console import Console

from stepladder.comparing.plan import make_plan
from stepladder.comparing.running import run
from stepladder.devices import device_named
from stepladder.recipe import Optimizer
from stepladder.report.comparison import comparison_table, plan_table, title, write_comparison

from .surfaces import BASE, World

LION = replace(BASE, optimizer=Optimizer(name="lion", lr=0.02))


@pytest.fixture(scope="module")
def found():
    return run(make_plan(BASE, LION, scales=(1, 2, 3)), World(worth=1.2, noise=0.002))


def shown(renderable, width: int = 160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_the_folder_holds_recipes_content_and_figure(found, tmp_path):
    folder = write_comparison(found, tmp_path)
    content = json.loads((folder / "comparison.json").read_text())
    assert content["verdict"] == found.verdict
    assert (folder / "lever.toml").read_text() == found.plan.lever.to_toml()
    drawn = (folder / "comparison.svg").read_text()
    assert ET.fromstring(drawn).tag.endswith("svg")
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    write_comparison(found, tmp_path)
    assert (folder / "comparison.svg").read_text() == drawn


def test_an_endless_multiplier_is_written_without_a_figure(tmp_path):
    """A lever below the baseline's floor: no compute reaches it."""

    class Better(World):
        def result(self, recipe):
            made = super().result(recipe)
            return made | {"loss": made["loss"] * (0.3 if recipe.optimizer.name == "lion" else 1)}

    made = run(make_plan(BASE, LION, scales=(1, 2, 3)), Better())
    folder = write_comparison(made, tmp_path)
    assert json.loads((folder / "comparison.json").read_text())["multiplier"]["value"] is None
    assert not (folder / "comparison.svg").exists()
    assert "needs" in made.verdict


def test_the_terminal_says_what_the_file_says(found):
    content = found.to_json()
    text = shown(comparison_table(content))
    assert content["verdict"] in text
    assert "compute, tokens, seconds: for the lever's loss the baseline needs so many times" in text
    assert "baseline tuned to rate 0.02 in 5 runs" in text
    assert title(content).startswith("lion over adamw: saves")


def test_the_plan_says_what_differs_and_what_it_costs(found):
    bill = found.plan.bill(device_named("a100"))
    text = shown(plan_table(found.plan, bill))
    assert "optimizer.name: 'adamw' -> 'lion'" in text
    assert f"in all {bill.runs} runs" in text
    assert text.count("baseline") == 3


def test_a_lever_as_given_is_not_called_tuned():
    plan = make_plan(BASE, LION, scales=(1, 2, 3), lever_as_given=True)
    planned = shown(plan_table(plan, plan.bill(device_named("a100"))))
    assert "5 rates x 1 runs for the baseline at the first rung" in planned
    assert "the lever keeps the rate of its recipe" in planned
    text = shown(comparison_table(run(plan, World(worth=1.2, noise=0.002)).to_json()))
    assert "baseline tuned to rate 0.02 in 5 runs" in text
    assert "lever at rate 0.02, as its recipe has it" in text


@pytest.mark.parametrize("width", [70, 80, 120])
def test_tables_stand_in_the_terminal(found, width):
    """No row of a table is broken: it is what it is where there is room."""
    content = found.to_json()
    for made, rows in (
        (comparison_table(content), [str(rung["widths"][0]) for rung in content["rungs"]]),
        (plan_table(found.plan, found.plan.bill(device_named("a100"))), ["1 baseline", "3 lever"]),
    ):
        narrow, wide = (
            [line.strip() for line in shown(made, w).splitlines()] for w in (width, 160)
        )
        whole = [line for line in wide if line.startswith(tuple(rows))]
        assert len(whole) == len(rows)
        assert set(whole) <= set(narrow)
