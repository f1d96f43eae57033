"""Runs that react to their own gradients: batch policies, controllers, the noise scale."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from stepladder import schedules
from stepladder.batching import policy
from stepladder.batching.noise_scale import NoiseScaleMeter
from stepladder.batching.statistics import GradientStatistics
from stepladder.comparing.plan import make_plan
from stepladder.cost import cost
from stepladder.models.build import build
from stepladder.recipe import Batching, Optimizer, Schedule
from stepladder.train import train
from stepladder.train.feedback import Batches, Hindsight
from stepladder.train.stacked import room_for, shape_of

from .conftest import HERE, curve
from .test_resume import crash, undisturbed, what_remains  # noqa: F401 (a fixture)

SGD = Optimizer(name="sgd", lr=0.1, weight_decay=0.0, beta1=0.0, clip=0.0)
TESTS = {
    "norm-test": {"eta": 0.6},
    "inner-product-test": {"theta": 0.1},
    "coordinate-norm-test": {"eta": 0.5, "share": 0.6},
}
POLICIES = {
    "linear-ramp": {"end": 4, "until": 0.6},
    "doubling": {"end": 4},
    **{name: {"largest": 4, **own} for name, own in TESTS.items()},
}


def rows_with(rows, name: str) -> list:
    return [row[name] for row in rows if name in row]


def batches_of(rows) -> list[int]:
    """Batch of every step; runs here are so short that each has its row."""
    return [row["batch"] for row in rows if "loss" in row]


# Batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POLICIES)
def test_a_growing_batch_ends_at_its_tokens(name, run, recipe):
    """Steps get fewer, tokens stay, rows and measurements stand at the tokens they speak of."""
    made = replace(recipe, accumulate=2, batching=Batching(name=name, params=POLICIES[name]))
    result, rows = run(made)
    taken = batches_of(rows)
    assert sum(taken) == result["tokens"] == recipe.tokens
    assert result["steps"] == len(taken) < recipe.steps
    assert rows_with(rows, "tokens")[-1] == recipe.tokens
    assert [row["tokens"] for row in rows if "loss" in row] == list(np.cumsum(taken))
    measured = [row["tokens"] for row in rows if "validation_loss" in row]
    for due, at in zip((recipe.tokens * k // 5 for k in range(1, 6)), measured, strict=True):
        assert due <= at < due + 4 * recipe.batch
    assert all(batch % recipe.batch == 0 and batch <= 4 * recipe.batch for batch in taken)
    assert max(taken) > recipe.batch


def test_a_ramp_follows_progress(run, recipe):
    made = replace(recipe, batching=Batching(name="linear-ramp", params={"end": 5, "until": 0.5}))
    _, rows = run(made)
    ramp, done = policy("linear-ramp", end=5, until=0.5), 0
    for taken in batches_of(rows):
        asked = ramp.next_batch(0, progress=done / 40, statistics=None)
        assert taken == 64 * min(asked, 40 - done)
        done += taken // 64
    assert done == 40


def test_a_step_of_several_batches_is_that_of_one_batch_of_their_size(run, recipe):
    """The same sequences in the same order, the same rates, the same progress."""
    large = replace(recipe, optimizer=SGD, batch=128, schedule=Schedule(name="cosine"))
    grown = replace(
        large, batch=64, batching=Batching(name="doubling", params={"start": 2, "end": 2})
    )
    first, second = run(large), run(grown)
    assert rows_with(second[1], "lr") == rows_with(first[1], "lr")
    assert rows_with(second[1], "loss") == pytest.approx(rows_with(first[1], "loss"), rel=1e-5)
    assert second[0]["loss"] == pytest.approx(first[0]["loss"], rel=1e-5)


@pytest.mark.parametrize("name", TESTS)
def test_a_test_decides_as_it_would_from_the_shards_gradients(name, run, recipe, dataset):
    """Two steps by hand: gradients of the shards by autograd, the policy, the next batch."""
    params = POLICIES[name]
    made = replace(recipe, optimizer=SGD, accumulate=2, batching=Batching(name=name, params=params))
    _, rows = run(made)
    model, _ = build(made)
    x, y = dataset.batch(0, batch_sequences=4, context=16, seed=0)
    shards = []
    for part in (slice(0, 2), slice(2, 4)):
        grads = torch.autograd.grad(model.loss(x[part], y[part]), list(model.parameters()))
        shards.append(torch.cat([g.flatten() for g in grads]).double().numpy())
    seen = GradientStatistics.from_shards(np.array(shards), 0.5)
    asked = policy(name, **params).next_batch(1, progress=1 / 40, statistics=seen)
    assert batches_of(rows)[:2] == [64, 64 * asked]


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("at", [2, 5])
def test_a_growing_batch_goes_on_as_if_nothing_had_happened(
    name,
    at,
    recipe,
    store,
    dataset,
    undisturbed,  # noqa: F811
):
    made = replace(
        recipe,
        tokens=24 * 64,
        evaluations=3,
        accumulate=2,
        batching=Batching(name=name, params=POLICIES[name]),
    )
    crash_after(made, store, dataset, at)
    train(made, store, dataset, execution=HERE)
    assert what_remains(store, made) == undisturbed(made)


def crash_after(recipe, store, dataset, steps: int) -> None:
    """Stop a run after so many optimizer steps; watchers hear of batches, which may skip some."""
    from stepladder.train import Silent

    class Stop(Silent):
        taken = 0

        def step(self, step: int) -> None:
            self.taken += 1
            if self.taken == steps:
                raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        train(recipe, store, dataset, execution=HERE, watch=Stop(), checkpoint_seconds=0.0)


@pytest.mark.parametrize("name", TESTS)
def test_a_test_holds_what_the_cost_model_says(name, recipe):
    made = replace(recipe, accumulate=4, batching=Batching(name=name, params=POLICIES[name]))
    parameters = list(build(made)[0].parameters())
    batches = Batches(made, parameters)
    batches.watch(2)
    for _ in range(8):
        for p in parameters:
            p.grad = torch.ones_like(p)
        batches.after_backward()
    assert batches.probe is not None
    held = sum(g.nbytes for shard in batches.probe._sums for g in shard)
    assert held == cost(made).memory.kept
    assert cost(made).peak_memory == held + cost(replace(made, batching=Batching())).peak_memory
    controlled = cost(replace(recipe, schedule=FEDHYPER))
    assert controlled.memory.kept == sum(p.nbytes for p in parameters)
    assert cost(recipe).memory.kept == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batching": Batching(name="norm-test", params={"largest": 4})}, "set accumulate to 2"),
        ({"batching": Batching(name="doubling")}, "needs the setting 'end'"),
        ({"batching": Batching(name="dubling", params={"end": 4})}, "did you mean 'doubling'"),
        ({"batching": Batching(name="sqrt")}, "is a conversion, not a policy"),
        ({"batching": Batching(params={"end": 4})}, "set batching.name"),
        (
            {"batching": Batching(name="norm-test", params={"largest": 4, "eta": -1})},
            "eta must be positive",
        ),
        ({"schedule": Schedule(name="fedhyper", params={"gama": 2})}, "did you mean 'gamma'"),
        ({"schedule": Schedule(name="fedhyper", params={"over": "cosin"})}, "mean 'cosine'"),
        ({"schedule": Schedule(name="fedhyper", params={"gamma": 1})}, "gamma must be above 1"),
    ],
)
def test_what_cannot_be_is_refused_before_a_step(changes, says, recipe, store, dataset):
    made = replace(recipe, **changes)
    with pytest.raises(ValueError, match=says):
        train(made, store, dataset, execution=HERE)
    assert not store.folder(made.key).exists()


# Controllers --------------------------------------------------------------------------------------

FEDHYPER = Schedule(name="fedhyper", warmup=0.0, params={"sensitivity": 0.3, "gamma": 8})


def test_the_rate_moves_by_the_cosine_with_the_last_step(run, recipe, dataset):
    """Against plain gradient descent written out, in float64."""
    made = replace(recipe, optimizer=SGD, tokens=12 * 64, schedule=FEDHYPER)
    _, rows = run(made)
    model, plan = build(made)
    rates = {
        id(p): group["lr"] / SGD.lr
        for group in plan.param_groups(lr=SGD.lr, weight_decay=0.0, eps=0.0)
        for p in group["params"]
    }
    model.double()
    parameters, factor, moved, expected = list(model.parameters()), 1.0, None, []
    for step in range(12):
        x, y = dataset.batch(step, batch_sequences=4, context=16, seed=0)
        loss = model.loss(x, y)
        grads = torch.autograd.grad(loss, parameters)
        flat = torch.cat([g.flatten() for g in grads])
        if moved is not None:
            cosine = -float(flat @ moved) / float(flat.norm() * moved.norm())
            factor = min(8.0, max(1 / 8, factor + 0.3 * cosine))
        expected.append(factor * SGD.lr)
        steps = [
            -factor * SGD.lr * rates[id(p)] * g for p, g in zip(parameters, grads, strict=True)
        ]
        with torch.no_grad():
            for p, step_of in zip(parameters, steps, strict=True):
                p.add_(step_of)
        moved = torch.cat([s.flatten() for s in steps])
    assert rows_with(rows, "lr") == pytest.approx(expected, rel=1e-3)
    assert max(expected) > 1.5 * expected[0]


def test_a_controller_multiplies_the_schedule_it_is_over(run, recipe):
    """Frozen by the narrowest bounds, it is that schedule."""
    nearly = {"over": "cosine", "gamma": 1.0000001}
    _, rows = run(replace(recipe, schedule=Schedule(name="fedhyper", warmup=0.2, params=nearly)))
    _, plain = run(replace(recipe, schedule=Schedule(name="cosine", warmup=0.2)))
    assert rows_with(rows, "lr") == pytest.approx(rows_with(plain, "lr"), rel=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "schedule-free-adamw"])
@pytest.mark.parametrize("at", [1, 5])
def test_a_controller_goes_on_as_if_nothing_had_happened(
    optimizer,
    at,
    recipe,
    store,
    dataset,
    undisturbed,  # noqa: F811
):
    made = replace(
        recipe,
        optimizer=Optimizer(name=optimizer, lr=0.01),
        tokens=12 * 64,
        evaluations=3,
        schedule=FEDHYPER,
    )
    crash_after(made, store, dataset, at + 1)
    train(made, store, dataset, execution=HERE)
    assert what_remains(store, made) == undisturbed(made)
    lr = rows_with(curve(store, made), "lr")
    assert len(set(lr)) > 6


def test_no_agreement_where_there_is_nothing_to_agree_with():
    p = torch.nn.Parameter(torch.ones(3))
    hindsight = Hindsight([p])
    p.grad = torch.ones(3)
    assert hindsight.agreement() is None
    hindsight.before()
    hindsight.after()
    assert hindsight.agreement() is None  # a step of length zero
    hindsight.before()
    with torch.no_grad():
        p.sub_(torch.tensor([1.0, 0.0, 0.0]))
    hindsight.after()
    assert hindsight.agreement() == pytest.approx(1 / math.sqrt(3), rel=1e-6)
    p.grad[0] = math.nan
    assert hindsight.agreement() is None


@pytest.mark.parametrize(
    "changes",
    [{"schedule": FEDHYPER}, {"batching": Batching(name="doubling", params={"end": 4})}],
)
def test_runs_that_react_are_made_one_at_a_time(changes, recipe):
    made = replace(recipe, **changes)
    assert room_for(made, 8, HERE) == 1 < room_for(recipe, 8, HERE)
    assert shape_of(made) != shape_of(recipe)


def test_a_comparison_refuses_a_test_without_shards_before_it_runs(recipe):
    lever = replace(recipe, batching=Batching(name="norm-test", params={"largest": 4}))
    with pytest.raises(ValueError, match="set accumulate to 2"):
        make_plan(recipe, lever)


def test_a_recipe_without_them_reacts_to_nothing(recipe):
    assert schedules.reacting("linear", {}) is None
    assert "batching" not in recipe.to_toml()


# The noise scale ----------------------------------------------------------------------------------


def test_the_noise_scale_is_in_the_curve_and_changes_no_bit(run, recipe, dataset, store):
    """One estimate a measurement, from the norms of the first micro-batch and of the whole."""
    made = replace(recipe, optimizer=SGD, accumulate=4, tokens=16 * 64, evaluations=2)
    _, rows = run(made)
    model, _ = build(made)
    meter = NoiseScaleMeter()
    frozen = replace(made, optimizer=replace(SGD, lr=1e-30))
    _, still = run(frozen)
    for step in range(8):
        x, y = dataset.batch(step, batch_sequences=4, context=16, seed=0)
        squares = []
        for part in (slice(0, 1), slice(0, 4)):
            grads = torch.autograd.grad(model.loss(x[part], y[part]), list(model.parameters()))
            squares.append(sum(float(g.double().square().sum()) for g in grads))
        meter.add(small_square=squares[0], big_square=squares[1], small=16, big=64)
    expected = meter.estimate()
    found = next(row for row in still if "noise_scale" in row)
    assert found["step"] == 8
    assert found["noise_scale"] == pytest.approx(expected.scale, rel=1e-3)
    assert found["noise_scale_low"] == pytest.approx(expected.low, rel=1e-3)
    assert len(rows_with(rows, "noise_scale_high")) == 2


def test_the_noise_scale_goes_on_as_if_nothing_had_happened(
    recipe,
    store,
    dataset,
    undisturbed,  # noqa: F811
):
    made = replace(recipe, accumulate=2, evaluations=2)
    for at in (3, 17, 31):
        crash(made, store, dataset, at)
    train(made, store, dataset, execution=HERE)
    assert what_remains(store, made) == undisturbed(made)
    assert len(rows_with(curve(store, made), "noise_scale")) == 2


def test_one_micro_batch_says_nothing_of_noise(run):
    _, rows = run()
    assert not rows_with(rows, "noise_scale")
