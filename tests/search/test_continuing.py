"""Levels in tokens: a promoted run goes on from where the level below left its trunk."""

import json
from collections import defaultdict
from dataclasses import replace

import pytest
import torch

from stepladder.cost import cost
from stepladder.data import prepare
from stepladder.recipe import Data, Model, Optimizer, Recipe, Schedule
from stepladder.search.levels import Levels, tokens_only
from stepladder.search.running import rehearse, run
from stepladder.search.space import Space
from stepladder.search.study import Study
from stepladder.store import Store
from stepladder.train import Execution, train
from stepladder.train.trunk import trunk_steps

SCALES, BATCH, STEPS = (1.0, 2.0, 5.0), 32, 12
BASE = Recipe(
    model=Model(
        width=8, depth=1, heads=1, kv_heads=1, head_size=8, mlp_width=16, context=8, vocab_size=257
    ),
    optimizer=Optimizer(lr=0.01),
    schedule=Schedule(name="wsd", warmup=0.25, params={"decay": 0.25}),
    tokens=STEPS * BATCH,
    batch=BATCH,
    validation=64,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    with (folder / "text.jsonl").open("w") as file:
        for n in range(60):
            file.write(json.dumps({"text": f"{n} climbs the ladder, rung by rung " * 4}) + "\n")
    return prepare(
        folder / "text.jsonl", "bytes", cache=folder / "cache", validation_fraction=0.2, workers=1
    )


def searched(base, levels, dataset, store, budget):
    """A search by halving; what was asked, with its result, and the study."""
    space = Space.parse(["optimizer.lr=log:1e-3..1e-1"]).of(base)
    here, done = Execution(device=torch.device("cpu"), compiled=False), []

    def execute(asked):
        for _, recipe in asked:
            done.append((recipe, train(recipe, store, dataset, execution=here)))
        return [result for _, result in done[len(done) - len(asked) :]]

    with Study.open(
        space, levels.costs, proposer="random", scheduler="halving", promoted=levels.promoted
    ) as study:
        run(study, base, levels, execute, budget)
    outline = rehearse(space, levels, "halving", budget, 1)
    return done, study, outline


def test_promotions_pay_for_the_difference(dataset, tmp_path):
    base = replace(BASE, data=Data(fingerprint=dataset.fingerprint))
    levels = Levels.of(base, SCALES, tokens_only)
    done, study, outline = searched(
        base, levels, dataset, Store(tmp_path / "runs"), 8 * levels.costs[-1]
    )
    lengths = [levels.recipe(base, level).steps for level in range(3)]
    assert lengths == [12, 24, 60]
    trunks = [trunk_steps(levels.recipe(base, level)) for level in range(3)]
    assert trunks == [9, 18, 45]

    by_rate = defaultdict(list)
    for recipe, result in done:
        by_rate[recipe.optimizer.lr].append(result)
    assert max(map(len, by_rate.values())) == 3  # one went all the way
    for results in by_rate.values():
        steps = [result["steps"] for result in results]
        assert steps == lengths[: len(steps)]
        # All of the last run, and of each before only what came off the trunk.
        off_trunk = [n - k for n, k in zip(lengths, trunks, strict=True)][: len(steps) - 1]
        assert sum(result["paid_steps"] for result in results) == steps[-1] + sum(off_trunk)
        assert [bool(result["trunk"]) for result in results] == [False, *[True] * (len(steps) - 1)]

    # The study's bill is of what was paid: the steps, and every run's measurement.
    def bill(recipe, result):
        spent = cost(recipe)
        assert result["flops"] == spent.flops_total
        steps = result["paid_steps"] / result["steps"] * (spent.flops_total + spent.flops_optimizer)
        return steps + spent.flops_evaluation

    assert study.spent == pytest.approx(sum(bill(*run) for run in done), rel=1e-9)
    assert study.spent < 0.8 * sum(
        levels.costs[lengths.index(result["steps"])] for _, result in done
    )
    assert outline.cost == pytest.approx(sum(outline.costs))
    assert outline.cost == pytest.approx(study.spent, rel=0.2)


def test_a_schedule_of_one_arc_pays_for_every_level():
    linear = replace(BASE, schedule=Schedule(name="linear"))
    levels = Levels.of(linear, SCALES, tokens_only)
    assert levels.promoted == levels.costs


def test_levels_in_tokens_keep_what_a_trunk_needs():
    low, high = (tokens_only(BASE, scale) for scale in (1.0, 5.0))
    assert low.schedule.warmup == high.schedule.warmup == 0.25 * STEPS * BATCH
    assert high == replace(low, tokens=5 * low.tokens)
    infinite = replace(BASE, schedule=Schedule(name="infinite", warmup=0.0))
    low, high = (tokens_only(infinite, scale) for scale in (1.0, 5.0))
    assert low.schedule.params == high.schedule.params == {"cooldown": round(0.15 * 12 * 32)}
    levels = Levels.of(infinite, SCALES, tokens_only)
    assert levels.promoted[1] < levels.costs[1]


def test_a_study_with_other_prices_is_another(tmp_path):
    space, path = Space.parse(["a=0..1"]), tmp_path / "journal.log"
    given = {"proposer": "random", "scheduler": "halving", "path": path}
    Study.open(space, (1.0, 2.0), promoted=(1.0, 1.5), **given).close()
    with pytest.raises(ValueError, match="differs in promoted"):
        Study.open(space, (1.0, 2.0), promoted=(1.0, 1.25), **given)


def test_prices_are_kept_over_a_restart(tmp_path):
    """A promotion is handed out again at what it costs, and told once."""
    space, path = Space.parse(["a=0..1"]), tmp_path / "journal.log"
    given = {"proposer": "random", "scheduler": "halving", "path": path, "promoted": (1.0, 1.25)}
    with Study.open(space, (1.0, 2.0), **given) as study:
        for _ in range(2):
            job = study.ask()
            study.tell(job, job.values["a"])
        promoted = study.ask()
        assert (promoted.level, promoted.cost, study.spent) == (1, 1.25, 2.0)
    with Study.open(space, (1.0, 2.0), **given) as study:
        assert study.ask(within=1.2) is None
        again = study.ask(within=1.25)
        assert again == promoted
        study.tell(again, 0.0)
        assert study.spent == 3.25
    with Study.open(space, (1.0, 2.0), **given) as study:
        assert study.spent == 3.25
