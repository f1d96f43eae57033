"""One trunk, many horizons: are curves those from scratch, and what does sharing save?

    python evidence/make_branches.py [--record]

A small transformer on Python's own sources under warmup-stable-decay, the warmup stated in tokens.
Three horizons, each twice the last, are trained in one store, where a longer run goes on from the
trunk of the one before, and each again in a store of its own. Then every other cooldown and other
lengths of it leave the trunk of the longest run. Curves and final weights are compared byte for
byte. Writes evidence/branches.json and .svg.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from stepladder.card import Evidence, record
from stepladder.data import Dataset, prepare
from stepladder.recipe import Data, Model, Optimizer, Recipe, Schedule
from stepladder.report.style import LIGHT, figure, label, shades, svg
from stepladder.schedules.wsd import COOLDOWNS
from stepladder.store import Store
from stepladder.train import Execution, train

HERE = Path(__file__).parent
RESULTS, FIGURE = HERE / "branches.json", HERE / "branches.svg"
COMMAND = "python evidence/make_branches.py --record"
STEPS = (200, 400, 800)
WARMUP_STEPS, BATCH, DECAY = 20, 1024, 0.2
OTHERS = [name for name in COOLDOWNS if name not in ("1-sqrt", "none", "square")]
LENGTHS = (0.1,)  # of the cooldown: it begins after the end of the trunk that others share
TOKENIZER = "bytes"


def base(dataset: Dataset) -> Recipe:
    """The shortest run."""
    shape = Model(
        width=32,
        depth=2,
        heads=4,
        kv_heads=4,
        head_size=8,
        mlp_width=88,
        context=64,
        vocab_size=dataset.vocab_size,
    )
    return Recipe(
        model=shape,
        optimizer=Optimizer(lr=0.01, beta2=0.99),
        schedule=Schedule(name="wsd", warmup=WARMUP_STEPS * BATCH, params={"decay": DECAY}),
        data=Data(tokenizer=TOKENIZER, fingerprint=dataset.fingerprint),
        tokens=STEPS[0] * BATCH,
        batch=BATCH,
        validation=32_768,
    )


def cooled(recipe: Recipe, **params: Any) -> Recipe:
    """The recipe with another cooldown."""
    given = recipe.schedule
    return replace(recipe, schedule=replace(given, params={**given.params, **params}))


class Bench:
    """Trains recipes in a shared store, and anew in stores of their own."""

    def __init__(self, dataset: Dataset, root: Path) -> None:
        self.dataset, self.root = dataset, root
        self.shared = Store(root / "shared")
        self.execution = Execution(device=torch.device("cpu"), compiled=False)

    def compared(self, name: str, recipe: Recipe) -> dict[str, Any]:
        """A recipe both ways."""
        alone = Store(self.root / recipe.key)
        shared, scratch = (self._trained(recipe, store) for store in (self.shared, alone))
        assert scratch["trunk"] is None
        return {
            "run": name,
            "key": recipe.key,
            "steps": shared["steps"],
            "trunk": shared["trunk"],
            "paid_steps": shared["paid_steps"],
            "loss": shared["loss"],
            "paid_seconds": round(shared["paid_seconds"], 2),
            "scratch_seconds": round(scratch["seconds"], 2),
            "same_bits": self._bits(recipe, self.shared) == self._bits(recipe, alone),
            "validation": [
                (row["step"], row["validation_loss"])
                for row in self.shared.get(recipe.key).curve  # type: ignore[union-attr]
                if "validation_loss" in row
            ],
        }

    def _trained(self, recipe: Recipe, store: Store) -> dict[str, Any]:
        return train(recipe, store, self.dataset, execution=self.execution)

    def _bits(self, recipe: Recipe, store: Store) -> tuple[bytes, bytes]:
        folder = store.folder(recipe.key)
        weights = folder / "checkpoint" / str(recipe.steps) / "weights.safetensors"
        return (folder / "curve.jsonl").read_bytes(), weights.read_bytes()


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What sharing saved over some runs."""
    paid, whole = (sum(row[name] for row in rows) for name in ("paid_steps", "steps"))
    return {
        "runs": len(rows),
        "steps": whole,
        "paid_steps": paid,
        "saved_percent": round(100 * (1 - paid / whole), 1),
        "all_same_bits": all(row["same_bits"] for row in rows),
    }


def draw(horizons: list[dict[str, Any]], cooldowns: list[dict[str, Any]]) -> None:
    """Validation loss along each run; what a run paid for itself is drawn strong."""
    paid, whole = (sum(row[name] for row in horizons) for name in ("paid_steps", "steps"))
    title = f"Three horizons on one trunk: {paid:,} steps paid for, not {whole:,}"
    made, axes = figure(title, panels=2)
    for row, colour in zip(horizons, shades(len(horizons)), strict=True):
        start = row["trunk"]["step"] if row["trunk"] else 0
        own = [point for point in row["validation"] if point[0] >= start]
        axes[0].plot(*zip(*row["validation"], strict=True), color=LIGHT["line"], zorder=1)
        axes[0].plot(*zip(*own, strict=True), color=colour, marker="o", markersize=3, zorder=2)
        label(axes[0], f"{row['steps']:,}", own[-1], (4, -3), "ink", fontsize=9)
    axes[0].set(xlabel="step", ylabel="validation loss, nats a token", yscale="linear")
    axes[0].set_xlim(0, 1.12 * STEPS[-1])
    axes[0].set_ylim(0.97 * horizons[-1]["loss"], horizons[0]["validation"][0][1])
    shown = sorted([horizons[-1], *cooldowns], key=lambda row: row["loss"], reverse=True)
    names = [row["run"] if row in cooldowns else f"1-sqrt over {DECAY:.0%}" for row in shown]
    axes[1].plot([row["loss"] for row in shown], names, "o", color=LIGHT["law"])
    for at, row in enumerate(shown):
        text = f"{row['loss']:.4f}, {row['paid_steps']:,} steps"
        label(axes[1], text, (row["loss"], at), (8, -3), "ink", fontsize=8.5)
    least = min(row["loss"] for row in shown)
    axes[1].set_xlim(0.997 * least, 1.012 * max(row["loss"] for row in shown))
    axes[1].set(xlabel="final loss; what each paid for")
    axes[1].grid(False)
    FIGURE.write_text(svg(made, FIGURE.stem))


def main() -> None:
    """Train, compare, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    dataset = prepare("stdlib", TOKENIZER)
    short = base(dataset)
    with tempfile.TemporaryDirectory() as root:
        bench = Bench(dataset, Path(root))
        lengths = [replace(short, tokens=steps * BATCH) for steps in STEPS]
        horizons = [bench.compared(f"{recipe.steps} steps", recipe) for recipe in lengths]
        cooldowns = [
            bench.compared(f"{name} over {DECAY:.0%}", cooled(lengths[-1], cooldown=name))
            for name in OTHERS
        ]
        cooldowns += [
            bench.compared(f"1-sqrt over {length:.0%}", cooled(lengths[-1], decay=length))
            for length in LENGTHS
        ]
    found = {
        "command": COMMAND,
        "horizons": summary(horizons),
        "cooldowns": summary(cooldowns),
        "runs": horizons + cooldowns,
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    draw(horizons, cooldowns)
    print(json.dumps({name: found[name] for name in ("horizons", "cooldowns")}, indent=1))
    if given.record:
        remember(found)


def remember(found: dict[str, Any]) -> None:
    """Tell the card of the schedule."""
    horizons, cooldowns = found["horizons"], found["cooldowns"]
    text = (
        f"three horizons ({STEPS[0]} to {STEPS[-1]} steps, width 32) on one trunk: "
        f"{horizons['paid_steps']:,} steps instead of {horizons['steps']:,}, "
        f"{horizons['saved_percent']:g}% saved; "
        f"{cooldowns['runs']} other cooldowns: {cooldowns['saved_percent']:g}% saved; every curve "
        "and all weights as from scratch, to the bit"
    )
    record(
        "schedules",
        "wsd",
        Evidence(result=text, command=COMMAND, figure=str(FIGURE.relative_to(HERE.parent))),
    )


if __name__ == "__main__":
    main()
