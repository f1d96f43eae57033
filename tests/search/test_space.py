"""Spaces as users write them: what they mean, and what is refused with which words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from stepladder.recipe import Model, Optimizer, Recipe
from stepladder.search.cube import Cube, Seen
from stepladder.search.levels import Levels, tokens_only
from stepladder.search.space import Space, apply, require_stackable

BASE = Recipe(
    model=Model(
        width=32,
        depth=2,
        heads=4,
        kv_heads=4,
        head_size=8,
        mlp_width=64,
        context=32,
        vocab_size=128,
    ),
    optimizer=Optimizer(lr=0.01),
    tokens=32 * 64,
    batch=64,
)


def test_what_is_written():
    space = Space.parse(
        [
            "optimizer.params.steps=int:3..7 if optimizer.name=muon",
            "optimizer.lr=log:1e-3..1e-1",
            "optimizer.weight_decay=0..0.3",
            "optimizer.name=adamw,muon",
            "model.qk_norm=true,false",
        ]
    ).of(BASE)
    assert space.distributions == {
        "optimizer.lr": FloatDistribution(1e-3, 1e-1, log=True),
        "optimizer.weight_decay": FloatDistribution(0.0, 0.3),
        "optimizer.name": CategoricalDistribution(["adamw", "muon"]),
        "model.qk_norm": CategoricalDistribution([True, False]),
        "optimizer.params.steps": IntDistribution(3, 7),
    }
    assert space.dims[-1].is_active({"optimizer.name": "muon"})
    assert not space.dims[-1].is_active({"optimizer.name": "adamw"})


def test_values_go_into_the_recipe():
    made = apply(BASE, {"optimizer.lr": 0.5, "schedule.params.final": 0.1, "schedule.name": "wsd"})
    assert made.optimizer.lr == 0.5
    assert made.schedule.params == {"final": 0.1}
    assert made.model == BASE.model


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "search space is empty"),
        (["optimizer.lr"], "write a field and its range"),
        (["optimizer.lr=a..b"], "cannot read the bounds"),
        (["optimizer.lr=lin:1..2"], "log: or int:, not lin:"),
        (["optimizer.lr=2..1"], "is empty"),
        (["optimizer.lr=1..1"], "is empty"),
        (["optimizer.lr=0..inf"], "is empty"),
        (["optimizer.lr=log:0..1"], "starts above 0"),
        (["optimizer.name=adamw"], "two values or more"),
        (["optimizer.lr=1..2", "optimizer.lr=1..3"], "searched twice"),
        (["optimizer.eps=0..1 if optimizer.name=muon"], "which is not searched"),
        (["optimizer.eps=0..1 if optimizer.name=lion", "optimizer.name=adamw,muon"], "never is"),
        (["optimizer.eps=0..1 if optimizer.name"], "after `if` comes"),
        (["lr=0..1"], "no field 'lr', did you mean 'optimizer.lr'"),
        (["optimizer.learning_rate=0..1"], "no field 'optimizer.learning_rate', did you mean"),
        (["optimizer.beta2=0.9..1.5"], r"optimizer.beta2 must lie in \[0, 1\)"),
        (["optimizer.name=0..1"], "not a number: give choices"),
        (["model.width=8..64"], "the ladder sets it"),
        (["tokens=1000..2000"], "the ladder sets it"),
        (["parametrization.base_width=8..64"], "the ladder sets it"),
    ],
)
def test_what_is_refused(texts, message):
    with pytest.raises(ValueError, match=message):
        Space.parse(texts).of(BASE)


def test_a_shape_is_refused_in_a_stacked_study():
    require_stackable(Space.parse(["optimizer.lr=log:1e-3..1e-1"]), BASE)
    for text in ("model.activation=swiglu,relu2", "optimizer.name=adamw,lion"):
        with pytest.raises(ValueError, match=r"changes the shape .* --executor workers"):
            require_stackable(Space.parse([text]), BASE)


def test_levels_cost_more_and_keep_base_hyperparameters():
    levels = Levels.of(BASE, (1.0, 1.5, 2.0))
    widths = [levels.recipe(BASE, i).model.width for i in range(3)]
    assert widths == [32, 48, 64]
    assert list(levels.costs) == sorted(levels.costs)
    assert levels.recipe(BASE, 2).optimizer.lr == BASE.optimizer.lr
    grown = Levels.of(BASE, (1.0, 3.0), tokens_only)
    assert grown.recipe(BASE, 1).tokens == 3 * BASE.tokens
    assert grown.recipe(BASE, 1).model == BASE.model
    with pytest.raises(ValueError, match="cost the same"):
        Levels.of(BASE, (1.0, 1.01))
    with pytest.raises(ValueError, match="a scale at least"):
        Levels.of(BASE, ())


AXES = {
    "log": FloatDistribution(1e-5, 10.0, log=True),
    "even": FloatDistribution(-3.0, 7.0),
    "whole": IntDistribution(2, 9),
    "whole_log": IntDistribution(1, 1000, log=True),
    "choice": CategoricalDistribution(["a", "b", "c"]),
}


@given(st.lists(st.floats(0, 1), min_size=len(AXES), max_size=len(AXES)))
def test_points_and_values_are_one(point):
    cube = Cube(AXES)
    values = cube.values(np.array(point))
    assert cube.values(cube.point(values)) == pytest.approx(values)
    for name, axis in AXES.items():
        assert axis._contains(axis.to_internal_repr(values[name]))


def test_each_whole_number_has_its_equal_part():
    cube = Cube({"n": IntDistribution(2, 5)})
    drawn = [cube.values(np.array([x]))["n"] for x in (np.arange(4000) + 0.5) / 4000]
    assert {n: drawn.count(n) for n in set(drawn)} == {2: 1000, 3: 1000, 4: 1000, 5: 1000}


def test_candidates_that_were_run_are_left_out():
    cube = Cube({"n": IntDistribution(1, 3), "c": CategoricalDistribution(["a", "b"])})
    at = lambda n, c: cube.point({"n": n, "c": c})  # noqa: E731
    seen = Seen(
        x=np.array([at(1, "a"), at(2, "b")]),
        level=np.array([0, 1]),
        loss=np.ones(2),
        trial=np.arange(2),
        config=np.arange(2),
        ended=np.arange(2),
        pending=np.array([at(3, "b")]),
        pending_level=np.array([0]),
    )
    points = np.random.default_rng(0).random((200, 2))
    left = {tuple(cube.values(p).values()) for p in cube.unseen(points, seen, 0)}
    assert left == {("b", 1), ("a", 2), ("b", 2), ("a", 3)}
    assert len(Cube(AXES).unseen(np.ones((4, 5)), seen, 0)) == 4
