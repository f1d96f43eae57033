"""Regret at equal cost of every way to search, read from a table of real trainings.

    python evidence/make_search.py [--seeds 30] [--only bohb] [--record]

The table (evidence/make_search_table.py) holds losses of a grid at several scales and seeds. A
search proposes grid points; a run's loss is the table's, of one training seed for a whole study, as
the verb trains; its cost is the cost model's, counted in runs at the top scale. Optuna's default is
`tpe` under `full`. Three things are measured:

- Regret: how far the incumbent's loss at the top scale, the mean over training seeds, lies above
  the least of all grid points. One training is noisy, so that no search of one seed gets to zero.
- Against the dense grid: the whole grid is run at the top scale with the study's training seed, and
  its winner is judged beside the search's incumbent by their losses on the other training seeds,
  so that neither is judged by the luck that chose it. Zero: as good a choice.
- Cost to match: from which cost on the incumbent is as good as the winner of 2,000 random draws at
  the top scale (judged in the same way). Those cost 2,000 runs; drawn from a grid, they are fewer
  different ones, and the factor is also given against those alone, each paid for once.

- Without noise: the same with every run the mean of all training seeds, for the search, the dense
  grid and the random draws alike. Then the grid's best is what a search can find, and regret is
  against it.

Pairs that are in evidence/search/regret.json with as many seeds are not run again; with --record
the cards get what was found.
"""

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
AXES = ("lr", "embedding_std", "beta1", "hidden_gain", "weight_decay")
CHECKPOINTS = (1, 2, 4, 8, 16, 32, 64)  # runs at the top scale
CLOSE = 1e-3  # a regret that the issue calls found
SLOW = ("gp",)  # a quarter of an hour; run by --only
DRAWS = 2000  # of the random search that is to be matched
PAIRS = (
    ("random", "full"),
    ("tpe", "full"),
    ("qmc", "full"),
    ("random", "halving"),
    ("random", "hyperband"),
    ("random", "deepening"),
    ("random", "freeze-thaw"),
    ("random", "spread"),
    ("bohb", "hyperband"),
    ("bohb", "halving"),
    ("bohb", "freeze-thaw"),
    ("carbs", "spread"),
    ("carbs", "halving"),
    ("carbs", "freeze-thaw"),
    ("dehb", "hyperband"),
    ("tpe", "halving"),
    ("tpe", "hyperband"),
    ("mobster", "halving"),
    ("cqr", "halving"),
    ("gp", "full"),
)
DASHES = {  # of the figure
    "full": "-",
    "halving": "-",
    "freeze-thaw": "--",
    "hyperband": "-.",
    "deepening": ":",
    "spread": (0, (1, 3)),
}
LEAST_SHOWN = 0.01  # percent
Incumbents = list[tuple[float, Any]]  # cost so far, in runs at the top, and values, as they change


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
        """Relative regret of a configuration at the top; 1 where it diverges there."""
        return min(1.0, float(self.final[position(values)] / self.final.min() - 1))

    def elsewhere(self, at: tuple[int, ...], seed: int) -> float:
        """Mean loss of a position at the top over the training seeds that a study does not see."""
        others = np.arange(len(self.loss)) != seed % len(self.loss)
        return float(self.loss[(others, -1, *at)].mean())

    @property
    def averaged(self) -> "Trained":
        """A table whose only training seed is the mean of all."""
        return replace(self, loss=self.loss.mean(axis=0, keepdims=True))

    def winner(self, seed: int) -> tuple[int, ...]:
        """Where the dense grid at the top is best on a study's training seed."""
        top = self.loss[seed % len(self.loss), -1]
        return tuple(map(int, np.unravel_index(int(top.argmin()), top.shape)))

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


def climb(
    table: Table, proposer: str, scheduler: str, seed: int, budget: float = CHECKPOINTS[-1]
) -> Incumbents:
    """A study of the table until its budget, in runs at the top, is spent."""
    out: Incumbents = []
    top = table.costs[-1]
    with Study.open(
        table.space, table.costs, proposer=proposer, scheduler=scheduler, seed=seed
    ) as study:
        while job := study.ask(within=budget * top - study.spent):
            study.tell(job, table.look_up(job.level, job.values, seed))
            best = study.best()
            if best is not None and (not out or best.values != out[-1][1]):
                out.append((study.spent / top, best.values))
    return out


def at_checkpoints(found: Incumbents, judge: Callable[[Any], float]) -> list[float]:
    """What a judge says of the incumbent at each checkpoint; infinite where there was none."""
    judged = [(cost, judge(values)) for cost, values in found]
    return [
        next((value for cost, value in reversed(judged) if cost <= checkpoint), np.inf)
        for checkpoint in CHECKPOINTS
    ]


def cost_to_stay(found: Incumbents, judge: Callable[[Any], float]) -> float:
    """The cost from which on a judge says zero or less of every incumbent; infinite: never."""
    cost = np.inf
    for when, values in reversed(found):
        if judge(values) > 0:
            break
        cost = when
    return cost


def regrets(table: Table, proposer: str, scheduler: str, seed: int) -> list[float]:
    """Relative regret of the incumbent at each checkpoint."""
    return at_checkpoints(climb(table, proposer, scheduler, seed), table.lost)


def random_draws(trained: Trained, seed: int) -> Incumbents:
    """The incumbents of random search at the top, each at the cost of the different runs so far."""
    rng = np.random.default_rng(seed)
    points = np.array(list(np.ndindex(trained.final.shape)))
    drawn, best, out = set(), np.inf, []
    for at in map(tuple, points[rng.integers(len(points), size=DRAWS)].tolist()):
        drawn.add(at)
        values = dict(zip(AXES, at, strict=True))
        loss = trained.look_up(len(trained.costs) - 1, values, seed)
        if loss < best:
            best = loss
            out.append((float(len(drawn)), values))
    return out


def measure(trained: Trained, proposer: str, scheduler: str, seeds: int) -> dict[str, Any]:
    """All that is told of a pair."""
    lost, against, costs = [], [], []
    for seed in range(seeds):
        found = climb(trained, proposer, scheduler, seed)
        lost.append(at_checkpoints(found, trained.lost))
        against.append(at_checkpoints(found, beside(trained, trained.winner(seed), seed)))
        drawn = position(random_draws(trained, seed)[-1][1])
        costs.append(cost_to_stay(found, beside(trained, drawn, seed)))
    return summary(np.array(lost)) | {
        "against_the_dense_grid": spread_of(np.array(against)),
        "cost_to_match": matched(np.array(costs), trained),
        "without_noise": measure_averaged(trained.averaged, proposer, scheduler, seeds),
    }


def measure_averaged(trained: Trained, proposer: str, scheduler: str, seeds: int) -> dict[str, Any]:
    """Regret against the best of the grid, and the cost to match the random draws' winner."""
    lost, costs = [], []
    for seed in range(seeds):
        found = climb(trained, proposer, scheduler, seed)
        lost.append(at_checkpoints(found, trained.lost))
        target = trained.lost(random_draws(trained, seed)[-1][1])
        costs.append(cost_to_stay(found, lambda values, at=target: trained.lost(values) - at))
    return summary(np.array(lost)) | {"cost_to_match": matched(np.array(costs), trained)}


def beside(trained: Trained, other: tuple[int, ...], seed: int) -> Callable[[Any], float]:
    """How far a configuration lies above another one on the training seeds that chose neither."""
    base = trained.elsewhere(other, seed)
    return lambda values: trained.elsewhere(position(values), seed) / base - 1


def matched(costs: np.ndarray, trained: Trained) -> dict[str, Any]:
    """Median cost from which on studies match random search, and by how much they are cheaper."""
    median = float(np.median(costs))
    different = float(trained.final.size * -np.expm1(DRAWS * np.log1p(-1 / trained.final.size)))
    known = np.isfinite(median)
    return {
        "median": round(median, 2) if known else None,
        "share_of_studies": round(float(np.isfinite(costs).mean()), 3),
        f"factor_to_{DRAWS}_runs": round(DRAWS / median, 1) if known else None,
        f"factor_to_the_{different:.0f}_different_ones": round(different / median, 1)
        if known
        else None,
    }


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
    """Regret at each checkpoint, in percent."""
    return {
        "seeds": len(rows),
        **spread_of(rows),
        "runs_until_within_0.1%": until_close(rows),
    }


def spread_of(rows: np.ndarray) -> dict[str, Any]:
    """Mean, median and quartiles over studies at each checkpoint, in percent."""
    low, middle, high = (
        np.quantile(100 * rows, q, axis=0).round(4).tolist() for q in (0.25, 0.5, 0.75)
    )
    return {
        "mean": np.mean(100 * rows, axis=0).round(4).tolist(),
        "median": middle,
        "quartiles": [low, high],
    }


def draw(results: dict[str, Any]) -> None:
    """Mean regret over cost, as the verb trains and without noise: a colour a proposer, a dash a
    scheduler."""
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    proposers = list(dict.fromkeys(name.split(" x ")[0] for name in results))
    for name, row in results.items():
        proposer, scheduler = name.split(" x ")
        style = {"color": f"C{proposers.index(proposer)}", "ls": DASHES[scheduler]}
        style["lw"] = 2.5 if scheduler == "full" else 1.2
        left.plot(CHECKPOINTS, row["mean"], label=name, **style)
        right.plot(CHECKPOINTS, np.maximum(row["without_noise"]["mean"], LEAST_SHOWN), **style)
    left.set(title="one training seed a study", ylabel="mean regret, % of the loss")
    right.set(title=f"every run the mean of all seeds (0 drawn at {LEAST_SHOWN:g})")
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="cost, in runs at the top scale")
        axes.set_xticks(CHECKPOINTS, [str(c) for c in CHECKPOINTS])
        axes.minorticks_off()
    figure.legend(loc="outside lower center", fontsize=7, ncols=5)
    figure.savefig(FIGURE, metadata={"Date": None})


def keep(trained: Trained, results: dict[str, Any]) -> None:
    """Write what is known so far."""
    content = {
        "trainings": int(trained.loss.size),
        "training_seeds": len(trained.loss),
        "grid": dict(zip(AXES, trained.values, strict=True)),
        "costs": trained.costs,
        "best_at_level": best_at_levels(trained),
        "random_search_matches_itself_at": random_costs(trained),
        "checkpoints": CHECKPOINTS,
        "regret_percent": results,
    }
    REGRET.write_text(json.dumps(content, indent=1) + "\n")


def random_costs(trained: Trained, seeds: int = 300) -> dict[str, float]:
    """Different runs after which random search at the top is, and stays, as good as the winner of
    all its 2,000 draws: medians over seeds. A noisy winner is matched early, by luck as good."""
    calm, noisy, averaged = trained.averaged, [], []
    for seed in range(seeds):
        drawn = random_draws(trained, seed)
        noisy.append(cost_to_stay(drawn, beside(trained, position(drawn[-1][1]), seed)))
        averaged.append(random_draws(calm, seed)[-1][0])
    return {"noisy": float(np.median(noisy)), "without_noise": float(np.median(averaged))}


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
    own = {"bohb": "hyperband", "carbs": "halving", "dehb": "hyperband", "mobster": "halving"}
    own |= {"tpe": "halving", "cqr": "halving", "gp": "full", "qmc": "full"}
    return proposer == "random" or own.get(proposer) == scheduler


def wanted(only: str) -> Sequence[tuple[str, str]]:
    """The pairs with a word in their names; all but the slow ones without."""
    if not only:
        return [pair for pair in PAIRS if pair[0] not in SLOW]
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
    same = known["trainings"] == trained.loss.size and known["checkpoints"] == list(CHECKPOINTS)
    results = known["regret_percent"] if same else {}
    for proposer, scheduler in wanted(given.only):
        name = f"{proposer} x {scheduler}"
        if results.get(name, {"seeds": 0})["seeds"] < given.seeds:
            results[name] = measure(trained, proposer, scheduler, given.seeds)
            keep(trained, results)
        row = results[name]
        print(
            f"{name:21}",
            row["mean"],
            row["against_the_dense_grid"]["median"][-1],
            row["cost_to_match"],
            row["without_noise"]["median"][-1],
            row["without_noise"]["runs_until_within_0.1%"],
            row["without_noise"]["cost_to_match"],
            flush=True,
        )
    keep(trained, results)
    draw(results)
    if given.record:
        remember(results, int(trained.loss.size))


if __name__ == "__main__":
    main()
