"""Where token files live, how they get there whole, and how damage is noticed."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepladder.data.dataset import META, TOKENIZER, Dataset
from stepladder.durable import file_digest, full_disk_named, locked

FORMAT = 1
# Larger files are checked by size only when opened: a digest of 1 GiB takes about a second.
DIGEST_BYTES = 1 << 30


def cache_folder(cache: Path | None) -> Path:
    """`cache`, else $STEPLADDER_CACHE, else ~/.cache/stepladder, else ./.stepladder-cache.

    The last where the home folder cannot be written; ValueError where a named one cannot.
    """
    named = cache or os.environ.get("STEPLADDER_CACHE")
    if named:
        folder = Path(named).expanduser()
        if not _writable(folder):
            raise ValueError(f"cannot write to the cache folder {folder}: choose another")
        return folder
    home = Path("~/.cache/stepladder").expanduser()
    return home if _writable(home) else Path(".stepladder-cache").absolute()


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


@contextmanager
def building(folder: Path) -> Iterator[Path | None]:
    """A new folder that becomes `folder` when the block ends well; None where it is there already.

    One process builds and the others wait for it: the lock is the kernel's, so it ends with its
    process. What a killed build left behind is removed.
    """
    with locked(folder.with_suffix(".lock"), wait=True):
        if folder.exists():
            yield None
            return
        for left in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        with full_disk_named(folder.parent, "free some, or set STEPLADDER_CACHE to a larger disk"):
            try:
                yield made
                made.rename(folder)
            finally:
                shutil.rmtree(made, ignore_errors=True)


def load(folder: Path, source: str, tokenizer: str, text_field: str) -> Dataset:
    """The dataset cached in `folder`; ValueError where its files are not what was written."""
    try:
        meta = json.loads((folder / META).read_text())
        if meta["format"] != FORMAT:
            raise ValueError(f"format {meta['format']}, not {FORMAT}")
        dataset = Dataset.open(folder, source, tokenizer, text_field)
        _check(dataset)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"cached tokens are damaged ({error}): delete {folder} and run again"
        ) from error
    return dataset


def _check(dataset: Dataset) -> None:
    width = 2 if dataset.dtype == "uint16" else 4
    splits = {"train.bin": dataset.train, "validation.bin": dataset.validation_split}
    for name, split in splits.items():
        path = dataset.folder / name
        if path.stat().st_size != split.tokens * width:
            raise ValueError(f"{name} has {path.stat().st_size} bytes, not {split.tokens * width}")
        if path.stat().st_size <= DIGEST_BYTES and file_digest(path) != split.digest:
            raise ValueError(f"{name} has changed")
    if fingerprint(dataset.folder, *(split.digest for split in splits.values())) != (
        dataset.fingerprint
    ):
        raise ValueError(f"{TOKENIZER} does not match the tokens")


def fingerprint(folder: Path, *digests: str) -> str:
    """What identifies prepared data: both token files and the tokenizer."""
    parts = (*digests, file_digest(folder / TOKENIZER))
    return hashlib.blake2b("/".join(parts).encode(), digest_size=16).hexdigest()
