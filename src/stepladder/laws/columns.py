"""Names of columns: how tables spell what laws call params, tokens, flops, loss, ..."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

# what laws call it -> how tables spell it, the likeliest first; compared without case, spaces and
# signs, except that single letters keep their case (N is parameters, n may be anything)
KNOWN: Mapping[str, tuple[str, ...]] = {
    "params": ("N", "n_params", "parameters", "model size", "model parameters", "size"),
    "tokens": ("D", "n_tokens", "training tokens", "tokens seen", "tokens trained", "data size",
               "dataset size", "data", "pretraining data size"),
    "flops": ("C", "flop", "training flop", "compute", "training compute", "compute budget",
              "flops budget", "budget"),
    "loss": ("L", "final loss", "val loss", "validation loss", "loss validation", "eval loss",
             "test loss", "final val loss", "cross entropy", "val bpb", "bpb", "bits per byte",
             "nll", "macro loss", "lm loss", "smooth loss", "train loss", "training loss",
             "final train loss", "error", "error rate", "top1 error", "test error"),
    "loss_unigram": ("unigram normalized loss", "normalized loss", "lossu", "loss u"),
    "samples": ("n_samples", "samples seen", "seen examples", "examples seen", "examples",
                "training examples", "training samples", "images seen", "dataset size",
                "training set size"),
    "batch": ("B", "bs", "bsz", "batch size", "global batch size", "global bs", "global bsz",
              "train batch size"),
    "lr": ("learning rate", "eta", "peak lr", "max lr", "peak learning rate"),
    "steps": ("S", "step", "global step", "n_steps", "training steps", "total steps",
              "iterations", "iters"),
    "unique_tokens": ("U", "unique tokens", "unique data", "unique"),
    "epochs": ("epoch", "n_epochs", "total epochs"),
    "experts": ("E", "n_experts", "expert count", "number of experts"),
    "seconds": ("time", "wall time", "train time sec", "training time"),
    "vocab": ("V", "vocab size", "vocabulary size", "vocabulary"),
    "vocab_params": ("vocabulary parameters", "vocab parameters", "embedding parameters"),
    "characters": ("H", "n_characters", "chars", "n_chars"),
    "streams": ("P", "parallel size", "parallel streams"),
    "replicas": ("M", "n_replicas", "workers"),
    "sparsity": ("moe sparsity", "S"),
    **{f"share_{k}": (f"proportion domain {k}", f"domain {k} share", f"share domain {k}",
                      f"weight {k}", f"proportion {k}", f"r{k}") for k in range(1, 6)},
}  # fmt: skip


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# words that say which count is meant: the column is taken where no plainer one is, and named
QUALIFIERS: Mapping[str, frozenset[str]] = {
    "params": _set(
        "total all non no not without excl excluding embedding embeddings embed emb nonemb "
        "nonembedding body active activated dense vocab size scaling"
    ),
    "tokens": _set("total pretraining pretrain dataset data seen"),
    "flops": _set("total est estimated approx pretraining pretrain"),
    "batch": _set("tokens"),
    "lr": _set("optimizer optim"),
}
FILLER = _set("num n number count of the train training trained total final avg")
LOSSES = _set("loss nll bpb xent")
NO_LOSS = _set("step rate increase std stderr err se sem ci lower upper unigram spike")
# a slash after one of these divides: tokens/sec is no path
RATES = _set(
    "tok token tokens flop flops param params sec second seconds time loss update updates tflop"
)
SYNONYMS = {"param": "params", "parameter": "params", "parameters": "params", "token": "tokens",
            "flop": "flops", "macs": "flops"}  # fmt: skip
LETTERS = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18, "z": 1e21}
COUNTED = tuple("kmbgt")  # those after a count: 135M, 1.3B
SCALES = {"thousand": 1e3, "million": 1e6, "mil": 1e6, "billion": 1e9, "bn": 1e9, "trillion": 1e12}
FLOPS = "kmgtpez"  # letters before flops: a kilo to a zetta
SPELLED, SEGMENT, QUALIFIED, OTHER = 1, 2, 3, 4  # how surely a column is meant, best first


class Reading(NamedTuple):
    """A column that spells a name: `factor` makes its cells counts, `rank` orders the readings."""

    column: str
    factor: float
    rank: tuple[int, int]


def plain(name: str) -> str:
    """A name without case, spaces and signs; a single letter as it is."""
    letters = re.sub(r"[^0-9A-Za-z]", "", name)
    return letters if len(letters) == 1 else letters.lower()


def recognise(wanted: Iterable[str], present: Iterable[str]) -> dict[str, Reading]:
    """For each wanted name, the column that spells it, and its unit.

    A column of the name itself comes first, then usual spellings in their order, then spellings
    with a path before them (`throughput/total_tokens`), then those with a qualifier
    (`non_embedding_params`). Where two columns are equally likely none is taken: the caller has
    to say which.
    """
    present = list(present)
    found = {}
    for name in wanted:
        options = readings(name, present)
        if options and (len(options) == 1 or options[0].rank < options[1].rank):
            found[name] = options[0]
    return found


def readings(name: str, present: Iterable[str]) -> list[Reading]:
    """Every column that may spell a name, the likeliest first."""
    made = [_reading(name, column) for column in present]
    return sorted((one for one in made if one is not None), key=lambda one: one.rank)


def said(name: str, reading: Reading) -> str:
    """`tokens from 1e9 * 'Tokens (B)'`; empty for a column of the name itself."""
    times = "" if reading.factor == 1.0 else f"{reading.factor:g} * "
    return "" if reading.column == name else f"{name} from {times}{reading.column!r}"


def _reading(name: str, column: str) -> Reading | None:
    if column == name:
        return Reading(column, 1.0, (0, 0))
    spellings = [plain(s) for s in (name, *KNOWN.get(name, ()))]
    bare, factor = _unit(column)
    for place, text in ((SPELLED, column), (SPELLED, bare), (SEGMENT, _last(bare))):
        at = _spelled(text, spellings)
        if at is not None:
            return Reading(column, 1.0 if text == column else factor, (place, at))
    rest = set(_words(_last(bare))) - FILLER
    # a count of parameters may say which; `val_loss`, with no list, must be spelled
    qualified = name in QUALIFIERS and rest - QUALIFIERS[name] == {name}
    if qualified:
        return Reading(column, factor, (QUALIFIED, len(rest) - ("total" in _words(bare))))
    if name == "loss" and rest & LOSSES and not rest & NO_LOSS:
        return Reading(column, factor, (OTHER, 0))
    return None


def _spelled(text: str, spellings: Sequence[str]) -> int | None:
    """The place of a text among spellings, or of its words without filler."""
    words = [word for word in _words(text) if word not in FILLER]
    if plain(text) in spellings:
        return spellings.index(plain(text))
    bare = "".join(words)
    return len(spellings) + spellings.index(bare) if len(bare) > 1 and bare in spellings else None


def _unit(column: str) -> tuple[str, float]:
    """A column's name without its unit, and the unit: `Tokens (B)` is Tokens, in 1e9."""
    inside = re.search(r"[\(\[]\s*(?:in\s+)?([0-9.eE+]+|[A-Za-z]+)\s*[\)\]]\s*$", column)
    if inside:
        factor = _scale(inside.group(1))
        if factor is not None:
            return column[: inside.start()].strip(), factor
    ending = re.search(r"[\s_\-]+(?:in[\s_]+)?([A-Za-z]+)$", column)
    if ending:
        factor = _scale(ending.group(1))
        letter = len(ending.group(1)) == 1
        if factor is not None and not (letter and ending.group(1) in "pez"):
            return column[: ending.start()].strip(" _-"), factor
    before = re.search(rf"(?:^|[/._\s])([{FLOPS}]|exa|zetta|peta|tera|giga)(flops?|macs)(?![a-z])",
                       column, flags=re.IGNORECASE)  # fmt: skip
    before = before or re.search(r"(?:^|_)([mbg])(params|parameters|tokens)$", column)
    if before:
        prefix, word = before.group(1).lower(), before.group(2)
        twice = 2.0 if word.lower() == "macs" else 1.0  # a multiplication and an addition
        return column[: before.start(1)] + column[before.start(2) :], twice * LETTERS[prefix[0]]
    return column, 1.0


def _scale(text: str) -> float | None:
    low = text.lower().rstrip("s")
    if low in SCALES:
        return SCALES[low]
    if text.lower() in LETTERS:
        return LETTERS[text.lower()]
    try:
        return float(text)
    except ValueError:
        return None


def _last(column: str) -> str:
    """The last part of a path: `eval/paloma/macro_loss` is macro_loss; `tokens/sec` stays."""
    parts = re.split(r"[/.]", column)
    before = set(_words(parts[-2])) if len(parts) > 1 else set()
    rate = bool(before & RATES) or bool(set(_words(parts[-1])) & {"sec", "second", "layer"})
    return column if rate else parts[-1]


def _words(text: str) -> list[str]:
    """Lower-case words of a name; `totalTokens` is two."""
    split = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    return [SYNONYMS.get(w, w) for w in re.findall(r"[a-z]+|[0-9]+", split.lower())]
