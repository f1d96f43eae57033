"""What stands on which rung: all that a scheduler looks at, kept as trials start and end."""

import math
from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Step:
    """What to run next: a new configuration at a level, or the one of a finished trial, `parent`,
    a level further up. `bracket` says which race it runs in."""

    level: int
    bracket: int = 0
    parent: int | None = None


@dataclass(kw_only=True)
class Rung:
    """The trials of one bracket at one level.

    Attributes:
        asked: trials that were started.
        ranked: those that ended, best first: (loss, trial). Diverged ones have an infinite loss.
        promoted: trials whose configuration went a level further up.
    """

    asked: int = 0
    ranked: list[tuple[float, int]] = field(default_factory=list)
    promoted: set[int] = field(default_factory=set)

    @property
    def is_settled(self) -> bool:
        """Whether every trial that was started has ended."""
        return len(self.ranked) == self.asked

    @property
    def finite(self) -> int:
        """Trials that ended with a loss."""
        failed = len(self.ranked)
        while failed and not math.isfinite(self.ranked[failed - 1][0]):
            failed -= 1
        return failed

    def waiting(self, count: int) -> Iterator[int]:
        """Of the best `count`, those not promoted yet, best first; never a diverged one."""
        for loss, trial in self.ranked[:count]:
            if math.isfinite(loss) and trial not in self.promoted:
                yield trial


class Book:
    """Rungs by (bracket, level).

    Args:
        costs: of a run at each level, rising.
        promoted: of one there that goes on from where the level below left it; the same if None.

    Attributes:
        parents: of each promoted trial, the one whose configuration it has.
        losses: of each trial that ended.
    """

    def __init__(self, costs: Sequence[float], promoted: Sequence[float] | None = None) -> None:
        self.costs = tuple(costs)
        self.promoted = tuple(promoted or costs)
        self.parents: dict[int, int] = {}
        self.losses: dict[int, float] = {}
        self.trials = 0
        self.rungs: dict[tuple[int, int], Rung] = {}
        self._running: dict[int, Rung] = {}

    @property
    def top(self) -> int:
        """The highest level."""
        return len(self.costs) - 1

    def cost(self, step: Step) -> float:
        """What a step costs beyond what its parent has paid."""
        return (self.costs if step.parent is None else self.promoted)[step.level]

    def rung(self, bracket: int, level: int) -> Rung:
        """The trials of a bracket at a level, perhaps none."""
        return self.rungs.setdefault((bracket, level), Rung())

    def start(self, trial: int, step: Step) -> None:
        """Note that a trial runs."""
        rung = self.rung(step.bracket, step.level)
        rung.asked += 1
        self.trials += 1
        self._running[trial] = rung
        if step.parent is not None:
            self.rung(step.bracket, step.level - 1).promoted.add(step.parent)
            self.parents[trial] = step.parent

    def end(self, trial: int, loss: float) -> None:
        """Note what came of it; an infinite loss where it diverged or failed."""
        insort(self._running.pop(trial).ranked, (loss, trial))
        self.losses[trial] = loss
