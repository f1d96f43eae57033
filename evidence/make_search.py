"""Regret at equal cost of every way to search, read from a table of real trainings.

    python evidence/make_search.py [--seeds 30] [--only bohb] [--record]

The table (evidence/make_search_table.py) holds losses of a grid at several scales and seeds. A
search proposes grid points; a run's loss is the table's, of one training seed for a whole study, as
the verb trains; its cost is the cost model's. Regret is how far the incumbent's mean loss over
training seeds at the top scale lies above the grid's best, relative to it, at costs counted in runs
at the top scale. Optuna's default is `tpe` under `full`. Pairs that are in
evidence/search/regret.json with as many seeds are not run again; with --record the cards get what
was found.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.figure import Figure

from stepladder.card import Evidence, record
from stepladder.search.space import Dim, Space
from stepladder.search.study import Study

FOLDER = Path(__file__).parent / "search"
TABLE, REGRET, FIGURE = FOLDER / "table.csv", FOLDER / "regret.json", FOLDER / "regret.svg"
COMMAND = "python evidence/make_search.py --record"
AXES = ("lr", "weight_decay", "beta2")
CHECKPOINTS = (2, 4, 6, 8, 12, 16, 24)  # runs at the top scale
CLOSE = 1e-3  # a regret that the issue calls found
PAIRS = (
    ("random", "full"),
    ("tpe", "full"),
    ("qmc", "full"),
    ("random", "halving"),
    ("random", "hyperband"),
    ("random", "deepening"),
    ("bohb", "full"),
    ("bohb", "halving"),
    ("bohb", "hyperband"),
    ("carbs", "full"),
    ("carbs", "halving"),
    ("carbs", "spread"),
    ("dehb", "hyperband"),
    ("tpe", "halving"),
    ("tpe", "hyperband"),
    ("mobster", "halving"),
    ("gp", "full"),
    ("cqr", "halving"),
)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The table.

    Attributes:
        loss: by seed, level and the axes' positions; infinite where one diverged.
        costs: FLOP of a run at each level.
        values: of each axis, rising.
    """

    loss: np.ndarray
    costs: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    @property
    def final(self) -> np.ndarray:
        """Mean loss over seeds at the top level, by position."""
        return self.loss[:, -1].mean(axis=0)

    def look_up(self, level: int, values: Any, seed: int) -> float:
        """The loss of a run in the study of a seed: one training seed for all of it."""
        return float(self.loss[(seed % len(self.loss), level, *position(values))])

    def lost(self, values: Any) -> float:
        """Relative regret of a configuration at the top."""
        return float(self.final[position(values)] / self.final.min() - 1)

    @property
    def space(self) -> Space:
        """Positions on the grid."""
        return Space(
            dims=tuple(
                Dim(name=name, low=0, high=len(values) - 1, integer=True)
                for name, values in zip(AXES, self.values, strict=True)
            )
        )


class Table(Protocol):
    """What a search can be tried on."""

    @property
    def costs(self) -> tuple[float, ...]: ...
    @property
    def space(self) -> Space: ...
    def look_up(self, level: int, values: Any, seed: int) -> float: ...
    def lost(self, values: Any) -> float: ...


def read(path: Path = TABLE) -> Trained:
    """The seeds of the table that are complete."""
    with path.open() as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    values = tuple(tuple(sorted({row[name] for row in rows})) for name in AXES)
    levels, seeds = (sorted({int(row[name]) for row in rows}) for name in ("level", "seed"))
    loss = np.full((len(seeds), len(levels), *map(len, values)), np.nan)
    costs = dict.fromkeys(levels, 0.0)
    for row in rows:
        at = tuple(axis.index(row[name]) for name, axis in zip(AXES, values, strict=True))
        loss[(seeds.index(int(row["seed"])), int(row["level"]), *at)] = row["loss"]
        costs[int(row["level"])] = row["flops"]
    whole = ~np.isnan(loss).reshape(len(seeds), -1).any(axis=1)
    return Trained(loss=loss[whole], costs=tuple(costs.values()), values=values)


def regrets(trained: Table, proposer: str, scheduler: str, seed: int) -> list[float]:
    """Relative regret of the incumbent at each checkpoint."""
    top = trained.costs[-1]
    out: list[float] = []
    with Study.open(
        trained.space, trained.costs, proposer=proposer, scheduler=scheduler, seed=seed
    ) as study:
        for checkpoint in CHECKPOINTS:
            while job := study.ask(within=checkpoint * top - study.spent):
                study.tell(job, trained.look_up(job.level, job.values, seed))
            best = study.best()
            out.append(np.inf if best is None else trained.lost(best.values))
    return out


def position(values: Any) -> tuple[int, ...]:
    """Where on the grid."""
    return tuple(int(values[name]) for name in AXES)


def until_close(rows: np.ndarray) -> float | None:
    """Median over seeds of the first checkpoint from which on regret stays close; None: beyond."""
    close = np.flip(np.logical_and.accumulate(np.flip(rows <= CLOSE, axis=1), axis=1), axis=1)
    first = [CHECKPOINTS[int(row.argmax())] if row.any() else np.inf for row in close]
    median = float(np.median(first))
    return median if np.isfinite(median) else None


def summary(rows: np.ndarray) -> dict[str, Any]:
    """Median and quartiles of regret at each checkpoint, in percent."""
    low, middle, high = (
        np.quantile(100 * rows, q, axis=0).round(4).tolist() for q in (0.25, 0.5, 0.75)
    )
    return {
        "seeds": len(rows),
        "mean": np.mean(100 * rows, axis=0).round(4).tolist(),
        "median": middle,
        "quartiles": [low, high],
        "runs_until_within_0.1%": until_close(rows),
    }


def draw(results: dict[str, Any]) -> None:
    """Mean regret over cost of the pairs worth seeing."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, row in results.items():
        baseline = name in ("random x full", "tpe x full")
        axes.plot(
            CHECKPOINTS,
            np.maximum(row["mean"], 1e-3),
            label=name,
            lw=2.5 if baseline else 1,
            ls="--" if baseline else "-",
        )
    axes.set(xscale="log", yscale="log", xlabel="cost, in runs at the top scale")
    axes.set(ylabel="mean regret, % of the loss")
    axes.set_xticks(CHECKPOINTS, [str(c) for c in CHECKPOINTS])
    axes.legend(fontsize=6, ncols=2)
    figure.savefig(FIGURE, metadata={"Date": None})


def keep(trained: Trained, results: dict[str, Any]) -> None:
    """Write what is known so far."""
    content = {
        "trainings": int(trained.loss.size),
        "training_seeds": len(trained.loss),
        "grid": dict(zip(AXES, trained.values, strict=True)),
        "costs": trained.costs,
        "best_at_level": best_at_levels(trained),
        "checkpoints": CHECKPOINTS,
        "regret_percent": results,
    }
    REGRET.write_text(json.dumps(content, indent=1) + "\n")


def best_at_levels(trained: Trained) -> list[dict[str, Any]]:
    """Where the optimum is at each level, and what taking it to the top costs there."""
    out = []
    for level in range(len(trained.costs)):
        mean = trained.loss[:, level].mean(axis=0)
        at = np.unravel_index(int(np.argmin(mean)), mean.shape)
        lost = float(trained.final[at] / trained.final.min() - 1)
        values = {n: v[i] for n, v, i in zip(AXES, trained.values, at, strict=True)}
        out.append({"loss": float(mean.min()), **values, "regret_at_top_percent": 100 * lost})
    return out


def remember(results: dict[str, Any], trainings: int) -> None:
    """Tell the cards."""
    base, default = results["random x full"], results["tpe x full"]
    for name, row in results.items():
        proposer, scheduler = name.split(" x ")
        at = CHECKPOINTS.index(8)
        text = (
            f"{name}: mean regret {row['mean'][at]:.2f}% of the loss at the cost of 8 runs at the "
            f"top scale (random {base['mean'][at]:.2f}%, Optuna's default {default['mean'][at]:.2f}"
            f"%), {row['seeds']} seeds, a table of {trainings:,} trainings 8 to 20 wide"
        )
        family = "schedulers" if proposer == "random" else "proposers"
        if made_for(proposer, scheduler):
            member = scheduler if family == "schedulers" else proposer
            record(
                family,
                member,
                Evidence(result=text, command=COMMAND, figure=f"evidence/search/{FIGURE.name}"),
            )


def made_for(proposer: str, scheduler: str) -> bool:
    """The pair that a card quotes."""
    own = {"bohb": "hyperband", "carbs": "spread", "dehb": "hyperband", "mobster": "halving"}
    own |= {"tpe": "halving", "cqr": "halving", "gp": "full", "qmc": "full"}
    return proposer == "random" or own.get(proposer) == scheduler


def wanted(only: str) -> Sequence[tuple[str, str]]:
    """The pairs with a word in their names."""
    return [pair for pair in PAIRS if only in " x ".join(pair)]


def main() -> None:
    """Search, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--only", default="")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    trained = read()
    known = json.loads(REGRET.read_text()) if REGRET.exists() else {"trainings": 0}
    same = known["trainings"] == trained.loss.size
    results = known["regret_percent"] if same else {}
    for proposer, scheduler in wanted(given.only):
        name = f"{proposer} x {scheduler}"
        if results.get(name, {"seeds": 0})["seeds"] < given.seeds:
            rows = [regrets(trained, proposer, scheduler, seed) for seed in range(given.seeds)]
            results[name] = summary(np.array(rows))
            keep(trained, results)
        print(
            f"{name:22}", results[name]["mean"], results[name]["runs_until_within_0.1%"], flush=True
        )
    keep(trained, results)
    draw(results)
    if given.record:
        remember(results, int(trained.loss.size))


if __name__ == "__main__":
    main()
