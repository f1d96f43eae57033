"""Brackets of successive halving when what a level costs is known.

Li et al. (arXiv:1603.06560, Algorithm 1) let the resource rise by eta a level, so that a bracket
that starts s levels below the top has n = ceil((s_max + 1) / (s + 1) * eta^s) configurations and
keeps one in eta. Here eta is the ratio of two levels' costs, level by level: where costs rise by a
constant eta it is their algorithm.
"""

from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
from math import ceil, prod

from stepladder.search.book import Book, Step

# Keeping more than one in two hardly races; fewer than one in four trusts the cheap level too much
# (Li et al. and Falkner et al. take 3, and 4 at most).
LEAST_ETA, MOST_ETA = 2.0, 4.0
ROUNDING = 1e-9  # so that 81 / 3 keeps 27


class State(Enum):
    """What a bracket is at when it has nothing to start."""

    WAITING = "waiting"
    DONE = "done"


def etas(costs: Sequence[float]) -> list[float]:
    """One in how many is kept from each level to the next."""
    return [min(MOST_ETA, max(LEAST_ETA, high / low)) for low, high in pairwise(costs)]


def sizes(costs: Sequence[float], start: int, top: int) -> list[int]:
    """Configurations at each level of a bracket from `start` up to `top`."""
    ratios = etas(costs)[start:top]
    longest = top + 1
    count = ceil(longest / (top - start + 1) * prod(ratios) - ROUNDING)
    out = [count]
    for eta in ratios:
        out.append(max(1, kept(out[-1], eta)))
    return out


def kept(count: int, eta: float) -> int:
    """How many of `count` go a level further up."""
    return int(count / eta + ROUNDING)


def next_in(book: Book, bracket: int, start: int, counts: Sequence[int]) -> Step | State:
    """What a synchronous bracket starts next: a level begins when the one below has ended.

    Diverged trials are not promoted, so a level can have fewer than its count.
    """
    for above, count in enumerate(counts):
        level = start + above
        rung = book.rung(bracket, level)
        if above == 0:
            if rung.asked < count:
                return Step(level=level, bracket=bracket)
            continue
        below = book.rung(bracket, level - 1)
        if not below.is_settled:
            return State.WAITING
        if len(below.promoted) < min(count, below.finite):
            return Step(level=level, bracket=bracket, parent=next(below.waiting(below.finite)))
    last = book.rung(bracket, start + len(counts) - 1)
    return State.DONE if last.is_settled else State.WAITING
