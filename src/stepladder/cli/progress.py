"""Progress of long work: what runs now, how much of the bill is paid, how long is left."""

from collections.abc import Callable
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from stepladder.closing import Closing
from stepladder.cost import cost
from stepladder.ladder.budget import said_time
from stepladder.recipe import Recipe


class Bar(Closing):
    """A live bar over a bill of FLOPs.

    Where several runs are at work it names the one that spoke last, and counts the others.
    Without a terminal it prints a line a run instead, so that a log stays readable.
    """

    def __init__(self, console: Console, total_flops: float, seconds: float) -> None:
        self.console, self.total, self.expected = console, max(total_flops, 1.0), seconds
        self.done = 0.0  # FLOPs of runs that are over
        self.running: dict[RunBar, float] = {}  # and of those at work
        self.progress = Progress(
            TextColumn("  {task.description:<24}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self.task: TaskID = self.progress.add_task("starting", total=self.total, note="")
        self.clock = self.progress.get_time

    def __enter__(self) -> Self:
        self.start = self.clock()
        self.progress.start()
        return self

    def close(self) -> None:
        """Take the bar off the screen."""
        self.progress.stop()

    def watch(self, label: str, recipe: Recipe) -> "RunBar":
        """The watcher of one run."""
        return RunBar(self, label, recipe)

    def show(self, run: "RunBar", share: float) -> None:
        """Move one run to a share of its work; at 1 it is over."""
        if share < 1:
            self.running[run] = share * run.flops
        elif self.running.pop(run, None) is not None:
            self.done += run.flops
        done = self.done + sum(self.running.values())
        others = len(self.running.keys() - {run})
        self.progress.update(
            self.task,
            description=f"{run.label} +{others}" if others else run.label,
            completed=min(done, self.total),
            note=f"{run.note}  {said_time(self.left(done))} left",
        )

    def left(self, done: float) -> float:
        """Seconds left: the plan's estimate, corrected by the pace so far as it gathers weight."""
        share = min(1.0, done / self.total)
        paced = (self.clock() - self.start) / share if share > 0 else self.expected
        trust = min(1.0, share / 0.2)
        return (trust * paced + (1 - trust) * self.expected) * (1 - share)


class RunBar:
    """Shows one run within the whole bill; several may be at work at once."""

    def __init__(self, bar: Bar, label: str, recipe: Recipe) -> None:
        self.bar, self.recipe = bar, recipe
        model = recipe.model
        self.label = f"{label}, {model.width}x{model.depth}"
        spent = cost(recipe)
        self.flops = spent.flops_total + spent.flops_evaluation
        self.note = ""
        bar.show(self, 0.0)

    def step(self, step: int) -> None:
        """Moves the bar."""
        self.bar.show(self, step / self.recipe.steps)

    def row(self, row: dict[str, Any]) -> None:
        """Notes the loss; says a line where there is no terminal to draw on."""
        loss = row.get("validation_loss", row.get("loss"))
        self.note = f"loss {loss:.4f}"
        whole = self.recipe.steps * self.recipe.batch
        final = row["tokens"] == whole and "validation_loss" in row
        if final and not self.bar.console.is_terminal:
            self.bar.console.print(f"  {self.label}: loss {loss:.4f}")


Notice = Callable[[int, int, float], None]


def data_notice(console: Console) -> Notice:
    """A progress callback for `stepladder.data.prepare`: a line at the start of real work."""
    said = False

    def notice(done: int, total: int, rate: float) -> None:
        nonlocal said
        if not said and done < total:
            said = True
            console.print(f"  reading {total / 1e6:.1f} MB of text and making tokens ...")

    return notice
