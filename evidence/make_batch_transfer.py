"""Does a rule spare the search when batch or horizon change? Python's sources, 64x in batch.

    python evidence/make_batch_transfer.py [PART ...] [--root DIR] [--record]

The recipes of `make_compare.py`, without clipping, of which no rule speaks, and at half the batch:
4 sequences at the smallest width. AdamW and SGD with momentum are tuned there (five rates a factor
of two apart, two seeds), and again at a quarter to 16 times that batch, all but the rate kept: the
best rates are the law. At every batch the settings that each rule makes of those found at the base
are run as they are, three seeds at the smallest width; and at 4 and 16 times the batch through
`stepladder.compare`, with the lever as given, against the rate tuned anew, at three widths.

`horizon` tunes AdamW on a quarter of the tokens, and runs what Time Transfer makes of that rate,
and that rate itself, against the rate tuned on all of them. The critical batch that the rule asks
for is the one that `make_batch_critical.py` measures. `step-law` runs that law's rate and batch, in
the standard parametrization, against the baseline of `make_compare.py`.

Writes evidence/batch_transfer.json; what is there, or in --root, is not run again. With --record it
does no runs, but writes the catalogue and the figures.
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
from hessian import top_of_hessian
from make_batch_rules import COLOURS
from make_compare import BATCH, SCALES, SEEDS, SHRINK, TOKENIZER, WIDTH, baseline, overview, read
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stepladder.batching import Settings, convert
from stepladder.batching.horizon import step_law, time_transfer
from stepladder.batching.random_matrix import fitted_noise, top_eigenvalue
from stepladder.card import Evidence, record
from stepladder.comparing.growth import rungs, tuned_to
from stepladder.comparing.means import means_of
from stepladder.comparing.multiplier import estimate
from stepladder.comparing.plan import make_plan
from stepladder.comparing.running import run
from stepladder.comparing.search import Search, Tuned, tune
from stepladder.comparing.verdict import verdict
from stepladder.cost import cost, parameters
from stepladder.data import Dataset, prepare
from stepladder.durable import write_whole
from stepladder.execute.stacked import Stacked
from stepladder.ladder.tune import optimum
from stepladder.laws.result import finite
from stepladder.models.build import build
from stepladder.models.transformer import Transformer
from stepladder.recipe import Optimizer, Recipe, Schedule
from stepladder.report import style
from stepladder.store import Store
from stepladder.train import Silent
from stepladder.train.checkpoint import load_weights

HERE = Path(__file__).parent
COMMAND = "python evidence/make_batch_transfer.py"
RESULTS = HERE / "batch_transfer.json"
LAWS, MULTIPLIERS = "evidence/batch_transfer.svg", "evidence/batch_multipliers.svg"
TITLES = {"adamw": "AdamW", "sgd": "SGD with momentum"}
WIDTHS = f"widths {WIDTH} to {round(WIDTH * SCALES[-1])}"
SEQUENCES = BATCH // 2  # of a base batch
FACTORS = (0.25, 1.0, 4.0, 16.0)
CLIMBED = (4.0, 16.0)
SEARCH = Search(rates=5, seeds=2)
SHORT = 4  # times fewer tokens, where Time Transfer starts
MATRICES = 8  # batches of each size whose Hessian is looked at
CURVED = tuple(SEQUENCES * factor for factor in (1, 4, 16))  # sequences
UNSEEN = 999  # seed of their order
LEVEL = 0.9
TOP = 1.4  # of the losses drawn, over the base's
Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Study:
    """An optimizer at the base batch: the middle of its rates there, what decays, and the rules.

    Betas of AdamW are such that the SDE rule can follow the batch up 16 times.
    """

    optimizer: str
    lr: float
    beta1: float
    beta2: float
    shrink: float
    rules: tuple[str, ...]

    def settings(self, base: Recipe, lr: float) -> Settings:
        """What a rule converts."""
        return Settings(
            batch=base.batch * SEQUENCES / BATCH,
            lr=lr,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.shrink / lr,
            tokens=base.tokens,
        )

    def recipe(self, base: Recipe, settings: Settings) -> Recipe:
        """A run at some settings. Rate x decay follows batch and horizon, so that the weights
        forget the same share of the run, whatever a rule says of the rate."""
        assert settings.tokens is not None
        first = self.settings(base, settings.lr)
        shrink = self.shrink * settings.batch / first.batch * base.tokens / settings.tokens
        return replace(
            base,
            optimizer=Optimizer(
                name=self.optimizer,
                lr=settings.lr,
                weight_decay=shrink / settings.lr,
                beta1=settings.beta1,
                beta2=settings.beta2,
                eps=settings.eps,
                clip=0.0,
            ),
            batch=round(settings.batch),
            tokens=round(settings.tokens),
        )


STUDIES = {
    "adamw": Study(
        optimizer="adamw",
        lr=2.0**-4.5,
        beta1=0.95,
        beta2=0.995,
        shrink=SHRINK * SEQUENCES / BATCH,
        rules=("unchanged", "sqrt", "sde", "random-matrix"),
    ),
    "sgd": Study(
        optimizer="sgd",
        lr=0.5,
        beta1=0.9,
        beta2=0.0,
        shrink=0.0,
        rules=("unchanged", "linear", "random-matrix"),
    ),
}
PARTS = (
    *STUDIES,
    *(f"{name}@{factor:g}" for name in STUDIES for factor in FACTORS),
    "horizon",
    "step-law",
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where runs are made, each once, and what they start from."""

    base: Recipe
    dataset: Dataset
    stacked: Stacked

    @classmethod
    @contextmanager
    def open(cls, root: Path) -> Iterator["Bench"]:
        """The corpus, and one thread."""
        torch.set_num_threads(1)
        dataset = prepare("stdlib", TOKENIZER)
        store = Store(root / "runs")
        with Stacked(store, dataset, lambda _, __: Silent(), "cpu") as stacked:
            yield cls(base=baseline(dataset), dataset=dataset, stacked=stacked)

    def losses(self, recipes: Sequence[Recipe]) -> list[list[float | None]]:
        """Of each recipe's three seeds; None where one diverged."""
        asked = [("", replace(recipe, seed=s)) for recipe in recipes for s in range(SEEDS)]
        results = [result["loss"] for result in self.stacked.run(asked)]
        return [results[i : i + SEEDS] for i in range(0, len(results), SEEDS)]

    def weights(self, recipe: Recipe) -> Transformer:
        """The model that a run ends with."""
        self.stacked.run([("", recipe)])
        with self.stacked.store.claim(recipe.key, recipe.to_toml()) as made:
            latest = made.latest_checkpoint()
        assert latest is not None
        model, _ = build(recipe)
        load_weights(latest[1], model)
        return model


def tuned_at(bench: Bench, study: Study, factor: float, tokens: float = 1.0) -> Tuned:
    """The rate tuned at a factor of the base batch and of the tokens, all else kept."""
    start = study.settings(bench.base, study.lr * factor**0.5)
    assert start.tokens is not None
    there = replace(start, batch=start.batch * factor, tokens=start.tokens * tokens)
    (found,) = tune([study.recipe(bench.base, there)], SEARCH, bench.stacked.run)
    return found


def measure_base(bench: Bench, study: Study) -> Found:
    """The rate tuned at the base, and random-matrix theory's two numbers there."""
    found = tuned_at(bench, study, 1.0)
    return {"tuned": summary(found), "curvature": curvature(bench, study, found.lr)}


def measure_batch(bench: Bench, study: Study, factor: float, base: Found) -> Found:
    """What the rules make of the base's settings at a batch, against the rate tuned there."""
    tuned = tuned_at(bench, study, factor)
    anew, levers = tuned.chosen.recipe, converted(bench, study, factor, base)
    at_once = [tuned_to(replace(anew, evaluations=1), tuned.lr)]
    at_once += [replace(lever, evaluations=1) for lever in levers.values()]
    best, *losses = bench.losses(at_once)
    found: Found = {"batch": anew.batch, "steps": anew.steps, "tuned": summary(tuned)}
    found |= {"best": best, "rules": {}}
    for (rule, lever), own in zip(levers.items(), losses, strict=True):
        found["rules"][rule] = {"lr": lever.optimizer.lr, "losses": own}
    if factor in CLIMBED:
        for rule, content in climbed(bench, anew, tuned, levers).items():
            found["rules"][rule] |= content
    return found


def converted(bench: Bench, study: Study, factor: float, base: Found) -> dict[str, Recipe]:
    """The base's tuned settings at another batch, by each rule."""
    start = study.settings(bench.base, base["tuned"]["lr"])
    law = base["curvature"]
    options = {
        "random-matrix": {
            "curvature": law["curvature"],
            "noise": law["noise"],
            "adaptive": study.optimizer != "sgd",
        }
    }
    return {
        rule: study.recipe(bench.base, convert(rule, start, factor, **options.get(rule, {})))
        for rule in study.rules
    }


def climbed(
    bench: Bench, anew: Recipe, tuned: Tuned, levers: Mapping[str, Recipe]
) -> dict[str, Found]:
    """Each lever as given against the rate tuned anew, at three widths."""
    arms = {"anew": tuned_to(anew, tuned.lr), **levers}
    bench.losses([pair[1] for arm in arms.values() for pair in rungs(anew, arm, SCALES)])
    return {rule: compared(bench, anew, lever) for rule, lever in levers.items()}


def compared(bench: Bench, anew: Recipe, lever: Recipe) -> Found:
    """One comparison: its verdict, multiplier and losses; or why there is none."""
    plan = make_plan(anew, lever, scales=SCALES, seeds=SEEDS, search=SEARCH, lever_as_given=True)
    try:
        content = run(plan, bench.stacked.run, level=LEVEL).to_json()
    except ValueError as error:
        return {"failed": str(error)}
    return {
        "verdict": content["verdict"],
        "multiplier": content["multiplier"],
        "rungs": [
            {
                "width": rung["widths"][0],
                "batch": rung["batch"][0],
                "losses": rung["losses"],
                "multiplier": rung["multipliers"]["compute"],
            }
            for rung in content["rungs"]
        ],
    }


def summary(tuned: Tuned) -> Found:
    """A search as plain data."""
    losses = tuned.chosen.losses
    found = optimum(losses)
    return {
        "lr": tuned.lr,
        "low": found.low,
        "high": found.high,
        "at_edge": tuned.at_edge,
        "tried": [[rate, losses[rate]] for rate in sorted(losses)],
    }


def measure_horizon(bench: Bench, critical: float) -> Found:
    """AdamW tuned on a quarter of the tokens, carried to all of them.

    Args:
        critical: critical batch, in tokens, on all of them.
    """
    study = STUDIES["adamw"]
    short, anew = tuned_at(bench, study, 1.0, 1 / SHORT), tuned_at(bench, study, 1.0)
    batch = study.settings(bench.base, 1.0).batch
    factor = time_transfer(SHORT, batch=batch, critical=critical / SHORT)
    levers = {
        rule: study.recipe(bench.base, study.settings(bench.base, short.lr * by))
        for rule, by in (("unchanged", 1.0), ("time-transfer", factor))
    }
    return {
        "short": summary(short),
        "anew": summary(anew),
        "critical": critical,
        "factor": factor,
        "rules": climbed(bench, anew.chosen.recipe, anew, levers),
    }


def measure_step_law(bench: Bench) -> Found:
    """The law's rate and batch at each rung, against the baseline of `make_compare.py`."""
    known = read("optim/muon")["rungs"]  # every file has the same baseline
    pairs = rungs(bench.base, bench.base, SCALES)
    levers = [by_step_law(recipe) for recipe, _ in pairs]
    losses = bench.losses(levers)
    every = [rung["losses"][0] for rung in known]
    means = means_of(
        np.array([[one[:SEEDS] for one in every], losses], dtype=float),
        np.array([one[SEEDS:] for one in every]),
    )
    spent = [[rung["compute"][0] for rung in known], [compute(recipe) for recipe in levers]]
    made = estimate(np.array(spent), means, level=LEVEL)
    return {
        "verdict": verdict(made, spent[0][-1] / spent[0][0]),
        "multiplier": asdict(made.mean),
        "baseline_lr": read("optim/muon")["tuning"]["base"]["lr"],
        "rungs": [
            {
                "width": recipe.model.width,
                "lr": recipe.optimizer.lr,
                "batch": recipe.batch,
                "baseline_batch": rung["batch"][0],
                "losses": [rung["losses"][0], own],
                "multiplier": asdict(one),
            }
            for recipe, rung, own, one in zip(levers, known, losses, made.rungs, strict=True)
        ],
    }


def by_step_law(recipe: Recipe) -> Recipe:
    """A recipe with the law's rate and batch, stated at its own width as the law states them."""
    model = recipe.model
    lr, batch = step_law(parameters(model).non_embedding_with_head, recipe.tokens)
    own = replace(recipe.parametrization, rule="sp", base_width=model.width, base_depth=model.depth)
    return replace(
        recipe,
        optimizer=Optimizer(name="adamw", lr=lr, weight_decay=0.1, beta2=0.95),
        parametrization=own,
        batch=max(1, round(batch / model.context)) * model.context,
    )


def compute(recipe: Recipe) -> float:
    """FLOP of training, the optimizer's included, as a comparison counts them."""
    spent = cost(recipe)
    return spent.flops_total + spent.flops_optimizer


def curvature(bench: Bench, study: Study, lr: float) -> Found:
    """Top eigenvalues of batches' Hessians a quarter of the way, and random-matrix theory's.

    The law's two numbers: the eigenvalue of a batch as large as all that were looked at, and the
    noise, in squared eigenvalues x tokens, that fits the batches' best.
    """
    whole = study.recipe(bench.base, study.settings(bench.base, lr))
    held = Schedule(name="constant", warmup=0.1 * whole.tokens)
    model = bench.weights(replace(whole, schedule=held, tokens=whole.tokens // 4, evaluations=1))
    context = bench.base.model.context

    def eigenvalue(step: int, sequences: int) -> float:
        x, y = bench.dataset.batch(step, batch_sequences=sequences, context=context, seed=UNSEEN)
        return top_of_hessian(model.double(), x, y)

    measured = [float(np.mean([eigenvalue(i, n) for i in range(MATRICES)])) for n in CURVED]
    full = eigenvalue(0, MATRICES * CURVED[-1])
    batches = [n * context for n in CURVED]
    noise = fitted_noise(full, batches, measured)
    return {
        "batches": batches,
        "top_eigenvalue": measured,
        "predicted": [top_eigenvalue(full, noise, batch) for batch in batches],
        "curvature": full,
        "noise": noise,
    }


def measure(bench: Bench, part: str, report: Mapping[str, Found]) -> Found:
    """One part."""
    if part == "horizon":
        return measure_horizon(bench, critical_at_width()["batch"])
    if part == "step-law":
        return measure_step_law(bench)
    name, _, factor = part.partition("@")
    if not factor:
        return measure_base(bench, STUDIES[name])
    return measure_batch(bench, STUDIES[name], float(factor), report[name])


def over_base(report: Found, name: str, rule: str) -> list[float]:
    """Mean loss over the base's at every factor, under a rule or tuned anew (no rule); infinite
    where a seed diverged."""
    base = np.mean(report[f"{name}@1"]["best"])
    found = []
    for factor in FACTORS:
        part = report[f"{name}@{factor:g}"]
        own = part["rules"][rule]["losses"] if rule else part["best"]
        found.append(math.inf if None in own else float(np.mean(own) / base))
    return found


def effect_of(content: Found) -> str:
    """What a comparison says, or what diverged."""
    if "failed" not in content:
        said: str = content["verdict"]
        return said
    lost = sum(loss is None for loss in content["losses"])
    if lost:
        return f"diverged in {lost} of {SEEDS} seeds at width {WIDTH}"
    failed: str = content["failed"].partition(" with the rate")[0]
    return failed.replace("the baseline", "the rate tuned anew").removeprefix("the lever ")


def rule_said(report: Found, name: str, rule: str) -> str:
    """A rule's line of the catalogue."""
    climbed = "; ".join(
        f"batch x {factor:g}: {effect_of(report[f'{name}@{factor:g}']['rules'][rule])}"
        for factor in CLIMBED
    )
    return f"{TITLES[name]} tuned at {SEQUENCES} sequences, against the rate tuned anew: {climbed}"


def losses_said(report: Found, name: str, rule: str) -> str:
    """Losses over the base's at the smallest width, under a rule and tuned anew."""
    own, anew = over_base(report, name, rule), over_base(report, name, "")
    said = ", ".join(
        f"{share_of(a)} (tuned anew {share_of(b)}) at x {factor:g}"
        for factor, a, b in zip(FACTORS, own, anew, strict=True)
        if factor != 1
    )
    return f"loss at width {WIDTH} over that at the base batch: {said}"


def share_of(ratio: float) -> str:
    """A ratio of losses as a difference in percent."""
    return f"{100 * (ratio - 1):+.1f}%" if math.isfinite(ratio) else "diverges"


def power(report: Found, name: str, low: float, high: float) -> str:
    """The power of the batch that the best rate goes as between two factors."""
    first, last = (report[f"{name}@{factor:g}"]["tuned"]["lr"] for factor in (low, high))
    return f"B^{math.log(last / first) / math.log(high / low):.2f}"


def keep(report: Found) -> None:
    """A line for each rule in the catalogue."""

    def put(rule: str, said: str, figure: str) -> None:
        said = f"{said} (stdlib, {WIDTHS}, {SEEDS} seeds)"
        record("batching", rule, Evidence(result=said, command=COMMAND, figure=figure))

    for rule, name in (("linear", "sgd"), ("sqrt", "adamw"), ("sde", "adamw")):
        went = ", ".join(
            f"{power(report, name, low, high)} from x {low:g} to x {high:g}"
            for low, high in pairwise(FACTORS)
        )
        said = f"{rule_said(report, name, rule)}; {losses_said(report, name, rule)}"
        put(rule, f"{said}; best rate (betas kept) {went}", LAWS)
    put("unchanged", "; ".join(rule_said(report, n, "unchanged") for n in STUDIES), LAWS)
    law = report["adamw"]["curvature"]
    falls = 1 - law["top_eigenvalue"][-1] / law["top_eigenvalue"][0]
    put(
        "random-matrix",
        f"a batch's top eigenvalue falls by {100 * falls:.0f}% from {law['batches'][0]} to "
        f"{law['batches'][-1]} tokens (AdamW), so that the rule hardly moves the rate: "
        + "; ".join(rule_said(report, name, "random-matrix") for name in STUDIES),
        LAWS,
    )
    put("time-transfer", horizon_said(report["horizon"]), MULTIPLIERS)
    put("step-law", step_law_said(report["step-law"]), MULTIPLIERS)


def horizon_said(found: Found) -> str:
    """Time Transfer's line."""
    went = found["anew"]["lr"] / found["short"]["lr"]
    rule, still = (effect_of(found["rules"][name]) for name in ("time-transfer", "unchanged"))
    return (
        f"AdamW, {SHORT} times the tokens at one batch (critical, as measured: "
        f"{found['critical']:.0f} tokens): the rule takes the rate times {found['factor']:.2f}, "
        f"the best goes times {went:.2f}; against the rate tuned anew the rule {rule}; the rate "
        f"unchanged: {still}"
    )


def step_law_said(found: Found) -> str:
    """Step Law's line."""
    first, last = found["rungs"][0], found["rungs"][-1]
    return (
        f"AdamW at its rate and batch, far below the sizes that it was fitted to, against AdamW "
        f"tuned at batch {first['baseline_batch']}: {found['verdict']}; rate {first['lr']:.2g} and "
        f"{first['batch']} tokens at width {first['width']} (tuned: {found['baseline_lr']:.2g}), "
        f"{last['lr']:.2g} and {last['batch']} at {last['width']}"
    )


def draw_laws(report: Found) -> Figure:
    """Top: the best rate over the batch, with powers of it. Below: what each rule loses."""
    with rc_context(style.SETTINGS):
        made = Figure(figsize=(9.0, 7.0), layout="constrained")
        axes = made.subplots(2, len(STUDIES), sharex=True, sharey="row")
    title = "SGD's linear and Adam's SDE rule hold up to the critical batch, and not beyond"
    made.suptitle(title, x=0.012, ha="left", fontweight="bold", color=style.LIGHT["ink"])
    for (top, low), name in zip(axes.T, STUDIES, strict=True):
        rates(top, report, name)
        rules(low, report, name)
        top.set_title(f"{TITLES[name]}, stdlib, width {WIDTH}", fontsize=11)
        low.set_xlabel("tokens a batch (band: critical batch, 90%)")
    axes[0, 0].set_ylabel("best rate over that at 4 sequences")
    axes[1, 0].set_ylabel("loss over that at 4 sequences")
    return made


def rates(axes: Axes, report: Found, name: str) -> None:
    """The best rate with its interval, and lines of the rules."""
    found = [report[f"{name}@{factor:g}"]["tuned"] for factor in FACTORS]
    first = report[name]["tuned"]["lr"]
    batches = tokens_of(report, name)
    for exponent, rule in ((0.5, "sqrt"), (1.0, "linear")):
        axes.loglog(batches, np.array(FACTORS) ** exponent, "--", color=COLOURS[rule], lw=1.2)
        said, offset = ("batch", (-22, 0)) if exponent == 1 else ("root of it", (-2, -16))
        axes.annotate(said, (batches[-1], FACTORS[-1] ** exponent), offset, color=COLOURS[rule],
                      textcoords="offset points", ha="right", fontsize=8)  # fmt: skip
    best = np.array([one["lr"] for one in found]) / first
    ends = np.array([[one["low"], one["high"]] for one in found]).T / first
    bars = np.maximum([best - ends[0], ends[1] - best], 0)
    axes.errorbar(batches, best, yerr=bars, fmt="o-", color=style.LIGHT["ink"], ms=4.5, lw=1.6)
    axes.set_yticks([0.25, 0.5, 1, 2, 4, 8, 16], ["1/4", "1/2", "1", "2", "4", "8", "16"])
    plain(axes, batches)


def rules(axes: Axes, report: Found, name: str) -> None:
    """The loss under every rule, and tuned anew; an arrow where it diverges."""
    batches = tokens_of(report, name)
    for i, rule in enumerate(("", *STUDIES[name].rules)):
        lost = np.array(over_base(report, name, rule))
        colour = COLOURS[rule] if rule else style.LIGHT["ink"]
        axes.semilogx(batches, np.where(lost < TOP, lost, np.nan), "o-", color=colour, ms=4,
                      lw=1.6, label=rule or "tuned anew")  # fmt: skip
        gone = [batch for batch, ratio in zip(batches, lost, strict=True) if not ratio < TOP]
        axes.plot(gone, [TOP - 0.02 * (i + 1)] * len(gone), "^", color=colour, ms=7)
    axes.axhline(1.0, color=style.LIGHT["muted"], lw=1, zorder=1)
    axes.set_ylim(0.95, TOP)
    plain(axes, batches)
    axes.legend(frameon=False, fontsize=8, loc="upper center")


def plain(axes: Axes, batches: Sequence[int]) -> None:
    """Ticks that are batches, no frame; the critical batch."""
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=style.LIGHT["line"], lw=0.8)
    axes.set_axisbelow(True)
    limit = critical_at_width()
    axes.axvspan(limit["low"], limit["high"], color=style.LIGHT["band"], alpha=0.5, lw=0, zorder=0)


def tokens_of(report: Found, name: str) -> list[int]:
    """Batches in tokens at the smallest width."""
    return [report[f"{name}@{factor:g}"]["batch"] for factor in FACTORS]


def critical_at_width() -> Found:
    """The critical batch at the smallest width, of `make_batch_critical.py`."""
    found: Found = json.loads((HERE / "batch_critical.json").read_text())
    return found["widths"][0]["critical"]


def draw_multipliers(report: Found) -> Figure:
    """Every comparison's multiplier, the best on top."""
    shown = [
        (f"{name} {rule}, batch x {factor:g}", report[f"{name}@{factor:g}"]["rules"][rule])
        for name, study in STUDIES.items()
        for rule in study.rules
        for factor in CLIMBED
    ]
    shown += [
        (f"adamw {rule}, tokens x {SHORT}", one) for rule, one in report["horizon"]["rules"].items()
    ]
    shown.append(("step-law", report["step-law"]))
    contents = [
        {
            "name": f"batching/{said}",
            "multiplier": one["multiplier"],
            "rungs": [{"multipliers": {"compute": rung["multiplier"]}} for rung in one["rungs"]],
        }
        for said, one in shown
        if "multiplier" in one
    ]
    title = "Compute multiplier of a rule's settings as given over a rate tuned anew (90%)"
    return overview(contents, title, "the tuned rate")


def record_all(report: Found) -> None:
    """Catalogue and figures."""
    keep(report)
    for path, made in ((LAWS, draw_laws(report)), (MULTIPLIERS, draw_multipliers(report))):
        write_whole(HERE.parent / path, style.svg(made, Path(path).stem))


def main() -> None:
    """Measure what is missing, or record what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--root", type=Path, default=Path(gettempdir()) / "stepladder-batch")
    parser.add_argument("--record", action="store_true", help="do no runs: catalogue and figures")
    options = parser.parse_args()
    report: Found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.record:
        record_all(report)
        return
    with Bench.open(options.root) as bench:
        for part in options.parts or PARTS:
            if part not in report:
                report[part] = measure(bench, part, report)
                write_whole(RESULTS, json.dumps(finite(report), indent=1) + "\n")
                print(part, flush=True)


if __name__ == "__main__":
    main()
