"""Iterative-deepening Hyperband: the top level rises, and no run below it is made again."""

from itertools import count

from stepladder.card import Card
from stepladder.search.book import Book, Step
from stepladder.search.brackets import State, next_in, sizes
from stepladder.search.schedulers import register

CARD = Card(
    name="deepening",
    family="schedulers",
    title="Iterative Deepening Hyperband",
    arxiv="2302.00511",
    claim="raises the maximal budget without re-running, with guarantees like those of Hyperband "
    "started with the right one",
    note="The efficient variant of the authors' code (mwever/incremental-successive-halving): what "
    "was promoted stays promoted, and a larger rung is filled with the best of the others. A study "
    "reopened with further scales at its end goes on to them. After the highest level come full "
    "Hyperband iterations.",
)

ITERATION = 1000  # brackets of one iteration have numbers from here on; no ladder has more levels


@register(CARD)
class Deepening:
    """Bracket b starts at level b; all of them are first run to level 0, then to 1, and so on."""

    def next(self, book: Book, /) -> Step | None:
        """The next trial at the lowest top level that is not finished; None while it waits."""
        for iteration in count():
            for top in range(0 if iteration == 0 else book.top, book.top + 1):
                waits = False
                for start in range(top + 1):
                    bracket = iteration * ITERATION + start
                    step = next_in(book, bracket, start, sizes(book.costs, start, top))
                    if isinstance(step, Step):
                        return step
                    waits |= step is State.WAITING
                if waits:
                    return None
        raise AssertionError("iterations do not end")
