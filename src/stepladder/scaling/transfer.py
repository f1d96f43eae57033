"""Does the best learning rate stay where it is as the model grows? Measured, with an interval.

The drift is d log2(best rate) / d log2(size). Its interval comes from resampling seeds, and the
verdict says when the runs cannot tell.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import inf, isfinite, sqrt
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn
from torch.optim import Optimizer

from stepladder.scaling.trials import (
    Batch,
    Build,
    Loss,
    Recipe,
    Size,
    default_loss,
    prepare,
    require_growth,
)

Batches = Sequence[Batch] | Callable[[int], Iterable[Batch]]
Verdict = Literal["transfers", "drifts", "unclear"]
DRIFT_TOLERANCE = 0.2  # in doublings of the rate per doubling of the size
_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the check: its loss is the mean over the last quarter of the steps, in nats."""

    size: int
    lr: float
    seed: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """What the check found.

    `best`: size -> log2 of the best rate. `drift` with its 95% interval `low` to `high`.
    `penalty`: loss at the largest size with the smallest size's best rate, less its own best.
    `at_edge`: sizes whose best rate is at the end of the rates tried.
    """

    rule: str | None
    axis: str
    runs: tuple[Run, ...]
    best: Mapping[int, float]
    drift: float
    low: float
    high: float
    penalty: float
    at_edge: tuple[int, ...]

    @property
    def verdict(self) -> Verdict:
        """Transfers: the interval is within the tolerance. Drifts: it is outside. Else unclear."""
        if self.low > DRIFT_TOLERANCE or self.high < -DRIFT_TOLERANCE:
            return "drifts"
        within = self.low >= -DRIFT_TOLERANCE and self.high <= DRIFT_TOLERANCE
        return "transfers" if within and not self.at_edge else "unclear"

    def __str__(self) -> str:
        lines = [
            f"transfer check of {self.rule or 'your own parametrization'}: {self.verdict}",
            f"  the best rate moves by 2^{self.drift:+.2f} [{self.low:+.2f}, {self.high:+.2f}] "
            f"per doubling of {self.axis}",
            f"  the smallest model's best rate costs the largest {self.penalty:.4f} nats",
        ]
        if self.at_edge:
            lines.append(
                f"  the best rate is at the end of lrs at {self.axis} "
                f"{', '.join(map(str, self.at_edge))}: try more rates there"
            )
        return "\n".join(lines)

    def figure(self, path: str | Path) -> Path:
        """Draw loss against rate, a curve per size; the suffix chooses the format."""
        from stepladder.report.checks import transfer_figure

        return transfer_figure(self, Path(path))


def transfer_check(
    build: Build,
    batches: Batches,
    *,
    rule: str | None = None,
    widths: Sequence[int],
    depths: Sequence[int] = (),
    lrs: Sequence[float],
    seeds: int = 3,
    steps: int = 200,
    loss: Loss = default_loss,
    optimizer: str = "adamw",
    weight_decay: float = 0.0,
    base: Size | None = None,
    **options: Any,
) -> TransferReport:
    """Sweep the learning rate at several sizes and measure how its optimum moves.

    Args:
        build: as in `coordinate_check`; a build of your own optimizer must take `lr`.
        batches: a list to go through in turn, or seed -> batches (so that seeds differ in data).
        widths: sizes to compare; with `depths`, a single width, and depths are compared.
        lrs: at least five rates, evenly spaced on a log scale.
        base: where rates are stated; the smallest size by default.

    Raises:
        ValueError: too few sizes, rates or seeds.
    """
    sizes, axis = _sizes(widths, depths)
    _check(sizes, lrs, seeds)
    require_growth(build, sizes, lrs[0])
    recipe = Recipe(rule=rule, optimizer=optimizer, weight_decay=weight_decay, options=options)
    runs = sweep(
        build,
        batches,
        recipe,
        sizes=sizes,
        base=base or sizes[0],
        lrs=lrs,
        seeds=seeds,
        steps=steps,
        loss=loss,
    )
    return measure_drift(list(runs), rule=rule, axis=axis)


def sweep(
    build: Build,
    batches: Batches,
    recipe: Recipe,
    *,
    sizes: Sequence[Size],
    base: Size,
    lrs: Sequence[float],
    seeds: int,
    steps: int,
    loss: Loss = default_loss,
) -> Iterator[Run]:
    """Every run of a grid of sizes, rates and seeds; those of a size side by side."""
    from stepladder.train import stacked  # which stands on this package

    deep = len({size.depth for size in sizes}) > 1
    feeds = [list(batches(seed) if callable(batches) else batches) for seed in range(seeds)]
    cells = list(product(lrs, range(seeds)))

    def trial(size: Size, lr: float, seed: int) -> stacked.Trial:
        make = partial(_fresh, build, size, base, recipe, lr, seed)
        label = f"{size}, lr {lr:.3g}, seed {seed}"
        return stacked.Trial(make=make, batches=feeds[seed], steps=steps, seed=seed, label=label)

    for size in sizes:
        outcomes = stacked.train_many([trial(size, *cell) for cell in cells], loss=loss)
        at = size.depth if deep and size.depth else size.width
        for (lr, seed), outcome in zip(cells, outcomes, strict=True):
            yield Run(size=at, lr=lr, seed=seed, loss=final_loss(outcome.losses, steps))


def _fresh(
    build: Build, size: Size, base: Size, recipe: Recipe, lr: float, seed: int
) -> tuple[nn.Module, Optimizer]:
    trial = prepare(build, size, base, recipe, lr=lr, seed=seed)
    return trial.model, trial.optimizer


def final_loss(losses: Iterable[float], steps: int) -> float:
    """The mean over the last quarter of the steps; infinite once a loss is not finite."""
    kept: list[float] = []
    for value in losses:
        if not isfinite(value):
            return inf
        kept.append(value)
    last = kept[-max(1, steps // 4) :]
    return sum(last) / len(last)


def measure_drift(runs: Sequence[Run], *, rule: str | None, axis: str) -> TransferReport:
    """The drift of the best rate over runs of a full grid of sizes, rates and seeds.

    The best rate is the vertex of a parabola through the five points around the lowest mean loss,
    in log2 of the rate. The interval: seeds are resampled 1,000 times, and the spread is widened by
    sqrt(S / (S - 1)) for the few seeds there are.
    """
    sizes, lrs = sorted({r.size for r in runs}), sorted({r.lr for r in runs})
    table = _table(runs, sizes, lrs)
    means = table.mean(axis=2)
    best = np.array([_vertex(lrs, row) for row in means])
    drift = _slope(sizes, best)
    spread = _resampled(table, sizes, lrs) - drift
    seeds = table.shape[2]
    low, high = np.quantile(spread, [0.025, 0.975]) * sqrt(seeds / (seeds - 1))
    at_edge = [s for s, row in zip(sizes, means, strict=True) if row.argmin() in (0, len(lrs) - 1)]
    return TransferReport(
        rule=rule,
        axis=axis,
        runs=tuple(runs),
        best=dict(zip(sizes, map(float, best), strict=True)),
        drift=drift,
        low=float(drift + low),
        high=float(drift + high),
        penalty=float(_at(lrs, means[-1], best[0]) - _at(lrs, means[-1], best[-1])),
        at_edge=tuple(at_edge),
    )


def _sizes(widths: Sequence[int], depths: Sequence[int]) -> tuple[list[Size], str]:
    if not depths:
        return [Size(width=w) for w in sorted(widths)], "width"
    if len(widths) != 1:
        raise ValueError("give one width with several depths: one axis at a time")
    return [Size(width=widths[0], depth=d) for d in sorted(depths)], "depth"


def _check(sizes: Sequence[Size], lrs: Sequence[float], seeds: int) -> None:
    if len(set(sizes)) < 2:
        raise ValueError("a drift needs at least two sizes")
    if len(set(lrs)) < 5 or min(lrs) <= 0:
        raise ValueError("give at least five different lrs above 0, evenly spaced on a log scale")
    if seeds < 2:
        raise ValueError("an interval needs at least 2 seeds")


def _table(runs: Sequence[Run], sizes: Sequence[int], lrs: Sequence[float]) -> np.ndarray:
    """Losses [size, rate, seed]; what diverged counts as twice the worst that did not."""
    seeds = sorted({run.seed for run in runs})
    found = {(run.size, run.lr, run.seed): run.loss for run in runs}
    grid = [[[found.get((s, lr, k), inf) for k in seeds] for lr in lrs] for s in sizes]
    table = np.array(grid)
    if not np.isfinite(table).any():
        raise ValueError("every run diverged: try smaller lrs")
    table[~np.isfinite(table)] = 2 * table[np.isfinite(table)].max()
    return table


def _vertex(lrs: Sequence[float], losses: np.ndarray) -> float:
    """log2 of the best rate; at the end of the rates, the end itself."""
    x, at = np.log2(lrs), int(losses.argmin())
    if at in (0, len(x) - 1):
        return float(x[at])
    near = slice(max(0, at - 2), at + 3)
    weight = 1 / (1e-3 + losses[near] - losses[at])  # far above the best, a loss is no parabola
    curve = np.polyfit(x[near] - x[at], losses[near], 2, w=np.sqrt(weight))
    shift = -curve[1] / (2 * curve[0]) if curve[0] > 0 else 0.0
    return float(x[at] + np.clip(shift, x[at - 1] - x[at], x[at + 1] - x[at]))


def _slope(sizes: Sequence[int], best: np.ndarray) -> float:
    return float(np.polyfit(np.log2(sizes), best, 1)[0])


def _resampled(table: np.ndarray, sizes: Sequence[int], lrs: Sequence[float]) -> np.ndarray:
    """Drifts with the seeds of every size drawn again, with replacement."""
    draw = np.random.default_rng(0)
    seeds = table.shape[2]
    drifts = []
    for _ in range(_RESAMPLES):
        means = [row[:, draw.integers(seeds, size=seeds)].mean(axis=1) for row in table]
        drifts.append(_slope(sizes, np.array([_vertex(lrs, row) for row in means])))
    return np.array(drifts)


def _at(lrs: Sequence[float], losses: np.ndarray, where: float) -> float:
    return float(np.interp(where, np.log2(lrs), losses))
