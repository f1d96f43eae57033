"""Evidence for the scaling laws: backtests on published tables, coverage of intervals, recovery.

Writes evidence/laws/*.json, backtests.csv and backtests.svg: all parts, or those named on the
command line (backtests, recovery, squares, huber, ladder).
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
from law_sets import every, olmo
from matplotlib.figure import Figure

from stepladder.laws import backtest, fit, get
from stepladder.laws.backtesting import Backtest

FOLDER = Path(__file__).parent / "laws"
TRUTH = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
DRAWS = 500
ERROR_TICKS = (0.2, 0.5, 1, 2, 5, 10)  # per cent
HELD = (0.25, 0.1)
BASE = 1e15  # FLOP of the smallest rung of the simulated ladders


def backtests() -> list[dict[str, object]]:
    """Every published table, its dearest quarter and tenth held out; by the law with its rivals,
    as forecasts are made, and by the law alone."""
    rows = []
    for name, columns, laws in every():
        for law in laws:
            for held in HELD:
                for mixed in (True, False):
                    if mixed or get(law).rivals:
                        rows.append(_row(name, law, held, mixed, columns))
                        print(rows[-1], flush=True)
    return rows


def _row(
    name: str, law: str, held: float, mixed: bool, columns: dict[str, np.ndarray]
) -> dict[str, object]:
    rivals = None if mixed else ()
    told = " with ".join((law, *(get(law).rivals if mixed else ())))
    try:
        made: Backtest = backtest(law, columns, held=held, starts=60, most=12, rivals=rivals)
    except ValueError as error:
        return {"set": name, "law": told, "held_part": held, "refused": str(error)}
    width = np.mean([(o.high - o.low) / abs(2 * o.forecast) for o in made.outcomes])
    return {
        "set": name, "law": told, "as_forecast": mixed,
        "held_part": held, "fitted": made.trained, "held": made.held,
        "reach": made.reach, "error": made.error, "bias": made.bias, "largest": made.largest,
        "r2": made.r2, "coverage": made.coverage, "half_width": float(width),
        "status": made.status,
    }  # fmt: skip


def olmo_targets() -> list[dict[str, object]]:
    """OLMo's 7B and 13B, forecast from its ladder."""
    rungs, targets = olmo()
    found = fit("chinchilla", rungs)
    rows = []
    for k in range(len(targets["loss"])):
        made = found.forecast({n: targets[n][k] for n in ("params", "tokens")})
        rows.append({
            "params": targets["params"][k], "tokens": targets["tokens"][k],
            "outcome": targets["loss"][k], "forecast": made.value, "interval": made.interval,
            "inside": bool(made.low <= targets["loss"][k] <= made.high),
        })  # fmt: skip
    return rows


def parameter_coverage(loss: str, draws: int = DRAWS) -> dict[str, dict[str, float]]:
    """How often 90% intervals hold the truth, by method and value; 48 runs, 0.5% noise."""
    law, params = get("chinchilla"), np.repeat(np.geomspace(5e7, 5e9, 8), 6)
    inputs = {"params": params, "tokens": params * np.tile([5, 10, 20, 40, 80, 160], 8)}
    exact = law.predict(TRUTH, inputs)
    hits: dict[str, dict[str, int]] = {}
    for seed in range(draws):
        noise = np.exp(0.005 * np.random.default_rng(seed).normal(size=len(exact)))
        columns = {**inputs, "loss": exact * noise}
        found = fit(law, columns, loss=loss, starts=20, bootstrap=300, seed=seed)
        for method, intervals in found.methods.items():
            for name, (low, high) in intervals.items():
                of = hits.setdefault(method, dict.fromkeys(TRUTH, 0))
                of[name] += low <= TRUTH[name] <= high
    return {m: {n: c / draws for n, c in of.items()} for m, of in hits.items()}


def ladder_coverage(misfit: float, draws: int = DRAWS) -> dict[str, float]:
    """How often 90% forecasts hold the outcome: five to eight rungs, 8 to 30 times beyond.

    `misfit` is the standard deviation of a quadratic drift of the log loss per decade squared.
    """
    rng, law, held, error, width = np.random.default_rng(7), get("power"), 0, [], []
    for _ in range(draws):
        rungs, seeds = int(rng.integers(5, 9)), int(rng.integers(2, 4))
        flops = np.repeat(BASE * np.geomspace(1, rng.choice([30, 100]), rungs), seeds)
        target = flops[-1] * rng.uniform(8, 30)
        alpha, noise, drift = rng.uniform(0.08, 0.25), rng.uniform(0.002, 0.005), rng.normal()
        values = {"E": rng.uniform(1.2, 2.2), "A": rng.uniform(1, 3) * BASE**alpha, "alpha": alpha}

        def outcome(c, shake, values=values, drift=drift, noise=noise):
            bend = misfit * drift * np.log10(c / BASE) ** 2
            return law.predict(values, {"flops": c}) * np.exp(bend + noise * shake)

        columns = {"flops": flops, "loss": outcome(flops, rng.normal(size=len(flops)))}
        made = fit(law, columns, starts=20, bootstrap=0).forecast({"flops": target})
        came = outcome(target, rng.normal())
        held += made.low <= came <= made.high
        error.append(np.log(made.value / came))
        width.append((made.high - made.low) / (2 * made.value))
    return {"misfit": misfit, "coverage": held / draws, "rms_error": float(np.std(error)),
            "median_half_width": float(np.median(width))}  # fmt: skip


def recovery(surfaces: int = 100) -> dict[str, float]:
    """Geometric mean of relative exponent errors on exact isoFLOP tables (the bar: 1.1%)."""
    rng, law, errors = np.random.default_rng(0), get("chinchilla"), []
    for _ in range(surfaces):
        alpha, beta = rng.uniform(0.2, 0.6, 2)
        values = {"E": rng.uniform(1, 2.5), "A": 0.8 * 5e8**alpha, "B": 0.7 * 1e10**beta,
                  "alpha": alpha, "beta": beta}  # fmt: skip
        flops = np.repeat([1e17, 1e18, 1e19, 1e20, 1e21], 15)
        params = np.sqrt(flops / 120) * np.tile(np.geomspace(1 / 16, 16, 15), 5)
        inputs = {"params": params, "tokens": flops / 6 / params}
        found = fit(law, {**inputs, "loss": law.predict(values, inputs)}, starts=60, bootstrap=0)
        errors += [abs(found.values[n] / values[n] - 1) for n in ("alpha", "beta")]
    mean = np.exp(np.mean(np.log(np.array(errors) + 1e-16)))
    return {"surfaces": surfaces, "geometric_mean": float(mean), "largest": float(max(errors))}


def draw(rows: list[dict[str, object]], path: Path) -> None:
    """Coverage and error of every backtest."""
    rows = [row for row in rows if "refused" not in row and row["as_forecast"]]
    figure = Figure(figsize=(9, 0.19 * len(rows) + 1), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    labels = [f"{r['set']}, dearest {float(str(r['held_part'])):.0%}" for r in rows]
    for axes, name in ((left, "error"), (right, "coverage")):
        axes.plot([100 * float(str(r[name])) for r in rows], range(len(rows)), "o", ms=4)
        axes.grid(color="0.9")
        axes.tick_params(labelsize=7)
    left.set(xlabel="error at held-out runs, %", xscale="log", xticks=ERROR_TICKS)
    left.set_xticklabels([f"{tick:g}" for tick in ERROR_TICKS])
    left.minorticks_off()
    left.set_yticks(range(len(rows)), labels)
    left.set_ylim(len(rows) - 0.5, -0.5)
    right.axvline(90, color="black", lw=0.8)
    right.set(xlabel="held-out runs inside the 90% interval, %", xlim=(0, 103))
    figure.savefig(path)


def summary(rows: list[dict[str, object]]) -> dict[str, float]:
    """Means over tables: of coverage, and of the logarithms of errors and widths."""
    of = {
        n: np.array([float(str(r[n])) for r in rows]) for n in ("coverage", "error", "half_width")
    }
    largest = np.abs([float(str(row["largest"])) for row in rows])
    return {
        "tables": len(rows), "coverage": float(of["coverage"].mean()),
        "tables_below_75%": float(np.mean(of["coverage"] < 0.75)),
        "error": float(np.exp(np.log(of["error"]).mean())),
        "error_of_the_largest": float(np.exp(np.log(largest + 1e-4).mean())),
        "half_width": float(np.exp(np.log(of["half_width"]).mean())),
    }  # fmt: skip


def write_backtests() -> None:
    """Tables of every backtest, a figure, and OLMo's two targets."""
    rows = backtests()
    told = [row for row in rows if "refused" not in row]
    document = {
        "as_forecast": summary([row for row in told if row["as_forecast"]]),
        "law_alone": summary([row for row in told if not row["as_forecast"]]),
        "olmo_targets": olmo_targets(),
        "backtests": rows,
    }
    write("backtests", document)
    with (FOLDER / "backtests.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(told[0]), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, FOLDER / "backtests.svg")


def write(name: str, document: object) -> None:
    """One JSON file of the folder."""
    (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


PARTS = {
    "backtests": write_backtests,
    "recovery": lambda: write("recovery", recovery()),
    "squares": lambda: write("coverage_squares", parameter_coverage("squares")),
    "huber": lambda: write("coverage_huber", parameter_coverage("huber")),
    "ladder": lambda: write("ladder", [ladder_coverage(m) for m in (0.0, 0.002, 0.005)]),
}


def main(names: list[str]) -> None:
    """Write the named parts; all of them where none are named."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or PARTS:
        PARTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
