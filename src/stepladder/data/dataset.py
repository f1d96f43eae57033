"""A prepared corpus: two memory-mapped token files, and how batches are read from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stepladder.data.windows import gather, window_count, window_starts

if TYPE_CHECKING:
    from torch import Tensor

META = "meta.json"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class Split:
    """What one side of the split holds: counts, UTF-8 bytes without ends of documents, a digest."""

    tokens: int
    bytes: int
    documents: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Tokens of a corpus, split into train and validation; made by `prepare`.

    Sequences are windows over the documents laid end to end, each followed by `end_of_document`.
    """

    folder: Path
    source: str
    tokenizer: str
    vocab_size: int
    end_of_document: int
    dtype: str
    train: Split
    validation_split: Split
    duplicates: int
    skipped: int
    fingerprint: str
    text_field: str = "text"

    @classmethod
    def open(cls, folder: Path, source: str, tokenizer: str, text_field: str = "text") -> Dataset:
        """The dataset cached in `folder`, unverified (see `cache.load`).

        The names are today's: the cache knows contents, which may have moved since.
        """
        meta: dict[str, Any] = json.loads((folder / META).read_text())
        del meta["format"]
        for name in ("train", "validation_split"):
            meta[name] = Split(**meta[name])
        return cls(folder=folder, source=source, tokenizer=tokenizer, text_field=text_field, **meta)

    def __reduce__(self) -> tuple[Callable[..., Dataset], tuple[Path, str, str, str]]:
        """Pickles as its folder: a worker maps the files itself instead of receiving a copy."""
        return Dataset.open, (self.folder, self.source, self.tokenizer, self.text_field)

    @property
    def train_tokens(self) -> int:
        """Tokens of the train split, ends of documents included."""
        return self.train.tokens

    @property
    def validation_tokens(self) -> int:
        """Tokens of the validation split, ends of documents included."""
        return self.validation_split.tokens

    @property
    def bytes_per_token(self) -> float:
        """UTF-8 bytes a token of the validation split: bits a byte = loss / ln 2 / this."""
        return self.validation_split.bytes / self.validation_split.tokens

    @property
    def tokenizer_path(self) -> Path:
        """The `tokenizer.json` that made the tokens; the byte tokenizer has one too."""
        return self.folder / TOKENIZER

    @cached_property
    def _train(self) -> NDArray[np.unsignedinteger]:
        return _map(self.folder / "train.bin", self.dtype)

    @cached_property
    def _validation(self) -> NDArray[np.unsignedinteger]:
        return _map(self.folder / "validation.bin", self.dtype)

    def batch(
        self, step: int, *, batch_sequences: int, context: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, int64 [batch_sequences, context] each.

        A pure function of its arguments: sequence `step * batch_sequences + j` is the same for
        every batch size, and every epoch is a fresh permutation of the windows. Raises ValueError
        where the context does not fit the train split.
        """
        _require_counts(batch_sequences=batch_sequences, context=context)
        if step < 0:
            raise ValueError(f"step must be 0 or more, not {step}")
        self._require_context(context, self.train_tokens, "train")
        first = step * batch_sequences
        sequences = np.arange(first, first + batch_sequences, dtype=np.int64)
        starts = window_starts(sequences, tokens=self.train_tokens, context=context, seed=seed)
        return _inputs_and_targets(gather(self._train, starts, context))

    def validation(self, context: int, max_tokens: int | None = None) -> tuple[Tensor, Tensor]:
        """Fixed sequences of the validation split, int64 [n, context] each, the same for every run.

        All windows that do not overlap, or as many as `max_tokens` allows, evenly spread over the
        split so that they speak for all of it.
        """
        _require_counts(context=context)
        self._require_context(context, self.validation_tokens, "validation")
        available = (self.validation_tokens - 1) // context
        count = available if max_tokens is None else min(available, max_tokens // context)
        if count < 1:
            raise ValueError(
                f"max_tokens={max_tokens} holds no sequence of context {context}: "
                f"give at least {context}"
            )
        starts = np.arange(count, dtype=np.int64) * available // count * context
        return _inputs_and_targets(gather(self._validation, starts, context))

    def epochs(self, tokens: float) -> float:
        """How often `tokens` of training go over the train split."""
        return tokens / self.train_tokens

    def epochs_sentence(self, tokens: float) -> str:
        """A sentence that says the repetition aloud; empty while no token repeats."""
        epochs = self.epochs(tokens)
        if epochs <= 1:
            return ""
        return (
            f"{tokens:,.0f} training tokens are {epochs:.2f} epochs of the "
            f"{self.train_tokens:,} in {self.source}: text repeats."
        )

    def windows(self, context: int) -> int:
        """Sequences in one epoch of the train split at this context; ValueError where none fits."""
        _require_counts(context=context)
        self._require_context(context, self.train_tokens, "train")
        return window_count(self.train_tokens, context)

    def _require_context(self, context: int, tokens: int, split: str) -> None:
        longest = tokens // 2 if split == "train" else tokens - 1
        if context > longest:
            raise ValueError(
                f"context {context} is longer than the {split} split of {self.source} allows "
                f"({tokens:,} tokens): use a context of at most {longest}, or more text"
            )


def _require_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, not {value}")


def _map(path: Path, dtype: str) -> NDArray[np.unsignedinteger]:
    # As a plain array: slices of np.memmap are several times slower to make.
    return np.memmap(path, dtype=dtype, mode="r").view(np.ndarray)


def _inputs_and_targets(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    import torch

    sequences = torch.from_numpy(rows)
    return sequences[:, :-1].contiguous(), sequences[:, 1:].contiguous()
