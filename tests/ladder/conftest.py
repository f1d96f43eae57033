"""A ladder planned on a small corpus, climbed by an executor that knows the true law."""

import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stepladder.cost import cost
from stepladder.data import Dataset, prepare
from stepladder.devices import device_named
from stepladder.ladder import Folder, Plan, create, make_plan, parse_budget
from stepladder.recipe import Recipe

FLOOR, SCALE, EXPONENT = 0.2, 91.0, 0.125  # of bytes
BEST_RATE, NOISE = 2.0**-4.6, 0.002


def true_loss(recipe: Recipe, best: float = BEST_RATE) -> float:
    """A power law in compute, with a parabola in the logarithm of the base rate."""
    law = FLOOR + SCALE * cost(recipe).flops_total ** -EXPONENT
    return law * (1 + 0.01 * math.log2(recipe.optimizer.lr / best) ** 2)


def fake_result(recipe: Recipe, loss: float) -> dict[str, Any]:
    """What training would say, as far as the ladder reads it."""
    spent = cost(recipe)
    return {
        "key": recipe.key,
        "diverged": not math.isfinite(loss),
        "loss": loss if math.isfinite(loss) else None,
        "flops": spent.flops_total,
        "tokens": spent.tokens,
        "params": spent.parameters.total,
        "seconds": 1.0,
        "started": "2100-01-01T00:00:00+00:00",
    }


def noisy(recipe: Recipe, best: float = BEST_RATE) -> float:
    """The true loss with the noise of its seed: the same wherever the corpus happens to lie."""
    told_apart = f"{recipe.model.width} {recipe.optimizer.lr} {recipe.seed}"
    return true_loss(recipe, best) * math.exp(random.Random(told_apart).gauss(0, NOISE))


Executor = Callable[[Sequence[tuple[str, Recipe]]], list[dict[str, Any]]]


def executor(loss: Callable[[Recipe], float] = noisy) -> Executor:
    """An executor that answers from a function of the recipe."""
    return lambda asked: [fake_result(recipe, loss(recipe)) for _, recipe in asked]


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Some two hundred kilobytes of words in many small files."""
    folder = tmp_path_factory.mktemp("corpus")
    words = random.Random(0)
    for i in range(400):
        text = " ".join(words.choice(("ladder", "rung", "climb", "far")) for _ in range(200))
        (folder / f"{i}.txt").write_text(f"{i} {text}")
    return prepare(folder, "bytes", cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def plan(dataset: Dataset) -> Plan:
    """A small plan."""
    return make_plan(parse_budget("2e13"), dataset, device_named("a100"), ratio=0.5, context=64)


@pytest.fixture
def folder(plan: Plan, tmp_path: Path) -> Folder:
    """Its folder."""
    return create(tmp_path, plan)
