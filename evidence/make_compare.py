"""What does each optimizer, schedule and batch save over AdamW with linear decay, and does it last?

    python evidence/make_compare.py [NAME ...] [--part 1/2] [--root DIR] [--record]

Every lever that a recipe can name, by `stepladder.compare`: the sources of Python's standard
library, context 64, 16 tokens a parameter, three widths, three seeds and nine more of the baseline
that all share, each recipe tuned by the same number of runs (five rates a factor of two apart
around its own, at the smallest width, more for both where the best is at an end). Rates at the
middle were found by a coarse search, a factor of eight apart, one short run each. Writes
evidence/compare/<family>-<name>.json as each is done, and the figures; what a file or --root holds
is not run again, so that it can be stopped at any time. `--record` does no runs: it puts what is
there into the catalogue and writes evidence/compare/table.json.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from kept import reworded

from stepladder.batching import Settings, convert
from stepladder.batching.horizon import step_law
from stepladder.card import Evidence, record
from stepladder.comparing.growth import tuned_to
from stepladder.comparing.plan import Plan, make_plan
from stepladder.comparing.running import run
from stepladder.comparing.search import FIRST_SEED, Search
from stepladder.comparing.verdict import effect_short
from stepladder.cost import parameters
from stepladder.data import Dataset, prepare
from stepladder.durable import write_whole
from stepladder.execute.stacked import Stacked
from stepladder.laws.result import finite
from stepladder.recipe import (
    Batching,
    Data,
    Model,
    Optimizer,
    Parametrization,
    Recipe,
    Schedule,
)
from stepladder.report import style
from stepladder.store import Busy, Store
from stepladder.train import Silent

HERE = Path(__file__).parent
OUT = HERE / "compare"
COMMAND = "python evidence/make_compare.py"
TOKENIZER = "bpe:512"  # half the head, and so half the cost, of the demo's 1024
CONTEXT, RATIO = 64, 16  # tokens a sequence, and a parameter
BATCH = 8  # sequences, at the smallest rung: some 300 steps
SCALES = (1.0, 4 / 3, 2.0)
WIDTH, SEEDS, BASELINE_SEEDS = 12, 3, 12
RATE, DECAY = 2.0**-4, 0.1  # of the baseline
SHRINK = RATE * DECAY  # rate x weight decay, the same for every method whose decay is decoupled


@dataclass(frozen=True, kw_only=True)
class Lever:
    """One change of the baseline. `decay` is rate x weight decay, 0 where it enters the gradient.

    `like` is the optimizer whose rates its own are assumed to scale like, where no card says.
    `tuning_seeds` of both arms: more than one where the best rate of one is close to diverging.
    """

    name: str
    lr: float = RATE
    decay: float = SHRINK
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-8
    params: Mapping[str, Any] = field(default_factory=dict)
    schedule: Schedule = field(default_factory=Schedule)
    like: str = ""
    batch: float = 1.0
    tokens: float = 1.0
    accumulate: int = 1
    batching: Batching = field(default_factory=Batching)
    rule: str = "completep"
    optimizer: str = "adamw"
    tuning_seeds: int = 1

    def recipe(self, base: Recipe) -> Recipe:
        """The baseline, changed."""
        unit = base.model.context * self.accumulate
        return replace(
            base,
            optimizer=Optimizer(
                name=self.optimizer,
                lr=self.lr,
                weight_decay=self.decay / self.lr,
                beta1=self.betas[0],
                beta2=self.betas[1],
                eps=self.eps,
                params=self.params,
            ),
            schedule=self.schedule,
            parametrization=replace(base.parametrization, scale_like=self.like, rule=self.rule),
            batch=max(1, round(base.batch * self.batch / unit)) * unit,
            tokens=round(base.tokens * self.tokens),
            accumulate=self.accumulate,
            batching=self.batching,
        )


def optimizer(name: str, exponent: float, **more: Any) -> Lever:
    """An optimizer with 2^exponent at the middle of its rates."""
    return Lever(name=f"optim/{name}", optimizer=name, lr=2.0**exponent, **more)


def schedule(name: str, warmup: float = 0.1, exponent: float = -4, **params: Any) -> Lever:
    """AdamW with another schedule."""
    return Lever(
        name=f"schedules/{name}",
        schedule=Schedule(name=name, warmup=warmup, params=params),
        lr=2.0**exponent,
    )


def batch(rule: str, factor: float) -> Lever:
    """AdamW at another batch, betas and epsilon by a rule; the rate is tuned anew in any case."""
    old = Settings(
        batch=1.0, lr=RATE, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=DECAY, tokens=1.0
    )
    new = convert(rule, old, factor)
    assert new.tokens is not None
    return Lever(
        name=f"batching/{rule}@{factor:g}",
        lr=new.lr,
        decay=SHRINK * factor / new.tokens,  # the memory stays, as a share of the run
        betas=(new.beta1, new.beta2),
        eps=new.eps,
        batch=factor,
        tokens=new.tokens,
    )


def growing(name: str, parts: int = 1, **params: Any) -> Lever:
    """AdamW with a batch that grows by a policy from half the baseline's to twice it."""
    return Lever(
        name=f"batching/{name}",
        batch=0.5,
        accumulate=parts,
        batching=Batching(name=name, params=params),
    )


TOKENS = 154_944  # of the smallest rung; a schedule that names them follows its recipe from there
CONSTANT = Schedule(name="constant", warmup=0.1)
LOW_RANK = {"rank": 4, "gap": 50}  # a third of the width; five bases a run

LEVERS = (
    optimizer("muon", -4),
    optimizer("lion", -5),
    schedule("cosine"),
    schedule("wsd"),
    optimizer("adam", -4, decay=0.0),
    optimizer("sgd", 1, decay=0.0),
    schedule("constant"),
    optimizer("schedule-free-adamw", -4, schedule=CONSTANT),
    optimizer("mars-adamw", -3, betas=(0.95, 0.99)),
    optimizer("laprop", -4),
    optimizer("adafactor", 0),
    optimizer("adam-atan2", -4),
    schedule("one-cycle", warmup=0.0),
    optimizer("lamb", -4, decay=0.0),
    optimizer("lars", 2, decay=0.0, tuning_seeds=3),
    schedule("inverse-sqrt"),
    optimizer("adamp", -4),
    batch("unchanged", 0.5),
    batch("sde", 0.5),
    batch("unchanged", 2.0),
    batch("sde", 2.0),
    schedule("polynomial"),
    schedule("infinite"),
    schedule("power", peak=RATE, batch=BATCH, tokens=TOKENS),
    schedule("step"),
    optimizer("mars-lion", -5, betas=(0.95, 0.99)),
    optimizer("innaprop", -4, like="adamw"),
    optimizer("adam-sn", -2, like="adamw"),
    optimizer("galore", -3, like="adamw", params=LOW_RANK),
    optimizer("fira", -3, like="adamw", params=LOW_RANK),
    optimizer("adam-snsm", -3, like="adamw", params=LOW_RANK),
    optimizer("adabound", -4, like="adamw"),
    optimizer("d-adapt-adam", 0, like="adamw", decay=DECAY),
    # It learns one rate for the whole model: its groups keep equal rates at every width.
    optimizer("d-adapt-sgd", 0, like="sgd", decay=0.0, rule="sp"),
    optimizer("schedule-free-sgd", 4, decay=0.0, schedule=CONSTANT),
    # Below c = 8 the cap acts at every step here, and SMAG is SGD with momentum.
    optimizer("smag", 3, like="sgd", decay=0.0, params={"c": 8.0}),
    optimizer("sania", -2, like="adamw", eps=0.1, decay=0.0),
    batch("regime-adaptation", 2.0),
    schedule("fedhyper", over="linear", sensitivity=0.1),
    growing("linear-ramp", end=4, until=0.5),
    growing("doubling", end=4),
    growing("norm-test", parts=4, eta=0.7, largest=4),
    growing("inner-product-test", parts=4, theta=0.9, nu=0.7, largest=4),
    growing("coordinate-norm-test", parts=4, eta=0.5, share=0.5, largest=4),
)


def baseline(dataset: Dataset) -> Recipe:
    """AdamW with linear decay to zero, at the smallest rung.

    The readout starts away from zero: methods whose steps are relative to a weight's own size
    could not move it otherwise.
    """
    model = Model(
        width=WIDTH,
        depth=2,
        heads=2,
        kv_heads=2,
        head_size=WIDTH // 2,
        mlp_width=32,
        context=CONTEXT,
        vocab_size=dataset.vocab_size,
    )
    tokens = RATIO * parameters(model).non_embedding_with_head
    assert tokens == TOKENS, tokens
    return Recipe(
        model=model,
        optimizer=Optimizer(lr=RATE, weight_decay=DECAY, beta2=0.99),
        tokens=tokens,
        batch=BATCH * CONTEXT,
        parametrization=Parametrization(
            base_width=WIDTH, base_depth=2, base_heads=2, readout_std=0.1
        ),
        data=Data(source="stdlib", tokenizer=TOKENIZER, fingerprint=dataset.fingerprint),
        validation=32_768,
        evaluations=1,
    )


class Patient:
    """An executor that waits where the other process is at a run that both want."""

    def __init__(self, stacked: Stacked) -> None:
        self.stacked = stacked

    def run(self, asked: Any) -> list[dict[str, Any]]:
        """As `Stacked.run`."""
        while True:
            try:
                return self.stacked.run(asked)
            except Busy:
                time.sleep(2.0)


class Remembering:
    """An executor that knows the results of some runs, by key, and lets another make the rest."""

    def __init__(self, known: dict[str, dict[str, Any]], executor: Patient) -> None:
        self.known, self.executor = known, executor

    def run(self, asked: Any) -> list[dict[str, Any]]:
        """As `Stacked.run`."""
        new = [(label, recipe) for label, recipe in asked if recipe.key not in self.known]
        made = {result["key"]: result for result in self.executor.run(new)} if new else {}
        return [(self.known | made)[recipe.key] for _, recipe in asked]


def held(plan: Plan, content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The results in a lever's file, by key: of its tuning and of its rungs."""
    found = {}
    for k, (name, arm) in enumerate((("base", plan.base), ("lever", plan.lever))):
        tuning = content["tuning"][name]
        (tried,) = tuning["tried"]  # no fields but the rate are tuned here
        for rate, losses in tried["losses"]:
            for i, loss in enumerate(losses):
                at = replace(tuned_to(arm, rate), seed=arm.seed + FIRST_SEED + i)
                found[at.key] = result(at, loss, math.nan)
        for pair, rung in zip(plan.rungs(), content["rungs"], strict=True):
            at = tuned_to(pair[k], tuning["lr"])
            for seed, loss in zip(plan.seeds + plan.more_seeds, rung["losses"][k], strict=False):
                one = replace(at, seed=seed)
                found[one.key] = result(one, loss, rung["seconds"][k])
    return found


def result(recipe: Recipe, loss: float | None, seconds: float) -> dict[str, Any]:
    """A run's result as the store gives it."""
    return {"key": recipe.key, "loss": loss, "diverged": loss is None, "seconds": seconds}


def measure(lever: Lever, base: Recipe, executor: Patient) -> dict[str, Any]:
    """One comparison as plain data; one that cannot be made says why."""
    start = time.monotonic()
    plan = plan_of(lever, base)
    before = read(lever.name)
    known = held(plan, before) if "rungs" in before and same_arms(plan, before) else {}
    try:
        content = run(plan, Remembering(known, executor).run).to_json()
    except ValueError as error:
        content = {"failed": str(error), **plan.to_dict()}
    took = round(before.get("took", 0) + time.monotonic() - start, 1)
    return {**content, "name": lever.name, "command": f"{COMMAND} {lever.name}", "took": took}


def plan_of(lever: Lever, base: Recipe) -> Plan:
    """What is run for a lever."""
    return make_plan(
        base,
        lever.recipe(base),
        scales=SCALES,
        seeds=SEEDS,
        baseline_seeds=BASELINE_SEEDS,
        search=Search(seeds=lever.tuning_seeds),
    )


def is_done(lever: Lever, base: Recipe) -> bool:
    """Whether the lever's file is of just this comparison."""
    plan, content = plan_of(lever, base), read(lever.name)
    every = content.get("seeds", []) + content.get("more_seeds", [])
    return same_arms(plan, content) and every == list(plan.seeds + plan.more_seeds)


def same_arms(plan: Plan, content: dict[str, Any]) -> bool:
    """Whether a file is of the plan's two recipes, and tuned as it says."""
    keys = [content.get(name, {}).get("key") for name in ("base", "lever")]
    seeds = content.get("search", {}).get("seeds")
    return (keys, seeds) == ([plan.base.key, plan.lever.key], plan.search.seeds)


def path_of(name: str) -> Path:
    """The file of a lever."""
    return OUT / f"{name.replace('/', '-')}.json"


def read(name: str) -> dict[str, Any]:
    """What is in the file of a lever; nothing where there is none."""
    file = path_of(name)
    return json.loads(file.read_text()) if file.exists() else {}


def write(content: dict[str, Any]) -> None:
    """The file of a lever."""
    write_whole(path_of(content["name"]), json.dumps(finite(content), indent=1) + "\n")


def measure_all(levers: list[Lever], root: Path) -> None:
    """Every lever that is not measured yet, one after another."""
    torch.set_num_threads(1)
    dataset = prepare("stdlib", TOKENIZER)
    base = baseline(dataset)
    with Stacked(Store(root / "runs"), dataset, lambda _, __: Silent(), "cpu") as stacked:
        for lever in levers:
            if not is_done(lever, base):
                content = measure(lever, base, Patient(stacked))
                write(content)
                print(f"{lever.name}: {said(content)} [{content['took']} s]", flush=True)


def said(content: dict[str, Any]) -> str:
    """The verdict, or why there is none."""
    return content.get("verdict") or f"no multiplier: {content['failed']}"


def measured() -> list[dict[str, Any]]:
    """What is there, in the order of the levers, with verdicts in the words of today."""
    return [reworded(content) for lever in LEVERS if (content := read(lever.name))]


def keep() -> None:
    """Table, figures and catalogue from the files that are there."""
    contents = measured()
    for content in contents:
        write(content)
    keep_baseline(len(contents))
    keep_step_law({content["name"]: content for content in contents})
    rows = [row(content) for content in contents]
    write_whole(OUT / "table.json", json.dumps(rows, indent=1) + "\n")
    for family in dict.fromkeys(content["name"].partition("/")[0] for content in contents):
        of = [c for c in contents if c["name"].startswith(family) and "verdict" in c]
        write_whole(OUT / f"{family}.svg", style.svg(overview(of, TITLE), family))
    for content in contents:
        family, _, name = content["name"].partition("/")
        name, _, factor = name.partition("@")
        batch = f"batch x {factor}, rate tuned anew: " if factor else ""
        record(
            family,
            name,
            Evidence(
                result=f"{batch}{said(content)} ({conditions(content)})",
                command=content["command"],
                figure=f"evidence/compare/{family}.svg",
            ),
        )


def keep_baseline(levers: int) -> None:
    """What everything else was read against has no multiplier of its own."""
    said = f"the baseline of {levers} comparisons (widths {WIDTH} to {round(WIDTH * SCALES[-1])})"
    evidence = Evidence(result=said, command=COMMAND, figure="evidence/compare/schedules.svg")
    for family, name in (("optim", "adamw"), ("schedules", "linear")):
        record(family, name, evidence)


def keep_step_law(contents: dict[str, dict[str, Any]]) -> None:
    """What Step Law says of the smallest rung, beside what was best there."""
    base = contents["optim/muon"]["base"]["recipe"]
    params = parameters(Recipe.from_dict(base).model).non_embedding_with_head
    lr, batch = step_law(params, base["tokens"])
    half, twice = (
        effect_short(rung["multipliers"]["compute"]["value"])
        for rung in (
            contents[f"batching/unchanged@{factor}"]["rungs"][0] for factor in ("0.5", "2")
        )
    )
    said = (
        f"AdamW at width {WIDTH} ({params:,} parameters, {base['tokens']:,} tokens; the law was "
        f"fitted to far larger ones): it says rate {lr:.2g} and batch {batch:.0f} tokens; tuned at "
        f"batch {base['batch']}, the best rate is "
        f"{contents['optim/muon']['tuning']['base']['lr']:.2g}; "
        f"in compute half that batch {half}, twice {twice}"
    )
    evidence = Evidence(result=said, command=COMMAND, figure="evidence/compare/batching.svg")
    record("batching", "step-law", evidence)


def conditions(content: dict[str, Any]) -> str:
    """Against what, and where."""
    widths = f"widths {WIDTH} to {round(WIDTH * SCALES[-1])}"
    seeds = f"{SEEDS} seeds, {BASELINE_SEEDS} of the baseline"
    return f"against AdamW with linear decay, tuned equally; stdlib, {widths}, {seeds}"


def row(content: dict[str, Any]) -> dict[str, Any]:
    """A lever's line of the table."""
    if "failed" in content:
        return {"name": content["name"], "verdict": said(content)}
    return {
        "name": content["name"],
        "verdict": content["verdict"],
        "compute": content["means"]["compute"],
        "rungs": [rung["multipliers"]["compute"]["value"] for rung in content["rungs"]],
        "trend_per_decade": content["trend_per_decade"],
        "tokens": content["means"]["tokens"]["value"],
        "seconds": content["means"].get("seconds", {}).get("value"),
        "loss_difference": [rung["loss_difference"]["value"] for rung in content["rungs"]],
        "memory": [rung["memory"][1] / rung["memory"][0] for rung in content["rungs"]][-1],
        "lr": content["tuning"]["lever"]["lr"],
        "at_edge": content["tuning"]["lever"]["at_edge"],
        "tuning_runs": content["spent"]["tuning_runs"],
    }


def overview(contents: list[dict[str, Any]], title: str, against: str = "AdamW") -> Any:
    """Compute multipliers with their intervals, the best on top."""
    light = style.LIGHT
    made, (axes,) = style.figure(title)
    ordered = sorted(contents, key=lambda c: c["multiplier"]["value"])
    axes.axvline(1.0, color=light["muted"], lw=1.2, zorder=2)
    for y, content in enumerate(ordered):
        m = content["multiplier"]
        axes.plot([m["low"], m["high"]], [y, y], color=light["law"], lw=3, zorder=3)
        values = [rung["multipliers"]["compute"]["value"] for rung in content["rungs"]]
        axes.scatter(values, [y] * len(values), s=12, color=light["run"], lw=0, zorder=4)
        axes.scatter([m["value"]], [y], s=34, color=light["outcome"], lw=0, zorder=5)
    axes.set_xscale("log")
    shown = [c["multiplier"]["value"] for c in ordered]
    shown += [rung["multipliers"]["compute"]["value"] for c in ordered for rung in c["rungs"]]
    shown = [value for value in shown if isinstance(value, float) and 0 < value < math.inf]
    axes.set_xlim(min([0.7, *shown]) / 1.3, max([1.4, *shown]) * 1.3)  # some bars go on beyond
    ticks = [tick for tick in TICKS if axes.get_xlim()[0] < tick < axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    names = [content["name"].partition("/")[2] for content in ordered]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel(
        f"times the lever's compute that {against} needs\n(small dots: the three rungs)"
    )
    return made


TITLE = "Compute multiplier over AdamW with linear decay, Python's sources (90%)"
TICKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0)


def chosen(names: list[str], part: str) -> list[Lever]:
    """The levers asked for: by name, and every n-th."""
    known = {lever.name for lever in LEVERS}
    if unknown := set(names) - known:
        raise SystemExit(f"there is no lever {min(unknown)!r}; one of {', '.join(sorted(known))}")
    index, count = map(int, part.split("/"))
    levers = [lever for lever in LEVERS if not names or lever.name in names]
    return levers[index - 1 :: count]


def main() -> None:
    """Measure, or record what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--part", default="1/1", help="of the levers, as 1/2: for two processes")
    parser.add_argument("--root", type=Path, default=Path("/tmp/stepladder-compare"))
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    if given.record:
        keep()
    else:
        measure_all(chosen(given.names, given.part), given.root)


if __name__ == "__main__":
    main()
