"""The seam of file formats: how a kind of file is cut for the workers, and how a cut is read."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from stepladder.names import did_you_mean

# A worker reads about so much at once.
PART_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Part:
    """Documents that one worker reads at once.

    `start` and `stop` are bytes of a plain .jsonl file or row groups of a parquet file; `size` is
    the part's share of the bytes on disk; text is cut into documents of about `piece_bytes`; a
    `lenient` part leaves out a file that is not UTF-8 text.
    """

    path: Path
    size: int
    start: int = 0
    stop: int = 0
    piece_bytes: int | None = None
    lenient: bool = False


class Format(Protocol):
    """A kind of file."""

    def parts(self, path: Path) -> list[Part]:
        """Parts that hold every document of the file once, in order; none of an empty file."""
        ...

    def documents(self, part: Part, text_field: str) -> Iterator[str]:
        """Texts of a part; ValueError that names the place and the fix where they are unusable."""
        ...


def whole(path: Path) -> list[Part]:
    """The file as one part."""
    size = path.stat().st_size
    return [Part(path=path, size=size)] if size else []


def no_field(text_field: str, found: list[str]) -> str:
    """The error of a field that is not there: what is, and how to choose it."""
    near = did_you_mean(text_field, found)
    return (
        f"no field {text_field!r}{near}; fields found: {', '.join(found)}; name the "
        "one with the text (--text-field)"
    )


def extra(module: str, name: str) -> Any:
    """A module of an optional extra; ValueError with the command that installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise ValueError(
            f"this file needs {module.split('.')[0]}: pip install 'stepladder[{name}]'"
        ) from None
