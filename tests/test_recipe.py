"""Recipes: what goes into TOML comes out, equal runs have equal keys, and mistakes are named."""

import json
import math
from dataclasses import fields, is_dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from stepladder.recipe import (
    ACTIVATIONS,
    FORMAT,
    PRECISIONS,
    Data,
    Model,
    Optimizer,
    Parametrization,
    Recipe,
    Schedule,
)

SHAPE = Model(
    width=64, depth=4, heads=4, kv_heads=2, head_size=16, mlp_width=192, context=32, vocab_size=257
)
PLAIN = Recipe(model=SHAPE, optimizer=Optimizer(lr=0.01), tokens=6400, batch=64)

# The key of PLAIN. It must never change: every run that was ever paid for is found by its key.
GOLDEN = "5dbce1ef63206eef"

counts = st.integers(1, 10_000)
rates = st.floats(0, 1e3, exclude_min=True)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
settings_of = st.dictionaries(
    words, st.one_of(st.booleans(), st.integers(-9, 9), st.floats(-1e9, 1e9), words), max_size=3
)


@st.composite
def models(draw: st.DrawFn) -> Model:
    kv_heads, group = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    sizes = {name: draw(counts) for name in ("width", "depth", "mlp_width", "context")}
    return Model(
        **sizes,
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_size=2 * draw(counts),
        vocab_size=draw(counts),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        qk_norm=draw(st.booleans()),
        tied=draw(st.booleans()),
        rope_theta=draw(rates),
    )


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    model, accumulate = draw(models()), draw(st.integers(1, 4))
    batch = model.context * accumulate * draw(st.integers(1, 9))
    return Recipe(
        model=model,
        optimizer=draw(
            st.builds(
                Optimizer,
                name=words,
                lr=rates,
                weight_decay=rates,
                beta1=st.floats(0, 0.999),
                params=settings_of,
            )
        ),
        schedule=draw(st.builds(Schedule, name=words, warmup=st.floats(0, 1), params=settings_of)),
        parametrization=draw(st.builds(Parametrization, rule=words, base_width=counts)),
        data=draw(st.builds(Data, source=words, tokenizer=words, fingerprint=words)),
        tokens=batch * draw(counts),
        batch=batch,
        accumulate=accumulate,
        precision=draw(st.sampled_from(PRECISIONS)),
        seed=draw(st.integers(0, 2**63 - 1)),
    )


# Text and key ------------------------------------------------------------------------------------


@given(recipes())
def test_toml_gives_the_recipe_back(recipe):
    read = Recipe.from_toml(recipe.to_toml())
    assert read == recipe
    assert (read.key, read.to_toml()) == (recipe.key, recipe.to_toml())


@given(recipes())
def test_json_gives_the_recipe_back(recipe):
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def shuffled(content: dict[str, Any], random) -> dict[str, Any]:
    names = list(content)
    random.shuffle(names)
    return {
        n: shuffled(content[n], random) if isinstance(content[n], dict) else content[n]
        for n in names
    }


@given(recipes(), st.randoms(use_true_random=False))
def test_the_order_of_fields_changes_nothing(recipe, random):
    read = Recipe.from_toml(tomli_w.dumps(shuffled(recipe.to_dict(), random)))
    assert (read.key, read.to_toml()) == (recipe.key, recipe.to_toml())


SHORT = """
tokens = 6400
batch = 64
model = {width = 64, depth = 4, heads = 4, kv_heads = 2, head_size = 16, mlp_width = 192, \
context = 32, vocab_size = 257}
optimizer = {lr = 0.01}
"""


def test_the_key_is_what_it_always_was():
    assert PLAIN.key == GOLDEN


def test_defaults_may_be_left_out():
    assert Recipe.from_toml(SHORT).key == GOLDEN
    assert Recipe.from_toml(PLAIN.to_toml()).key == GOLDEN


@pytest.mark.parametrize(
    "alike",
    [
        lambda: replace(PLAIN, optimizer=Optimizer(lr=np.float64(0.01), clip=1, eps=1e-8)),
        lambda: replace(PLAIN, tokens=6400.0, batch=np.int64(64)),
        lambda: replace(PLAIN, levers=[]),
        lambda: replace(PLAIN, model=replace(SHAPE, rope_theta=10_000)),
    ],
)
def test_one_number_has_one_key_whatever_its_type(alike):
    assert alike() == PLAIN
    assert (alike().key, alike().to_toml()) == (GOLDEN, PLAIN.to_toml())


def test_zero_has_no_sign_and_settings_no_order():
    def optimizer(**changes: Any) -> Recipe:
        return replace(PLAIN, optimizer=Optimizer(lr=0.01, **changes))

    assert optimizer(weight_decay=-0.0).key == optimizer(weight_decay=0.0).key
    some, other = optimizer(params={"a": 1, "b": 2.5}), optimizer(params={"b": 2.5, "a": 1.0})
    assert (some.key, some.to_toml()) == (other.key, other.to_toml())
    assert some.key != optimizer(params={"a": 1, "b": 2}).key


def leaves(record: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all fields that are values."""
    found = []
    for f in fields(record):
        value, at = getattr(record, f.name), (*path, f.name)
        found += leaves(value, at) if is_dataclass(value) else [at]
    return found


# A valid other value where adding to it would not give one.
OTHERS: dict[str, Any] = {
    "activation": "relu2",
    "precision": "bfloat16",
    "heads": 8,
    "kv_heads": 4,
    "head_size": 18,
    "context": 16,
    "batch": 128,
    "accumulate": 2,
    "beta1": 0.8,
    "beta2": 0.99,
    "warmup": 0.2,
    "params": {"decay": 0.3},
}


def changed(record: Any, path: tuple[str, ...]) -> Any:
    name, *rest = path
    value = getattr(record, name)
    if rest:
        return replace(record, **{name: changed(value, tuple(rest))})
    if name in OTHERS:
        return replace(record, **{name: OTHERS[name]})
    other = not value if isinstance(value, bool) else value + type(value)(1)
    return replace(record, **{name: other})


ALL = [path for path in leaves(PLAIN) if path != ("levers",)]


@pytest.mark.parametrize("path", ALL, ids=".".join)
def test_every_field_is_in_the_key_and_in_the_text(path):
    other = changed(PLAIN, path)
    assert reduce(getattr, path, other) != reduce(getattr, path, PLAIN)
    assert other.key != PLAIN.key
    assert Recipe.from_toml(other.to_toml()) == other


def test_no_two_changes_share_a_key():
    keys = [changed(PLAIN, path).key for path in ALL]
    assert len({*keys, GOLDEN}) == len(ALL) + 1


@given(recipes())
def test_steps_are_whole_batches(recipe):
    more = replace(recipe, tokens=recipe.tokens + recipe.batch - 1)
    assert recipe.steps * recipe.batch == recipe.tokens
    assert more.steps == recipe.steps


def test_the_base_keeps_head_size_and_proportions():
    grown = replace(PLAIN, model=replace(SHAPE, width=256, heads=16, kv_heads=8, mlp_width=768))
    base = grown.base_model()
    assert (base.width, base.depth) == (64, 4)
    assert (base.heads, base.kv_heads, base.mlp_width) == (4, 2, 192)
    assert base.head_size == SHAPE.head_size
    assert PLAIN.base_model() == SHAPE


@given(recipes())
def test_every_recipe_has_a_base(recipe):
    base = recipe.base_model()
    assert base.width == recipe.parametrization.base_width
    assert base.heads % base.kv_heads == 0


# Mistakes ----------------------------------------------------------------------------------------


def written(**changes: Any) -> str:
    """PLAIN as TOML with fields set by path, such as model__width."""
    content = PLAIN.to_dict()
    for path, value in changes.items():
        section, _, name = path.partition("__")
        (content[section] if name else content)[name or section] = value
    return tomli_w.dumps(content)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"token": 1}, r"unknown field token, did you mean 'tokens'"),
        ({"model__widht": 1}, r"unknown field model\.widht, did you mean 'width'"),
        ({"optimizer__learning_rate": 1}, r"unknown field optimizer\.learning_rate"),
        ({"sheduel": {}}, r"unknown field sheduel, did you mean 'schedule'"),
        ({"model__width": "64"}, r"model\.width must be int, not '64'"),
        ({"model__width": 64.5}, r"model\.width must be int, not 64\.5"),
        ({"model__width": True}, r"model\.width must be int, not True"),
        ({"model__tied": 1}, r"model\.tied must be bool, not 1"),
        ({"tokens": math.nan}, r"tokens must be int, not nan"),
        ({"optimizer__lr": "fast"}, r"optimizer\.lr must be float, not 'fast'"),
        ({"data__source": 7}, r"data\.source must be str, not 7"),
        ({"model": 3}, r"model must be a table, such as \[model\]"),
        ({"optimizer__params": 3}, r"optimizer\.params must be a table"),
        ({"optimizer__params": {"c": [1]}}, r"optimizer\.params\.c must be float"),
        ({"levers": "muon"}, r"levers must be a list"),
        ({"levers": ["muon"]}, r"no lever named 'muon'.*optimizer\.name"),
        ({"model__activation": "swiglue"}, r"did you mean 'swiglu'\?; it is one of swiglu, relu2"),
        ({"precision": "float16"}, r"did you mean 'bfloat16'"),
        ({"format": FORMAT + 1}, rf"format {FORMAT + 1}, this Stepladder reads {FORMAT}: upgrade"),
        ({"model__kv_heads": 3}, r"model\.heads \(4\) must be a multiple of model\.kv_heads \(3\)"),
        ({"model__head_size": 15}, r"model\.head_size \(15\) must be even"),
        ({"batch": 100}, r"batch \(100 tokens\) must be a multiple .*: 96 is nearest"),
        ({"batch": 5}, r": 32 is nearest"),
        ({"accumulate": 3}, r"\(32 x 3\): 96 is nearest"),
        ({"tokens": 63}, r"tokens \(63\) must be at least one batch \(64\)"),
        ({"optimizer__beta2": 1.0}, r"optimizer\.beta2 must lie in \[0, 1\), not 1\.0"),
        ({"schedule__warmup": 1.1}, r"schedule\.warmup \(1\.1\) .* and tokens above: at least"),
        ({"schedule__warmup": 1e9}, r"schedule\.warmup \(1e\+09\) .* at most the run \("),
    ],
)
def test_a_mistake_is_named_with_its_fix(changes, says):
    with pytest.raises(ValueError, match=says):
        Recipe.from_toml(written(**changes))


POSITIVE = [
    *("model__" + n for n in ("width", "depth", "heads", "kv_heads", "head_size", "mlp_width")),
    *("model__" + n for n in ("context", "vocab_size", "rope_theta")),
    *("parametrization__" + n for n in ("base_width", "base_depth", "embedding_std")),
    *("parametrization__hidden_gain", "optimizer__lr"),
    *("tokens", "batch", "accumulate", "validation", "evaluations"),
]
NOT_NEGATIVE = [
    "schedule__warmup",
    *("parametrization__residual_gain", "parametrization__readout_std"),
    *("optimizer__weight_decay", "optimizer__eps", "optimizer__clip"),
]
FRACTIONS = ["optimizer__beta1", "optimizer__beta2"]


@pytest.mark.parametrize("path", POSITIVE + NOT_NEGATIVE + FRACTIONS)
@pytest.mark.parametrize("value", [-1, 0, math.nan, math.inf])
def test_hyperparameters_are_finite_and_not_negative(path, value):
    if value == 0 and path not in POSITIVE:
        assert Recipe.from_toml(written(**{path: 0}))
        return
    with pytest.raises(ValueError, match=path.replace("__", r"\.")):
        Recipe.from_toml(written(**{path: value}))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_settings_of_an_optimizer_are_finite(value):
    with pytest.raises(ValueError, match=r"schedule\.params\.decay must be finite"):
        Schedule(params={"decay": value})


@pytest.mark.parametrize(
    ("text", "says"),
    [("tokens = ", "not valid TOML"), ("tokens = 1", "lacks model"), (SHORT[9:], "TOML")],
)
def test_a_broken_file_is_named(tmp_path, text, says):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"recipe\.toml: .*{says}"):
        Recipe.load(path)


def test_a_binary_file_is_named(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xff\x00\x81")
    with pytest.raises(ValueError, match=r"recipe\.toml: "):
        Recipe.load(path)


def test_a_field_that_joined_later_is_written_only_where_it_is_used():
    """The files of runs that were kept before it joined must still say the same."""
    used = replace(PLAIN, parametrization=Parametrization(scale_like="adamw"))
    assert "scale_like" not in PLAIN.to_toml()
    assert Recipe.from_toml(used.to_toml()) == used
    assert used.key != replace(PLAIN, parametrization=Parametrization()).key


def test_a_file_that_is_not_there_says_where_recipes_are(tmp_path):
    with pytest.raises(ValueError, match=r"no recipe file .*nope\.toml.*docs/recipe\.md"):
        Recipe.load(tmp_path / "nope.toml")
