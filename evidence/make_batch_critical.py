"""How large a batch pays, and does an average of weights follow it? Python's sources, three widths.

    python evidence/make_batch_critical.py [WIDTH ...] [--root DIR] [--record]

AdamW as `make_batch_transfer.py` tunes it, 2 to 64 sequences a batch (fewer of them at the largest
width). As the paper on critical
batches does it (arXiv 2410.21676): a constant rate after a warmup, averages of the weights, and the
tokens until an average reaches a loss, that of the base batch after half of the tokens; for
each batch the best of three rates around what the SDE rule makes of the tuned one, and of two
averages. From those comes the batch with 20% overhead, and beside it stands the noise scale that
runs with a decaying rate note in their curves.

The same runs, at their ends, hold averages of many lengths: what the EMA rule (decay to the power k
when the batch is k times larger, arXiv 2307.13813) loses against the best decay there, and what a
decay that is kept does, as compute multipliers over the three widths. The decay is chosen at the
base batch and the smallest width.

Writes evidence/batch_critical.json; what is there is not run again. With --record it does no runs,
but writes the catalogue and the figure.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np
import torch
from make_batch_transfer import RESULTS as TRANSFER
from make_batch_transfer import STUDIES, Bench, compute
from make_compare import SCALES, SEEDS, WIDTH
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from stepladder.batching import convert
from stepladder.batching.critical import critical_batch
from stepladder.card import Evidence, record
from stepladder.comparing.growth import rungs, tuned_to
from stepladder.comparing.means import means_of
from stepladder.comparing.multiplier import estimate
from stepladder.comparing.verdict import verdict
from stepladder.durable import write_whole
from stepladder.execute.here import run_here
from stepladder.laws.result import finite
from stepladder.recipe import Recipe, Schedule
from stepladder.report import style
from stepladder.store import Store
from stepladder.train import Silent, choose_execution
from stepladder.train.evaluate import evaluate
from stepladder.train.stacked.program import Threads
from stepladder.train.stacked.reference import reference_program
from stepladder.train.stacked.rows import Rows
from stepladder.train.stacked.trial import Trial, open_trial

HERE = Path(__file__).parent
COMMAND = "python evidence/make_batch_critical.py"
FIGURE = "evidence/batch_critical.svg"
RESULTS = HERE / "batch_critical.json"
STUDY = STUDIES["adamw"]
BATCHES = (4, 2, 8, 16, 32, 64)  # sequences; the base first, whose decays the others may keep
CHEAP = (4, 16, 32, 64)  # at the largest width: small batches take longest, and waste nothing
AVERAGED = (16, 64)  # batches at which the EMA rule is judged
RATES = (0.25, 0.5, 1.0)  # times the converted rate: constant ones are best below decaying ones
WINDOWS = tuple(2.0**-k for k in (6, 5, 4, 3, 2))  # of the run's tokens
LOOKED_AT = (0, 2)  # of the windows, looked at on the way
LOOKS = tuple(2.0 ** (-k / 2) for k in range(6, -1, -1))  # of the run's tokens
TARGET = 0.5  # of the run's tokens: the base batch's loss there
LOOK_TOKENS = 8192  # of the validation set, on the way
WARMUP = 0.05
SHARDS = 4  # micro-batches of a step that the noise scale is measured from
LEVEL = 0.9
RESAMPLES = 400
ENDS = {"value": "", "low": "_low", "high": "_high"}
Found = dict[str, Any]


class Averages:
    """Averages of all trials' weights, one a decay: sums that began at zero, and their weights."""

    def __init__(self, rows: Rows, decays: Sequence[float]) -> None:
        self.rows, self.decays, self.steps = rows, decays, 0
        self.sums = [[torch.zeros_like(s.values) for s in rows.segments] for _ in decays]

    def add(self) -> None:
        """Take a step's weights into every average."""
        self.steps += 1
        for decay, sums in zip(self.decays, self.sums, strict=True):
            for total, segment in zip(sums, self.rows.segments, strict=True):
                total.lerp_(segment.values, 1 - decay)

    @contextmanager
    def in_place(self, which: int) -> Iterator[None]:
        """The trials' models hold one average meanwhile."""
        kept = [segment.values.clone() for segment in self.rows.segments]
        whole = 1 - self.decays[which] ** self.steps
        for segment, total in zip(self.rows.segments, self.sums[which], strict=True):
            segment.values.copy_(total / whole)
        yield
        for segment, values in zip(self.rows.segments, kept, strict=True):
            segment.values.copy_(values)


def train(
    bench: Bench, recipes: Sequence[Recipe], decays: Sequence[float], looked_at: Sequence[int]
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Train recipes of one shape side by side, with averages of their weights.

    Args:
        looked_at: averages that are looked at on the way.

    Returns:
        Steps looked at; losses (looks, windows looked at, recipes) there; and losses of all
        averages (decays, recipes) at the end, on the whole validation set.
    """
    first = recipes[0]
    looks = sorted({round(share * first.steps) for share in LOOKS})
    execution, seen = choose_execution(first, "cpu"), []
    with TemporaryDirectory() as folder, Threads(execution) as threads:
        store, watch = Store(folder), Silent()
        trials = [open_trial(r, store, bench.dataset, execution, watch) for r in recipes]
        assert all(isinstance(trial, Trial) for trial in trials)
        program = reference_program(trials[0], len(trials), threads)
        for row, trial in enumerate(trials):
            program.adopt(row, trial)
        program.shrink_to(len(trials))
        averages = Averages(program.rows, decays)
        for step in range(1, first.steps + 1):
            for trial in trials:
                trial.set_rates()
            batches = zip(*(trial.batch(bench.dataset) for trial in trials), strict=True)
            program.step(trials, [torch.stack(part) for part in batches])
            averages.add()
            for trial in trials:
                trial.progress.step = step
            if step in looks:
                seen.append(losses(bench, trials, averages, looked_at, LOOK_TOKENS))
        final = losses(bench, trials, averages, range(len(decays)), first.validation)
        for trial in trials:
            trial.claim.close()
    return looks, np.array(seen), np.array(final)


def losses(
    bench: Bench, trials: Sequence[Trial], averages: Averages, which: Sequence[int], tokens: int
) -> list[list[float]]:
    """Validation losses of some averages, by average and trial."""
    x, y = bench.dataset.validation(bench.base.model.context, tokens)
    found = []
    for i in which:
        with averages.in_place(i):
            found.append([lost(trial, x, y) for trial in trials])
    return found


def lost(trial: Trial, x: Tensor, y: Tensor) -> float:
    """One model's loss; infinite where it diverged."""
    loss = evaluate(trial.model, x, y).loss
    return loss if math.isfinite(loss) else math.inf


def arms(tuned: Recipe, sequences: int) -> list[Recipe]:
    """The tuned recipe at a batch by the SDE rule, at a constant rate: every rate and seed."""
    given, batch = tuned.optimizer, sequences * tuned.model.context
    start = replace(
        STUDY.settings(tuned, given.lr), batch=tuned.batch, weight_decay=given.weight_decay
    )
    new = convert("sde", start, batch / tuned.batch)
    decay = given.lr * given.weight_decay * batch / tuned.batch  # rate x decay follows the batch
    at = replace(given, lr=new.lr, beta1=new.beta1, beta2=new.beta2, eps=new.eps)
    whole = replace(
        tuned,
        optimizer=replace(at, weight_decay=decay / at.lr),
        schedule=Schedule(name="constant", warmup=max(WARMUP, batch / tuned.tokens)),
        batch=batch,
        evaluations=1,
    )
    return [
        replace(tuned_to(whole, whole.optimizer.lr * rate), seed=seed)
        for rate in RATES
        for seed in range(SEEDS)
    ]


def measure_width(bench: Bench, tuned: Recipe) -> Found:
    """Looks and ends at every batch, and the noise scale, at one width.

    Args:
        tuned: the recipe at the base batch of its width.
    """
    context, kept, batches = tuned.model.context, [], []
    largest = tuned.model.width >= round(SCALES[-1] * WIDTH)
    for sequences in CHEAP if largest else BATCHES:
        made = arms(tuned, sequences)
        k = sequences * context / tuned.batch
        decays = [float(decay_of(window, tuned)) ** k for window in WINDOWS]
        judged = sequences in (BATCHES[0], *AVERAGED)
        looks, seen, final = train(
            bench,
            made,
            decays + kept if judged else [decays[i] for i in LOOKED_AT],
            LOOKED_AT if judged else range(len(LOOKED_AT)),
        )
        shape = (-1, len(RATES), SEEDS)
        batches.append(
            {
                "batch": made[0].batch,
                "tokens": [step * made[0].batch for step in looks],
                "seen": [one.reshape(shape).tolist() for one in seen],
                "final": final.reshape(shape).tolist(),
            }
        )
        if not kept:
            kept = [decay_of(window, tuned) for window in WINDOWS]
    return {
        "width": tuned.model.width,
        "tokens": tuned.tokens,
        "base_batch": tuned.batch,
        "compute": compute(tuned),
        "batches": batches,
        "noise": noise_scales(bench, tuned),
    }


def decay_of(window: float, tuned: Recipe) -> float:
    """Of an average over a share of the run, at its base batch."""
    return 1 - tuned.batch / (window * tuned.tokens)


def noise_scales(bench: Bench, tuned: Recipe) -> list[list[Found]]:
    """What runs of a decaying rate note at each quarter, by seed: tokens, with 90% intervals."""
    unit = SHARDS * tuned.model.context
    batch = max(1, round(tuned.batch / unit)) * unit
    recipe = replace(tuned, batch=batch, accumulate=SHARDS, evaluations=4)
    found = []
    for seed in range(SEEDS):
        one = replace(recipe, seed=seed)
        store = bench.stacked.store
        run_here([("", one)], store, bench.dataset, lambda _, __: Silent(), "cpu")
        stored = store.get(one.key)
        assert stored is not None
        found.append(
            [
                {name: row[f"noise_scale{end}"] for name, end in ENDS.items()}
                for row in stored.curve
                if "noise_scale" in row
            ]
        )
    return found


def to_target(found: Found) -> tuple[float, list[float]]:
    """The target of a width, and the tokens in which each batch reaches it; infinite if never."""
    curves = [(np.array(one["tokens"]), envelope(one)) for one in found["batches"]]
    tokens, losses = curves[0]  # of the base batch
    target = float(np.interp(math.log(TARGET * found["tokens"]), np.log(tokens), losses))
    return target, [crossing(tokens, losses, target) for tokens, losses in curves]


def envelope(one: Found) -> np.ndarray:
    """The best mean loss of any average and rate, at each look."""
    means = array(one["seen"]).mean(axis=-1)  # looks, averages, rates
    lowest: np.ndarray = np.minimum.accumulate(means.min(axis=(1, 2)))
    return lowest


def crossing(tokens: np.ndarray, losses: np.ndarray, target: float) -> float:
    """Tokens at which losses that fall reach a target, in the logarithm between two looks."""
    if losses[-1] > target:
        return math.inf
    return float(np.exp(np.interp(-target, -losses, np.log(tokens))))


def critical_of(found: Found) -> Found:
    """The critical batch of a width, in tokens, from the batches that reach the target."""
    target, tokens = to_target(found)
    pairs = [
        (one["batch"], need / one["batch"])
        for one, need in zip(found["batches"], tokens, strict=True)
        if math.isfinite(need)
    ]
    batches, steps = zip(*sorted(pairs), strict=True)
    smallest = min(BATCHES) * found["batches"][0]["batch"] / BATCHES[0]
    limit = critical_batch(batches, steps, optimal=smallest, resamples=RESAMPLES)
    return {
        "target": target,
        "batches": batches,
        "steps": steps,
        **asdict(limit),
        "read_off": read_off(np.array(batches), np.array(steps)),
    }


def read_off(batches: np.ndarray, steps: np.ndarray) -> float | None:
    """Where tokens pass 1.2 times those of the smallest batch measured, between two batches."""
    wasted = np.log(batches * steps / (batches[0] * steps[0]))
    above = np.flatnonzero(wasted > math.log(1.2))
    if not len(above):
        return None
    ends = slice(above[0] - 1, above[0] + 1)
    return float(np.exp(np.interp(math.log(1.2), wasted[ends], np.log(batches[ends]))))


def ema(widths: Sequence[Found]) -> dict[str, dict[str, Found]]:
    """Decays by the rule, and kept, against the best at larger batches: multipliers over widths.

    The decay that both start from, and the rate, are the best at the base batch and the smallest
    width; the best decay at a larger batch is chosen there too, at the SDE rule's rate.
    """
    first = array(widths[0]["batches"][0]["final"]).mean(axis=-1)
    base, rate = np.unravel_index(first.argmin(), first.shape)
    out: dict[str, dict[str, Found]] = {"base": {"window": WINDOWS[base], "rate": RATES[rate]}}
    for sequences in AVERAGED:
        final = [array(at_batch(found, sequences)["final"])[:, rate] for found in widths]
        best = int(final[0].mean(axis=-1).argmin())
        out[str(sequences)] = {
            name: against(widths, [one[best] for one in final], [one[which] for one in final])
            for name, which in (("rule", int(base)), ("kept", len(WINDOWS) + int(base)))
        }
    return out


def at_batch(found: Found, sequences: int) -> Found:
    """A width's runs at one batch."""
    context = found["batches"][0]["batch"] // BATCHES[0]
    (one,) = (one for one in found["batches"] if one["batch"] == sequences * context)
    return dict(one)


def against(
    widths: Sequence[Found], best: Sequence[np.ndarray], own: Sequence[np.ndarray]
) -> Found:
    """A decay against the best, losses (seeds) by width."""
    x = np.array([[found["compute"] for found in widths]] * 2)
    made = estimate(x, means_of(np.array([best, own])), level=LEVEL)
    return {
        "verdict": verdict(made, float(x[0, -1] / x[0, 0])),
        "multiplier": asdict(made.mean),
        "loss": [float(np.mean(o) / np.mean(b)) for o, b in zip(own, best, strict=True)],
    }


def concluded(report: Found) -> Found:
    """The report with what follows from its widths."""
    widths = [{**found, "critical": critical_of(found)} for found in report["widths"]]
    whole = len(widths) == len(SCALES)
    return {"widths": widths, **({"ema": ema(widths)} if whole else {})}


def keep(report: Found) -> None:
    """A line each in the catalogue."""
    widths = report["widths"]

    def put(name: str, said: str) -> None:
        record("batching", name, Evidence(result=said, command=COMMAND, figure=FIGURE))

    limits = "; ".join(f"{limit_said(one['critical'])} at width {one['width']}" for one in widths)
    betas = f"betas by the SDE rule from {STUDY.beta1:g} and {STUDY.beta2:g}"
    sizes = f"batches of {min(BATCHES)} to {max(BATCHES)} sequences"
    where = f"stdlib, AdamW, {betas}, {SEEDS} seeds, {sizes}"
    put(
        "critical-batch",
        f"{limits}: from the tokens to the loss that a batch of {BATCHES[0]} sequences has after "
        f"half of them ({where})",
    )
    wasted = ", ".join(seen_said(one["critical"]) for one in widths)
    scales = "; ".join(f"{quarters_said(one)} at width {one['width']}" for one in widths)
    put(
        "noise-scale",
        f"tokens, over the quarters of runs: {scales} (median of {SEEDS} seeds; stdlib, AdamW), "
        f"where batches waste 20% from {wasted} on",
    )
    put("ema", "; ".join(ema_said(report, sequences) for sequences in AVERAGED) + f" ({where})")


def limit_said(limit: Found) -> str:
    """A critical batch by the law steps = a + b / batch, and as read off between batches."""
    high = "unbounded" if limit["high"] is None else f"{limit['high']:.0f}"
    interval = f"{limit['low']:.0f} to {high}, 90%"
    return f"{limit['batch']:.0f} tokens ({interval}; 20% seen at {seen_said(limit)})"


def seen_said(limit: Found) -> str:
    """The critical batch as read off."""
    return f"{limit['read_off']:.0f}" if limit["read_off"] else "more than was measured"


def ema_said(report: Found, sequences: int) -> str:
    """Both decays at a batch."""
    rule, kept = (report["ema"][str(sequences)][name] for name in ("rule", "kept"))
    first, *_, last = (
        at_batch(one, sequences)["batch"] / one["base_batch"] for one in report["widths"]
    )
    same = max(rule["loss"]) == min(rule["loss"]) == 1
    return (
        f"batch x {first:.2g} (x {last:.2g} at the largest width), against the best of "
        f"{len(WINDOWS)} decays there: the rule {'is that best' if same else rule['verdict']}; a "
        f"decay kept {kept['verdict']}"
    )


def array(written: Any) -> np.ndarray:
    """Numbers of the file, where what is infinite stands as null."""
    return np.nan_to_num(np.array(written, dtype=float), nan=np.inf, posinf=np.inf)


def noise_of(found: Found) -> np.ndarray:
    """A width's noise scales, by seed and quarter."""
    return array([[row["value"] for row in seed] for seed in found["noise"]])


def quarters_said(found: Found) -> str:
    """A width's noise scale in each quarter, the median over seeds."""
    quarters = np.median(noise_of(found), axis=0)
    return ", ".join(f"{q:.0f}" if math.isfinite(q) else "unbounded" for q in quarters)


def draw(report: Found) -> Figure:
    """Left: tokens to the target over the batch. Right: what averages lose."""
    title = "Batches up to some 2,000 tokens waste nothing; the noise scale agrees"
    made, (left, right) = style.figure(title, panels=2)
    widths = report["widths"]
    for found, colour in zip(widths, style.shades(len(widths)), strict=True):
        limit = found["critical"]
        batches, steps = np.array(limit["batches"]), np.array(limit["steps"])
        ideal = limit["least_steps"] * batches[0] + limit["samples"]
        left.loglog(batches, batches * steps / ideal, "o", color=colour, ms=6)
        x = np.geomspace(batches[0], batches[-1], 100)
        left.loglog(x, (limit["least_steps"] * x + limit["samples"]) / ideal, color=colour, lw=1.6,
                    label=f"width {found['width']}")  # fmt: skip
        if limit["read_off"]:
            left.axvline(limit["read_off"], color=colour, lw=1.2, ls=":")
    left.axhline(1.2, color=style.LIGHT["muted"], lw=1, ls="--")
    left.set_yticks([1, 1.2, 1.5, 2, 3, 4], ["1", "1.2", "1.5", "2", "3", "4"])
    every = widths[0]["critical"]["batches"]
    left.set_xticks(every, [str(batch) for batch in every])
    left.minorticks_off()
    left.set_xlabel("tokens a batch (dotted: 20% seen wasted)")
    left.set_ylabel("tokens to the target, over the law's at the smallest batch")
    left.legend(frameon=False, fontsize=9)
    noise(right, widths)
    return made


def noise(axes: Axes, widths: Sequence[Found]) -> None:
    """The noise scale along the runs, and the critical batch as a dashed line."""
    for found, colour in zip(widths, style.shades(len(widths)), strict=True):
        values = noise_of(found)
        quarters = np.arange(1, values.shape[1] + 1) / values.shape[1]
        axes.semilogy(quarters, np.median(values, axis=0), "o-", color=colour, ms=5, lw=1.6)
        if found["critical"]["read_off"]:
            axes.axhline(found["critical"]["read_off"], color=colour, lw=1.2, ls=":")
    axes.set_yticks([1000, 2000, 5000], ["1,000", "2,000", "5,000"])
    axes.minorticks_off()
    axes.set_xlabel("share of the run")
    axes.set_ylabel("noise scale (tokens; dotted: 20% seen wasted)")


def write(report: Found) -> None:
    """What there is, to the file."""
    write_whole(RESULTS, json.dumps(finite(report)) + "\n")


def main() -> None:
    """Measure what is missing, or record what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("widths", nargs="*", type=int, metavar="WIDTH")
    parser.add_argument("--root", type=Path, default=Path(gettempdir()) / "stepladder-batch")
    parser.add_argument("--record", action="store_true", help="do no runs: catalogue and figure")
    options = parser.parse_args()
    report: Found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"widths": []}
    if options.record:
        report = finite(concluded(report))
        write(report)
        keep(report)
        write_whole(HERE / "batch_critical.svg", style.svg(draw(report), "batch-critical"))
        return
    lr = json.loads(TRANSFER.read_text())["adamw"]["tuned"]["lr"]
    with Bench.open(options.root) as bench:
        base = STUDY.recipe(bench.base, STUDY.settings(bench.base, lr))
        for recipe, _ in rungs(base, base, SCALES):
            width = recipe.model.width
            there = {one["width"] for one in report["widths"]}
            if width in (options.widths or [width]) and width not in there:
                report["widths"].append(measure_width(bench, recipe))
                write(report)
                write(concluded(report))
                print(width, flush=True)


if __name__ == "__main__":
    main()
