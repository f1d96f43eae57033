"""Regret of every way to search on published trainings: Step Law's grids at four scales.

    python evidence/make_search_published.py [--seeds 30] [--only bohb] [--record]

Li et al. (arXiv:2503.04715) trained language models of 0.2 to 0.5 billion parameters on 4 to 50
billion tokens, each over a grid of about a hundred rates and batches (by way of ScaleBench; the
data are looked for in STEPLADDER_REALDATA). Here those are four levels of a ladder, with costs of
6 N D. What is searched are octaves from the rate and batch that their law gives for each scale, so
that the optimum about stays where it is; a run's loss is that of the nearest trained point. There
is one training seed, so no noise. Regret is relative to the best trained point at the top, at costs
counted in runs there. Optuna's default is `tpe` under `full`. Writes
evidence/search/published.json.
"""

import argparse
import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from make_search import CHECKPOINTS, PAIRS, made_for, regrets, summary

from stepladder.card import Evidence, record
from stepladder.search.space import Space

HERE = Path(__file__).parent
RESULTS = HERE / "search" / "published.json"
COMMAND = "python evidence/make_search_published.py --record"
DATA = Path(os.environ.get("STEPLADDER_REALDATA", HERE.parents[1] / "shared" / "realdata"))
SCALES = ((214_663_680, 4e9), (268_304_384, 14.2e9), (429_260_800, 22.7e9), (536_872_960, 50e9))
SPACE = Space.parse(["rate=-4..4", "batch=-3..3"])  # octaves from the law
CONTEXT = 2048
SLOW = ("gp", "cqr")  # a second or more a study; run by --only


@dataclass(frozen=True, kw_only=True)
class Published:
    """Trained points of each level: octaves from the law (n, 2), and losses (n,)."""

    points: tuple[np.ndarray, ...]
    losses: tuple[np.ndarray, ...]
    costs: tuple[float, ...]
    space: Space = SPACE

    def look_up(self, level: int, values: Any, seed: int) -> float:
        """The loss of the nearest trained point."""
        apart = self.points[level] - [values["rate"], values["batch"]]
        return float(self.losses[level][int((apart**2).sum(axis=1).argmin())])

    def lost(self, values: Any) -> float:
        """Relative regret at the top."""
        top = len(self.costs) - 1
        return self.look_up(top, values, 0) / float(self.losses[top].min()) - 1


def law(params: float, tokens: float) -> tuple[float, float]:
    """Step Law's best rate, and best batch in tokens (arXiv:2503.04715, equation 1)."""
    return 1.79 * params**-0.713 * tokens**0.307, 0.58 * tokens**0.571


def read() -> Published:
    """The four levels."""
    with (DATA / "scalebench" / "lr_bsz_scaling_law_train.csv").open() as file:
        rows = [
            {k: float(v) for k, v in row.items() if k != "group"} for row in csv.DictReader(file)
        ]
    points, losses = [], []
    for params, tokens in SCALES:
        here = [
            row
            for row in rows
            if (row["non_embedding_param_size"], row["data_size"]) == (params, tokens)
        ]
        rate, batch = law(params, tokens)
        given = np.array([[row["lr"] / rate, row["bsz"] * CONTEXT / batch] for row in here])
        points.append(np.log2(given))
        losses.append(np.array([row["lm_loss"] for row in here]))
    costs = tuple(6.0 * params * tokens for params, tokens in SCALES)
    return Published(points=tuple(points), losses=tuple(losses), costs=costs)


def carried(table: Published) -> list[dict[str, float]]:
    """The best trained point of each level, and its relative regret at the top, in percent."""
    out = []
    for points, losses in zip(table.points, table.losses, strict=True):
        rate, batch = points[int(losses.argmin())]
        lost = 100 * table.lost({"rate": rate, "batch": batch})
        out.append({"rate": float(rate), "batch": float(batch), "regret_at_top_percent": lost})
    return out


def main() -> None:
    """Search, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--only", default="")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    table = read()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"checkpoints": []}
    results = known["regret_percent"] if known["checkpoints"] == list(CHECKPOINTS) else {}
    for proposer, scheduler in PAIRS:
        name = f"{proposer} x {scheduler}"
        if given.only not in name or (proposer in SLOW and not given.only):
            continue
        if results.get(name, {"seeds": 0})["seeds"] < given.seeds:
            rows = [regrets(table, proposer, scheduler, seed) for seed in range(given.seeds)]
            results[name] = summary(np.array(rows))
            keep(table, results)
        found = results[name]
        print(f"{name:20}", found["median"], found["runs_until_within_0.1%"], flush=True)
    if given.record:
        remember(results, table)


def keep(table: Published, results: dict[str, Any]) -> None:
    """Write what is known so far."""
    content = {
        "trainings": [len(losses) for losses in table.losses],
        "costs": table.costs,
        "checkpoints": CHECKPOINTS,
        "best_of_each_level": carried(table),
        "regret_percent": results,
    }
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


def remember(results: dict[str, Any], table: Published) -> None:
    """Tell the cards."""
    base, default = results["random x full"], results["tpe x full"]
    at = CHECKPOINTS.index(8)
    trainings = sum(map(len, table.losses))
    for name, row in results.items():
        proposer, scheduler = name.split(" x ")
        if not made_for(proposer, scheduler):
            continue
        text = (
            f"{name}: median regret {row['median'][at]:.2f}% of the loss at the cost of 8 runs at "
            f"the top scale (random {base['median'][at]:.2f}%, Optuna's default "
            f"{default['median'][at]:.2f}%); {row['seeds']} seeds on {trainings} published "
            "trainings of 0.2 to 0.5 billion parameters"
        )
        family = "schedulers" if proposer == "random" else "proposers"
        member = scheduler if family == "schedulers" else proposer
        record(family, member, Evidence(result=text, command=COMMAND))


if __name__ == "__main__":
    main()
