"""Published tables of runs as columns: the sets that laws are backtested on."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(
    os.environ.get("STEPLADDER_REALDATA", Path(__file__).parents[2] / "shared" / "realdata")
)
Columns = dict[str, np.ndarray]


class Set(NamedTuple):
    """A table, what it is called, and the laws to backtest on it (first: the natural one)."""

    name: str
    columns: Columns
    laws: tuple[str, ...]


def read(path: str) -> dict[str, np.ndarray]:
    """A CSV of `../shared/realdata` as columns, numbers where every cell is one."""
    with (ROOT / path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {}
    for name in rows[0]:
        cells = [row[name] for row in rows]
        try:
            columns[name] = np.array([float(cell) if cell else np.nan for cell in cells])
        except ValueError:
            columns[name] = np.array(cells)
    return columns


def epoch() -> Columns:
    """Chinchilla's points, the five worst left out as Epoch does."""
    table = read("chinchilla-epoch/svg_extracted_data.csv")
    keep = np.argsort(table["loss"], kind="stable")[:-5]
    params, flops = table["Model Size"][keep], table["Training FLOP"][keep]
    return {"params": params, "tokens": flops / 6 / params, "loss": table["loss"][keep]}


def porian() -> Iterator[Set]:
    """The isoFLOP points of each of the fifteen configurations."""
    table = read("porian-resolving/isoflop_points.csv")
    keys = [table[k] for k in ("dataset", "hparams", "warmup", "decay", "param_count", "val")]
    labels = np.array(["/".join(key) for key in zip(*keys, strict=True)])
    for label in dict.fromkeys(labels):
        mask = labels == label
        columns = {name: table[name][mask] for name in ("params", "tokens", "flops", "loss")}
        yield Set(f"porian {label}", columns, ("chinchilla",))


def data_constrained() -> Columns:
    """The 161 runs with repeated data that were fitted."""
    table = read("scalebench/data_constrained_scaling_law_train.csv")
    return {name: table[name] for name in ("params", "tokens", "unique_tokens", "loss")}


def farseer() -> Columns:
    """Farseer's training points."""
    table = read("scalebench/farseer_scaling_law_train.csv")
    return {"params": table["N"], "tokens": table["D"], "loss": table["loss"]}


def step_law_envelope() -> Columns:
    """Step Law's grid: the best loss over learning rate and batch at each size and horizon."""
    table = read("scalebench/lr_bsz_scaling_law_train.csv")
    params, tokens = table["non_embedding_param_size"], table["data_size"]
    keys = sorted(set(zip(params, tokens, strict=True)))
    loss = [table["lm_loss"][(params == n) & (tokens == d)].min() for n, d in keys]
    n, d = np.array(keys).T
    return {"params": n, "tokens": d, "loss": np.array(loss)}


def routed() -> Columns:
    """Dense and routed models at one number of tokens, all routers together."""
    table = read("scalebench/moe_scaling_law_train.csv")
    names = {"params": "dense_parameter_count", "experts": "num_experts", "loss": "loss_validation"}
    return {name: table[column] for name, column in names.items()}


def parallel() -> Iterator[Set]:
    """Parallel streams, a table for each corpus."""
    table = read("scalebench/parallel_scaling_law_train.csv")
    for group in dict.fromkeys(table["group"].tolist()):
        mask = table["group"] == group
        names = {"params": "num_params", "streams": "parallel_size", "loss": "loss"}
        columns = {name: table[column][mask] for name, column in names.items()}
        yield Set(f"parallel streams, {group}", columns, ("parallel-streams",))


def vocabulary() -> Columns:
    """Vocabularies of many sizes; the loss is less that of a unigram model, and negative."""
    table = read("scalebench/vocab_scaling_law_train.csv")
    names = {"params": "non_vocab_parameters", "characters": "num_characters",
             "vocab": "vocab_size", "loss_unigram": "unigram_normalized_loss"}  # fmt: skip
    return {name: table[column] for name, column in names.items()}


def olmo() -> tuple[Columns, Columns]:
    """OLMo's ladder at the end of each run, and its two targets: mean loss on eleven sets."""
    folder = ROOT / "olmo-ladder"
    config = json.loads((folder / "configs" / "final.json").read_text())
    rungs: list[tuple[float, ...]] = []
    targets: list[tuple[float, ...]] = []
    for entry in config.values():
        for path in entry["paths"]:
            point = _last_point(folder / "ladder-runs" / Path(path).name, entry)
            (rungs if entry["mode"] == "train" else targets).append(point)
    return _columns(rungs), _columns(targets)


def _last_point(path: Path, entry: dict[str, object]) -> tuple[float, ...]:
    with path.open(newline="") as file:
        row = list(csv.DictReader(file))[-1]
    losses = [
        float(value)
        for name, value in row.items()
        if name.startswith("eval/") and name.endswith("CrossEntropyLoss") and value
    ]
    batch = float(row["batch_size_in_tokens"])
    tokens = float(row.get("throughput/total_tokens") or float(row["_step"]) * batch)
    return float(entry["n"]), tokens, float(entry["flops"]) * tokens, float(np.mean(losses))


def _columns(points: list[tuple[float, ...]]) -> Columns:
    names = ("params", "tokens", "flops", "loss")
    return dict(zip(names, np.array(points).T, strict=True))


def every() -> Iterator[Set]:
    """Every set that a law can be backtested on."""
    yield Set("chinchilla (Epoch's points)", epoch(), ("chinchilla",))
    yield from porian()
    yield Set("farseer", farseer(), ("farseer", "chinchilla"))
    yield Set("step law envelope", step_law_envelope(), ("chinchilla",))
    yield Set("olmo ladder", olmo()[0], ("chinchilla",))
    yield Set("routed", routed(), ("routed",))
    yield from parallel()
    yield Set("vocabulary", vocabulary(), ("vocabulary-size",))
    yield Set("data-constrained", data_constrained(), ("data-constrained",))
