"""What will be run for a budget: the target, its rungs, the tuning, and where each number is from.

The whole budget is planned before anything runs: the tuning of the learning rate at the base, the
check that it holds one rung wider, the rungs over seeds, the target.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from stepladder.cost import cost
from stepladder.data import Dataset
from stepladder.devices import Device
from stepladder.ladder.budget import Budget
from stepladder.ladder.choices import Choice, choices
from stepladder.ladder.rule import Rule, compute, rule_for, width_step
from stepladder.laws.floored import Floor, text_floor
from stepladder.recipe import Recipe

FORMAT = 2

# Base rates tried first, a factor of two apart. The grid grows where its best is at an end.
RATES = tuple(2.0**e for e in (-7, -6, -5, -4, -3))
TUNING_SEEDS = 2
CHECK_FACTORS = (0.5, 2.0)  # times the tuned rate, one rung wider
RATIOS = (20.0, 16.0, 12.0, 8.0, 6.0)  # tokens per parameter, tried in turn; 20 is Chinchilla's
MOST_RUNGS = 5
BASE = 0  # the cheapest rung, where the rate is tuned
LEAST_RUNGS = 4
EPOCHS = 4  # repeating text up to four times is nearly as good as new (Muennighoff 2305.16264)
LEAST_WIDTH, MOST_WIDTH = 24, 8192
MEMORY_SHARE = (
    0.85  # of a device's memory that a step may take: the rest is for what is not counted
)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far a ladder reaches, and what it takes.

    Attributes:
        factor: compute of the target over that of its largest rung, at least.
        spacing: compute between rungs, at least, so that they span enough to reach so far.
        rungs: as many as that, at least.
        seeds: runs of the dearest rung, of those between, and of the cheapest. The ends of a
            ladder say most of its slope, and the cheapest rung tells the noise.
    """

    factor: float
    spacing: float
    rungs: int
    seeds: tuple[int, int, int]


# The first for which there is room below the target. The furthest costs 6% of the budget, the
# nearest nearly half: models narrower than LEAST_WIDTH follow no law, and the smallest that do
# differ by half a percent between seeds.
REACHES = (
    Reach(factor=64, spacing=2, rungs=5, seeds=(2, 2, 3)),
    Reach(factor=32, spacing=2, rungs=5, seeds=(2, 2, 3)),
    Reach(factor=16, spacing=1.75, rungs=5, seeds=(3, 2, 4)),
    Reach(factor=8, spacing=1.5, rungs=LEAST_RUNGS, seeds=(4, 2, 5)),
)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A recipe at one scale, run once for each seed. Its rate is the tuned one, known later."""

    recipe: Recipe
    seeds: tuple[int, ...]

    def recipes(self, lr: float) -> list[Recipe]:
        """One recipe a seed, at a base learning rate."""
        return [at_rate(replace(self.recipe, seed=seed), lr) for seed in self.seeds]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A ladder, planned.

    Attributes:
        rungs: by rising compute. `base` is the index of the one where the rate is tuned, and
            `wider` of the one where it is checked.
        target: the recipe that money is spent on; its rate is the tuned one, known later.
        at_once: small runs that go side by side.
        floor: what is known of the loss left with endless compute, before any run.
        seconds: expected, by part: tuning, check, rungs, target.
        flops: likewise.
        choices: every number of the target with its range and where it is from.
    """

    created: str
    budget: Budget
    device: str
    rungs: tuple[Rung, ...]
    base: int
    wider: int
    rates: tuple[float, ...]
    tuning_seeds: tuple[int, ...]
    target: Recipe
    seconds: dict[str, float]
    flops: dict[str, float]
    choices: tuple[Choice, ...]
    notes: tuple[str, ...]
    floor: Floor
    at_once: int = 1

    @property
    def name(self) -> str:
        """Short content hash, by which the ladder's folder is called."""
        content = json.dumps([r.recipe.key for r in self.rungs] + [self.target.key, self.created])
        return hashlib.sha256(content.encode()).hexdigest()[:8]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for `plan.json`."""
        return {
            "format": FORMAT,
            "name": self.name,
            **asdict(self),
            "target": self.target.to_dict(),
            "rungs": [{"recipe": r.recipe.to_dict(), "seeds": r.seeds} for r in self.rungs],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "Plan":
        """The inverse of `to_dict`; raises ValueError where it is of a newer format."""
        if content.get("format") != FORMAT:
            raise ValueError(
                f"the plan has format {content.get('format')}, this Stepladder reads {FORMAT}"
            )
        rest = {k: v for k, v in content.items() if k not in ("format", "name")}
        return cls(
            **rest
            | {
                "budget": Budget(**content["budget"]),
                "target": Recipe.from_dict(content["target"]),
                "floor": Floor(**content["floor"]),
                "rungs": tuple(
                    Rung(recipe=Recipe.from_dict(r["recipe"]), seeds=tuple(r["seeds"]))
                    for r in content["rungs"]
                ),
                "choices": tuple(Choice(**c) for c in content["choices"]),
                "notes": tuple(content["notes"]),
                "rates": tuple(content["rates"]),
                "tuning_seeds": tuple(content["tuning_seeds"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Small runs that share the machine: what one of them has of it, and how many run at once."""

    device: Device
    at_once: int

    def seconds(self, part: list[tuple[Recipe, int]]) -> float:
        """Seconds that recipes, each run so often, take together."""
        return sum(_seconds(recipe, self.device) * count for recipe, count in part) / self.at_once


def make_plan(
    budget: Budget,
    dataset: Dataset,
    device: Device,
    *,
    ratio: float = 0.0,
    context: int = 256,
    precision: str = "float32",
    seed: int = 0,
    created: str | None = None,
    beside: "SideBySide | None" = None,
) -> Plan:
    """Plan the largest ladder that a budget pays for.

    Args:
        budget: of everything: tuning, check, rungs and target.
        ratio: training tokens per parameter; 0 takes 20, or as many as a small budget allows.
        context: in tokens.
        beside: how small runs share the device; None: one after another.
        seed: runs of the ladder take their seeds from here on.

    Raises:
        ValueError: the budget does not reach the smallest meaningful ladder; the text says which
            would.
    """
    created = created or datetime.now(UTC).isoformat(timespec="seconds")
    for tried in (ratio,) if ratio else RATIOS:
        smallest = best = None
        for rule, runs, target in _ladders(tried, dataset, context, precision):
            plan = _plan(budget, rule, runs, target, dataset, device, seed, created, beside)
            smallest = smallest or plan
            if not budget.covers(plan.flops, plan.seconds):
                break
            best = plan
        else:
            best = best and replace(best, notes=(*best.notes, _text_is_the_limit(best, dataset)))
        if best is not None:
            return best
    if smallest is None:
        raise ValueError(
            f"{dataset.source} holds {dataset.train_tokens:,} tokens, too few for any ladder at "
            f"{EPOCHS} epochs: bring more text, or a smaller --ratio"
        )
    raise ValueError(
        f"{budget} is too small for a ladder with {LEAST_RUNGS} rungs: the smallest that means "
        f"something takes {budget.said(smallest.flops, smallest.seconds)} here"
    )


class TooLarge(ValueError):  # noqa: N818 (a state, said as one)
    """A model that does not fit a device."""


def fitted(recipe: Recipe, memory: float) -> Recipe:
    """The recipe with as few micro-batches as fit a memory, in bytes; its batch is rounded to them.

    Raises:
        TooLarge: not even one sequence at a time fits.
    """
    context = recipe.model.context
    sequences, parts = recipe.batch // context, 1
    while parts <= sequences:
        batch = round(sequences / parts) * parts * context
        decay = recipe.optimizer.weight_decay * batch / recipe.batch  # the same memory of AdamW
        made = replace(
            recipe,
            batch=batch,
            accumulate=parts,
            optimizer=replace(recipe.optimizer, weight_decay=decay),
        )
        if cost(made).peak_memory <= MEMORY_SHARE * memory:
            return made
        parts *= 2
    need = cost(made).peak_memory
    raise TooLarge(
        f"a model of {made.model.width} x {made.model.depth} takes {need / 1e9:.1f} GB for one "
        f"sequence, and the device has {memory / 1e9:.1f} GB: name a larger one"
    )


def devices_for(recipe: Recipe, memory: float) -> tuple[Recipe, int]:
    """The recipe as it fits the fewest devices (a power of two) that share it, and their number."""
    count = 1
    while True:
        try:
            return fitted(recipe, count * memory), count
        except TooLarge:
            count *= 2


def _memory_notes(rungs: int, target: int, device: Device) -> list[str]:
    """What does not fit one device, and what to do; `rungs` and `target` are how many they take."""
    one = f"one {device.name} of {device.memory / 1e9:.0f} GB"
    notes = []
    if target > 1:
        notes += [
            f"The target does not fit {one}: train it on {target} or more, "
            f"torchrun --nproc-per-node {target} -m stepladder train."
        ]
    if rungs > 1:
        notes += [
            f"The largest rung does not fit {one}, and climb gives each run one: name a device "
            f"with {rungs} times the memory, or a smaller budget."
        ]
    return notes


def _text_is_the_limit(plan: Plan, dataset: Dataset) -> str:
    spent = plan.budget.said(plan.flops, plan.seconds)
    return (
        f"The text is the limit, not the budget: of {plan.budget} this takes {spent}. A larger "
        f"target would see {dataset.source} more than {EPOCHS} times: bring more text."
    )


def _ladders(
    ratio: float, dataset: Dataset, context: int, precision: str
) -> Iterator[tuple[Rule, dict[int, int], int]]:
    """Rule, runs of each rung by width, and target width of every ladder the text is enough for."""
    for target in target_widths():
        ladder = _room_for(target, ratio, dataset, context, precision)
        if ladder is not None:
            rule, runs = ladder
            if dataset.epochs(rule.tokens(target)) > EPOCHS:
                return
            yield rule, runs, target


def target_widths() -> Iterator[int]:
    """Widths a target may have, rising."""
    width = LEAST_WIDTH
    while width <= MOST_WIDTH:
        yield width
        width += width_step(width + 1)


def at_rate(recipe: Recipe, lr: float) -> Recipe:
    """The recipe at another base learning rate; rate x weight decay stays what it was."""
    optimizer = recipe.optimizer
    decay = optimizer.weight_decay * optimizer.lr / lr
    return replace(recipe, optimizer=replace(optimizer, lr=lr, weight_decay=decay))


def _room_for(
    target: int, ratio: float, dataset: Dataset, context: int, precision: str
) -> tuple[Rule, dict[int, int]] | None:
    """The rule and the runs of each rung by width, or None where there is no room for a ladder."""
    step = width_step(target)
    below = range(max(LEAST_WIDTH, 2 * step), target, step)
    if len(below) < LEAST_RUNGS:
        return None
    rule = rule_for(target, below[0], ratio, dataset, context=context, precision=precision)
    flops = {width: compute(rule, width) for width in below}
    for reach in REACHES:
        widths = _spaced(flops, compute(rule, target) / reach.factor, reach.spacing)
        if len(widths) >= reach.rungs:
            base = widths[BASE]
            rule = rule_for(target, base, ratio, dataset, context=context, precision=precision)
            top, between, cheapest = reach.seeds
            return rule, dict.fromkeys(widths, between) | {base: cheapest, widths[-1]: top}
    return None


def _spaced(flops: dict[int, float], limit: float, spacing: float) -> list[int]:
    """Widths of the rungs, rising: the dearest within the limit, then each `spacing` cheaper."""
    widths: list[int] = []
    for width in sorted(flops, reverse=True):
        if flops[width] <= limit and len(widths) < MOST_RUNGS:
            widths.insert(0, width)
            limit = flops[width] / spacing
    return widths


def _plan(
    budget: Budget,
    rule: Rule,
    runs: dict[int, int],
    target_width: int,
    dataset: Dataset,
    device: Device,
    seed: int,
    created: str,
    beside: "SideBySide | None",
) -> Plan:
    rate = RATES[len(RATES) // 2]
    first = 1000 * seed
    share = device.memory / beside.at_once if beside else device.memory
    shaped = [devices_for(rule.recipe(w, rate, first), share) for w in runs]
    rungs = tuple(
        Rung(recipe=recipe, seeds=tuple(range(first, first + n)))
        for (recipe, _), n in zip(shaped, runs.values(), strict=True)
    )
    target = replace(rule.recipe(target_width, rate, first), evaluations=4)
    target, devices = devices_for(target, device.memory)
    memory_notes = _memory_notes(max(count for _, count in shaped), devices, device)
    parts = _parts(rungs, target)
    return Plan(
        created=created,
        budget=budget,
        device=device.name,
        rungs=rungs,
        base=BASE,
        wider=_wider(rungs),
        rates=RATES,
        tuning_seeds=tuple(range(first, first + TUNING_SEEDS)),
        target=target,
        seconds={
            name: beside.seconds(part)
            if beside is not None and name != "target"
            else sum(_seconds(r, device) * k for r, k in part)
            for name, part in parts.items()
        },
        flops={n: sum(_flops(r) * k for r, k in p) for n, p in parts.items()},
        choices=choices(rule, target, dataset),
        notes=tuple(filter(None, [dataset.epochs_sentence(target.tokens), *memory_notes])),
        floor=text_floor(dataset.bytes_per_token),
        at_once=beside.at_once if beside else 1,
    )


def _parts(rungs: tuple[Rung, ...], target: Recipe) -> dict[str, list[tuple[Recipe, int]]]:
    """The recipes of each part of the bill, with how often each is run."""
    base, wider = rungs[BASE], rungs[_wider(rungs)]
    return {
        "tuning": [(base.recipe, len(RATES) * TUNING_SEEDS)],
        "check": [(wider.recipe, len(CHECK_FACTORS))],
        "rungs": [(rung.recipe, len(rung.seeds)) for rung in rungs],
        "target": [(target, 1)],
    }


def _wider(rungs: tuple[Rung, ...]) -> int:
    """The rung where the rate is checked: the last but one, wide and still cheap."""
    return len(rungs) - 2


def _seconds(recipe: Recipe, device: Device) -> float:
    return cost(recipe).seconds(device).total


def _flops(recipe: Recipe) -> float:
    spent = cost(recipe)
    return spent.flops_total + spent.flops_evaluation
