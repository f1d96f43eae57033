"""Evidence for `stepladder curve`: is collapse better where runs share a relative schedule?

    STEPLADDER_UNSEEN=FOLDER python evidence/make_curve_collapse.py

The end of a cosine run, from its first half or 70% and finished runs of other lengths under the
same relative schedule: three or more of one group in curve_logs.py. By the multi-power law on all
of them; and by collapse of normalised curves (arXiv:2507.02119): what the finished runs lost
between that part of their way and its end, above a floor, is a line in the logarithm of their
length. The floor is that of the multi-power law on the finished runs, or none. "What the others
strayed" adds to the law's forecast what the finished runs ended below it. Writes
evidence/laws/curve_collapse.json. A minute.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from curve_logs import PARTS, ROWS, Group, groups, logged_whole, split

from stepladder.laws.curve_forecast import CurveFit, fit_curves
from stepladder.laws.curves import Curve

OUT = Path(__file__).parent / "laws" / "curve_collapse.json"
LEAST = 3  # runs of one relative schedule
SAME = 0.05  # of the peak: root mean square difference of relative schedules


def shape(curve: Curve) -> np.ndarray:
    """Rates at a hundred parts of the way, the warmup left out, in parts of the peak."""
    at = (np.linspace(0.1, 0.999, 100) * len(curve.lr)).astype(int)
    return np.asarray(curve.lr[at] / curve.lr.max())


def alike(curves: Group) -> Iterator[list[Curve]]:
    """Runs that were logged whole, under one relative schedule, each of another length."""
    left = [c for c in curves.values() if logged_whole(c) and np.ptp(shape(c)) > 0.5]
    while left:
        first = shape(max(left, key=lambda c: len(c.lr)))
        same = [c for c in left if np.sqrt(np.mean((shape(c) - first) ** 2)) < SAME]
        left = [c for c in left if all(c is not one for one in same)]
        lengths = {len(c.lr): c for c in same}
        if len(lengths) >= LEAST:
            yield list(lengths.values())


def lost(curve: Curve, part: float, floor: float) -> float:
    """Logarithm of the last loss over the loss at a part of the way, above a floor."""
    there = np.interp(part * len(curve.lr), curve.at, curve.loss)
    return float(np.log((curve.loss[-1] - floor) / (there - floor)))


def collapse(known: Curve, others: list[Curve], part: float, floor: float) -> float:
    """The last loss of a run."""
    lengths = np.log([len(c.lr) for c in others])
    losses = [lost(c, part, floor) for c in others]
    slope, offset = np.polyfit(lengths, losses, 1)
    there = float(np.interp(part * len(known.lr), known.at, known.loss))
    return float(floor + (there - floor) * np.exp(offset + slope * np.log(len(known.lr))))


def errors(runs: list[Curve], part: float) -> Iterator[dict[str, float]]:
    """Relative errors at the end of each run."""
    for k, run in enumerate(runs):
        others = [*runs[:k], *runs[k + 1 :]]
        known, _ = split(run, part)
        if len(known.at) < ROWS:
            continue
        end, floor = float(run.loss[-1]), fit_curves(others).values["L0"]
        fitted = fit_curves([known, *others])
        made = fitted.forecast(run.lr, run.at[-1:])
        strayed = np.mean([_strayed(fitted, one) for one in others])
        alone = fit_curves([known]).forecast(run.lr, run.at[-1:])
        yield {
            "multi-power on all": float(made.value[0]) / end - 1,
            "and what the others strayed": float(made.value[0] * np.exp(strayed)) / end - 1,
            "multi-power on the run alone": float(alone.value[0]) / end - 1,
            "collapse": collapse(run, others, part, 0.0) / end - 1,
            "collapse above the law's floor": collapse(run, others, part, floor) / end - 1,
        }


def _strayed(fitted: CurveFit, run: Curve) -> float:
    """Logarithm of a run's last losses over the law's."""
    last = run.at >= 0.95 * run.at[-1]
    made = fitted.forecast(run.lr, run.at[last])
    return float(np.mean(np.log(run.loss[last] / made.value)))


def main() -> None:
    """Every source and part."""
    found: dict[str, list[dict[str, float]]] = {}
    for (source, _), curves in groups().items():
        for runs in alike(curves):
            for part in PARTS:
                found.setdefault(f"{source}: rest {part}", []).extend(errors(runs, part))
    document = {
        name: {
            "runs": len(rows),
            "median error": {way: _median(rows, way) for way in rows[0]},
            "largest": {way: max(abs(row[way]) for row in rows) for way in rows[0]},
            "each": rows,
        }
        for name, rows in found.items()
    }
    OUT.write_text(json.dumps(document, indent=1) + "\n")
    for name, part in document.items():
        print(name, part["runs"], part["median error"], part["largest"])


def _median(rows: list[dict[str, float]], way: str) -> float:
    return float(np.median([abs(row[way]) for row in rows]))


if __name__ == "__main__":
    main()
