"""A whole comparison in a world whose law is known: tuned equally, climbed, judged."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from stepladder.comparing.differences import differences, require_comparable
from stepladder.comparing.growth import grown, rungs, tuned_to
from stepladder.comparing.plan import make_plan
from stepladder.comparing.running import run
from stepladder.comparing.search import Search, edge, lost_by_tuning, next_rate, tune
from stepladder.cost import cost, parameters
from stepladder.devices import device_named
from stepladder.laws.result import finite
from stepladder.recipe import Data, Optimizer, Schedule

from .surfaces import BASE, MODEL, World

LION = replace(BASE, optimizer=Optimizer(name="lion", lr=0.02, weight_decay=0.1))
SCALES = (1.0, 2.0, 3.0)


def compared(world, lever=LION, **options):
    return run(make_plan(BASE, lever, scales=SCALES, **options), world)


def test_a_known_multiplier_comes_out():
    made = compared(World(worth=1.25))
    values = [rung.value for rung in made.multipliers["compute"].rungs]
    assert values == pytest.approx([1.25] * 3, rel=1e-4)
    assert made.verdict.startswith("saves 20% (20 to 20) of compute; no sign of fading over")
    assert 1.25 in made.multiplier


def test_a_gain_that_fades_is_seen_to_fade():
    first = cost(BASE).flops_total
    made = compared(World(worth=lambda compute: 1.3 * (compute / first) ** -0.1, noise=0.001))
    assert "fading over" in made.verdict
    trend = made.multipliers["compute"].trend
    assert trend.value == pytest.approx(10**-0.1, rel=0.02)
    assert trend.high < 1


def test_shared_noise_of_seeds_cancels():
    made = compared(World(worth=1.1, noise=0.01), seeds=4)
    assert made.noise.pairing > 0.99
    assert made.multiplier.value == pytest.approx(1.1, rel=0.01)


@pytest.mark.parametrize("best", [0.02, 0.02 * 2**4, 0.02 * 2**-3.5])
def test_both_arms_are_tuned_with_the_same_number_of_runs(best):
    world = World(best=best)
    made = compared(world)
    assert made.tuned[0].runs == made.tuned[1].runs
    tuning = [[r for r in world.runs(name) if r.seed >= 1000] for name in ("adamw", "lion")]
    assert len(tuning[0]) == len(tuning[1]) == made.tuned[0].runs
    assert made.tuned[0].lr == pytest.approx(best, rel=0.01)
    assert not made.tuned[0].at_edge


def test_where_only_one_arm_is_at_its_edge_the_other_refines():
    world = World(best=0.02)
    far = replace(LION, optimizer=replace(LION.optimizer, lr=0.02 * 2**4, weight_decay=0.1 / 16))
    made = compared(world, far)
    rates = [sorted({r.optimizer.lr for r in world.runs(n) if r.seed >= 1000})
             for n in ("adamw", "lion")]  # fmt: skip
    assert made.tuned[0].runs == made.tuned[1].runs > 5
    assert rates[1][0] < 0.02
    assert (rates[0][0], rates[0][-1]) == pytest.approx((0.005, 0.08))
    assert made.multiplier.value == pytest.approx(1.0, rel=1e-3)


def test_rungs_share_seeds_data_order_and_growth():
    world = World()
    compared(world, seeds=3)
    climbed = [[r for r in world.runs(n) if r.seed < 1000] for n in ("adamw", "lion")]
    paired = list(zip(*climbed, strict=True))
    assert len(paired) == 9
    assert all(
        (a.seed, a.tokens, a.batch, a.model) == (b.seed, b.tokens, b.batch, b.model)
        for a, b in paired
    )
    assert {a.model.width for a, _ in paired} == {16, 32, 48}


def test_extra_fields_are_tuned_with_equal_runs():
    """A field of both is tried for both; one of the lever alone buys the baseline more seeds."""
    world = World()
    search = Search(fields={"optimizer.weight_decay": (0.0, 0.1)})
    made = compared(world, search=search)
    assert made.tuned[0].runs == made.tuned[1].runs == 10
    assert {r.optimizer.weight_decay > 0 for r in world.runs("adamw")} == {True, False}
    world = World()
    mars = replace(BASE, optimizer=Optimizer(name="mars-adamw", lr=0.02))
    made = compared(world, mars, search=Search(fields={"optimizer.params.gamma": (0.01, 0.05)}))
    assert made.tuned[0].runs == made.tuned[1].runs == 10
    assert len({r.seed for r in world.runs("adamw") if r.seed >= 1000}) == 2
    assert {r.optimizer.params["gamma"] for r in world.runs("mars-adamw")} == {0.01, 0.05}


def test_the_result_says_all_in_json():
    content = compared(World(worth=1.1, noise=0.002)).to_json()
    again = json.loads(json.dumps(finite(content), allow_nan=False))
    assert again["rungs"][0]["multipliers"].keys() == {"compute", "tokens", "seconds"}
    assert again["search"]["runs_each"] == 5
    assert again["differences"] == [{"name": "optimizer.name", "base": "adamw", "lever": "lion"}]
    memory = again["rungs"][0]["optimizer_bytes"]
    assert memory[1] == memory[0] / 2  # Lion has one buffer, AdamW two


def test_seconds_of_a_busy_machine_are_left_out_and_said_so():
    class Busy(World):
        def result(self, recipe):
            return super().result(recipe) | {"seconds": 1.0}

    made = compared(Busy(worth=1.1))
    assert made.multipliers.keys() == {"compute", "tokens"}
    assert any("seconds are left out" in note for note in made.notes)


def test_optimizer_flops_count_as_compute():
    made = compared(World(worth=1.0))
    rung = made.rungs[0]
    spent = cost(make_plan(BASE, LION, scales=SCALES).lever)
    assert rung["compute"][1] == spent.flops_total + spent.flops_optimizer
    assert rung["compute"][0] > rung["compute"][1]


def test_a_lever_that_diverges_everywhere_is_named():
    with pytest.raises(ValueError, match="the lever: only 0 of 9 learning rates"):
        compared(World(diverges=lambda recipe: recipe.optimizer.name == "lion"))


def test_a_rate_that_does_not_carry_up_is_named():
    wide = World(diverges=lambda recipe: recipe.model.width > 40)
    with pytest.raises(
        ValueError, match=r"the baseline diverged in 3 of 3 .* 48 .* does not carry up"
    ):
        compared(wide)


def test_a_best_rate_that_diverges_on_another_seed_asks_for_more_tuning_seeds():
    world = World(diverges=lambda recipe: recipe.seed == 1 and recipe.optimizer.name == "lion")
    said = r"the lever diverged in 1 of 3 seeds at width 16 .* close to those .*--tuning-seeds"
    with pytest.raises(ValueError, match=said):
        compared(world)


def test_rates_that_diverge_bound_the_search():
    """The best of the rest is not at an edge: there is nothing above it to try."""
    made = compared(World(best=0.05, diverges=lambda recipe: recipe.optimizer.lr > 0.05))
    assert not made.tuned[1].at_edge


@pytest.mark.parametrize(
    ("lever", "said"),
    [
        (BASE, "the two recipes are one"),
        (tuned_to(BASE, 0.5), "the two recipes are one"),
        (replace(BASE, seed=3), "the two recipes are one"),
        (
            replace(LION, data=Data(source="other", fingerprint="0" * 16)),
            "not on one scale.*data.source",
        ),
        (replace(LION, data=Data(source="text", tokenizer="bpe:512")), "data.tokenizer"),
        (replace(LION, model=replace(MODEL, vocab_size=300)), "model.vocab_size .257 and 300"),
        (replace(LION, model=replace(MODEL, context=32)), "model.context .16 and 32"),
        (replace(LION, optimizer=Optimizer(name="lyon", lr=1.0)), "did you mean 'lion'"),
        (replace(LION, optimizer=Optimizer(name="galore", lr=1.0)), "scale_like"),
        (
            replace(LION, optimizer=Optimizer(name="lion", lr=1.0, params={"gama": 1})),
            "gama",
        ),
        (replace(LION, schedule=Schedule(name="wsd", params={"decey": 0.2})), "decey"),
        (replace(LION, schedule=Schedule(name="linear", params={"final": -3})), "final"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_runs(lever, said):
    with pytest.raises(ValueError, match=said):
        make_plan(BASE, lever)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scales": (1, 2)}, "at least 3 numbers that rise from 1"),
        ({"scales": (1, 3, 2)}, "rise from 1"),
        ({"scales": (1, 1.01, 2)}, "make one shape"),
        ({"seeds": 1}, "seeds must be 2 or more"),
        ({"search": Search(fields={"optimizer.weight_decy": (0.0, 1.0)})}, "did you mean"),
    ],
)
def test_what_cannot_answer_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        make_plan(BASE, LION, **options)


@pytest.mark.parametrize(("options", "said"), [({"rates": 2}, "rates"), ({"seeds": 0}, "seeds")])
def test_too_small_a_search_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Search(**options)


def test_differences_are_named_with_both_values():
    lever = replace(
        tuned_to(LION, 0.01), schedule=Schedule(name="wsd", params={"decay": 0.1}), seed=9
    )
    found = {d.name: (d.base, d.lever) for d in differences(BASE, lever)}
    assert found == {
        "optimizer.name": ("adamw", "lion"),
        "schedule.name": ("linear", "wsd"),
        "schedule.params.decay": (None, 0.1),
    }
    (one,) = require_comparable(BASE, replace(BASE, batch=512))
    assert str(one) == "batch: 256 -> 512"


def test_growth_keeps_the_ladders_rule():
    wide = grown(BASE, 2, data=3.0)
    assert (wide.model.width, wide.model.heads, wide.model.head_size) == (32, 2, 16)
    assert wide.model.mlp_width == 96
    assert wide.tokens == 3 * BASE.tokens
    assert wide.batch == round(256 * math.sqrt(3) / 16) * 16

    def memory(recipe):
        given = recipe.optimizer
        return recipe.batch / (given.lr * given.weight_decay * recipe.tokens)

    assert memory(wide) == pytest.approx(memory(BASE))
    heads = replace(BASE, parametrization=replace(BASE.parametrization, base_heads=0))
    more = grown(heads, 2, data=3.0).model
    assert (more.width, more.heads, more.kv_heads, more.head_size) == (32, 4, 4, 8)
    assert grown(BASE, 1, 1.0) == replace(BASE, evaluations=1)


def test_deep_recipes_deepen_as_the_ladder_does():
    deep = replace(BASE, model=replace(MODEL, width=128, head_size=64, depth=6))
    assert [grown(deep, s, 1.0).model.depth for s in (1, 2, 4)] == [6, 12, 24]


def test_tokens_grow_alike_and_per_parameter_stay():
    pairs = rungs(BASE, replace(LION, tokens=32_000), SCALES)

    def size(recipe):
        return parameters(recipe.model).non_embedding_with_head

    assert [b.tokens // r.tokens for b, r in pairs] == [2, 2, 2]
    ratios = [b.tokens / size(b) for b, _ in pairs]
    assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-3)


def test_a_schedule_that_names_its_run_follows_it():
    power = Schedule(name="power", params={"peak": 0.02, "batch": 16, "tokens": 64_000})
    bigger = tuned_to(grown(replace(BASE, schedule=power), 2, data=4.0), 0.08)
    assert bigger.schedule.params == {"peak": 0.08, "batch": 32, "tokens": 256_000}


def test_the_bill_counts_every_run():
    plan = make_plan(BASE, LION, scales=SCALES)
    world = World()
    run(plan, world)
    bill = plan.bill(device_named("a100"))
    assert bill.runs == len(world.asked)
    spent = [cost(recipe) for _, recipe in world.asked]
    total = sum(c.flops_total + c.flops_optimizer + c.flops_evaluation for c in spent)
    assert bill.flops == pytest.approx(total)


@pytest.mark.parametrize(
    ("losses", "where", "following"),
    [
        ([3.0, 2.0, 2.5], "", math.sqrt(2 * 4)),
        ([2.4, 2.0, 2.5], "", math.sqrt(1 * 2)),
        ([1.0, 2.0, 2.5], "low", 0.5),
        ([3.0, 2.0, 1.5], "high", 8.0),
        ([3.0, 2.0, math.inf], "", math.sqrt(1 * 2)),
        ([math.inf] * 3, "low", 0.5),
        ([2.6588, 2.6421, 2.8664, 2.8064, 2.9939], "low", 0.5),  # the third unlucky: fitted at 1
        ([2.9939, 2.8064, 2.8664, 2.6421, 2.6588], "high", 32.0),
    ],
)
def test_the_next_rate(losses, where, following):
    table = dict(zip((1.0, 2.0, 4.0, 8.0, 16.0), ([y] for y in losses), strict=False))
    assert edge(table) == where
    assert next_rate(table) == pytest.approx(following)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.9, 90.0, math.nan])
def test_a_level_that_cannot_be_is_refused_before_a_run(level):
    world = World()
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        run(make_plan(BASE, LION, scales=SCALES), world, level=level)
    assert not world.asked


def test_what_noisy_tuning_loses():
    """No noise: nothing. With noise, as much as a parabola loses where its lowest point wanders."""
    found = tune((BASE, LION), Search(), World(best=0.025))[1]
    assert lost_by_tuning(found, 0.0, 10, seed=0) == pytest.approx(np.zeros(10), abs=1e-9)
    few = lost_by_tuning(found, 0.002, 20_000, seed=0)
    more = lost_by_tuning(found, 0.004, 20_000, seed=0)
    assert np.all(few >= 0)
    assert more.mean() == pytest.approx(4 * few.mean(), rel=0.1)


def test_further_seeds_are_the_baselines_alone():
    world = World(worth=1.1, noise=0.01)
    made = compared(world, seeds=3, baseline_seeds=5)
    climbed = [[r.seed for r in world.runs(n) if r.seed < 1000] for n in ("adamw", "lion")]
    assert climbed == [[0, 1, 2, 3, 4] * 3, [0, 1, 2] * 3]
    content = made.to_json()
    assert [len(arm) for arm in content["rungs"][0]["losses"]] == [5, 3]
    assert content["more_seeds"] == [3, 4]
    assert made.multiplier.value == pytest.approx(1.1, rel=0.01)  # all luck is shared here
    bill = made.plan.bill(device_named("a100"))
    assert bill.runs == len(world.asked)
    assert made.plan.name != make_plan(BASE, LION, scales=SCALES, seeds=3).name


@pytest.mark.parametrize("count", [2, 1001])
def test_a_baseline_with_fewer_seeds_than_pairs_is_refused(count):
    with pytest.raises(ValueError, match="baseline seeds must be 3"):
        make_plan(BASE, LION, scales=SCALES, seeds=3, baseline_seeds=count)


def test_a_lever_as_given_keeps_its_rate_and_pays_for_it():
    """A rate twice too high, with a third of a percent of loss lost by it at every rung."""
    world = World(best=0.02)
    given = tuned_to(LION, 0.04)
    made = compared(world, given, lever_as_given=True)
    assert {r.optimizer.lr for r in world.runs("lion")} == {0.04}
    assert [t.runs for t in made.tuned] == [5, 0]
    assert len(world.runs("lion")) == 9
    assert made.multiplier.high < 1
    tuned = compared(World(best=0.02))
    assert tuned.multiplier.value == pytest.approx(1.0, rel=1e-4)
    assert any("the lever was not tuned: its rate is its recipe's, 0.04" in n for n in made.notes)
    assert made.to_json()["lever_as_given"]


def test_a_rate_alone_is_a_lever_where_it_is_as_given():
    """The recipe of the baseline with another rate: what a search would have saved."""
    rate = tuned_to(BASE, 0.08)
    made = run(make_plan(BASE, rate, scales=SCALES, lever_as_given=True), World(best=0.02))
    assert [d.name for d in made.plan.differences] == ["optimizer.lr"]
    losses = np.array([rung["loss"] for rung in made.rungs])
    assert losses[:, 1] / losses[:, 0] == pytest.approx([1.04] * 3, rel=1e-3)
    with pytest.raises(ValueError, match="the two recipes are one"):
        make_plan(BASE, BASE, scales=SCALES, lever_as_given=True)


def test_a_comparison_as_given_has_its_own_name_and_bill():
    plans = [make_plan(BASE, LION, scales=SCALES, lever_as_given=one) for one in (False, True)]
    assert plans[0].name != plans[1].name
    world = World()
    run(plans[1], world)
    assert plans[1].bill(device_named("a100")).runs == len(world.asked)


def test_a_rate_as_given_that_diverges_is_named():
    world = World(diverges=lambda recipe: recipe.optimizer.name == "lion")
    with pytest.raises(ValueError, match=r"the lever diverged in 3 of 3 seeds.*as its recipe has"):
        compared(world, lever_as_given=True)
