"""Evidence for `stepladder curve`: published loss curves forecast from parts of them.

    STEPLADDER_UNSEEN=FOLDER python evidence/make_curves.py

Writes evidence/laws/curves.json, and every case as a row of curves.csv. Three numbers say how far
the law strays (`DRIFT`, `APART`, `UNSEEN_FALL` of laws/curve_forecast.py). They are chosen by
`calibrated` on the ends of all these forecasts, and once more without each source and without each
group, whose intervals are then judged: "held_out" is what a source or a group gets from numbers
that have not seen it. The prior's centre and spread, and how losses are weighed, were chosen while
looking at all of them. About two minutes.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from curve_logs import LONG as LONGER
from curve_logs import SHORT, SIZES, TRAIN, Case, authors, cases, settled
from scipy.optimize import minimize
from scipy.special import stdtrit
from scipy.stats import t as student

from stepladder.laws.curve_forecast import STRAYS, CurveFit, fit_curves, score, straying

OUT = Path(__file__).parent / "laws"
THEIRS = "authors: their split, six schedules from three"
LEVEL = 0.9
TAILS = 4.0  # degrees of freedom of errors in standard errors, across groups
START = np.array([3e-3, 7e-3, 2e-2])


class Ending(NamedTuple):
    """How a forecast went at its end, in logarithms of the loss."""

    source: str
    group: str
    kind: str
    error: float
    variance: float
    strayed: tuple[float, ...]
    reach: float  # standard errors of the interval


def endings(every: Iterable[Case]) -> Iterator[tuple[Ending, dict[str, object]]]:
    """Every case, and its row of the evidence."""
    known, fitted = None, None
    for case in every:
        if fitted is None or case.known is not known:
            known, fitted = case.known, fit_curves(case.known)
        yield _ending(case, fitted), _row(case, fitted)


def _ending(case: Case, fitted: CurveFit) -> Ending:
    at = case.target.at[-1:]
    made = fitted.forecast(case.target.lr, at, LEVEL)
    reach = float(stdtrit(fitted.freedom, 0.5 + LEVEL / 2))
    columns = straying(fitted.rates, case.target.lr / fitted.peak, at)[0]
    error = float(np.log(made.law_high[0] / made.law_low[0]) / 2 / reach)
    return Ending(
        case.source, case.group, case.kind,
        error=float(np.log(case.target.loss[-1] / made.value[0])),
        variance=error**2 - float(columns @ STRAYS),
        strayed=tuple(columns.tolist()),
        reach=reach,
    )  # fmt: skip


def _row(case: Case, fitted: CurveFit) -> dict[str, object]:
    """One case: errors along the curve and at its end, and what the 90% intervals held."""
    made = fitted.forecast(case.target.lr, case.target.at, LEVEL)
    result = score(made, case.target.loss)
    end = float(case.target.loss[-1])
    return {
        "group": case.group, "case": case.name, "error": result.error.prede,
        "worst": result.error.worste, "coverage": result.coverage,
        "end": float(made.value[-1] / end - 1),
        "end_inside": bool(made.law_low[-1] <= end <= made.law_high[-1]),
        "end_half_width": float((made.law_high[-1] - made.law_low[-1]) / 2 / made.value[-1]),
    }  # fmt: skip


def inside(ends: list[Ending], numbers: np.ndarray) -> np.ndarray:
    """Whether each end lies in its interval, had the law strayed by these numbers."""
    sizes = np.array([end.variance for end in ends]) + _columns(ends) @ numbers**2
    reach = np.array([end.reach for end in ends])
    return np.abs([end.error for end in ends]) <= reach * np.sqrt(sizes)


def calibrated(ends: list[Ending]) -> np.ndarray:
    """The three numbers: most likely beside each other for errors with wide tails, and as large
    together as it takes for nine of ten ends to lie inside, every source and kind counting alike.
    """
    error, columns = np.array([end.error for end in ends]), _columns(ends)
    variance, weight = np.array([end.variance for end in ends]), _weights(ends)

    def unlikely(logs: np.ndarray) -> float:
        size = np.sqrt(variance + columns @ np.exp(2 * logs))
        return -float(weight @ (student.logpdf(error / size, TAILS) - np.log(size)))

    bounds = [(np.log(3e-4), np.log(0.3))] * 3
    shape = np.exp(minimize(unlikely, np.log(START), method="L-BFGS-B", bounds=bounds).x)
    scales = np.geomspace(0.1, 10, 400)
    held = np.array([weight @ inside(ends, scale * shape) for scale in scales])
    return np.asarray(shape * scales[np.argmax(held >= LEVEL)])


def _columns(ends: list[Ending]) -> np.ndarray:
    return np.array([end.strayed for end in ends])


def _weights(ends: list[Ending]) -> np.ndarray:
    """Every kind of every source alike; they sum to one."""
    kinds = [(end.source, end.kind) for end in ends]
    weight = np.array([1 / kinds.count(kind) for kind in kinds])
    return np.asarray(weight / weight.sum())


def held_out(ends: list[Ending], of: Callable[[Ending], str]) -> np.ndarray:
    """Whether each end lies inside by numbers that were chosen without its source or group."""
    found, names = np.zeros(len(ends), dtype=bool), np.array([of(end) for end in ends])
    for name in dict.fromkeys(names.tolist()):
        mine = names == name
        rest = [end for end, left in zip(ends, mine, strict=True) if not left]
        found[mine] = inside([e for e, m in zip(ends, mine, strict=True) if m], calibrated(rest))
    return found


def summary(rows: list[dict[str, object]]) -> dict[str, float]:
    """Means over cases; medians of errors."""
    of = {n: np.array([float(str(row[n])) for row in rows]) for n in ("error", "end", "coverage")}
    return {
        "cases": len(rows), "error": float(np.median(of["error"])),
        "mean_error": float(of["error"].mean()),
        "end": float(np.median(np.abs(of["end"]))), "end_bias": float(of["end"].mean()),
        "largest_end": float(np.abs(of["end"]).max()), "coverage": float(of["coverage"].mean()),
        "end_coverage": float(np.mean([bool(row["end_inside"]) for row in rows])),
        "end_half_width": float(np.median([float(str(r["end_half_width"])) for r in rows])),
    }  # fmt: skip


def their_split() -> Iterator[Case]:
    """The authors' own question: six schedules from three."""
    for size in SIZES:
        known = [authors(size, name) for name in TRAIN]
        for name in (*SHORT[len(TRAIN) :], *LONGER):
            target = settled(authors(size, name))
            yield Case("authors", f"{size}M", "three", name, known, target)


def write_table(rows: list[dict[str, object]], path: Path) -> None:
    """Rows as CSV, numbers to four digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})


def main() -> None:
    """Every part; the single cases in a table of their own."""
    made = list(endings(cases()))
    ends, rows = [end for end, _ in made], [row for _, row in made]
    by_source = held_out(ends, lambda end: end.source)
    by_group = held_out(ends, lambda end: f"{end.source} {end.group}")
    numbers = calibrated(ends)
    sources = dict.fromkeys(end.source for end in ends)
    document: dict[str, object] = {
        "drift, apart, unseen fall": numbers.tolist(),
        "used": np.sqrt(STRAYS).tolist(),
        "without a source": {
            name: calibrated([end for end in ends if end.source != name]).tolist()
            for name in sources
        },
    }
    table: list[dict[str, object]] = []
    for part in dict.fromkeys((end.source, end.kind) for end in ends):
        mine = np.array([(end.source, end.kind) == part for end in ends])
        each = [row for row, m in zip(rows, mine, strict=True) if m]
        document[f"{part[0]}: {part[1]}"] = {
            **summary(each),
            "end_coverage_held_out_source": float(by_source[mine].mean()),
            "end_coverage_held_out_group": float(by_group[mine].mean()),
        }
        table += [{"part": f"{part[0]}: {part[1]}", **row} for row in each]
    theirs = [row for _, row in endings(their_split())]
    document[THEIRS] = summary(theirs)
    table += [{"part": THEIRS, **row} for row in theirs]
    (OUT / "curves.json").write_text(json.dumps(document, indent=1) + "\n")
    write_table(table, OUT / "curves.csv")
    for name, part in document.items():
        print(name, part)


if __name__ == "__main__":
    main()
