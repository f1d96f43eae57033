"""What every verb shares: the error line, JSON on standard output, wrapped lines."""

import json
import sys
from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

BAD_INPUT = 2


def fail(message: str, status: int = BAD_INPUT) -> int:
    """Print one line of what is wrong, and return the exit status."""
    print(f"stepladder: {message}", file=sys.stderr)
    return status


def print_json(result: Any) -> None:
    """Print a result as one JSON document; NaN and infinities become null (they are not JSON)."""
    print(json.dumps(_finite(result), indent=2))


def print_indented(console: "Console", text: str, bullet: str = "") -> None:
    """Print text two columns in, its further lines below its first word."""
    first = f"  {bullet}"
    lines = fill(
        text, console.width, initial_indent=first, subsequent_indent=" " * len(first),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    console.print(lines, highlight=False, markup=False, soft_wrap=True)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
