"""A target's run under watch: at each tenth of its way where it is heading, and the alarm."""

from typing import Any

from rich.console import Console

from stepladder.cli.progress import Bar, RunBar
from stepladder.execute.here import Watch
from stepladder.ladder.monitor import LEVEL, Monitor, monitor_of
from stepladder.recipe import Recipe
from stepladder.report import words
from stepladder.run_directory import Row, log_to
from stepladder.store import Store
from stepladder.train import Watcher

PARTS = 10  # of the way, after each of which a line is said


def watch_target(bar: Bar, forecast: dict[str, Any], store: Store, console: Console) -> Watch:
    """What to show a ladder's target with: its bar, and its monitor where there can be one."""
    try:
        monitor = monitor_of(forecast, store)
    except ValueError as reason:
        console.print(f"  [yellow]no monitor[/]: {reason}")
        return bar.watch
    console.print(
        f"  an alarm is raised where the run heads outside {monitor.low:.3f} to {monitor.high:.3f} "
        f"(the forecast at {LEVEL:.0%})",
        highlight=False,
    )

    def watch(label: str, recipe: Recipe) -> Watcher:
        return TargetBar(bar, label, recipe, monitor, store)

    return watch


class TargetBar(RunBar):
    """Shows a target, says where it is heading, and raises its alarm once.

    What it says goes to the screen and to the log of the run.
    """

    def __init__(
        self, bar: Bar, label: str, recipe: Recipe, monitor: Monitor, store: Store
    ) -> None:
        super().__init__(bar, label, recipe)
        self.monitor, self.folder = monitor, store.folder(recipe.key)
        before = store.get(recipe.key)  # of a run that is resumed
        self.rows: list[Row] = list(before.curve) if before else []
        looks = monitor.headings(self.rows)
        self.said = int(looks[-1].progress * PARTS) if looks else 0
        self.alarmed = monitor.alarm(looks) is not None

    def row(self, row: Row) -> None:
        """Notes the loss, and judges the run where the row is of its training."""
        super().row(row)
        if "loss" not in row:
            return
        # A resumed run makes the rows after its checkpoint again.
        self.rows = [*(old for old in self.rows if old["tokens"] < row["tokens"]), row]
        looks = self.monitor.headings(self.rows)
        if not looks:
            return
        part = int(looks[-1].progress * PARTS + 1e-6)
        if part > self.said and looks[-1].progress < 1:
            self.said = part
            self._say(words.heading(looks[-1]))
        alarm = None if self.alarmed else self.monitor.alarm(looks)
        if alarm is not None:
            self.alarmed = True
            self._say(words.alarm(alarm, (self.monitor.low, self.monitor.high)), "bold yellow")

    def _say(self, text: str, style: str = "") -> None:
        self.bar.console.print(f"  {text}", style=style, highlight=False)
        log_to(self.folder, text)
