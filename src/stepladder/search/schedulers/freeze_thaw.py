"""Freeze and thaw: every configuration is paused after a level, and the most promising goes on."""

from heapq import nlargest
from itertools import islice
from math import isfinite, log
from typing import NamedTuple

import numpy as np

from stepladder.card import Card
from stepladder.search.book import Book, Step
from stepladder.search.forecasts import Array, Forecasts, expected_improvement, fit_forecasts
from stepladder.search.schedulers import register

CARD = Card(
    name="freeze-thaw",
    family="schedulers",
    title="Freeze-Thaw Bayesian Optimization",
    arxiv="1406.3896",
    claim="pausing runs and resuming those whose forecast is best finds good settings rapidly",
    note="The curves are power laws that share their shape (as in Kadra et al., arXiv:2302.00441, "
    "there by an ensemble of networks), not the paper's Gaussian process of exponential decays; "
    "what is bought is expected improvement at the top level per expected cost, not information. "
    "Which configuration is new is the proposer's to say. With levels in tokens and a schedule "
    "that has a trunk, thawing pays for the difference (docs/schedules.md).",
)

# Configurations that are started before anything is thawed: as many as cost one run at the top.
LEAST_FIRST, MOST_FIRST = 4, 32
CANDIDATES = 8  # of each level: a better loss there promises more
RECENT = 32  # newcomers that speak for the next; proposers learn


class Paused(NamedTuple):
    """A configuration that can go a level further up."""

    trial: int
    loss: float
    level: int


@register(CARD)
class FreezeThaw:
    """The step that promises most improvement of the best final loss for what it costs."""

    def next(self, book: Book, /) -> Step | None:
        """A thawed configuration, one level further up, or a new one at the lowest; never None."""
        first = book.rung(0, 0)
        paused = _paused(book)
        wanted = min(MOST_FIRST, max(LEAST_FIRST, book.costs[-1] // book.costs[0]))
        if first.asked < wanted or not paused:
            return Step(level=0)
        forecasts = _fitted(book)
        best = _best(book, forecasts, paused)
        gain, price = _promise(book, forecasts, paused, best)
        worth = gain / price
        chosen = int(worth.argmax())
        if _is_newcomers_turn(book, forecasts, best, float(worth[chosen])):
            return Step(level=0)
        return Step(level=paused[chosen].level + 1, parent=paused[chosen].trial)


def _paused(book: Book) -> list[Paused]:
    """The best of each level below the top that went no further yet."""
    found = []
    for level in range(book.top):
        rung = book.rung(0, level)
        waiting = islice(rung.waiting(len(rung.ranked)), CANDIDATES)
        found += [Paused(trial, book.losses[trial], level) for trial in waiting]
    return found


def _promise(
    book: Book, forecasts: Forecasts, ended: list[Paused], best: float
) -> tuple[Array, Array]:
    """Expected improvement of the best final loss by going on with each, and what it costs to get
    there: the whole way to the top, though most will be paused again before."""
    gain = expected_improvement(forecasts, *_carried(book, ended), best)
    return gain, np.array([sum(book.promoted[one.level + 1 :]) for one in ended])


def _is_newcomers_turn(book: Book, forecasts: Forecasts, best: float, worth: float) -> bool:
    """Whether looking at a new configuration is worth more than the best that is waiting.

    It may have any of the losses that recent ones had at the first level. Weitzman's rule
    (Econometrica 47, 1979): it is looked at if what it promises beyond the same outlay on what is
    waiting pays for the look, on the average.
    """
    ended = ((trial, loss) for loss, trial in book.rung(0, 0).ranked)
    recent = nlargest(RECENT, ended)
    likely = [Paused(trial, loss, 0) for trial, loss in recent if isfinite(loss)]
    if not likely:
        return False
    gain, price = _promise(book, forecasts, likely, best)
    beyond = np.maximum(gain - worth * price, 0.0).sum() / len(recent)
    return bool(beyond > worth * book.costs[0])


def _carried(book: Book, ended: list[Paused]) -> tuple[list[float], list[float]]:
    """Losses, and how far each is from the top."""
    return [one.loss for one in ended], [_reach(book, one.level) for one in ended]


def _fitted(book: Book) -> Forecasts:
    """The laws, from every step from a level to the next."""
    before, after, reach = [], [], []
    for level in range(1, book.top + 1):
        far = log(book.costs[level] / book.costs[level - 1])
        rung = book.rung(0, level)
        for loss, trial in rung.ranked[: rung.finite]:
            before.append(book.losses[book.parents[trial]])
            after.append(loss)
            reach.append(far)
    rungs = [book.rung(0, level) for level in range(book.top + 1)]
    lowest = min(rung.ranked[0][0] for rung in rungs if rung.finite)
    first = rungs[0].ranked[: rungs[0].finite]
    typical = first[len(first) // 20][0], first[len(first) // 2][0]
    return fit_forecasts(lowest, typical, before, after, reach)


def _best(book: Book, forecasts: Forecasts, paused: list[Paused]) -> float:
    """The best final loss; while there is none, the best that is expected."""
    top = book.rung(0, book.top)
    if top.finite:
        return top.ranked[0][0]
    return float(forecasts.expected(*_carried(book, paused)).min())


def _reach(book: Book, level: int) -> float:
    return log(book.costs[-1] / book.costs[level])
