"""Evidence for `stepladder curve --goal`: false alarms, and when a miss is noticed.

    STEPLADDER_UNSEEN=FOLDER python evidence/make_curve_goal.py

Every published run of curve_logs.py is looked at after 30, 40, ... 90% of its way, with what it has
logged until then and nothing else, and its end is forecast. The same looks are held against goals
that the run reached (at its last loss, and with a half or a whole percent to spare) and goals that
it missed by one to five percent, by intervals of several levels. An alarm, once raised, is raised.
Writes evidence/laws/curve_goal.json. About two minutes.
"""

import json
from pathlib import Path

import numpy as np
from curve_logs import ROWS, groups, logged_whole, split

from stepladder.laws.curve_forecast import fit_curves
from stepladder.laws.curves import Curve

OUT = Path(__file__).parent / "laws" / "curve_goal.json"
LOOKS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
REACHED, MISSED = (0.0, 0.005, 0.01), (0.01, 0.02, 0.03, 0.05)
MOST = 12  # runs of a group
LEVELS = (0.9, 0.95, 0.99)


def lows(curve: Curve) -> list[list[float]]:
    """[look, level] lower ends of intervals for the run's end, in parts of its last loss; minus
    infinity where too little is known."""
    found = []
    for part in LOOKS:
        known, left = split(curve, part)
        if len(known.at) < ROWS or not len(left.at):
            found.append([-np.inf] * len(LEVELS))
            continue
        fitted = fit_curves([known])
        ends = (fitted.forecast(curve.lr, left.at[-1:], level).law_low[0] for level in LEVELS)
        found.append([float(end / curve.loss[-1]) for end in ends])
    return found


def looks() -> dict[str, list[list[list[float]]]]:
    """Of every source, the looks at each of its runs, [run][look][level]."""
    rng = np.random.default_rng(1)
    found: dict[str, list[list[list[float]]]] = {}
    for (source, _), curves in groups().items():
        whole = [c for c in curves.values() if logged_whole(c)]
        for k in sorted(rng.permutation(len(whole))[:MOST]):
            found.setdefault(source, []).append(lows(whole[k]))
    return found


def alarms(seen: np.ndarray, goal: float) -> dict[str, float | None]:
    """Share of runs with an alarm at a goal in parts of the last loss, and when it came.

    Args:
        seen: [run, look] lower ends.
    """
    raised = seen > goal
    first = np.argmax(raised, axis=1)
    at = np.array(LOOKS)[first[raised.any(axis=1)]]
    return {
        "alarms": float(raised.any(axis=1).mean()),
        "at one look": float(raised.mean()),
        "median_progress": float(np.median(at)) if len(at) else None,
    }


def at_level(seen: np.ndarray) -> dict[str, object]:
    """False alarms and misses by the intervals of one level."""
    return {
        "reached with this to spare": {f"{x:.1%}": alarms(seen, 1 + x) for x in REACHED},
        "missed by": {f"{x:.0%}": alarms(seen, 1 / (1 + x)) for x in MISSED},
    }


def main() -> None:
    """Every source, and all of them together, each source counting by its runs."""
    seen = looks()
    seen["all"] = [one for runs in list(seen.values()) for one in runs]
    document = {
        source: {"runs": len(runs)}
        | {f"{level:.0%}": at_level(np.array(runs)[:, :, k]) for k, level in enumerate(LEVELS)}
        for source, runs in seen.items()
    }
    OUT.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
