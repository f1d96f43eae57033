"""The tokenizer of a run, and the settings that `transformers` keeps beside a tokenizer.json."""

import json
from pathlib import Path
from typing import Any

from stepladder.data.cache import cache_folder
from stepladder.data.dataset import META, TOKENIZER
from stepladder.data.tokenizers import BYTES, END_NAMES, byte_tokenizer_json, read_tokenizer
from stepladder.recipe import Data


def tokenizer_json(data: Data, run: Path, given: Path | None = None) -> str:
    """The `tokenizer.json` of a run: the one given, else the one that made its tokens.

    A run keeps its own; those of older versions left it in the cache of tokens.

    Args:
        run: the run directory.

    Raises:
        ValueError: neither the run nor the cache has it.
    """
    if given is not None:
        return read_tokenizer(given)
    if (run / TOKENIZER).is_file():
        return read_tokenizer(run / TOKENIZER)
    if data.tokenizer == BYTES:
        return byte_tokenizer_json()
    for meta in sorted((cache_folder(None) / "data").glob(f"*/{META}")):
        if data.fingerprint and _fingerprint(meta) == data.fingerprint:
            return (meta.parent / TOKENIZER).read_text(encoding="utf-8")
    raise ValueError(
        f"the tokenizer {data.tokenizer!r} of this run is neither in {run} nor in "
        f"{cache_folder(None)}: "
        "give its file with --tokenizer tokenizer.json"
    )


def _fingerprint(meta: Path) -> str:
    try:
        return str(json.loads(meta.read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def end_of_document(content: str) -> tuple[str, int] | None:
    """The token that ends a document, and its id; None where the tokenizer has none."""
    from tokenizers import Tokenizer

    library = Tokenizer.from_str(content)
    ids = {name: library.token_to_id(name) for name in END_NAMES}
    return next(((name, number) for name, number in ids.items() if number is not None), None)


def tokenizer_config(end: str | None, context: int) -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        "eos_token": end,
    }
