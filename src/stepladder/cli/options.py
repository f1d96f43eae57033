"""From a verb's arguments to its options; how every verb's --help looks."""

from collections.abc import Sequence
from typing import Any

import tyro
from tyro.conf import DisallowNone, FlagCreatePairsOff, PositionalMetavarFromFieldName

# No --no-x beside each flag, no {None}|PATH, and positional arguments by their names.
STYLE = (FlagCreatePairsOff, DisallowNone, PositionalMetavarFromFieldName)


def parse(options: Any, argv: Sequence[str], verb: str) -> Any:
    """The options of a verb, an instance of the class given; --help and errors end the process."""
    return tyro.cli(options, args=argv, prog=f"stepladder {verb}", config=STYLE)


def parse_known(options: Any, argv: Sequence[str], verb: str) -> tuple[Any, list[str]]:
    """Likewise, with the arguments that the class does not know."""
    return tyro.cli(
        options, args=argv, prog=f"stepladder {verb}", config=STYLE, return_unknown_args=True
    )
