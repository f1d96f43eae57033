"""The watcher of a target: what it says, what it logs, and that a resumed run says no more."""

import math
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ladder.conftest import dataset as dataset
from ladder.conftest import folder as folder
from ladder.conftest import plan as plan
from report.conftest import STEPS, keep
from report.conftest import climbed as climbed
from report.conftest import store as store
from stepladder.cli.progress import Bar, RunBar
from stepladder.cli.watching import TargetBar, watch_target
from stepladder.ladder import Folder, score, target_of
from stepladder.ladder.monitor import monitor_of, watched
from stepladder.store import Store


class Screen:
    """A target under watch, driven row by row."""

    def __init__(self, climbed: Folder, store: Store) -> None:
        forecast = climbed.read("forecast")
        assert forecast is not None
        self.forecast, self.store, self.recipe = forecast, store, target_of(climbed)
        self.console = Console(file=StringIO(), width=200)
        self.monitor = monitor_of(forecast, store)

    def run(self, factor: float = 1.0, steps: range = range(1, STEPS + 1)) -> None:
        """Rows of a run whose loss is `factor` times what it should be."""
        with (
            self.store.claim(self.recipe.key, self.recipe.to_toml()) as run,
            Bar(self.console, 1.0, 1.0) as bar,
        ):
            shown = watch_target(bar, self.forecast, self.store, self.console)(
                "target", self.recipe
            )
            for step in steps:
                row = self.row(step, factor)
                run.append(row)
                shown.row(row)

    def row(self, step: int, factor: float) -> dict[str, Any]:
        end = self.forecast["forecast"] * factor
        tokens = self.recipe.tokens * step // STEPS
        return {"step": step, "tokens": tokens, "loss": end * (1 + 1 / step)}

    @property
    def said(self) -> str:
        return self.console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    @property
    def log(self) -> str:
        return (self.store.folder(self.recipe.key) / "log.txt").read_text()


@pytest.fixture
def screen(climbed: Folder, store: Store) -> Screen:
    return Screen(climbed, store)


def test_a_healthy_target_is_told_where_it_heads(screen: Screen) -> None:
    screen.run()
    assert screen.said.count("heading for") == 9
    assert "ALARM" not in screen.said
    final = screen.monitor.headings([screen.row(step, 1.0) for step in range(1, STEPS + 1)])[-1]
    assert final.value == pytest.approx(screen.forecast["forecast"], rel=0.02)


@pytest.mark.parametrize(("factor", "said"), [(1.3, "above the"), (0.8, "below the")])
def test_a_broken_target_raises_one_alarm(screen: Screen, factor: float, said: str) -> None:
    screen.run(factor)
    assert screen.said.count("ALARM") == screen.log.count("ALARM") == 1
    assert said in screen.said
    assert "Ctrl-C" in screen.said


def test_a_resumed_run_repeats_nothing(screen: Screen) -> None:
    screen.run(1.3, range(1, 12))
    before = screen.said
    screen.run(1.3, range(10, STEPS + 1))
    new = screen.said[len(before) :]
    assert screen.said.count("ALARM") == 1
    assert "at 50%" in before
    assert "at 50%" not in new
    assert before.count("heading for") + new.count("heading for") == 9 + 1  # and the alarm's


def test_a_loss_that_is_not_finite_is_an_alarm(screen: Screen) -> None:
    screen.run(math.nan)
    assert screen.said.count("ALARM") == 1
    assert "not finite" in screen.said


def test_the_score_says_what_the_screen_said(climbed: Folder, store: Store, screen: Screen) -> None:
    screen.run(1.3)
    keep(store, screen.recipe)  # its rows come after those: of a step, the last counts
    scored = score(climbed, store)
    assert scored["monitor"]["alarm"] is None
    assert len(scored["monitor"]["headings"]) == 3


def test_an_alarm_is_in_the_score(screen: Screen) -> None:
    screen.run(1.3)
    seen = watched(screen.forecast, screen.store)
    assert seen is not None
    assert seen["alarm"]["side"] == "above"
    assert f"ALARM at {seen['alarm']['heading']['progress']:.0%}" in screen.log


def test_without_the_rungs_there_is_no_monitor(screen: Screen, tmp_path: Path) -> None:
    empty = Store(tmp_path / "elsewhere")
    with Bar(screen.console, 1.0, 1.0) as bar:
        shown = watch_target(bar, screen.forecast, empty, screen.console)("target", screen.recipe)
    assert "no monitor" in screen.said
    assert isinstance(shown, RunBar)
    assert not isinstance(shown, TargetBar)
    assert watched(screen.forecast, empty) is None
