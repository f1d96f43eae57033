"""Does a rule spare the search when batch or horizon change? Python's sources, 64x in batch.

    python evidence/make_batch_transfer.py [PART ...] [--root DIR] [--record]

The recipes of `make_compare.py`, without clipping, of which no rule speaks, and at half the batch:
4 sequences at the smallest width. AdamW and SGD with momentum are tuned there (five rates a factor
of two apart, two seeds), and again at a quarter to 16 times that batch, all but the rate kept: the
best rates are the law. At every batch the settings that each rule makes of those found at the base
are run as they are, three seeds at the smallest width; and at 4 and 16 times the batch through
`stepladder.compare`, with the lever as given, against the rate tuned anew, at three widths. Where a
seed of the tuned rate diverges there, it is tuned again on three times the seeds.

The betas of `adamw` were chosen so that the SDE rule can follow the batch up 16 times. Those of
`adamw-tuned` are the best of a grid with the rate at the base, two seeds, of those from which the
rule can follow 4 times. At 4 and 16 times the batch, rate and betas are also tuned anew, on a
smaller grid, and the rules compared with that too.

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
from itertools import pairwise, product
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
from hessian import top_of_hessian
from kept import reworded
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
from stepladder.comparing.search import FIRST_SEED, Search, Tuned, tune
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
TITLES = {
    "adamw": "AdamW (betas 0.95 and 0.995)",
    "adamw-tuned": "AdamW",
    "sgd": "SGD with momentum",
}
HEADINGS = {"adamw": "AdamW, long betas", "adamw-tuned": "AdamW, betas tuned", "sgd": "SGD"}
WIDTHS = f"widths {WIDTH} to {round(WIDTH * SCALES[-1])}"
SEQUENCES = BATCH // 2  # of a base batch
FACTORS = (0.25, 1.0, 4.0, 16.0)
CLIMBED = (4.0, 16.0)
SEARCH = Search(rates=5, seeds=2)
STEADY = Search(rates=5, seeds=6)  # where a seed of the best rate diverges
# 1 - beta a factor of two apart, and of four; at larger batches those that are not far off
BETAS = ((0.95, 0.9, 0.8, 0.6, 0.2), (0.995, 0.98, 0.92, 0.68))
FEWER_BETAS = ((0.8, 0.6, 0.2), (0.995, 0.98, 0.92))
BETA_RATES = (0.5, 1.0, 2.0)  # times the study's, tried with each pair of betas
FOLLOWED = 4.0  # times the batch, which the SDE rule must be able to follow from tuned betas
SHORT = 4  # times fewer tokens, where Time Transfer starts
MATRICES = 8  # batches of each size whose Hessian is looked at
CURVED = tuple(SEQUENCES * factor for factor in (1, 4, 16))  # sequences
UNSEEN = 999  # seed of their order
LEVEL = 0.9
ALL = "rate and betas anew"
TOP = 1.42  # of the losses drawn, over the best base's
Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Study:
    """An optimizer at the base batch: the middle of its rates there, what decays, and the rules.

    `tunes_betas` takes those of a grid at the base instead of its own.
    """

    optimizer: str
    lr: float
    beta1: float
    beta2: float
    shrink: float
    rules: tuple[str, ...]
    tunes_betas: bool = False

    def with_betas(self, found: Found) -> "Study":
        """The study at betas that were found on a grid."""
        return replace(self, beta1=found["beta1"], beta2=found["beta2"])

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


ADAMW = Study(
    optimizer="adamw",
    lr=2.0**-4.5,
    beta1=0.95,
    beta2=0.995,
    shrink=SHRINK * SEQUENCES / BATCH,
    rules=("unchanged", "sqrt", "sde", "random-matrix"),
)
TUNED = "adamw-tuned"
STUDIES = {
    "adamw": ADAMW,
    TUNED: replace(ADAMW, rules=("unchanged", "sqrt", "sde"), tunes_betas=True),
    "sgd": Study(
        optimizer="sgd",
        lr=0.5,
        beta1=0.9,
        beta2=0.0,
        shrink=0.0,
        rules=("unchanged", "linear", "random-matrix"),
    ),
}


BETAS_ANEW = {factor: f"betas@{factor:g}" for factor in CLIMBED}
PARTS = (
    *STUDIES,
    *(f"{name}@{factor:g}" for name in STUDIES for factor in FACTORS),
    *BETAS_ANEW.values(),
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


def tuned_at(
    bench: Bench, study: Study, factor: float, tokens: float = 1.0, search: Search = SEARCH
) -> Tuned:
    """The rate tuned at a factor of the base batch and of the tokens, all else kept."""
    start = study.settings(bench.base, study.lr * factor**0.5)
    assert start.tokens is not None
    there = replace(start, batch=start.batch * factor, tokens=start.tokens * tokens)
    (found,) = tune([study.recipe(bench.base, there)], search, bench.stacked.run)
    return found


def tried_betas(
    bench: Bench, study: Study, factor: float, betas: Sequence[Sequence[float]]
) -> list[Found]:
    """Every pair of betas with every rate at a batch, on tuning seeds."""
    tried, recipes = [], []
    for beta1, beta2, rate in product(*betas, BETA_RATES):
        own = study.with_betas({"beta1": beta1, "beta2": beta2})
        start = own.settings(bench.base, study.lr * rate * factor**0.5)
        recipe = own.recipe(bench.base, replace(start, batch=start.batch * factor))
        seeds = range(recipe.seed + FIRST_SEED, recipe.seed + FIRST_SEED + SEARCH.seeds)
        recipes += [replace(recipe, seed=seed) for seed in seeds]
        tried.append({"beta1": beta1, "beta2": beta2, "lr": start.lr})
    losses = [result["loss"] for result in bench.stacked.run([("", one) for one in recipes])]
    return [
        {**one, "losses": losses[i * SEARCH.seeds : (i + 1) * SEARCH.seeds]}
        for i, one in enumerate(tried)
    ]


def lowest(tried: Sequence[Found], followed: float = 1.0) -> Found:
    """The best of a grid, of those that the SDE rule can follow so many times the batch."""
    able = [
        one for one in tried if None not in one["losses"] and followed <= reach_of(one) * (1 + 1e-9)
    ]
    return min(able, key=lambda one: float(np.mean(one["losses"])))


def reach_of(betas: Found) -> float:
    """Times the batch at which the SDE rule's first beta is zero."""
    return 1 / (1 - min(betas["beta1"], betas["beta2"]))


def measure_base(bench: Bench, study: Study) -> Found:
    """The settings tuned at the base, and random-matrix theory's two numbers there."""
    found: Found = {}
    if study.tunes_betas:
        tried = tried_betas(bench, study, 1.0, BETAS)
        chosen = lowest(tried, FOLLOWED)
        found["betas"] = {"chosen": chosen, "best": lowest(tried), "tried": tried}
        study = study.with_betas(chosen)
    tuned = tuned_at(bench, study, 1.0)
    found["tuned"] = summary(tuned)
    if "random-matrix" in study.rules:
        found["curvature"] = curvature(bench, study, tuned.lr)
    return found


def measure_batch(bench: Bench, study: Study, factor: float, base: Found) -> Found:
    """What the rules make of the base's settings at a batch, against the rate tuned there."""
    if study.tunes_betas:
        study = study.with_betas(base["betas"]["chosen"])
    levers, refused = converted(bench, study, factor, base)
    tuned, best, search = steady(bench, study, factor)
    anew = tuned.chosen.recipe
    found: Found = {"batch": anew.batch, "steps": anew.steps, "tuned": summary(tuned)}
    found |= {"tuning_seeds": search.seeds, "best": best, "rules": dict(refused)}
    losses = bench.losses(list(levers.values()))
    for (rule, lever), own in zip(levers.items(), losses, strict=True):
        found["rules"][rule] = {"lr": lever.optimizer.lr, "losses": own}
    if factor in CLIMBED:
        for rule, content in climbed(bench, tuned, levers, search).items():
            found["rules"][rule] |= content
    return found


def steady(bench: Bench, study: Study, factor: float) -> tuple[Tuned, list[float | None], Search]:
    """The rate tuned at a batch and the rungs' losses at it; on more seeds where one diverges."""
    for search in (SEARCH, STEADY):
        tuned = tuned_at(bench, study, factor, search=search)
        (best,) = bench.losses([tuned_to(tuned.chosen.recipe, tuned.lr)])
        if None not in best:
            break
    return tuned, best, search


def measure_betas(bench: Bench, factor: float, report: Mapping[str, Found]) -> Found:
    """Levers against rate and betas tuned anew at a batch; the rate alone tuned anew is one."""
    base, there = report[TUNED], report[f"{TUNED}@{factor:g}"]
    given = STUDIES[TUNED].with_betas(base["betas"]["chosen"])
    levers, _ = converted(bench, given, factor, base)
    start = given.settings(bench.base, given.lr * factor**0.5)
    middle = given.recipe(bench.base, replace(start, batch=start.batch * factor))
    levers["rate anew"] = tuned_to(middle, there["tuned"]["lr"])
    tried = tried_betas(bench, given, factor, FEWER_BETAS)
    chosen = lowest(tried)
    tuned, best, search = steady(bench, given.with_betas(chosen), factor)
    return {
        "betas": {"chosen": chosen, "tried": tried},
        "tuned": summary(tuned),
        "best": best,
        "rules": climbed(bench, tuned, levers, search),
    }


def converted(
    bench: Bench, study: Study, factor: float, base: Found
) -> tuple[dict[str, Recipe], dict[str, Found]]:
    """The base's tuned settings at another batch, by each rule; and why a rule refuses."""
    start = study.settings(bench.base, base["tuned"]["lr"])
    law = base.get("curvature", {})
    options = {
        "random-matrix": {
            "curvature": law.get("curvature"),
            "noise": law.get("noise"),
            "adaptive": study.optimizer != "sgd",
        }
    }
    levers, refused = {}, {}
    for rule in study.rules:
        try:
            settings = convert(rule, start, factor, **options.get(rule, {}))
        except ValueError as error:
            refused[rule] = {"refused": str(error)}
        else:
            levers[rule] = study.recipe(bench.base, settings)
    return levers, refused


def climbed(
    bench: Bench, tuned: Tuned, levers: Mapping[str, Recipe], search: Search = SEARCH
) -> dict[str, Found]:
    """Each lever as given against what was tuned anew, at three widths."""
    anew = tuned.chosen.recipe
    arms = [(anew, tuned.lr), *((lever, lever.optimizer.lr) for lever in levers.values())]
    bench.losses(  # all at once, as `run` will ask for them
        [tuned_to(pair[1], lr) for arm, lr in arms for pair in rungs(anew, arm, SCALES)]
    )
    return {rule: compared(bench, anew, lever, search) for rule, lever in levers.items()}


def compared(bench: Bench, anew: Recipe, lever: Recipe, search: Search) -> Found:
    """One comparison: its verdict, multiplier and losses; or why there is none."""
    plan = make_plan(anew, lever, scales=SCALES, seeds=SEEDS, search=search, lever_as_given=True)
    try:
        content = run(plan, bench.stacked.run, level=LEVEL).to_json()
    except ValueError as error:
        return {"failed": str(error)}
    return {
        **{name: content[name] for name in ("verdict", "multiplier", "trend_per_decade")},
        "rungs": [
            {
                "width": rung["widths"][0],
                "batch": rung["batch"][0],
                "compute": rung["compute"],
                "losses": rung["losses"],
                "multipliers": {"compute": rung["multipliers"]["compute"]},
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
        "rules": climbed(bench, anew, levers),
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
        "trend_per_decade": asdict(made.trend),
        "baseline_lr": read("optim/muon")["tuning"]["base"]["lr"],
        "rungs": [
            {
                "width": recipe.model.width,
                "lr": recipe.optimizer.lr,
                "batch": recipe.batch,
                "baseline_batch": rung["batch"][0],
                "compute": list(both),
                "losses": [rung["losses"][0], own],
                "multipliers": {"compute": asdict(one)},
            }
            for recipe, rung, both, own, one in zip(
                levers, known, zip(*spent, strict=True), losses, made.rungs, strict=True
            )
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
    if part in BETAS_ANEW.values():
        return measure_betas(bench, float(factor), report)
    if not factor:
        return measure_base(bench, STUDIES[name])
    return measure_batch(bench, STUDIES[name], float(factor), report[name])


def over_base(report: Found, name: str, rule: str) -> list[float]:
    """Mean loss over the base's at every factor, under a rule, tuned anew (no rule) or with betas
    too (`ALL`); infinite where a seed diverged, not a number where a rule refused."""
    base = np.mean(report[f"{name}@1"]["best"])
    found = []
    for factor in FACTORS:
        own = losses_of(report, f"{name}@{factor:g}", rule)
        found.append(math.inf if None in own else float(np.mean(own or math.nan) / base))
    return found


def losses_of(report: Found, part: str, rule: str) -> list[float | None]:
    """Of the seeds at the smallest width; none where a rule refused, or nothing was tuned."""
    if rule == ALL:
        found = report.get(f"betas@{part.partition('@')[2]}", {}).get("best", [])
    else:
        found = report[part]["rules"][rule].get("losses", []) if rule else report[part]["best"]
    return list(found)


def effect_of(content: Found) -> str:
    """What a comparison says, what diverged, or why a rule refused."""
    if "refused" in content:
        why: str = content["refused"].partition(": ")[2]
        return f"refused, {why}"
    if "failed" not in content:
        said: str = content["verdict"]
        return said
    lost = sum(loss is None for loss in content.get("losses", []))
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


def tuned_said(report: Found, rule: str) -> str:
    """A rule's line where betas are tuned too."""
    chosen, best = report[TUNED]["betas"]["chosen"], report[TUNED]["betas"]["best"]
    return (
        f"betas tuned too, {pair(chosen)} (the best from which the SDE rule can follow "
        f"{FOLLOWED:g} times; the best of all, {pair(best)}, end it at {reach_of(best):.3g}): "
        f"{rule_said(report, TUNED, rule)}; against betas tuned anew too: "
        + "; ".join(all_said(report, factor, rule) for factor in CLIMBED)
        + f"; {losses_said(report, TUNED, rule)}"
    )


def all_said(report: Found, factor: float, rule: str) -> str:
    """A rule against rate and betas tuned anew."""
    found = report[BETAS_ANEW[factor]]
    content = found["rules"].get(rule) or report[f"{TUNED}@{factor:g}"]["rules"][rule]
    return f"batch x {factor:g} ({pair(found['betas']['chosen'])}): {effect_of(content)}"


def pair(betas: Found) -> str:
    """Both betas."""
    return f"{betas['beta1']:g} and {betas['beta2']:g}"


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
    if math.isnan(ratio):
        return "none"
    return f"{100 * (ratio - 1):+.1f}%" if math.isfinite(ratio) else "diverges"


def power(report: Found, name: str, low: float, high: float) -> str:
    """The power of the batch that the best rate goes as between two factors."""
    first, last = (report[f"{name}@{factor:g}"]["tuned"]["lr"] for factor in (low, high))
    return f"B^{math.log(last / first) / math.log(high / low):.2f}"


def keep(report: Found) -> None:
    """A line for each rule in the catalogue."""

    def put(rule: str, said: str, figure: str, command: str = COMMAND) -> None:
        said = f"{said} (stdlib, {WIDTHS}, {SEEDS} seeds)"
        record("batching", rule, Evidence(result=said, command=command, figure=figure))

    for rule, name in (("linear", "sgd"), ("sqrt", "adamw"), ("sde", "adamw")):
        went = ", ".join(
            f"{power(report, name, low, high)} from x {low:g} to x {high:g}"
            for low, high in pairwise(FACTORS)
        )
        said = f"{rule_said(report, name, rule)}; {losses_said(report, name, rule)}"
        put(rule, f"{said}; best rate (betas kept) {went}", LAWS)
    of_given = [name for name, study in STUDIES.items() if not study.tunes_betas]
    put("unchanged", "; ".join(rule_said(report, n, "unchanged") for n in of_given), LAWS)
    for rule in STUDIES[TUNED].rules:
        put(rule, tuned_said(report, rule), LAWS, f"{COMMAND} {TUNED} betas")
    law = report["adamw"]["curvature"]
    falls = 1 - law["top_eigenvalue"][-1] / law["top_eigenvalue"][0]
    put(
        "random-matrix",
        f"a batch's top eigenvalue falls by {100 * falls:.0f}% from {law['batches'][0]} to "
        f"{law['batches'][-1]} tokens (AdamW), so that the rule hardly moves the rate: "
        + "; ".join(rule_said(report, name, "random-matrix") for name in of_given),
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
        made = Figure(figsize=(11.5, 7.0), layout="constrained")
        axes = made.subplots(2, len(STUDIES), sharex=True, sharey="row")
    title = (
        "From tuned betas the SDE rule gains nothing, and ends early; "
        "SGD's linear rule holds up to the critical batch"
    )
    made.suptitle(title, x=0.012, ha="left", fontweight="bold", color=style.LIGHT["ink"])
    for (top, low), name in zip(axes.T, STUDIES, strict=True):
        rates(top, report, name)
        rules(low, report, name)
        top.set_title(HEADINGS[name], fontsize=11)
        low.set_xlabel("tokens a batch (band: critical batch, 90%)")
    axes[0, 0].set_ylabel("best rate over that at 4 sequences")
    axes[1, 0].set_ylabel("loss over tuned AdamW's at 4 sequences")
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
    """The loss over the best base's, under every rule and tuned anew; an arrow: it diverges."""
    batches, study = tokens_of(report, name), STUDIES[name]
    shown = {"": "rate tuned anew", **({ALL: ALL} if study.tunes_betas else {})}
    shown |= {rule: rule for rule in study.rules}
    base, best = (np.mean(report[f"{one}@1"]["best"]) for one in (name, TUNED))
    for i, (rule, label) in enumerate(shown.items()):
        lost = np.array(over_base(report, name, rule)) * base / best
        colour, line = COLOURS.get(rule, style.LIGHT["ink"]), "o:" if rule == ALL else "o-"
        axes.semilogx(batches, np.where(lost < TOP, lost, np.nan), line, color=colour, ms=4,
                      lw=1.6, label=label)  # fmt: skip
        gone = [batch for batch, ratio in zip(batches, lost, strict=True) if ratio >= TOP]
        axes.plot(gone, [TOP - 0.02 * (i + 1)] * len(gone), "^", color=colour, ms=7)
    axes.axhline(1.0, color=style.LIGHT["muted"], lw=1, zorder=1)
    axes.set_ylim(0.95, TOP)
    plain(axes, batches)
    axes.legend(frameon=False, fontsize=8, loc="upper center", handlelength=3)


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
        (f"{TUNED} {rule}, batch x {factor:g}, all anew", one)
        for factor, part in BETAS_ANEW.items()
        for rule, one in report[part]["rules"].items()
    ]
    shown += [
        (f"adamw {rule}, tokens x {SHORT}", one) for rule, one in report["horizon"]["rules"].items()
    ]
    shown.append(("step-law", report["step-law"]))
    contents = [{"name": f"batching/{said}", **one} for said, one in shown if "multiplier" in one]
    title = "Compute multiplier of a rule's settings as given over a rate, or all, tuned anew (90%)"
    return overview(contents, title, "the tuned rate")


def in_words_of_today(found: Found) -> Found:
    """The report with every verdict worded anew from its numbers."""
    return reworded(
        {k: in_words_of_today(v) if isinstance(v, dict) else v for k, v in found.items()}
    )


def record_all(report: Found) -> None:
    """Catalogue and figures."""
    keep(report)
    for path, made in ((LAWS, draw_laws(report)), (MULTIPLIERS, draw_multipliers(report))):
        write_whole(HERE.parent / path, style.svg(made, Path(path).stem))


def chosen(asked: Sequence[str]) -> list[str]:
    """The parts asked for, each with its batches; all where none is."""
    heads = {part.partition("@")[0] for part in PARTS}
    if unknown := set(asked) - heads - set(PARTS):
        raise SystemExit(f"there is no part {min(unknown)!r}; one of {', '.join(PARTS)}")
    return [part for part in PARTS if not asked or part in asked or part.partition("@")[0] in asked]


def main() -> None:
    """Measure what is missing, or record what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; adamw: also all adamw@..."
    )
    parser.add_argument("--root", type=Path, default=Path(gettempdir()) / "stepladder-batch")
    parser.add_argument("--record", action="store_true", help="do no runs: catalogue and figures")
    options = parser.parse_args()
    report: Found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if options.record:
        report = in_words_of_today(report)
        write_whole(RESULTS, json.dumps(report, indent=1) + "\n")
        record_all(report)
        return
    with Bench.open(options.root) as bench:
        for part in chosen(options.parts):
            if part not in report:
                report[part] = measure(bench, part, report)
                write_whole(RESULTS, json.dumps(finite(report), indent=1) + "\n")
                print(part, flush=True)


if __name__ == "__main__":
    main()
