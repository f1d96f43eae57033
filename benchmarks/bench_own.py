"""How much faster trials of a user's own module train as one program than one after another.

    .venv/bin/python benchmarks/bench_own.py [--rounds 5]

Eight trials that differ in rate and seed, of three modules at several widths, by `train_many` with
all threads: side by side, and with room for one (which is plain PyTorch), in turn, so that what
disturbs one disturbs the other. A ratio is the median over rounds of the seconds alone over the
seconds side by side. What a trial costs once (building, and the look at whether it can be stacked)
is in both.

Writes benchmarks/results/own.json.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from stepladder import Trial, train_many
from stepladder.data.workers import cpu_count

RESULTS = Path(__file__).parent / "results" / "own.json"
VOCABULARY, TRIALS = 256, 8


def mlp(width: int) -> nn.Module:
    """Three hidden layers."""
    hidden = [layer for _ in range(2) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), *hidden, nn.Linear(width, 10))


def conv(width: int) -> nn.Module:
    """Two convolutions with group norm on images of 8 x 8."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.GroupNorm(4, width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


class Encoder(nn.Module):
    """torch's own layers, two of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits [B, T, V]."""
        mask = nn.Transformer.generate_square_subsequent_mask(tokens_BT.shape[1])
        out: Tensor = self.head(self.body(self.embedding(tokens_BT), mask=mask, is_causal=True))
        return out


Batch = tuple[Tensor, Tensor]


def vectors() -> Batch:
    """32 of them."""
    return torch.randn(32, 64), torch.randint(10, (32,))


def images() -> Batch:
    """8 of them."""
    return torch.randn(8, 3, 8, 8), torch.randint(10, (8,))


def tokens() -> Batch:
    """8 sequences of 32."""
    x_BT = torch.randint(VOCABULARY, (8, 33))
    return x_BT[:, :-1], x_BT[:, 1:]


CASES: list[tuple[str, Callable[[int], nn.Module], Callable[[], Batch], tuple[int, ...]]] = [
    ("MLP", mlp, vectors, (16, 64, 256)),
    ("convolutions", conv, images, (8, 32)),
    ("TransformerEncoder", Encoder, tokens, (16, 32, 64)),
]


def trials(build: Callable[[], nn.Module], batches: list[Batch], steps: int) -> list[Trial]:
    """Rates and seeds of one shape."""

    def make(lr: float, seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(seed)
        model = build()
        return model, torch.optim.AdamW(model.parameters(), lr=lr)

    return [
        Trial(make=partial(make, 2.0 ** -(6 + i), i), batches=batches, steps=steps, seed=i)
        for i in range(TRIALS)
    ]


def compare(asked: list[Trial], rounds: int) -> dict[str, float]:
    """Milliseconds of a trial's step both ways, and the ratio."""
    times: dict[int, list[float]] = {TRIALS: [], 1: []}
    for _ in range(rounds):
        for room, taken in times.items():
            start = time.perf_counter()
            train_many(asked, room=room)
            taken.append(time.perf_counter() - start)
    each = 1e3 / TRIALS / asked[0].steps
    ratios = [a / b for a, b in zip(times[1], times[TRIALS], strict=True)]
    return {
        "together_ms": statistics.median(times[TRIALS]) * each,
        "alone_ms": statistics.median(times[1]) * each,
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "largest": max(ratios),
    }


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(cpu_count())
    load = os.getloadavg()[0]
    compare(trials(partial(mlp, 8), [vectors()], 1), 1)  # loads what torch loads late
    found: dict[str, dict[str, float]] = {}
    for name, build, batch, widths in CASES:
        for width in widths:
            asked = trials(partial(build, width), [batch() for _ in range(4)], options.steps)
            found[f"{name}, width {width}"] = compare(asked, options.rounds)
    table = Table("module", "together ms", "alone ms", "ratio", "least", "largest")
    for name, row in found.items():
        table.add_row(name, *(f"{value:.2f}" for value in row.values()))
    Console().print(table)
    where: dict[str, Any] = {
        "machine": platform.machine(),
        "cpus": cpu_count(),
        "load_before_and_after": [load, os.getloadavg()[0]],
        "torch": torch.__version__,
        **vars(options),
    }
    RESULTS.write_text(json.dumps({"where": where, "by_module": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
