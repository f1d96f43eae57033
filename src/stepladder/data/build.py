"""From a source and a tokenizer's name to a dataset: hash, train the tokenizer, encode, split."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from stepladder.data.cache import FORMAT, building, cache_folder, fingerprint, load
from stepladder.data.dataset import META, TOKENIZER, Dataset, Split
from stepladder.data.encode import Encoded, Job, documents
from stepladder.data.parts import PART_BYTES, Part
from stepladder.data.sources import Source, find_source
from stepladder.data.split import as_hashes, document_hash, is_first, is_validation
from stepladder.data.tokenizers import (
    BYTES,
    bpe_vocabulary,
    byte_tokenizer_json,
    load_tokenizer,
    read_tokenizer,
    token_dtype,
    train_bpe,
)
from stepladder.data.workers import encode_all
from stepladder.durable import file_digest

# A BPE is trained on about so much of the train split.
BPE_BYTES = 256 * 1024 * 1024

Progress = Callable[[int, int, float], None]


def prepare(
    source: str | os.PathLike[str],
    tokenizer: str,
    *,
    cache: Path | None = None,
    text_field: str = "text",
    validation_fraction: float = 0.05,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Dataset:
    """Tokens of a source, from the cache where they are there.

    `source` is "stdlib" (the Python standard library's sources) or a file or folder: text, .jsonl,
    .jsonl.gz, .jsonl.zst, .parquet, the last four with the document in `text_field`. `tokenizer` is
    "bytes", "bpe:N" (trained on the train split) or a path to a tokenizer.json. Each document is
    followed by an end of document; exact duplicates are dropped; the content hash of a document
    decides its side, about `validation_fraction` of them being validation. `progress` is called
    with (bytes done, bytes in all, bytes a second); `workers` is the number of processes, by
    default one a CPU where there is enough work.

    The result is the same on every machine and for every number of workers. Raises ValueError, with
    the fix in its text, for input that cannot be used.
    """
    if not 0 < validation_fraction <= 0.5:
        raise ValueError(f"validation_fraction must be in (0, 0.5], not {validation_fraction}")
    vocabulary = bpe_vocabulary(tokenizer)
    given = _given_tokenizer(tokenizer, vocabulary)
    found = find_source(source)
    identity = (FORMAT, given or tokenizer, text_field, validation_fraction, found.piece_bytes)
    folder = cache_folder(cache) / "data" / _key(found, identity)
    with building(folder) as made:
        if made is not None:
            if progress is not None:
                progress(0, found.size, 0.0)
            json_text = given or _trained(found, vocabulary, text_field, validation_fraction)
            (made / TOKENIZER).write_text(json_text, encoding="utf-8")
            jobs = _jobs(found, made, text_field, tokenizer)
            results = list(_watched(encode_all(jobs, workers), found.size, progress))
            _write(made, found, tokenizer, json_text, results, validation_fraction)
    return load(folder, found.name, tokenizer, text_field)


def _given_tokenizer(name: str, bpe: int | None) -> str | None:
    if bpe is not None:
        return None
    return byte_tokenizer_json() if name == BYTES else read_tokenizer(Path(name).expanduser())


def _key(source: Source, identity: tuple[object, ...]) -> str:
    try:
        content = [file_digest(path) for path in source.files]
    except OSError as error:
        raise ValueError(f"cannot read {error.filename}: {error.strerror}") from error
    return hashlib.blake2b(json.dumps([identity, content]).encode(), digest_size=16).hexdigest()


def _trained(source: Source, vocabulary: int | None, text_field: str, fraction: float) -> str:
    assert vocabulary is not None
    texts = _train_texts(source.parts(), text_field, fraction, min(1, BPE_BYTES / source.size))
    return train_bpe(texts, vocabulary)


def _train_texts(
    parts: list[Part], text_field: str, fraction: float, share: float
) -> Iterator[str]:
    """Train documents, each content once; a `share` of them, chosen by hash."""
    seen: set[bytes] = set()
    for text in documents(parts, text_field):
        digest = document_hash(text.encode())
        hashes = as_hashes([digest])
        wanted = hashes[0, 1] < share * 2.0**64 and not is_validation(hashes, fraction)[0]
        if wanted and digest not in seen:
            seen.add(digest)
            yield text


def _jobs(source: Source, folder: Path, text_field: str, name: str) -> list[Job]:
    groups: list[list[Part]] = [[]]
    held = 0
    for part in source.parts():
        if held and held + part.size > PART_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(part)
        held += part.size
    return [
        Job(
            parts=tuple(group),
            output=folder / f"{index}.tokens",
            text_field=text_field,
            tokenizer=name,
            tokenizer_path=folder / TOKENIZER,
        )
        for index, group in enumerate(groups)
    ]


def _watched(
    results: Iterable[Encoded], total: int, progress: Progress | None
) -> Iterator[Encoded]:
    start, done = time.monotonic(), 0
    for result in results:
        done += result.size
        if progress is not None:
            progress(done, total, done / max(time.monotonic() - start, 1e-9))
        yield result


def _write(
    folder: Path, source: Source, name: str, json_text: str, results: list[Encoded], fraction: float
) -> None:
    """Token files and what is known of them, from the jobs' files, which are removed."""
    tokenizer = load_tokenizer(name, json_text)
    dtype = token_dtype(tokenizer.vocab_size)
    hashes = np.concatenate([result.hashes for result in results])
    first, held_out = is_first(hashes), is_validation(hashes, fraction)
    train = _write_split(folder / "train.bin", results, first & ~held_out, dtype)
    validation = _write_split(folder / "validation.bin", results, first & held_out, dtype)
    for result in results:
        result.output.unlink()
    _require_both(source, train, validation)
    meta = {
        "format": FORMAT,
        "vocab_size": tokenizer.vocab_size,
        "end_of_document": tokenizer.end_of_document,
        "dtype": dtype.name,
        "train": asdict(train),
        "validation_split": asdict(validation),
        "duplicates": int((~first).sum()),
        "skipped": source.skipped + sum(result.left_out for result in results),
        "fingerprint": fingerprint(folder, train.digest, validation.digest),
    }
    (folder / META).write_text(json.dumps(meta, indent=2))


def _write_split(
    path: Path, results: list[Encoded], keep: NDArray[np.bool_], dtype: np.dtype
) -> Split:
    """Copies the kept documents of every job, in order, into one file."""
    tokens = size = start = 0
    with path.open("wb") as out:
        for result in results:
            kept = keep[start : start + len(result.tokens)]
            start += len(result.tokens)
            if kept.any():
                _copy_kept(np.memmap(result.output, dtype, "r"), result.tokens, kept, out)
            tokens += int(result.tokens[kept].sum())
            size += int(result.bytes[kept].sum())
    return Split(tokens=tokens, bytes=size, documents=int(keep.sum()), digest=file_digest(path))


def _copy_kept(
    tokens: NDArray[np.unsignedinteger],
    lengths: NDArray[np.int64],
    kept: NDArray[np.bool_],
    out: BinaryIO,
) -> None:
    """Writes the kept documents, each run of neighbours at once."""
    ends = np.concatenate(([0], np.cumsum(lengths)))
    changes = np.flatnonzero(np.diff(kept, prepend=False, append=False))
    for start, stop in changes.reshape(-1, 2).tolist():
        out.write(tokens[ends[start] : ends[stop]].tobytes())


def _require_both(source: Source, train: Split, validation: Split) -> None:
    if train.documents and validation.documents:
        return
    documents = train.documents + validation.documents
    if not documents:
        raise ValueError(f"{source.name} holds no text: give a source with text in it")
    empty = "validation" if train.documents else "train"
    raise ValueError(
        f"the {empty} split is empty: {source.name} has {documents} distinct documents; give more "
        f"documents, or change validation_fraction"
    )
