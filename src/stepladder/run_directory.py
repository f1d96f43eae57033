"""One run directory in the hands of the process that holds its lock: append, save, finish."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stepladder.durable import file_digest, full_disk_named, sync_file, sync_folder, write_whole

RECIPE, CURVE, RESULT, LOG = "recipe.toml", "curve.jsonl", "result.json", "log.txt"
CHECKPOINTS, BRANCH, MANIFEST = "checkpoint", "branch", "manifest.json"

Row = dict[str, Any]


class Damaged(ValueError):  # noqa: N818 (a state, said as one)
    """A file of a run directory is not what Stepladder wrote."""

    def __init__(self, path: Path, what: object) -> None:
        super().__init__(f"{path} is damaged ({what}): delete {path.parent} to run it again")


class Run:
    """A claimed run; made by `Store.claim`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._remove_leftovers()
        self._result = read_result(folder / RESULT)
        rows, whole = read_curve(folder / CURVE)
        if not whole:  # or the next row would be glued to half a line
            self._rewrite(rows)

    @property
    def result(self) -> Row | None:
        """The result of a run that is over, already paid for; None while it is not."""
        return self._result

    def curve_rows(self) -> list[Row]:
        """The rows so far; NaN where a number was not finite."""
        return read_curve(self.folder / CURVE)[0]

    def append(self, row: Mapping[str, Any]) -> None:
        """Adds a row to the curve; it survives the end of this process from here on."""
        _append(self.folder / CURVE, encoded(row))

    def log(self, text: str) -> None:
        """Adds a line to the log."""
        log_to(self.folder, text)

    def keep(self, path: Path) -> None:
        """Copies a file of text that the run is of no use without, under its own name, once."""
        if not (self.folder / path.name).exists():
            write_whole(self.folder / path.name, path.read_text(encoding="utf-8"))

    def truncate_curve(self, step: int) -> None:
        """Drops rows beyond `step`: on resuming, those that will be made again."""
        rows = self.curve_rows()
        kept = [row for row in rows if row["step"] <= step]
        if len(kept) < len(rows):
            self._rewrite(kept)

    def save_checkpoint(self, step: int, write: Callable[[Path], None]) -> Path:
        """Has `write` fill a folder, which becomes the checkpoint of `step` once it is on disk.

        Older checkpoints are removed afterwards; one of the same step is kept as it is, since the
        recipe and the step decide its content. Whatever goes wrong in between leaves the
        previous one as it was. Raises ValueError where the disk is full.
        """
        final = self._save(CHECKPOINTS, step, write)
        for older in _checkpoints(self.folder):
            if older != final:
                shutil.rmtree(older)
        return final

    def save_branch(self, step: int, write: Callable[[Path], None]) -> Path:
        """Has `write` fill a folder, which is kept for other runs to start from, as a checkpoint
        is made. Raises ValueError where the disk is full."""
        return self._save(BRANCH, step, write)

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        """Step and folder of the newest checkpoint that is whole, or None."""
        whole = (path for path in _checkpoints(self.folder) if is_whole(path))
        return next(((int(path.name), path) for path in whole), None)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Ends the run with a result; a later claim finds it and runs nothing."""
        self._sync_curve()
        write_whole(self.folder / RESULT, encoded(result, indent=2) + "\n")
        self._result = read_result(self.folder / RESULT)

    def _save(self, kind: str, step: int, write: Callable[[Path], None]) -> Path:
        """A folder below `kind`, named by its step, that is whole or not there."""
        at = self.folder / kind
        made, final = at / f".{step}", at / str(step)
        if is_whole(final):
            return final
        try:
            with full_disk_named(self.folder, "the checkpoint before is intact; free some space"):
                made.mkdir(parents=True)
                write(made)
                _seal(made)
                self._sync_curve()
                shutil.rmtree(final, ignore_errors=True)  # damaged, or it had been returned
                made.rename(final)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        sync_folder(at)
        return final

    def _rewrite(self, rows: list[Row]) -> None:
        write_whole(self.folder / CURVE, "".join(encoded(row) + "\n" for row in rows))

    def _sync_curve(self) -> None:
        if (self.folder / CURVE).exists():
            sync_file(self.folder / CURVE)

    def _remove_leftovers(self) -> None:
        for left in self.folder.glob(".*.tmp"):
            left.unlink()
        for kind in (CHECKPOINTS, BRANCH):
            for left in (self.folder / kind).glob(".*"):
                shutil.rmtree(left)


def log_to(folder: Path, text: str) -> None:
    """Adds a line to the log of a run directory."""
    _append(folder / LOG, text)


def _append(path: Path, line: str) -> None:
    with full_disk_named(path.parent), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_result(path: Path) -> Row | None:
    """A result, None where there is none yet; Damaged where it cannot be read."""
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Damaged(path, error) from error
    if not isinstance(result, dict):
        raise Damaged(path, "not a JSON object")
    return result


def read_curve(path: Path) -> tuple[list[Row], bool]:
    """Rows of a curve, and whether its last line is whole.

    A process that is killed while it writes leaves part of a last line, which is left out. Damaged
    where any other line cannot be read.
    """
    text = path.read_bytes() if path.exists() else b""
    *lines, rest = text.split(b"\n")
    try:
        return [_decoded(line) for line in lines], not rest
    except ValueError as error:
        raise Damaged(path, error) from error


def encoded(record: Mapping[str, Any], indent: int | None = None) -> str:
    """JSON; numbers that are not finite become null, since JSON has none."""
    return json.dumps(_finite(record), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def _decoded(line: bytes) -> Row:
    row = json.loads(line)
    if not isinstance(row, dict) or "step" not in row:
        raise ValueError(f"no row: {line[:40]!r}")
    return {key: math.nan if value is None else value for key, value in row.items()}


def _checkpoints(folder: Path) -> list[Path]:
    """Folders of checkpoints, the newest first."""
    at = folder / CHECKPOINTS
    found = [path for path in at.iterdir() if path.name.isdecimal()] if at.is_dir() else []
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _seal(folder: Path) -> None:
    """Puts a checkpoint's files on disk, with a manifest that tells whether they are whole."""
    for path in (*_files(folder), *(path for path in folder.rglob("*") if path.is_dir())):
        sync_file(path)
    write_whole(folder / MANIFEST, json.dumps(_described(folder), indent=2))


def is_whole(folder: Path) -> bool:
    """Whether a checkpoint's files are those that its manifest lists, to the byte."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        sizes = {name: described[0] for name, described in manifest.items()}
        # Sizes first: they tell most damage without reading gigabytes.
        return sizes == _sizes(folder) and manifest == _described(folder)
    except (OSError, ValueError, AttributeError, TypeError, IndexError):
        return False


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)


def _sizes(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_size for p in _files(folder)}


def _described(folder: Path) -> dict[str, list[Any]]:
    return {name: [size, file_digest(folder / name)] for name, size in _sizes(folder).items()}
