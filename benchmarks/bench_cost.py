"""Seconds of a training step: predicted by the cost model, and measured, on the device here.

    .venv/bin/python benchmarks/bench_cost.py [--seconds 2]

The prediction uses the calibration alone. That times real steps too (`pacing.py`), of other shapes
than these; the demo's come close to them. On a CPU both use the clock of the calibration, which
stands still while another process has the core.
"""

import argparse
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.utils import clip_grad_norm_

from stepladder.calibration import clock, measure
from stepladder.cost import cost
from stepladder.devices import Device
from stepladder.models.build import build
from stepladder.models.fused import loss_function
from stepladder.recipe import Model, Optimizer, Recipe
from stepladder.train.sitting import build_optimizer

RESULTS = Path(__file__).parent / "results" / "cost.json"
NARROWEST = Model(
    width=64, depth=4, heads=2, kv_heads=2, head_size=32, mlp_width=192, context=256, vocab_size=257
)


def shape(width: int, depth: int, **changes: object) -> Model:
    """A model of this width and depth in the narrowest one's proportions."""
    heads = width // NARROWEST.head_size
    grown = replace(NARROWEST, width=width, depth=depth, heads=heads, kv_heads=heads)
    return replace(grown, **{"mlp_width": 3 * width, **changes})


def small(width: int) -> Model:
    """A model of the demo: few narrow heads, a vocabulary much wider than the model."""
    return Model(
        width=width,
        depth=2,
        heads=4,
        kv_heads=4,
        head_size=width // 4,
        mlp_width=round(width / 3) * 8,
        context=64,
        vocab_size=1024,
    )


CPU_SHAPES = {
    "width 64": shape(64, 4),
    "width 128": shape(128, 4),
    "width 256": shape(256, 4),
    "width 512": shape(512, 4),
    "depth 12": shape(128, 12),
    "context 64": shape(128, 4, context=64),
    "context 1024": shape(128, 4, context=1024),
    "vocabulary 8192": shape(128, 4, vocab_size=8192),
    "relu2, no qk-norm": shape(256, 4, activation="relu2", mlp_width=1024, qk_norm=False),
    "grouped": shape(256, 4, kv_heads=2),
    "demo's smallest rung": small(24),
    "demo's largest rung": small(48),
    "demo's target": small(104),
}
SMALL_BATCHES = {"demo's smallest rung": 768, "demo's largest rung": 1280, "demo's target": 2368}
CUDA_SHAPES = {
    f"width {width}": shape(width, 12, context=1024, vocab_size=50_304)
    for width in (256, 512, 768, 1536)
}


def recipe(model: Model, tokens: int, precision: str) -> Recipe:
    """One step of a model."""
    return Recipe(
        model=model,
        optimizer=Optimizer(lr=1e-3),
        tokens=tokens,
        batch=tokens,
        precision=precision,
        validation=model.context,
        evaluations=1,
    )


def measured_step(r: Recipe, device: Device, kind: str, patience: float) -> float:
    """Least seconds of one step: forward, backward, clipping and update, on made-up tokens."""
    model, plan = build(r, kind)
    optimizer = build_optimizer(r, plan)
    loss_of = loss_function(model, compiled=device.compiled)
    rows = r.batch // r.model.context
    tokens = torch.randint(0, r.model.vocab_size, (rows, r.model.context), device=kind)

    def step() -> float:
        start = clock(kind)
        with torch.autocast(kind, torch.bfloat16, enabled=r.precision == "bfloat16"):
            loss = loss_of(tokens, tokens)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return clock(kind) - start

    step()  # allocates the optimizer's state, and compiles
    tries: list[float] = []
    begin = time.perf_counter()
    while len(tries) < 2 or time.perf_counter() - begin < patience:
        tries.append(step())
    return min(tries)


def main() -> None:
    """Measure every shape, print the table, write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1.0)
    patience = parser.parse_args().seconds
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    device = measure(kind)
    shapes, tokens = (CUDA_SHAPES, 32_768) if kind == "cuda" else (CPU_SHAPES, 4096)
    rows = []
    for precision in ("float32", "bfloat16"):
        for name, model in shapes.items():
            r = recipe(model, SMALL_BATCHES.get(name, tokens), precision)
            parts = cost(r).seconds(device)
            found = measured_step(r, device, kind, patience)
            rows.append(
                {
                    "shape": name,
                    "precision": precision,
                    "measured": found,
                    "predicted": parts.training,
                    "ratio": parts.training / found,
                    "parts": vars(parts),
                }
            )
            print(f"{precision} {name}: {rows[-1]['ratio']:.2f}", flush=True)
    report(device, rows)


def report(device: Device, rows: list[dict]) -> None:
    """Print the table and write the results."""
    table = Table("shape", "precision", "measured, ms", "predicted, ms", "predicted / measured")
    for row in rows:
        times = (f"{1e3 * row[key]:.1f}" for key in ("measured", "predicted"))
        table.add_row(row["shape"], row["precision"], *times, f"{row['ratio']:.2f}")
    Console().print(table)
    errors = [abs(row["ratio"] - 1) for row in rows]
    summary = {"median_error": statistics.median(errors), "largest_error": max(errors)}
    Console().print(f"{device.name}: " + ", ".join(f"{k} {v:.0%}" for k, v in summary.items()))
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"device": device.name, "source": device.source, **summary, "rows": rows}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
