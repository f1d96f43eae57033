"""Trials that train as one program, against the same recipes trained alone by the loop."""

import json
import time
from collections import deque
from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stepladder.card import UNKNOWN
from stepladder.models.transformer import HeadNorm
from stepladder.optim import REGISTRY
from stepladder.recipe import Optimizer, Parametrization, Schedule
from stepladder.store import Busy, Store
from stepladder.train import Execution, Silent, sitting, train
from stepladder.train.stacked import Asked, Unstackable, room_for, shape_of, train_stacked
from stepladder.train.stacked.layers import stack_layers
from stepladder.train.stacked.rows import Rows

from .conftest import HERE, TINY, curve, curve_file

CONTINUOUS = [name for name in REGISTRY if REGISTRY.card(name).scaling != UNKNOWN]


class Crash(BaseException):
    """The process dies here: nothing is saved any more."""


class Crashing(Silent):
    def __init__(self, at):
        self.at = at

    def step(self, step):
        if step == self.at:
            raise Crash


def stacked(recipes, store, dataset, *, room=3, watch=Silent, seconds=1e9, execution=HERE):
    """What came of each recipe, in the order asked."""
    came = {}
    train_stacked(
        deque(Asked(recipe=recipe, watch=watch) for recipe in recipes),
        store,
        dataset,
        lambda recipe, what: came.__setitem__(recipe.key, what),
        execution=execution,
        room=room,
        checkpoint_seconds=seconds,
    )
    return [came[recipe.key] for recipe in recipes]


def varied(recipe, count=4):
    """Recipes of one shape that differ in everything that may differ."""
    return [
        replace(
            recipe,
            seed=i,
            tokens=(20 + 4 * i) * recipe.batch,
            optimizer=replace(
                recipe.optimizer,
                lr=0.002 * (i + 1),
                weight_decay=0.04 * i,
                beta1=0.85 + 0.02 * i,
                beta2=0.95 + 0.01 * (i % 4),
                eps=10.0 ** (-8 + i / 2),
                clip=(1.0, 0.0, 0.3, 2.0)[i % 4],
            ),
            parametrization=replace(
                recipe.parametrization, hidden_gain=1.0 + 0.1 * i, readout_std=0.05 * i
            ),
            schedule=Schedule(name=("linear", "cosine", "wsd", "constant")[i % 4], warmup=0.05 * i),
            evaluations=1 + i,
        )
        for i in range(count)
    ]


def assert_alike(rows, expected, rel):
    assert [row.keys() for row in rows] == [row.keys() for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=rel, nan_ok=True)


def weights(store, recipe, result):
    at = store.folder(recipe.key) / "checkpoint" / str(result["steps"]) / "weights.safetensors"
    return load_file(at)


# Curves -------------------------------------------------------------------------------------------


@pytest.fixture
def in_float64(monkeypatch):
    """Models are built in float64, for the loop and for stacks."""
    build = sitting.build

    def double(recipe, device):
        model, plan = build(recipe, device)
        return model.double(), plan

    monkeypatch.setattr(sitting, "build", double)


@pytest.mark.parametrize("changes", [{}, {"tied": True, "activation": "relu2", "qk_norm": False}])
def test_every_curve_is_that_of_the_run_alone(
    changes, recipe, store, dataset, tmp_path, in_float64
):
    """50 steps and more in float64; trials enter and leave as room comes free."""
    model = replace(TINY, **changes)
    parametrization = Parametrization(
        base_width=12, base_depth=1, embedding_std=0.1, readout_std=0.05
    )
    start = replace(recipe, model=model, parametrization=parametrization)
    recipes = [replace(r, tokens=r.tokens + 30 * r.batch) for r in varied(start, 5)]
    results = stacked(recipes, store, dataset)
    alone = Store(tmp_path / "alone")
    for made, result in zip(recipes, results, strict=True):
        expected = train(made, alone, dataset, execution=HERE)
        assert made.steps >= 50
        assert_alike(curve(store, made), curve(alone, made), 1e-9)
        assert not expected["diverged"]
        assert result["loss"] == pytest.approx(expected["loss"], rel=1e-9)
        theirs = weights(alone, made, expected)
        for name, value in weights(store, made, result).items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_every_optimizer_can_be_stacked(name, recipe, store, dataset, tmp_path):
    """In float32, within the noise of summation order; the stack's state goes on alone."""
    start = replace(recipe, optimizer=Optimizer(name=name, lr=0.01), evaluations=2)
    recipes = [replace(r, tokens=8 * r.batch) for r in varied(start, 3)]
    with pytest.raises(Crash):
        stacked(recipes, store, dataset, watch=lambda: Crashing(5), seconds=0.0)
    for made in recipes:
        alone = Store(tmp_path / "alone")
        expected = train(made, alone, dataset, execution=HERE)
        resumed = train(made, store, dataset, execution=HERE)
        assert_alike(curve(store, made), curve(alone, made), 1e-4)
        assert resumed["loss"] == pytest.approx(expected["loss"], rel=1e-4)
        said = (store.folder(made.key) / "log.txt").read_text()
        assert "from step 4 of 8" in said


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7},
        {"tokens": 10 * 64},
        *({"optimizer": {name: value}} for name, value in [
            ("lr", 0.01), ("weight_decay", 0.5), ("beta1", 0.5), ("beta2", 0.7), ("eps", 0.1),
            ("clip", 0.1),
        ]),
        *({"parametrization": {name: value}} for name, value in [
            ("embedding_std", 0.3), ("hidden_gain", 2.0), ("residual_gain", 0.1),
            ("readout_std", 0.3),
        ]),
        *({"schedule": {name: value}} for name, value in [
            ("name", "cosine"), ("warmup", 0.5), ("params", {"final": 0.5}),
        ]),
    ],
)  # fmt: skip
def test_each_value_that_may_differ_makes_its_own_curve(changes, recipe, store, dataset, tmp_path):
    """Two runs that differ in nothing else, in one program."""
    start = replace(recipe, tokens=8 * recipe.batch, evaluations=1, validation=64)
    start = replace(start, optimizer=replace(start.optimizer, weight_decay=0.1))
    made = {
        name: replace(getattr(start, name), **value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    recipes = [start, replace(start, **made)]
    assert shape_of(recipes[0]) == shape_of(recipes[1])
    stacked(recipes, store, dataset)
    alone = Store(tmp_path / "alone")
    for one in recipes:
        train(one, alone, dataset, execution=HERE)
        assert_alike(curve(store, one), curve(alone, one), 1e-4)
    assert curve(store, recipes[0]) != curve(store, recipes[1])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_values_and_trials_that_change_compile_nothing_anew(recipe, store, dataset, monkeypatch):
    """One graph for trials that differ in all, enter, leave, and do not fill the rows."""
    graphs = []

    def counting(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counting, fullgraph=True))
    torch._dynamo.reset()
    compiled = Execution(device=torch.device("cpu"), compiled=True)
    recipes = [replace(made, evaluations=1, validation=64) for made in varied(recipe, 5)]
    stacked(recipes[:1], store, dataset, execution=compiled)
    assert len(graphs) == 1
    torch._dynamo.reset()
    graphs.clear()
    results = stacked(recipes[1:], store, dataset, execution=compiled)
    assert len({result["steps"] for result in results}) == 4
    assert len(graphs) == 1


@pytest.mark.parametrize("changes", [{"accumulate": 2}, {"precision": "bfloat16"}])
def test_parts_and_narrow_precision(changes, recipe, store, dataset, tmp_path):
    recipes = varied(replace(recipe, **changes), 3)
    stacked(recipes, store, dataset)
    rel = 1e-4 if "accumulate" in changes else 0.03
    for made in recipes:
        alone = Store(tmp_path / "alone")
        train(made, alone, dataset, execution=HERE)
        losses, expected = ([row["loss"] for row in curve(s, made) if "loss" in row]
                            for s in (store, alone))  # fmt: skip
        assert losses == pytest.approx(expected, rel=rel)


def test_logits_of_many_tokens_take_turns(recipe, store, dataset, tmp_path, monkeypatch):
    """Where the logits of all trials would be too many at once, each has its own."""
    monkeypatch.setattr("stepladder.train.stacked.losses.CPU_BLOCK_ELEMENTS", 2570)
    recipes = varied(recipe, 2)
    stacked(recipes, store, dataset)
    for made in recipes:
        alone = Store(tmp_path / "alone")
        train(made, alone, dataset, execution=HERE)
        assert_alike(curve(store, made), curve(alone, made), 1e-4)


# Apart --------------------------------------------------------------------------------------------


def test_trials_do_not_touch_each_other(recipe, store, dataset, tmp_path):
    """Bit for bit: whatever the others do, diverging included, and however many there are."""
    kept = varied(recipe, 3)
    hot = replace(recipe, optimizer=Optimizer(lr=1e6), seed=99)
    results = stacked([kept[0], hot, *kept[1:]], store, dataset, room=4)
    assert [r["diverged"] for r in results] == [False, True, False, False]
    assert results[1]["loss"] is None
    assert results[1]["steps"] < hot.steps
    assert store.get(hot.key).status == "diverged"
    fewer = Store(tmp_path / "fewer")
    stacked(kept[::-1], fewer, dataset, room=2)
    for made in kept:
        assert curve_file(store, made).read_bytes() == curve_file(fewer, made).read_bytes()


def test_a_crash_leaves_what_can_be_resumed_bit_for_bit(recipe, store, dataset, tmp_path):
    recipes = varied(recipe, 4)
    whole = Store(tmp_path / "whole")
    expected = stacked(recipes, whole, dataset)
    with pytest.raises(Crash):
        stacked(recipes, store, dataset, watch=lambda: Crashing(9), seconds=0.0)
    results = stacked(recipes[::-1], store, dataset, room=4)[::-1]
    for made, result, other in zip(recipes, results, expected, strict=True):
        assert curve_file(store, made).read_bytes() == curve_file(whole, made).read_bytes()
        assert result["loss"] == other["loss"]
    assert "from step 8 of 20" in (store.folder(recipes[0].key) / "log.txt").read_text()


def test_the_checkpoint_is_of_the_trial_alone(recipe, store, dataset, tmp_path):
    """No other trial's rows are written along, and it reads as the loop's own."""
    made = varied(recipe, 3)
    results = stacked(made, store, dataset)
    alone = Store(tmp_path / "alone")
    train(made[1], alone, dataset, execution=HERE)
    for name in ("weights.safetensors", "optimizer.pt"):
        ours, theirs = (
            s.folder(made[1].key) / "checkpoint" / str(results[1]["steps"]) / name
            for s in (store, alone)
        )
        assert ours.stat().st_size == pytest.approx(theirs.stat().st_size, rel=0.01)


def test_failures_are_told_and_stop_no_other(recipe, store, dataset):
    """One that cannot run, one whose run is held, one whose disk is full as it goes."""
    good, held, full = varied(recipe, 3)
    bad = replace(recipe, data=replace(recipe.data, fingerprint="of another text"))

    class Full(Silent):
        def row(self, row):
            if row["step"] == 7:
                raise OSError("no space left")

    came = {}
    watches = {good.key: Silent, held.key: Silent, full.key: Full, bad.key: Silent}
    asked = [Asked(recipe=r, watch=watches[r.key]) for r in (bad, held, full, good)]
    with store.claim(held.key, held.to_toml()):
        train_stacked(
            deque(asked),
            store,
            dataset,
            lambda recipe, what: came.__setitem__(recipe.key, what),
            execution=HERE,
            room=2,
        )
    assert "data.fingerprint" in str(came[bad.key])
    assert isinstance(came[held.key], Busy)
    assert isinstance(came[full.key], OSError)
    assert came[good.key]["steps"] == good.steps
    assert store.get(full.key).status == "partial"
    with store.claim(full.key, full.to_toml()) as run:  # nothing holds it any more
        assert run.result is None


def test_seconds_are_shared_and_not_counted_twice(recipe, store, dataset):
    start = time.monotonic()
    results = stacked(varied(recipe, 3), store, dataset)
    assert 0 < sum(r["seconds"] for r in results) < time.monotonic() - start


# Shapes -------------------------------------------------------------------------------------------


def test_only_what_shares_a_shape_shares_a_program(recipe):
    assert len({shape_of(r) for r in varied(recipe, 8)}) == 1
    others = [
        {"model": replace(TINY, depth=3)},
        {"batch": 128},
        {"accumulate": 2},
        {"precision": "bfloat16"},
        {"optimizer": replace(recipe.optimizer, name="lion")},
        {"parametrization": replace(recipe.parametrization, rule="mup")},
        {"parametrization": replace(recipe.parametrization, base_width=8)},
    ]
    shapes = {shape_of(replace(recipe, **changes)) for changes in others}
    assert len(shapes | {shape_of(recipe)}) == len(others) + 1


def test_a_stack_fits_the_memory_in_even_rounds(recipe, monkeypatch):
    monkeypatch.setattr(Execution, "memory", 1e12)
    plenty = room_for(recipe, 10, HERE)
    assert plenty == 10
    several = room_for(recipe, 100, HERE)  # a CPU's cores have enough long before
    assert several < 100
    assert room_for(recipe, 2 * several, HERE) == several
    monkeypatch.setattr(Execution, "memory", 1.0)
    assert room_for(recipe, 10, HERE) == 1


def test_a_layer_without_a_stacked_form_is_named():
    model = nn.Sequential(nn.Linear(3, 3), nn.Bilinear(2, 2, 2))
    with pytest.raises(Unstackable, match="1 is a Bilinear, which has no stacked form"):
        stack_layers(model, dict(model.named_parameters()))


@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda: nn.Linear(5, 3), torch.randn(4, 6, 5)),
        (lambda: nn.Linear(5, 3, bias=False), torch.randn(4, 5)),
        (lambda: nn.RMSNorm(5, eps=1e-6), torch.randn(4, 6, 5)),
        (lambda: HeadNorm(5, eps=1e-3), torch.randn(4, 2, 6, 5).transpose(1, 2)),
        (lambda: nn.Embedding(7, 3), torch.randint(7, (4, 6))),
    ],
)
def test_a_stacked_layer_is_each_layer_on_its_own(make, x):
    """Outputs, and gradients of input and parameters, of two trials with two rows each."""
    models = [nn.Sequential(make()).double() for _ in range(2)]
    for model in models:
        for p in model.parameters():
            nn.init.normal_(p)
    x = x.double().requires_grad_() if x.is_floating_point() else x
    names = [name for name, _ in models[0].named_parameters()]
    rows = Rows(models[0], [names], alone=(), room=2)
    expected = torch.cat([model(part) for model, part in zip(models, x.chunk(2), strict=True)])
    leaves = [p for model in models for p in model.parameters()]
    slope = torch.randn_like(expected)
    given = [x] if x.requires_grad else []
    theirs = torch.autograd.grad(expected, [*given, *leaves], slope)
    for i, model in enumerate(models):
        rows.adopt(i, model)
    parameters = rows.parameters()
    stack = stack_layers(models[0], parameters)
    found = stack(x)
    ours = torch.autograd.grad(found, [*given, *parameters.values()], slope)
    torch.testing.assert_close(found, expected)
    if given:
        torch.testing.assert_close(ours[0], theirs[0])
    count = len(names)
    for i, name in enumerate(parameters):
        place = names.index(name)
        for trial in range(2):
            alone = theirs[len(given) + trial * count + place]
            torch.testing.assert_close(ours[len(given) + i][trial], alone)


def test_results_are_those_of_the_public_format(recipe, store, dataset):
    (made, _), results = varied(recipe, 2), stacked(varied(recipe, 2), store, dataset)
    folder = store.folder(made.key)
    assert json.loads((folder / "result.json").read_text()) == results[0]
    assert (folder / "recipe.toml").read_text() == made.to_toml()
    assert [p.name for p in (folder / "checkpoint").iterdir()] == [str(made.steps)]
