"""Files that are whole or not there: temporary name, fsync, rename; and what a full disk says."""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

# Below this much free space a failed write is put down to the disk: libraries that write through
# their own buffers (torch, safetensors) do not all pass ENOSPC on.
FULL_BYTES = 1 << 20


def write_whole(path: Path, text: str) -> None:
    """Replaces a file by `text`; after a crash at any moment it holds the old text or the new."""
    # Named by the process: two that write one file at once do not take each other's away.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with full_disk_named(path.parent):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder survive a loss of power."""
    sync_file(folder)


def sync_file(path: Path) -> None:
    """Makes a file's content survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """A content hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextmanager
def full_disk_named(folder: Path, fix: str = "free some and run again") -> Iterator[None]:
    """Turns the errors of a full disk into a ValueError that names the folder and the fix."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) or not _is_full(error, folder):
            raise
        raise ValueError(f"no space left in {folder}: {fix}") from error


def _is_full(error: Exception, folder: Path) -> bool:
    # EFBIG: the process may write no larger files (ulimit -f).
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    said = str(error)
    return (
        "No space left" in said
        or "File too large" in said
        or shutil.disk_usage(folder).free < FULL_BYTES
    )


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[IO[str] | None]:
    """Holds an exclusive lock on a file and yields the file, or None where the lock is taken.

    With `wait` it is waited for instead. The lock is the kernel's: it ends with its process,
    however that ends. The file stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
            return
        yield file
