"""Time of a whole fit: 500 starts and 1,000 bootstrap refits of the Chinchilla form, and growth.

Writes benchmarks/results/laws.json. The comparison, timed in the same run on some of the work, is
scipy's L-BFGS-B with exact gradients of the same objective (Huber of log-sum-exp), from the same
starts (those of `stepladder.laws.starts`, coefficients already solved) and for the same resampled
runs, each refit from the optimum. Twice:

- stated: it stops at a step that gains less than 1e-5 of the objective, 1e-6 in refits (its own
  default comes to 3e-6 here). Its steps gain less than ours, so it stops farther from the bottom;
- reached: the loosest rule of a few with which nine refits of ten end as close to the bottom as
  ours do.

Ours also profiles and backtests, which scipy is not asked to do: `seconds` is the whole fit (the
best of six), `same_work` the search and the refits alone (the median of six). It does not descend
every start to the end: starts that meet a better one on the way go on as one.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from stepladder.laws import fit, get
from stepladder.laws.bootstrap import TOLERANCE, resample
from stepladder.laws.descent import descend
from stepladder.laws.optima import polish, search
from stepladder.laws.problem import Overlay
from stepladder.laws.starts import starts

RESULTS = Path(__file__).parent / "results" / "laws.json"
STARTS, REFITS = 500, 1000
SCIPY_SAMPLE = 60  # of the starts and refits that scipy would need
STATED = (1e-5, 1e-6)  # parts of the objective at which scipy stops, in the search and in refits
DELTA = 1e-3
TRUTH = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}


def table(points: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Runs over the range of Chinchilla's points, with half a percent of noise."""
    rng = np.random.default_rng(seed)
    params = np.exp(rng.uniform(np.log(5e7), np.log(1.6e10), points))
    tokens = params * np.exp(rng.uniform(np.log(1), np.log(300), points))
    loss = get("chinchilla").predict(TRUTH, {"params": params, "tokens": tokens})
    return {
        "params": params,
        "tokens": tokens,
        "loss": loss * np.exp(0.005 * rng.normal(size=points)),
    }


def ours(columns: dict[str, np.ndarray]) -> tuple[float, float]:
    """Seconds and objective of the whole fit: search, optima, profiles, bootstrap, backtests."""
    began = time.perf_counter()
    found = fit("chinchilla", columns, loss="huber", starts=STARTS, bootstrap=REFITS)
    return time.perf_counter() - began, found.objective


def same_work(columns: dict[str, np.ndarray]) -> float:
    """Seconds of the part of a fit that scipy does too: the search and the refits."""
    problem = fit("chinchilla", columns, loss="huber", bootstrap=0).problem
    began = time.perf_counter()
    optima = search(problem, STARTS).coordinates[:1]
    resample(problem, optima, REFITS, seed=0)
    return time.perf_counter() - began


class Scipy(NamedTuple):
    """What scipy takes for one descent, and where it ends."""

    search_seconds: float
    refit_seconds: float
    found: float  # share of starts that end within 1e-4 of the best
    excess: float  # of nine refits in ten, at most: objective over the minimum, less one

    @property
    def whole(self) -> float:
        """Seconds of all starts and refits."""
        return STARTS * self.search_seconds + REFITS * self.refit_seconds


class Work(NamedTuple):
    """Starts (sample, 5), resampled weights (sample, points), and the refits' minima (sample,)."""

    starts: np.ndarray
    optimum: np.ndarray
    weights: np.ndarray
    minima: np.ndarray
    ours: float  # as `Scipy.excess`, of our own refits


def work(columns: dict[str, np.ndarray]) -> Work:
    """Some of the descents of a fit, and how close ours come."""
    problem = fit("chinchilla", columns, loss="huber", bootstrap=0).problem
    rng = np.random.default_rng(0)
    every = starts(problem, STARTS)
    n = len(columns["loss"])
    weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=SCIPY_SAMPLE)
    weights = weights.astype(float)
    best = polish(problem, every[:24]).coordinates[0]
    start, overlay = np.repeat(best[None], SCIPY_SAMPLE, axis=0), Overlay(weights=weights)
    exact = descend(problem, start, overlay=overlay, tolerance=1e-15, steps=500).value
    ends = descend(problem, start, overlay=overlay, tolerance=TOLERANCE, steps=60).coordinates
    made = problem.local(ends, overlay).value
    return Work(
        starts=every[rng.choice(STARTS, SCIPY_SAMPLE, replace=False)],
        optimum=best, weights=weights, minima=exact,
        ours=float(np.quantile(made / exact - 1, 0.9)),
    )  # fmt: skip


def scipys(columns: dict[str, np.ndarray], given: Work, tolerances: tuple[float, float]) -> Scipy:
    """Time and ends of scipy's descents; `tolerances` of the search and of refits are absolute."""
    log_n, log_d = np.log(columns["params"]), np.log(columns["tokens"])
    log_loss = np.log(columns["loss"])

    def objective(theta: np.ndarray, w: np.ndarray) -> tuple[float, np.ndarray]:
        alpha, beta, e, a, b = theta
        parts = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
        top = parts.max(axis=0)
        weights = np.exp(parts - top)
        total = weights.sum(axis=0)
        residual = top + np.log(total) - log_loss
        size = np.abs(residual)
        value = w @ np.where(size < DELTA, 0.5 * residual**2, DELTA * (size - 0.5 * DELTA))
        share = w * np.clip(residual, -DELTA, DELTA) * weights / total
        a, b, e = share.sum(axis=1)
        return value, np.array([-(share[0] @ log_n), -(share[1] @ log_d), e, a, b])

    def descents(at: np.ndarray, weights: np.ndarray, tolerance: float) -> tuple[float, np.ndarray]:
        options = {"ftol": tolerance, "gtol": 1e-12, "maxiter": 5000, "maxfun": 50_000}
        began = time.perf_counter()
        ends = [
            minimize(objective, x, args=(w,), jac=True, method="L-BFGS-B", options=options).fun
            for x, w in zip(at, weights, strict=True)
        ]
        return (time.perf_counter() - began) / len(at), np.array(ends)

    ones = np.ones((SCIPY_SAMPLE, len(log_n)))
    search, ends = descents(given.starts, ones, tolerances[0])
    again = np.repeat(given.optimum[None], SCIPY_SAMPLE, axis=0)
    refit, lows = descents(again, given.weights, tolerances[1])
    best = objective(given.optimum, ones[0])[0]
    return Scipy(
        search_seconds=search, refit_seconds=refit, found=float(np.mean(ends < best * (1 + 1e-4))),
        excess=float(np.quantile(lows / given.minima - 1, 0.9)),
    )  # fmt: skip


def reached(columns: dict[str, np.ndarray], given: Work) -> Scipy:
    """Scipy with the loosest of a few tolerances that brings its refits as close as ours."""
    for tolerance in (1e-10, 1e-11, 1e-12, 1e-13, 1e-14):
        made = scipys(columns, given, (tolerance, tolerance))
        if made.excess <= max(given.ours, 1e-9):
            break
    return made


def start_up() -> float:
    """Seconds of `stepladder laws chinchilla` from the shell, the best of three."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        code = "from stepladder.cli import main; main(['laws', 'chinchilla'])"
        command = [sys.executable, "-c", code]
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def main() -> None:
    """Measure, print, write."""
    columns = table(240)
    ours(columns)  # the first call warms the caches of the processor and of numpy
    given = work(columns)
    before, same = [ours(columns) for _ in range(3)], [same_work(columns) for _ in range(3)]
    stated = scipys(columns, given, tuple(part * before[0][1] for part in STATED))
    close = reached(columns, given)
    seconds, objective = min([*before, *(ours(columns) for _ in range(3))])
    alike = statistics.median([*same, *(same_work(columns) for _ in range(3))])
    growth = {n: min(ours(table(n))[0] for _ in range(2)) for n in (240, 960, 3840)}
    result = {
        "points": 240, "starts": STARTS, "refits": REFITS, "seconds": seconds,
        "same_work_seconds": alike,
        "objective": objective, "refit_excess": given.ours,
        "scipy_stated": {**stated._asdict(), "seconds": stated.whole},
        "ratio_stated": stated.whole / seconds,
        "ratio_stated_same_work": stated.whole / alike,
        "scipy_reached": {**close._asdict(), "seconds": close.whole},
        "ratio_reached": close.whole / seconds,
        "ratio_reached_same_work": close.whole / alike,
        "seconds_by_points": growth, "start_up_seconds": start_up(),
    }  # fmt: skip
    shown = Table("what", "value", title="Chinchilla form, 240 points")
    for name, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v:.3g}" for k, v in value.items())
        shown.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    Console().print(shown)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
