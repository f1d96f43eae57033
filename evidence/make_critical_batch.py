"""How large a batch still pays, and how an average of weights follows the batch? Digits, SGD.

    python evidence/make_critical_batch.py [--record]

As the paper on critical batches does it (arXiv 2410.21676): constant rates, an average of the
weights, and the steps until the average reaches a target, the best rate for each batch from 2 to
256. From those comes the batch with 20% overhead. The task is that of `make_batch_rules.py`, whose
linear rule and noise scale it is to be held against.

The averages are kept with windows of many lengths, so that the same runs say what the EMA rule
(decay to the power k when the batch is k times larger, arXiv 2307.13813) loses against the best
decay, and what an unchanged decay does. Writes evidence/critical_batch.json and .svg.
"""

import math
from typing import Any

import numpy as np
import torch
from kept import made
from make_batch_rules import BATCHES, STUDIES, data, divergence, losses, plain, seen, weights
from make_batch_rules import SEEDS as WEIGHTS_OF
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stepladder.batching import Settings, convert
from stepladder.batching.critical import CriticalBatch, critical_batch
from stepladder.card import Evidence, record
from stepladder.report import style

COMMAND = "python evidence/make_critical_batch.py"
FIGURE = "evidence/critical_batch.svg"
STUDY = STUDIES["sgd"]
SAMPLES, TARGET = 16_000, 0.15
RATES = np.geomspace(0.02, 0.32, 5)  # at the smallest batch; they follow it by the root and more
WINDOWS = 2000 * 2.0 ** np.arange(-4, 2)  # samples that an average covers
LOOKS = 40  # at the averages, evenly in the logarithm of the samples
FIRST = 200  # samples


def decay_of(window: float, batch: int) -> float:
    """By the rule, from the smallest batch: 1 - batch / window there."""
    start = Settings(batch=BATCHES[0], lr=1.0, ema=1.0 - BATCHES[0] / window)
    decay = convert("ema", start, batch / BATCHES[0]).ema
    assert decay is not None
    return decay


def train(batch: int, rates: np.ndarray, decays: list[float]) -> tuple[list[int], np.ndarray]:
    """Steps looked at, and the averages' divergences there: (looks, decays, rates).

    All rates and seeds at once, a constant rate; geometric means over seeds.
    """
    x, y = data()
    params = weights(len(rates))
    rate = torch.tensor(np.repeat(rates, WEIGHTS_OF), dtype=torch.float32)[:, None, None]
    keep = torch.tensor(decays, dtype=torch.float32)[:, None, None, None]
    sums = [torch.zeros(len(decays), *p.shape) for p in params]
    order = [torch.Generator().manual_seed(7 + s) for s in range(WEIGHTS_OF)]
    steps = SAMPLES // batch
    looks = sorted({round(n / batch) for n in np.geomspace(FIRST, SAMPLES, LOOKS)} - {0})
    found = []
    for step in range(1, steps + 1):
        every = seen(x, y, STUDY.noisy, order, batch, len(rates))
        grads = torch.autograd.grad(losses(params, *every).sum(), params)
        with torch.no_grad():
            for p, grad, total in zip(params, grads, sums, strict=True):
                p -= rate * grad
                total.mul_(keep).add_((1 - keep) * p)
        if step in looks:
            whole = 1 - keep**step  # of the weights in a sum that began at zero
            averages = [total / whole for total in sums]
            found.append([look(part, x, y) for part in zip(*averages, strict=True)])
    return looks, np.array(found)


def look(params: tuple[torch.Tensor, ...], x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """Divergence by rate, the geometric mean over seeds."""
    loss = divergence(list(params), x, y, STUDY.noisy).double().nan_to_num(1e3, posinf=1e3)
    return loss.log().view(-1, WEIGHTS_OF).mean(dim=1).exp().numpy()


def steps_to_target(looks: list[int], found: np.ndarray) -> float:
    """The fewest steps in which a rate (looks, rates) reaches the target; infinite if none does."""
    return min(_crossing(np.log(looks), np.log(column)) for column in found.T)


def _crossing(x: np.ndarray, y: np.ndarray) -> float:
    below = np.flatnonzero(y <= math.log(TARGET))
    if not len(below):
        return math.inf
    i = below[0]
    if i == 0:
        return float(np.exp(x[0]))
    share = (y[i - 1] - math.log(TARGET)) / (y[i - 1] - y[i])
    return float(np.exp(x[i - 1] + share * (x[i] - x[i - 1])))


def measure() -> dict[str, Any]:
    """Steps to the target, and what the averages lose, at every batch."""
    steps, final = [], []
    base = None
    for batch in BATCHES:
        k = batch / BATCHES[0]
        rates = np.unique(np.concatenate([RATES * math.sqrt(k), RATES * k]))
        decays = [decay_of(window, batch) for window in WINDOWS]
        if base is not None:
            decays.append(base)
        looks, found = train(batch, rates, decays)
        middle = list(WINDOWS).index(2000)
        steps.append(steps_to_target(looks, found[:, middle]))
        at = int(found[-1, :, :].min(axis=0).argmin())  # the best rate, with its best average
        final.append(found[-1, :, at].tolist())
        if base is None:
            best = int(np.argmin(final[0]))
            base = decays[best]
            final[0].append(final[0][best])
        print(batch, steps[-1], np.round(final[-1], 4), f"rate {rates[at]:.3g}", flush=True)
    rule = [row[best] / min(row) for row in final]
    kept = [row[-1] / min(row) for row in final]
    return {
        "batches": BATCHES,
        "target": TARGET,
        "steps": steps,
        "windows": WINDOWS.tolist(),
        "final": final,
        "window": float(WINDOWS[best]),
        "ema": rule,
        "kept": kept,
    }


def critical(found: dict[str, Any]) -> CriticalBatch:
    """The critical batch of the batches that reached the target."""
    reached = [i for i, n in enumerate(found["steps"]) if n is not None and math.isfinite(n)]
    return critical_batch(
        [found["batches"][i] for i in reached], [found["steps"][i] for i in reached]
    )


def draw(found: dict[str, Any]) -> Figure:
    """Left: steps to the target. Right: what the averages lose."""
    limit = critical(found)
    wasted = f"Above a batch of {limit.batch:.0f} over 20% of the data are wasted"
    title = f"{wasted}; an average keeps its samples"
    figure, (left, right) = style.figure(title, panels=2)
    batches = np.array(found["batches"], dtype=float)
    curve = limit.least_steps + limit.samples / batches
    left.loglog(batches, curve, color=style.LIGHT["law"], lw=1.8)
    ideal = curve[0] * batches[0] / batches
    left.loglog(batches, ideal, "--", color=style.LIGHT["muted"], lw=1.2)
    left.loglog(batches, found["steps"], "o", color=style.LIGHT["run"], ms=6)
    left.axvspan(limit.low, limit.high, color=style.LIGHT["band"], alpha=0.6, lw=0, zorder=0)
    left.set_ylabel(f"steps to a divergence of {TARGET:g}")
    style.label(left, "half the steps for\ntwice the batch", (batches[3], ideal[3]), (-8, -24),
                "muted", ha="right", fontsize=9)  # fmt: skip
    style.label(left, "critical batch", (limit.batch, curve.max() * 0.9), (0, 0), "law",
                ha="center", fontsize=9)  # fmt: skip
    for name, colour, said in (
        ("ema", "good", "decay^k (the rule)"),
        ("kept", "outcome", "decay kept"),
    ):
        right.semilogx(batches, found[name], "o-", color=style.LIGHT[colour], label=said)
    right.set_ylabel("loss of the average over the best decay's")
    right.legend(frameon=False, fontsize=9)
    for axes in (left, right):
        ticks(axes)
    return figure


def ticks(axes: Axes) -> None:
    """Batches along the bottom."""
    plain(axes)
    axes.set_xlabel("batch (samples)")


def keep(found: dict[str, Any]) -> None:
    """One line each in the catalogue."""
    limit = critical(found)
    reached = [b for b, n in zip(found["batches"], found["steps"], strict=True) if n is not None]
    said = (
        f"SGD, digits with noisy labels: {limit.batch:.0f} samples ({limit.low:.0f} to "
        f"{limit.high:.0f}, 90%), from the steps to a divergence of {found['target']:g} at batches "
        f"{reached[0]} to {reached[-1]}"
    )
    record("batching", "critical-batch", Evidence(result=said, command=COMMAND, figure=FIGURE))
    said = (
        f"SGD, digits with noisy labels, {found['batches'][-1] // found['batches'][0]}x in batch: "
        f"the average's loss is at most {max(found['ema']):.2f}x that of the best decay; with the "
        f"decay kept {max(found['kept']):.2f}x"
    )
    record("batching", "ema", Evidence(result=said, command=COMMAND, figure=FIGURE))


def main() -> None:
    """Measure, and draw."""
    made("critical_batch", __doc__, measure=measure, keep=keep, draw=draw)


if __name__ == "__main__":
    main()
