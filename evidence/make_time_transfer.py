"""Which way does the best rate move when a run gets longer? Digits, Adam, three batches.

    python evidence/make_time_transfer.py [--record]

The task of `make_batch_rules.py` with noisy labels: the best of fourteen rates for 2,000, 8,000 and
32,000 samples, at batches of 8, 64 and 256. Time Transfer (arXiv 2410.05838) says that the best
rate falls as the root of the horizon below a critical batch, which itself grows with the horizon,
and rises as its root above. The critical batch is the one number it needs, and is fitted to the
nine rates. Writes evidence/time_transfer.json and .svg.
"""

from typing import Any

import numpy as np
from kept import made
from make_batch_rules import SEEDS, STUDIES, slope, train
from matplotlib.figure import Figure

from stepladder.batching import convert
from stepladder.batching.horizon import time_transfer
from stepladder.card import Evidence, record
from stepladder.report import style

COMMAND = "python evidence/make_time_transfer.py"
FIGURE = "evidence/time_transfer.svg"
BATCHES, HORIZONS = [8, 64, 256], [2000, 8000, 32_000]
CRITICAL = np.geomspace(0.1, 10_000, 201)  # tried, at the shortest horizon
STUDY = STUDIES["adamw"]


def measure() -> dict[str, Any]:
    """Best rates by batch and horizon."""
    rates = []
    for batch in BATCHES:
        settings = convert(STUDY.tuned_by, STUDY.base, batch / STUDY.base.batch)
        rates.append([train(STUDY, settings, STUDY.grid, n).best_rate() for n in HORIZONS])
        print(batch, rates[-1], flush=True)
    return {"batches": BATCHES, "horizons": HORIZONS, "seeds": SEEDS, "best_rate": rates}


def predicted(batch: int, critical: float) -> np.ndarray:
    """Best rates at the horizons over that at the shortest."""
    first = HORIZONS[0]
    return np.array([time_transfer(n / first, batch=batch, critical=critical) for n in HORIZONS])


def fitted(found: dict[str, Any]) -> tuple[float, float]:
    """The critical batch at the shortest horizon that fits best, and the mean error of log rates.

    A rate of its own for each batch is fitted with it.
    """
    errors = []
    for critical in CRITICAL:
        off = [
            np.log(rates) - np.log(predicted(batch, critical))
            for batch, rates in zip(found["batches"], found["best_rate"], strict=True)
        ]
        errors.append(np.sqrt(np.mean([(o - o.mean()) ** 2 for o in off])))
    best = int(np.argmin(errors))
    return float(CRITICAL[best]), float(errors[best])


def slopes(found: dict[str, Any]) -> list[float]:
    """The power of the horizon that the best rate goes as, at each batch."""
    return [slope(found["horizons"], rates) for rates in found["best_rate"]]


def still(found: dict[str, Any]) -> float:
    """The mean error of log rates where one rate serves all horizons."""
    return float(np.sqrt(np.mean([np.var(np.log(rates)) for rates in found["best_rate"]])))


def said(found: dict[str, Any]) -> str:
    """What came out, in a line."""
    critical, error = fitted(found)
    powers = ", ".join(
        f"T^{power:+.2f} at {batch}"
        for power, batch in zip(slopes(found), found["batches"], strict=True)
    )
    return (
        f"Adam, digits with noisy labels, {HORIZONS[-1] // HORIZONS[0]}x in samples: the best rate "
        f"goes as {powers}; the rule, with its critical batch fitted ({critical:.2g} at "
        f"{HORIZONS[0]} samples), is off by {100 * error:.0f}% (root mean square), an unchanged "
        f"rate by {100 * still(found):.0f}%"
    )


def draw(found: dict[str, Any]) -> Figure:
    """The best rate over the horizon, a line a batch, with the rule's."""
    critical, error = fitted(found)
    off = f"is off by {100 * error:.0f}%, an unchanged rate by {100 * still(found):.0f}%"
    figure, (axes,) = style.figure(f"Best rates over the length of a run: Time Transfer {off}")
    for batch, rates, colour in zip(
        found["batches"], found["best_rate"], style.shades(len(BATCHES)), strict=True
    ):
        axes.loglog(HORIZONS, rates, "o", color=colour, ms=6)
        rule = predicted(batch, critical)
        middle = np.exp(np.mean(np.log(rates) - np.log(rule)))
        axes.loglog(HORIZONS, middle * rule, color=colour, lw=1.6)
        axes.annotate(f"batch {batch}", (HORIZONS[-1], rates[-1]), (8, -3), color=colour,
                      textcoords="offset points", fontsize=9)  # fmt: skip
    axes.set_yticks([0.005, 0.01, 0.02, 0.05], ["0.005", "0.01", "0.02", "0.05"])
    axes.set_xlim(right=HORIZONS[-1] * 1.7)
    axes.set_xticks(HORIZONS, [f"{n:,}" for n in HORIZONS])
    axes.minorticks_off()
    axes.set_xlabel("samples (Adam, digits with noisy labels)")
    axes.set_ylabel("best rate (dots), and the rule (lines)")
    return figure


def keep(found: dict[str, Any]) -> None:
    """One line in the catalogue."""
    record(
        "batching",
        "time-transfer",
        Evidence(result=said(found), command=COMMAND, figure=FIGURE),
    )


def main() -> None:
    """Measure, and draw."""
    print(said(made("time_transfer", __doc__, measure=measure, keep=keep, draw=draw)))


if __name__ == "__main__":
    main()
