"""Trials at every level, evenly in the logarithm of cost, and no promotions."""

from stepladder.card import Card
from stepladder.search.book import Book, Step
from stepladder.search.schedulers import register

CARD = Card(
    name="spread",
    family="schedulers",
    title="Tune As You Scale: Hyperparameter Optimization For Compute Efficient Training",
    arxiv="2306.08055",
    claim="searching all along the cost axis gives the Pareto front, and with it how the best "
    "hyperparameters move with scale",
    note="CARBS learns what each candidate costs and draws a cost along the front to improve at; "
    "here costs are known, so levels are taken in turn, and a level opens when the one below has "
    "ended a few trials. Made for the proposer `carbs`, which then looks at all levels together.",
)

OPENED_BY = 4  # finished trials at a level that open the next; CARBS starts with as many


@register(CARD)
class Spread:
    """The open level with the least spent on it."""

    def next(self, book: Book, /) -> Step | None:
        """A new configuration at the open level where the fewest trials were started."""
        open_ = [0]
        for level in range(book.top):
            if book.rung(0, level).finite < OPENED_BY:
                break
            open_.append(level + 1)
        return Step(level=min(reversed(open_), key=lambda level: book.rung(0, level).asked))
