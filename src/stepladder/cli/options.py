"""From a verb's arguments to its options; how every verb's --help looks."""

import inspect
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated, Any, get_args

import tyro
from tyro.conf import DisallowNone, FlagCreatePairsOff, PositionalMetavarFromFieldName

# No --no-x beside each flag, no {None}|PATH, and positional arguments by their names.
MOST = 100  # columns of a description
NOTHING: tuple[Any, ...] = (None, "", ())
UNSAID = tyro.conf.arg(help_behavior_hint="")
STYLE = (FlagCreatePairsOff, DisallowNone, PositionalMetavarFromFieldName)


def parse(options: Any, argv: Sequence[str], verb: str) -> Any:
    """The options of a verb, an instance of the class given; --help and errors end the process."""
    return tyro.cli(options, args=argv, **_looks(options, verb))


def parse_known(options: Any, argv: Sequence[str], verb: str) -> tuple[Any, list[str]]:
    """Likewise, with the arguments that the class does not know."""
    return tyro.cli(options, args=argv, return_unknown_args=True, **_looks(options, verb))


def _looks(options: Any, verb: str) -> dict[str, Any]:
    for one in get_args(options) or (options,):
        if isinstance(one, type) and is_dataclass(one):
            _leave_out_empty_defaults(one)
    return {"prog": f"stepladder {verb}", "config": STYLE, "description": described(options)}


@cache
def _leave_out_empty_defaults(options: Any) -> None:
    """Have help not say that the default is None, nothing at all or, of a flag, False."""
    told = options.__annotations__
    for field in fields(options):
        if field.name in told and (field.default in NOTHING or field.default is False):
            told[field.name] = Annotated[told[field.name], UNSAID]


def described(options: Any) -> str | None:
    """What a class of options says of its verb, in lines that the terminal need not break.

    Lines go on two columns in: tyro joins them to the line before where they begin with a letter.
    """
    text = (inspect.getdoc(options) or "").partition("Args:")[0].strip()
    width = min(get_terminal_size().columns, MOST)
    return (
        "\n\n".join(fill(part, width, subsequent_indent="  ") for part in text.split("\n\n"))
        or None
    )
