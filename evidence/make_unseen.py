"""Backtests on published tables from outside the project, most of them never looked at before.

Each table is read as the command line reads it. Fitted on the cheapest 80, 70 and 60% of its runs
it forecasts the rest by the natural law with its rivals, as forecasts are made; on 70% also by the
law that `--law auto` would choose from the fitted runs alone. Seven tables (`TUNED`) were looked at
when the way to forecast was chosen, and those of few runs (`FEW`) when the prior of the floor was;
the others only afterwards. Writes evidence/laws/unseen.json and unseen.csv: names, counts, errors
and coverage, none of the tables themselves.

The tables are read from the folder that STEPLADDER_UNSEEN names; those that are not there are
skipped and named. What is made is written table by table: a run that was stopped goes on from
there, one that ended starts over.
"""

import csv
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stepladder.cli.law_table import every_column, law_columns
from stepladder.laws import backtest
from stepladder.laws.backtesting import Backtest
from stepladder.laws.comparing import best_law
from stepladder.laws.holdout import dearest

FOLDER = Path(__file__).parent / "laws"
HELD, AUTO_HELD = (0.2, 0.3, 0.4), 0.3
TUNED = frozenset({"gadre_c4_original", "llama3", "marin_comma", "misfitting_last",
                   "openclip_LAION-2B_imagenet1k", "laion_seg_clip", "step_moe_best"})  # fmt: skip
FEW = 25  # fitted runs: with fewer the floor has a prior
STARTS, INTERVALS = 60, 12


class Unseen(NamedTuple):
    """A table: file, where it was published, its natural law, and what a user would map."""

    name: str
    source: str
    law: str = "chinchilla"
    maps: tuple[str, ...] = ()
    where: str | None = None
    kind: str = "final"  # or "checkpoints": rows of one run depend on each other


GADRE = "mlfoundations/scaling (arXiv:2403.08540), loss on C4 validation"
MARIN = "Open-Athena/scaling-law-analysis, Marin isoFLOP runs, Paloma macro loss"
MISFITTING = "hadasah/scaling_laws (arXiv:2502.18969)"
CLIP = "LAION-AI/scaling-laws-openclip (arXiv:2212.07143), zero-shot error"
SEGMENTS = "LAION-AI/scaling-laws-for-comparison (arXiv:2506.04598), 1 - mIoU"
NMT = "google-research/revisiting_neural_scaling_laws (arXiv:2209.06640)"
PALOMA = ("params=parameter_count", "tokens=`throughput/total_tokens`",
          "flops=1e9*`throughput/total_gflops`", "loss=`eval/paloma/macro_loss`")  # fmt: skip
SAMPLES = ("params=1e6*mparams", "tokens=samples_seen", "flops=6*1e6*mparams*samples_seen",
           "loss=error")  # fmt: skip
SEEN = ("samples=`Seen Examples`",)

TABLES = (
    Unseen("gadre_c4_original", GADRE, maps=("loss=loss_c4_val",)),
    Unseen("gadre_rpj", GADRE, maps=("loss=loss_c4_val",)),
    Unseen("gadre_rw_original", GADRE, maps=("loss=loss_c4_val",)),
    Unseen("llama3", "eric-czech/llama3_isoflop_extraction (arXiv:2407.21783, figure 2)",
           maps=("tokens=training_tokens", "flops=compute_budget", "params=flops/(6*tokens)",
                 "loss=validation_loss")),
    Unseen("marin_comma", MARIN, maps=PALOMA),
    Unseen("marin_dclm", MARIN, maps=PALOMA),
    Unseen("marin_nemotron", MARIN, maps=PALOMA),
    Unseen("misfitting_last", MISFITTING, maps=("tokens=D",)),
    Unseen("misfitting_checkpoints", MISFITTING, maps=("tokens=D",), kind="checkpoints"),
    Unseen("misfitting_isoflop", MISFITTING, maps=("flops=budget",)),
    Unseen("chinchilla_isoflop", "Open-Athena/scaling-law-analysis (arXiv:2203.15556, figure 3)",
           maps=("flops=budget",)),
    Unseen("step_moe", "step-law/steplaw (arXiv:2503.04715), all MoE runs",
           maps=("params=Na", "tokens=D")),
    Unseen("step_moe_best", "step-law/steplaw (arXiv:2503.04715), best MoE run of each setting",
           maps=("params=Na", "tokens=D")),
    Unseen("openclip_LAION-2B_imagenet1k", CLIP, maps=SAMPLES),
    Unseen("openclip_LAION-400M_imagenet1k", CLIP, maps=SAMPLES),
    Unseen("openclip_LAION-2B_mscoco_captions", CLIP, maps=SAMPLES),
    Unseen("laion_seg_clip", SEGMENTS, maps=SAMPLES),
    Unseen("laion_seg_mammut", SEGMENTS, maps=SAMPLES),
    Unseen("nanosmol", "spsanps/nanoSmol, one run's curve",
           law="hestness", maps=("samples=samples_seen", "loss=val_loss"),
           where="run_id == '360M-scaling'", kind="checkpoints"),
    Unseen("cs336", "stanford-cs336/spring2024-assignment3-scaling (synthetic)",
           maps=("params=parameters", "flops=compute_budget", "tokens=flops/(6*params)",
                 "loss=final_loss")),
    Unseen("nmt_6enc_6dec", NMT, law="hestness", maps=SEEN),
    Unseen("nmt_28enc_6dec", NMT, law="hestness", maps=SEEN),
    Unseen("nmt_6enc_28dec", NMT, law="hestness", maps=SEEN),
    Unseen("nmt_dec-only", NMT, law="hestness", maps=SEEN),
    Unseen("nmt_tenc-lstm", NMT, law="hestness", maps=SEEN),
)  # fmt: skip


def rows_of(folder: Path, table: Unseen) -> list[dict[str, object]]:
    """Backtests of one table by its law and by the law chosen from its fitted part."""
    path = folder / f"{table.name}.csv"
    rows = []
    for held in HELD:
        columns = law_columns(table.law, path, table.maps, table.where).columns
        rows.append(_row(table, table.law, held, lambda c=columns, h=held: _told(table.law, c, h)))
    wide = dict(every_column(path, table.maps, table.where).columns)
    rows.append(_row(table, "auto", AUTO_HELD, lambda: _auto(wide, AUTO_HELD)))
    return rows


def _told(law: str, columns: dict[str, np.ndarray], held: float) -> Backtest:
    return backtest(law, columns, held=held, starts=STARTS, most=INTERVALS)


def _auto(columns: dict[str, np.ndarray], held: float) -> Backtest:
    cost = _cost(columns)
    kept = ~dearest(cost, held)
    ranking = best_law({name: x[kept] for name, x in columns.items()})
    return _told(ranking[0].law, columns, held)


def _cost(columns: dict[str, np.ndarray]) -> np.ndarray:
    if "flops" in columns:
        return np.asarray(columns["flops"])
    names = [n for n in ("params", "tokens", "samples") if n in columns]
    return np.prod([columns[n] for n in names], axis=0)


def _row(table: Unseen, asked: str, held: float, make) -> dict[str, object]:
    start = {"set": table.name, "source": table.source, "kind": table.kind, "asked": asked,
             "held_part": held}  # fmt: skip
    try:
        made = make()
    except ValueError as error:
        return {**start, "refused": str(error)}
    width = np.mean([(o.high - o.low) / (2 * o.forecast) for o in made.outcomes])
    return {
        **start, "law": " with ".join(made.weights),
        "fitted": made.trained, "held": made.held, "reach": made.reach, "error": made.error,
        "bias": made.bias, "largest": made.largest, "coverage": made.coverage,
        "half_width": float(width), "status": made.status,
    }  # fmt: skip


def few(row: dict[str, object]) -> bool:
    """Whether a backtest that was made fitted few runs."""
    return "refused" not in row and int(str(row["fitted"])) < FEW


def summary(rows: list[dict[str, object]]) -> dict[str, float]:
    """Medians and means over backtests that were made; nothing but counts where none were."""
    told = [row for row in rows if "refused" not in row]
    if not told:
        return {"backtests": 0, "refused": len(rows)}
    of = {
        n: np.array([float(str(r[n])) for r in told]) for n in ("error", "coverage", "half_width")
    }
    return {
        "backtests": len(told), "refused": len(rows) - len(told),
        "median_error": float(np.median(of["error"])),
        "mean_log_error": float(np.exp(np.log(of["error"] + 1e-6).mean())),
        "coverage": float(of["coverage"].mean()),
        "below_75%": float(np.mean(of["coverage"] < 0.75)),
        "median_half_width": float(np.median(of["half_width"])),
    }  # fmt: skip


def main(out: Path = FOLDER) -> None:
    """Backtest the tables that are there; write the numbers."""
    folder = os.environ.get("STEPLADDER_UNSEEN")
    if not folder:
        print("skipped: set STEPLADDER_UNSEEN to the folder that holds the tables")
        return
    there = [t for t in TABLES if (Path(folder) / f"{t.name}.csv").exists()]
    absent = [t.name for t in TABLES if t not in there]
    rows = begun(out / "unseen.json")
    done = {row["set"] for row in rows}
    for table in there:
        if table.name in done:
            continue
        made = rows_of(Path(folder), table)
        rows += made
        for row in made:
            print({k: v for k, v in row.items() if k != "source"}, flush=True)
        done.add(table.name)
        write(rows, absent, [t.name for t in there if t.name not in done], out)


def begun(path: Path) -> list[dict[str, object]]:
    """The backtests of a run that was stopped before its end."""
    document = json.loads(path.read_text()) if path.exists() else {"left": []}
    return document["backtests"] if document["left"] else []


def write(rows: list[dict[str, object]], absent: list[str], left: list[str], out: Path) -> None:
    """What is made so far, and the names of the tables that are left."""
    groups = {
        "natural_law": [row for row in rows if row["asked"] != "auto"],
        "auto": [row for row in rows if row["asked"] == "auto"],
    }
    document = {
        **{name: summary(group) for name, group in groups.items()},
        "natural_law_few_runs": summary([row for row in groups["natural_law"] if few(row)]),
        "natural_law_never_looked_at": summary(
            [row for row in groups["natural_law"] if row["set"] not in TUNED and not few(row)]
        ),
        "absent": absent,
        "left": left,
        "backtests": rows,
    }
    (out / "unseen.json").write_text(json.dumps(document, indent=1) + "\n")
    with (out / "unseen.csv").open("w", newline="") as file:
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(file, fieldnames=names, restval="")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
