"""Nearest valid names, for errors that say what to type instead."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], likely: Sequence[str] = ()) -> str:
    """A clause such as `, did you mean 'width'?`; empty where nothing is near.

    Args:
        likely: names that are meant more likely than any that is spelled alike.
    """
    near = likely or get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {near[0]!r}?" if near else ""
