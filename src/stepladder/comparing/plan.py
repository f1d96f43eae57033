"""What a comparison will run, before it runs: rungs, seeds, search, and the bill."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stepladder.comparing.differences import Difference, require_comparable
from stepladder.comparing.growth import rungs
from stepladder.comparing.search import FIRST_SEED, Search, start, with_settings
from stepladder.cost import cost
from stepladder.devices import Device
from stepladder.ladder.plan import SideBySide
from stepladder.models.build import build
from stepladder.recipe import Recipe, Setting
from stepladder.train.feedback import controller_of, policy_of
from stepladder.train.preflight import check_schedule
from stepladder.train.sitting import build_optimizer

SCALES = (1.0, 1.5, 2.0)
SEEDS = 3
LEAST_SCALES, LEAST_SEEDS = 3, 2


@dataclass(frozen=True, kw_only=True)
class Bill:
    """What runs cost: how many, FLOP (optimizer and evaluation included), and seconds."""

    runs: int
    flops: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A comparison, planned.

    Attributes:
        base, lever: the arms' recipes at their own shape, with one evaluation.
        differences: what the lever changes.
        scales: widths of the rungs in widths of the recipes; the first is 1.
        seeds: of every rung, the same for both arms.
        more_seeds: of every rung, for the baseline alone.
        lever_as_given: whether the lever keeps the rate of its recipe, while the baseline is tuned.
    """

    base: Recipe
    lever: Recipe
    differences: tuple[Difference, ...]
    scales: tuple[float, ...]
    seeds: tuple[int, ...]
    search: Search
    more_seeds: tuple[int, ...] = ()
    lever_as_given: bool = False

    @property
    def tuned_arms(self) -> tuple[Recipe, ...]:
        """The recipes that are tuned: both, unless the lever is taken as given."""
        return (self.base,) if self.lever_as_given else (self.base, self.lever)

    @property
    def name(self) -> str:
        """Short content hash, by which its folder is called."""
        content = [
            self.base.key,
            self.lever.key,
            self.scales,
            self.seeds + self.more_seeds,
            [self.search.rates, self.search.seeds, dict(self.search.fields or {})],
            *(["lever as given"] if self.lever_as_given else []),
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    def rungs(
        self, settings: Sequence[Mapping[str, Setting]] = ({}, {})
    ) -> list[tuple[Recipe, Recipe]]:
        """Both arms at every scale, with the settings found for each; rates as in the recipes."""
        base, lever = map(with_settings, (self.base, self.lever), settings)
        return rungs(base, lever, self.scales)

    def tuning(self) -> list[tuple[Recipe, int]]:
        """Recipes of the search before it grows, each with how often its like is run."""
        return [
            (variant.recipe, self.search.rates * variant.seeds)
            for k, arm in enumerate(self.tuned_arms)
            for variant in start(arm, self.search, first=k == 0)
        ]

    def bill(self, device: Device, beside: SideBySide | None = None) -> Bill:
        """What all runs will cost, none being in the store yet; a search that grows adds to it.

        Args:
            beside: how runs share the device; None: one after another.
        """
        pairs, seeds = self.rungs(), len(self.seeds)
        asked = self.tuning() + [(base, seeds + len(self.more_seeds)) for base, _ in pairs]
        asked += [(lever, seeds) for _, lever in pairs]
        each = beside.device if beside else device
        seconds = math.fsum(cost(r).seconds(each).total * n for r, n in asked)
        return Bill(
            runs=sum(n for _, n in asked),
            flops=math.fsum(flops(r) * n for r, n in asked),
            seconds=seconds / (beside.at_once if beside else 1),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "base": {"key": self.base.key, "recipe": self.base.to_dict()},
            "lever": {"key": self.lever.key, "recipe": self.lever.to_dict()},
            "differences": [
                {"name": d.name, "base": d.base, "lever": d.lever} for d in self.differences
            ],
            "scales": list(self.scales),
            "seeds": list(self.seeds),
            "more_seeds": list(self.more_seeds),
            "lever_as_given": self.lever_as_given,
            "search": {
                "rates": self.search.rates,
                "seeds": self.search.seeds,
                "fields": {k: list(v) for k, v in (self.search.fields or {}).items()},
                "runs_each": self.search.runs,
            },
        }


def make_plan(
    base: Recipe,
    lever: Recipe,
    *,
    scales: Sequence[float] = SCALES,
    seeds: int = SEEDS,
    baseline_seeds: int | None = None,
    search: Search | None = None,
    lever_as_given: bool = False,
) -> Plan:
    """Plan a comparison and check, as far as can be known beforehand, that it can end well.

    Args:
        base, lever: with `data.fingerprint` of their data.
        scales: widths of the rungs in widths of the recipes: at least three, rising from 1.
        seeds: runs of each arm at each rung, from the baseline's seed on.
        baseline_seeds: runs of the baseline at each rung, if more than `seeds`.
        lever_as_given: the lever keeps its recipe's rate, while the baseline is tuned: what does
            it cost to take a rate from a rule, a paper or another batch?

    Raises:
        ValueError: recipes that cannot be compared or built, scales or seeds too few to say how
            sure the answer is.
    """
    scales = tuple(float(scale) for scale in scales)
    if len(scales) < LEAST_SCALES or scales[0] != 1 or sorted(set(scales)) != list(scales):
        raise ValueError(
            f"scales must be at least {LEAST_SCALES} numbers that rise from 1, as in 1 1.5 2, not "
            f"{' '.join(f'{scale:g}' for scale in scales)}: fewer cannot tell a gain that fades"
        )
    if seeds < LEAST_SEEDS:
        raise ValueError(
            f"seeds must be {LEAST_SEEDS} or more, not {seeds}: one run cannot say what is noise"
        )
    every = seeds if baseline_seeds is None else baseline_seeds
    if not seeds <= every <= FIRST_SEED:
        raise ValueError(
            f"baseline seeds must be {seeds} (as many as seeds) to {FIRST_SEED}, not {every}: the "
            "lever's runs are paired with the baseline's"
        )
    lever = replace(lever, seed=base.seed)
    plan = Plan(
        base=replace(base, evaluations=1),
        lever=replace(lever, evaluations=1),
        differences=tuple(require_comparable(base, lever, as_given=lever_as_given)),
        scales=scales,
        seeds=tuple(range(base.seed, base.seed + seeds)),
        more_seeds=tuple(range(base.seed + seeds, base.seed + every)),
        search=search or Search(),
        lever_as_given=lever_as_given,
    )
    for recipe, _ in plan.tuning():
        _require_buildable(recipe)
    for pair in plan.rungs():
        for recipe in pair:
            _require_buildable(recipe)
    return plan


def flops(recipe: Recipe) -> float:
    """All FLOP of a run: training, its optimizer, and the measurements."""
    spent = cost(recipe)
    return spent.flops_total + spent.flops_optimizer + spent.flops_evaluation


def _require_buildable(recipe: Recipe) -> None:
    """ValueError where a recipe's model, optimizer, schedule or reactions cannot be made; holds no
    memory."""
    check_schedule(recipe)
    policy_of(recipe)
    controller_of(recipe)
    build_optimizer(recipe, build(recipe, "meta")[1])
