"""Evidence for `stepladder curve`: published loss curves forecast from parts of them.

Writes evidence/laws/curves.json: the nine schedules of the multi-power law at three sizes, and
twenty-five runs of OLMo's ladder (loss on C4). The prior's centre is the authors' fits, and the
widths of intervals (the noise, the drift) were chosen while looking at these curves: nothing here
is out of sample for them. About a minute.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from law_sets import ROOT

from stepladder.laws.curve_forecast import CurveFit, fit_curves, score, settled_at
from stepladder.laws.curves import Curve
from stepladder.laws.logged import read_logged

OUT = Path(__file__).parent / "laws" / "curves.json"
SIZES = (25, 100, 400)
TRAIN = ("cosine_24000", "constant_24000", "wsdcon_9")
SHORT = (*TRAIN, "wsd_20000_24000", "wsdld_20000_24000", "wsdcon_3", "wsdcon_18")
LONG = ("constant_72000", "cosine_72000")
OLMO = ("190M", "370M", "760M", "1B", "3B")
LENGTHS = ("0.5xC", "1xC-rerun", "2xC", "5xC", "10xC")
OLMO_COLUMNS = (
    "steps=_step",
    "loss=eval/c4_en-validation/CrossEntropyLoss",
    "lr=optim/learning_rate_group0",
)


class Case(NamedTuple):
    """What is known, and the curve that is forecast from it."""

    name: str
    known: list[Curve]
    target: Curve


def authors(size: int, name: str) -> Curve:
    """A curve of the multi-power law's authors."""
    return _read(ROOT / "multi-power-law" / f"csv_{size}" / f"{name}.csv", ())


def olmo(size: str, length: str) -> Curve:
    """A run of OLMo's ladder."""
    return _read(ROOT / "olmo-ladder" / "ladder-runs" / f"{size}-{length}.csv", OLMO_COLUMNS)


def _read(path: Path, maps: tuple[str, ...]) -> Curve:
    (run,) = read_logged(path, maps, None)
    assert run.lr is not None
    return run.curve(run.lr)


def rest(name: str, curve: Curve, part: float) -> Case:
    """The end of a run from its beginning."""
    early = curve.at < part * len(curve.lr)
    known = Curve(curve.lr, curve.at[early], curve.loss[early])
    return Case(name, [known], Curve(curve.lr, curve.at[~early], curve.loss[~early]))


def other(name: str, known: list[Curve], target: Curve) -> Case:
    """A run from runs under other schedules, from its warmup on."""
    kept = target.at >= settled_at(target.lr)
    return Case(name, known, Curve(target.lr, target.at[kept], target.loss[kept]))


def _from_three() -> Iterator[Case]:
    for size in SIZES:
        known = [authors(size, name) for name in TRAIN]
        for name in (*SHORT[len(TRAIN) :], *LONG):
            yield other(f"{size}M {name}", known, authors(size, name))


def _from_two() -> Iterator[Case]:
    for size in SIZES:
        for pair in combinations(SHORT, 2):
            known = [authors(size, name) for name in pair]
            for name in SHORT:
                if name not in pair:
                    told = f"{size}M {name} from {' and '.join(pair)}"
                    yield other(told, known, authors(size, name))


def _longer() -> Iterator[Case]:
    for size in OLMO:
        for first, second, third in zip(LENGTHS, LENGTHS[1:], LENGTHS[2:], strict=False):
            known = [olmo(size, first), olmo(size, second)]
            yield other(f"{size} {third} from {first}, {second}", known, olmo(size, third))


PARTS = {
    "authors: their split, six schedules from three": _from_three,
    "authors: one schedule from two others": _from_two,
    "authors: last 30% of a run": lambda: (
        rest(f"{size}M {name}", authors(size, name), 0.7)
        for size, name in product(SIZES, (*SHORT, *LONG))
    ),
    "OLMo: last 30% of a run": lambda: (
        rest(f"{size} {length}", olmo(size, length), 0.7) for size, length in product(OLMO, LENGTHS)
    ),
    "OLMo: second half of a run": lambda: (
        rest(f"{size} {length}", olmo(size, length), 0.5) for size, length in product(OLMO, LENGTHS)
    ),
    "OLMo: a run twice to five times as long from two shorter": _longer,
}


def measured(cases: Iterable[Case]) -> Iterator[dict[str, object]]:
    """Every case; those that know the same curves stand together and share their fit."""
    known, fitted = None, None
    for case in cases:
        if fitted is None or case.known is not known:
            known, fitted = case.known, fit_curves(case.known)
        yield _row(case, fitted)


def _row(case: Case, fitted: CurveFit) -> dict[str, object]:
    """One case: errors along the curve and at its end, and what the 90% intervals held."""
    made = fitted.forecast(case.target.lr, case.target.at)
    result = score(made, case.target.loss)
    end = float(case.target.loss[-1])
    return {
        "case": case.name, "error": result.error.prede, "worst": result.error.worste,
        "coverage": result.coverage, "end": float(made.value[-1] / end - 1),
        "end_inside": bool(made.law_low[-1] <= end <= made.law_high[-1]),
        "end_half_width": float((made.law_high[-1] - made.law_low[-1]) / 2 / made.value[-1]),
    }  # fmt: skip


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


def main() -> None:
    """Every part; the single cases below their summary."""
    document = {}
    for name, cases in PARTS.items():
        rows = list(measured(cases()))
        document[name] = {**summary(rows), "each": rows}
        print(name, summary(rows), flush=True)
    OUT.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
