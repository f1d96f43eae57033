"""Measure how the best learning rate moves with size, on the text of Python's standard library.

    .venv/bin/python evidence/make_transfer.py            # every study: 23 minutes of a core
    .venv/bin/python evidence/make_transfer.py width-mup  # one

Writes, for each study, evidence/transfer/NAME.json (every run) and NAME.svg, and then summary.json.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import process_time

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from stepladder.card import Evidence, record
from stepladder.data import prepare
from stepladder.models.transformer import Transformer
from stepladder.recipe import Model
from stepladder.scaling import REGISTRY, Size, TransferReport
from stepladder.scaling.transfer import Run, measure_drift, sweep
from stepladder.scaling.trials import Recipe

OUT = Path(__file__).parent / "transfer"
VOCABULARY = 257  # bytes, and the end of a text
CONTEXT, SEQUENCES, STEPS, SEEDS = 32, 4, 100, 3
STDS = {"embedding": 1.0, "hidden": "fan_in", "readout": "fan_in"}


@dataclass(frozen=True, kw_only=True)
class Study:
    """One rule along one axis."""

    rule: str
    widths: tuple[int, ...]
    depths: tuple[int, ...] = ()
    base: Size
    lrs: tuple[float, ...] = tuple(2.0**-k for k in range(10, 3, -1))


WIDTHS, DEPTHS = (64, 128, 256, 512), (2, 4, 8, 16)
STUDIES = {
    # Where the optimum runs away, look further.
    "width-sp": Study(
        rule="sp",
        widths=WIDTHS,
        base=Size(width=64),
        lrs=tuple(2.0**-k for k in range(12, 3, -1)),
    ),
    **{
        f"width-{rule}": Study(rule=rule, widths=WIDTHS, base=Size(width=64))
        for rule in ("mup", "u-mup", "completep")
    },
    **{
        f"depth-{rule}": Study(rule=rule, widths=(32,), depths=DEPTHS, base=Size(width=32, depth=2))
        for rule in ("sp", "mup", "depth-mup", "u-mup", "completep")
    },
}


def build(width: int, depth: int = 2) -> nn.Module:
    """The reference transformer on bytes, with heads of 16."""
    heads = width // 16
    shape = Model(
        width=width,
        depth=depth,
        heads=heads,
        kv_heads=heads,
        head_size=16,
        mlp_width=width,
        context=CONTEXT,
        vocab_size=VOCABULARY,
    )
    return Transformer(shape)


def main(names: list[str]) -> None:
    """Run the named studies (all by default) and rewrite the summary."""
    torch.set_num_threads(1)
    dataset = prepare("stdlib", "bytes")

    def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(STEPS):
            yield dataset.batch(step, batch_sequences=SEQUENCES, context=CONTEXT, seed=seed)

    for name in names or STUDIES:
        study, known, started = STUDIES[name], _known(name), process_time()
        sizes = [
            Size(width=width, depth=depth)
            for width in study.widths
            for depth in study.depths or [None]
        ]
        runs = sweep(
            build,
            batches,
            Recipe(
                rule=study.rule, optimizer="adamw", weight_decay=0.0, options={"init_std": STDS}
            ),
            sizes=sizes,
            base=study.base,
            lrs=[lr for lr in study.lrs if lr not in {run.lr for run in known}],
            seeds=SEEDS,
            steps=STEPS,
        )
        axis = "depth" if study.depths else "width"
        report = measure_drift([*known, *runs], rule=study.rule, axis=axis)
        _keep(name, report, process_time() - started)
    _summarise()


def _known(name: str) -> list[Run]:
    """The runs that are kept from before: delete a study's file to pay for them again."""
    path = OUT / f"{name}.json"
    return [Run(**run) for run in json.loads(path.read_text())["runs"]] if path.exists() else []


def _keep(name: str, report: TransferReport, seconds: float) -> None:
    seconds += _summed(name)
    found = {"verdict": report.verdict, "cpu_seconds": round(seconds, 1), **asdict(report)}
    (OUT / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    report.figure(OUT / f"{name}.svg")
    print(f"{name}: {report}", flush=True)


def _summed(name: str) -> float:
    path = OUT / f"{name}.json"
    return json.loads(path.read_text())["cpu_seconds"] if path.exists() else 0.0


def _summarise() -> None:
    keys = ("rule", "axis", "verdict", "drift", "low", "high", "penalty", "at_edge", "cpu_seconds")
    studies = {name: OUT / f"{name}.json" for name in STUDIES}
    found = {n: json.loads(path.read_text()) for n, path in studies.items() if path.exists()}
    table = {name: {key: study[key] for key in keys} for name, study in found.items()}
    settings = {"context": CONTEXT, "sequences": SEQUENCES, "steps": STEPS, "seeds": SEEDS}
    for name, study in table.items():
        _record(name, study)
    _draw(table)
    summary = {"command": "python evidence/make_transfer.py", **settings, "studies": table}
    (OUT / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


def _draw(table: dict[str, dict]) -> None:
    """The drift of every study with its interval: 0 is perfect transfer."""
    figure = Figure(figsize=(5.6, 0.4 * len(table) + 1), layout="constrained")
    axes = figure.subplots()
    for place, study in enumerate(reversed(table.values())):
        axes.plot([study["low"], study["high"]], [place, place], lw=3, color="#4477aa")
        axes.plot(study["drift"], place, "o", color="#222222", ms=5)
    axes.axvline(0, color="#999999", lw=0.8)
    axes.set_yticks(range(len(table)), list(reversed(table)))
    axes.set_xlabel("doublings of the best learning rate per doubling of size")
    figure.savefig(OUT / "summary.svg")


def _record(name: str, study: dict) -> None:
    """Put the finding on the rule's card."""
    span = WIDTHS if study["axis"] == "width" else DEPTHS
    result = (
        f"the best AdamW rate moves by 2^{study['drift']:+.2f} [{study['low']:+.2f}, "
        f"{study['high']:+.2f}] per doubling of {study['axis']}, {span[0]} to {span[-1]}: "
        f"{study['verdict']}"
    )
    if study["rule"] in REGISTRY:
        command = f"python evidence/make_transfer.py {name}"
        figure = f"evidence/transfer/{name}.svg"
        found = Evidence(result=result, command=command, figure=figure)
        record("scaling", study["rule"], found)


if __name__ == "__main__":
    main(sys.argv[1:])
