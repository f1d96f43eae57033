"""The terminal says what the files say."""

import copy
import math
import re
from typing import Any

import pytest
from rich.console import Console

from stepladder.ladder import Folder, Plan
from stepladder.report import words
from stepladder.report.runs import sparkline
from stepladder.report.terminal import forecast_panel, plan_table, score_panel, tuning_table


def shown(renderable: Any) -> str:
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    console.file.close()
    return console.export_text()


def test_plan_names_every_choice_rung_and_part(plan: Plan) -> None:
    text = shown(plan_table(plan))
    for choice in plan.choices:
        assert choice.name in text
        assert choice.value in text
    for rung in plan.rungs:
        assert re.search(rf"\n\d.* {rung.recipe.model.width} x {rung.recipe.model.depth} ", text)
    assert words.flop(math.fsum(plan.flops.values())) in text
    assert all(note in text for note in plan.notes)


def test_tuning_says_whether_the_rate_holds(climbed: Folder) -> None:
    tuning = climbed.read("tuning")
    assert tuning is not None
    assert "The rate holds" in shown(tuning_table(tuning))
    moved = copy.deepcopy(tuning)
    moved["check"]["holds"] = False
    moved["optimum"]["at_edge"] = "high"
    text = shown(tuning_table(moved))
    assert "does NOT hold" in text
    assert "highest rate tried" in text


def test_tuning_with_a_diverged_rate_is_shown(climbed: Folder) -> None:
    tuning = climbed.read("tuning")
    assert tuning is not None
    tuning["losses"][0][1][0] = math.inf
    assert "diverged" in shown(tuning_table(tuning))


def test_forecast_and_score_are_shown(scored: Folder) -> None:
    forecast, score = scored.read("forecast"), scored.read("score")
    assert forecast is not None
    assert score is not None
    low, high = forecast["interval"]
    text = shown(forecast_panel(forecast))
    assert f"{forecast['forecast']:.3f} ({low:.3f} to {high:.3f}, 90%)" in text
    text = shown(score_panel(score))
    assert f"{score['outcome']:.4f}" in text
    side = "above" if score["forecast"] > score["outcome"] else "below"
    assert side in text


def test_a_target_that_diverged_is_said(scored: Folder) -> None:
    score = scored.read("score")
    assert score is not None
    lost = score | {"outcome": math.inf, "relative_error": -1.0, "inside": False}
    assert "the target diverged" in shown(score_panel(lost))


@pytest.mark.parametrize(
    ("number", "text"),
    [(950, "950"), (999_600, "1M"), (12_400, "12.4k"), (2.03e9, "2.03B"), (1.5e13, "15T")],
)
def test_counts_are_said_in_three_digits(number: float, text: str) -> None:
    assert words.count(number) == text


def test_sparkline_falls_with_its_values_and_skips_what_is_not_finite() -> None:
    assert sparkline([8.0, 5.0, math.nan, 1.0]) == "█▅▁"
    assert len(sparkline(list(range(1000)), 40)) == 40
    assert sparkline([math.nan]) == ""
    assert sparkline([1.0, 1.0]) == "▁▁"
