"""Schedulers: how much to spend on a configuration, and when to spend more on it.

A scheduler looks at the rungs (`search.book.Book`) and says what to run next. It keeps no state of
its own that the rungs do not give back, so that a study goes on from its journal alone.
"""

from typing import Protocol

from stepladder.card import Registry
from stepladder.search.book import Book, Step


class Scheduler(Protocol):
    """The seam. None: nothing can be started before more results are in."""

    def next(self, book: Book, /) -> Step | None: ...


REGISTRY: Registry[type[Scheduler]] = Registry("stepladder.search.schedulers")
register = REGISTRY.register
