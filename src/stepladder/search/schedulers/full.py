"""No racing: every configuration is run at the top level."""

from stepladder.card import Card
from stepladder.search.book import Book, Step
from stepladder.search.schedulers import register

CARD = Card(
    name="full",
    family="schedulers",
    title="Random Search for Hyper-Parameter Optimization",
    arxiv="JMLR 13 (2012) 281-305",
    claim="the baseline: no cheap level is trusted, so none can mislead",
)


@register(CARD)
class Full:
    """Every trial is new and at the top."""

    def next(self, book: Book, /) -> Step | None:
        """A new configuration at the top level."""
        return Step(level=book.top)
