"""The run directory, a public format, and the rule that a recipe is never paid for twice.

    runs/format                     the version of all this, a number; in each run too
    runs/<key>/recipe.toml          what was run; opaque here
    runs/<key>/curve.jsonl          a row a line, appended: {"step": .., "tokens": .., "loss": ..}
    runs/<key>/result.json          there when the run is over, diverged runs included
    runs/<key>/checkpoint/<step>/   the newest state, with a manifest.json of sizes and digests
    runs/<key>/branch/<step>/       its state where longer runs leave it (`stepladder.branches`)
    runs/<key>/log.txt              what the run had to say
    runs/<key>/tokenizer.json       what makes its tokens of text, and text of them

Files are appended to or written whole and renamed. Who works on a run holds a lock in
`runs/.locks`, which the kernel releases when its process ends, by `kill -9` too.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from stepladder.durable import full_disk_named, locked, write_whole
from stepladder.recipe import Recipe
from stepladder.run_directory import (
    CURVE,
    RECIPE,
    RESULT,
    Damaged,
    Row,
    Run,
    read_curve,
    read_result,
)

FORMAT = 1
VERSION = "format"
LOCKS = ".locks"

Status = Literal["done", "diverged", "partial", "corrupt"]


class Busy(ValueError):  # noqa: N818 (a state, said as one)
    """Another process is at this run."""


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run as it stands on disk.

    A result with a true "diverged" makes it diverged; without a result it is partial, and `curve`
    is as far as it came. `problem` says what is wrong with a corrupt run, and how to mend it.
    """

    key: str
    folder: Path
    status: Status
    recipe: str
    result: Row | None
    curve: list[Row]
    problem: str = ""


class Store:
    """Runs below a folder, by key. Nothing is created before the first claim.

    Raises ValueError where the folder was written by a newer Stepladder.
    """

    def __init__(self, root: Path | str = "runs") -> None:
        self.root = Path(root)
        _require_format(self.root)

    def folder(self, key: str) -> Path:
        """The run directory of a key; ValueError where the key is no plain name."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", key):
            raise ValueError(f"{key!r} is not a run's key: letters, digits, '.', '_', '-' only")
        return self.root / key

    def keys(self) -> list[str]:
        """Keys of all runs, sorted."""
        folders = self.root.iterdir() if self.root.is_dir() else ()
        return sorted(folder.name for folder in folders if _is_run(folder))

    def get(self, key: str) -> StoredRun | None:
        """The run of a key as it stands on disk, None where there is none.

        Damage is a status, so that one damaged run does not hide the others; a newer format raises
        ValueError.
        """
        folder = self.folder(key)
        if not _is_run(folder):
            return None
        _require_format(folder)
        try:
            recipe = _read_recipe(folder)
            result = read_result(folder / RESULT)
            curve, _ = read_curve(folder / CURVE)
        except Damaged as damage:
            return StoredRun(
                key=key,
                folder=folder,
                status="corrupt",
                recipe="",
                result=None,
                curve=[],
                problem=str(damage),
            )
        status = _status(result)
        return StoredRun(
            key=key, folder=folder, status=status, recipe=recipe, result=result, curve=curve
        )

    def is_paid(self, key: str) -> bool:
        """Whether a run of the key has its result, so that it need not be made again."""
        run = self.get(key)
        return run is not None and run.result is not None

    @contextmanager
    def claim(self, key: str, recipe: str) -> Iterator[Run]:
        """The run of a key, for this process alone until the block ends.

        Look at `run.result` first: where it is there, the run is paid for. Raises Busy where
        another process (or another block of this one) holds the run, Damaged where its files are
        not what was written, ValueError where the directory holds another recipe.
        """
        folder = self.folder(key)
        self._make_root()
        with locked(self.root / LOCKS / key, wait=False) as lock:
            if lock is None:
                raise Busy(_busy(key, self.root / LOCKS / key))
            with full_disk_named(self.root):
                _sign(lock)
                self._prepare(folder, recipe)
            yield Run(folder)

    def _make_root(self) -> None:
        try:
            (self.root / LOCKS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"cannot keep runs in {self.root} ({error.strerror}): choose another folder"
            ) from error

    def _prepare(self, folder: Path, recipe: str) -> None:
        """Makes the directory, the recipe first: without it there is no run."""
        _require_format(folder)
        folder.mkdir(exist_ok=True)
        for place in (self.root, folder):
            if not (place / VERSION).exists():
                write_whole(place / VERSION, f"{FORMAT}\n")
        if not (folder / RECIPE).exists():
            write_whole(folder / RECIPE, recipe)
        if (stored := _read_recipe(folder)) != recipe and not _is_of(stored, folder.name):
            raise ValueError(
                f"{folder} holds another recipe than its key says: move it away to run this one"
            )


def _status(result: Row | None) -> Status:
    if result is None:
        return "partial"
    return "diverged" if result.get("diverged") else "done"


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in (RECIPE, CURVE, RESULT))


def _read_recipe(folder: Path) -> str:
    try:
        return (folder / RECIPE).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Damaged(folder / RECIPE, error) from error


def _is_of(recipe: str, key: str) -> bool:
    """Whether a recipe's text has a key: one written before a field existed has it still."""
    try:
        return Recipe.from_toml(recipe).key == key
    except ValueError:
        return False


def _require_format(folder: Path) -> None:
    """ValueError where the version of a folder is newer than this Stepladder, or no version."""
    try:
        version = (folder / VERSION).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return
    if not version.isdecimal():
        raise ValueError(f"{folder / VERSION} says {version!r}: it must hold the number {FORMAT}")
    if int(version) > FORMAT:
        raise ValueError(
            f"{folder} is of format {version}, and this Stepladder knows formats up to {FORMAT}: "
            f"run `pip install -U stepladder`, or choose another folder"
        )


def _sign(lock: IO[str]) -> None:
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()


def _busy(key: str, lock: Path) -> str:
    holder = lock.read_text().strip() or "unknown"
    whose = "this process" if holder == str(os.getpid()) else f"process {holder}"
    return f"run {key} is being run by {whose}: wait for it to end, or stop it; nothing was started"
