"""Measure which convention of weight decay means the same at every width, under muP.

    .venv/bin/python evidence/make_decay.py   # two minutes of a core

At one rate, a decay of 0.3 costs a short run some loss over a decay of 0. A convention that carries
over costs a wide model as much as a narrow one. Writes evidence/transfer/decay.json and decay.svg.
"""

import json
from statistics import fmean, stdev
from time import process_time
from typing import get_args

import torch
from make_transfer import CONTEXT, OUT, SEQUENCES, STDS, build
from matplotlib.figure import Figure

from stepladder.data import Dataset, prepare
from stepladder.scaling import Size
from stepladder.scaling.rules import Decay
from stepladder.scaling.transfer import final_loss
from stepladder.scaling.trials import Recipe, default_loss, train
from stepladder.scaling.trials import prepare as prepare_trial

WIDTHS, SEEDS, STEPS = (64, 128, 256), 3, 400
LR, DECAY = 2.0**-6, 0.3
# "independent" is "scaled" times a constant where the base rate is one and the same.
CONVENTIONS = [convention for convention in get_args(Decay) if convention != "independent"]


def main() -> None:
    """Run, draw, write."""
    torch.set_num_threads(1)
    dataset, started = prepare("stdlib", "bytes"), process_time()
    excess: dict[str, dict[int, list[float]]] = {name: {} for name in CONVENTIONS}
    for width in WIDTHS:
        for seed in range(SEEDS):
            free = _loss(dataset, width, seed, "scaled", 0.0)
            for convention in CONVENTIONS:
                costs = excess[convention].setdefault(width, [])
                costs.append(_loss(dataset, width, seed, convention, DECAY) - free)
        print(width, {name: round(fmean(found[width]), 4) for name, found in excess.items()})
    settings = {"rule": "mup", "lr": LR, "weight_decay": DECAY, "steps": STEPS, "seeds": SEEDS}
    result = {
        "command": "python evidence/make_decay.py",
        **settings,
        "cpu_seconds": round(process_time() - started, 1),
        "excess_nats": excess,
        "widest_over_narrowest": {
            name: fmean(found[WIDTHS[-1]]) / fmean(found[WIDTHS[0]])
            for name, found in excess.items()
        },
    }
    (OUT / "decay.json").write_text(json.dumps(result, indent=1) + "\n")
    _draw(excess)


def _loss(dataset: Dataset, width: int, seed: int, convention: str, decay: float) -> float:
    """The mean training loss of the last quarter of a run, in nats; every batch is fresh."""
    options = {"init_std": STDS, "weight_decay": convention}
    recipe = Recipe(rule="mup", optimizer="adamw", weight_decay=decay, options=options)
    base = Size(width=WIDTHS[0])
    trial = prepare_trial(build, Size(width=width), base, recipe, lr=LR, seed=seed)
    batches = [
        dataset.batch(step, batch_sequences=SEQUENCES, context=CONTEXT, seed=seed)
        for step in range(STEPS)
    ]
    return final_loss(train(trial, batches, default_loss, STEPS), STEPS)


def _draw(excess: dict[str, dict[int, list[float]]]) -> None:
    figure = Figure(figsize=(4.6, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, found in excess.items():
        means = [fmean(costs) for costs in found.values()]
        bars = [stdev(costs) / SEEDS**0.5 for costs in found.values()]
        axes.errorbar(list(found), means, yerr=bars, fmt="o-", ms=4, capsize=3, label=name)
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("width")
    axes.set_ylabel(f"what a decay of {DECAY} costs (nats)")
    axes.legend()
    figure.savefig(OUT / "decay.svg")


if __name__ == "__main__":
    main()
