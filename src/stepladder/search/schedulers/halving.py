"""Asynchronous successive halving: promote as soon as a trial is among the best of its rung."""

from stepladder.card import Card
from stepladder.search.book import Book, Step
from stepladder.search.brackets import etas, kept
from stepladder.search.schedulers import register

CARD = Card(
    name="halving",
    family="schedulers",
    title="A System for Massively Parallel Hyperparameter Tuning",
    arxiv="1810.05934",
    claim="scales linearly with workers, and finds a good configuration in half the time of "
    "Vizier's service",
    note="eta is the ratio of two levels' costs, between 2 and 4. Nothing ever waits, so a few "
    "trials are promoted that the whole rung would not have promoted.",
)


@register(CARD)
class Halving:
    """ASHA, Algorithm 2 of the paper, with one bracket from the lowest level."""

    def next(self, book: Book, /) -> Step | None:
        """The promotion that is highest up, else a new configuration at the bottom."""
        for level, eta in reversed(list(enumerate(etas(book.costs)))):
            rung = book.rung(0, level)
            for parent in rung.waiting(kept(len(rung.ranked), eta)):
                return Step(level=level + 1, parent=parent)
        return Step(level=0)
