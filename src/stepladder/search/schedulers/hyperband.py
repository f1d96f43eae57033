"""Hyperband: brackets of successive halving that start at every level in turn."""

from itertools import count

from stepladder.card import Card
from stepladder.search.book import Book, Step
from stepladder.search.brackets import State, next_in, sizes
from stepladder.search.schedulers import register

CARD = Card(
    name="hyperband",
    family="schedulers",
    title="Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization",
    arxiv="1603.06560",
    claim="over an order of magnitude faster than Bayesian optimization on deep learning",
    note="Within a bracket a level waits for the one below; while it does, the next bracket "
    "starts, as in BOHB and DEHB. eta is the ratio of two levels' costs, between 2 and 4.",
)


@register(CARD)
class Hyperband:
    """Brackets 0, 1, ...: each starts a level above the one before, and round again."""

    def __init__(self) -> None:
        self._done = 0  # brackets before this one are over; the book says so too

    def next(self, book: Book, /) -> Step | None:
        """The next trial of the oldest bracket that can start one; never None."""
        levels = book.top + 1
        for bracket in count(self._done):
            start = bracket % levels
            step = next_in(book, bracket, start, sizes(book.costs, start, book.top))
            if isinstance(step, Step):
                return step
            if step is State.DONE and bracket == self._done:
                self._done += 1
        raise AssertionError("brackets do not end")
