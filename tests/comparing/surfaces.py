"""A world with a known law: an executor that answers from it, and losses drawn from it."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepladder.comparing.means import means_of
from stepladder.comparing.multiplier import estimate
from stepladder.cost import cost
from stepladder.recipe import Data, Model, Optimizer, Parametrization, Recipe

FLOOR, SCALE, EXPONENT = 1.7, 900.0, 0.24
COMPUTE = np.array([3e10, 8e10, 2.4e11])

MODEL = Model(
    width=16, depth=2, heads=2, kv_heads=2, head_size=8, mlp_width=48, context=16, vocab_size=257
)
BASE = Recipe(
    model=MODEL,
    optimizer=Optimizer(lr=0.02),
    parametrization=Parametrization(base_width=16, base_depth=2, base_heads=2),
    data=Data(source="text", fingerprint="0" * 16),
    tokens=64_000,
    batch=256,
)


def law(compute):
    return FLOOR + SCALE * np.asarray(compute, dtype=float) ** -EXPONENT


def paired(multiplier, *, shared: float = 0.0, own: float = 0.0, seeds: int = 3, rng=None):
    """Losses (2, rungs, seeds) of a lever worth `multiplier` (a number, or one a rung)."""
    rng = rng or np.random.default_rng(0)
    truth = np.stack([law(COMPUTE), law(COMPUTE * multiplier)])[:, :, None]
    rungs = len(COMPUTE)
    noise = shared * rng.normal(size=(1, rungs, seeds)) + own * rng.normal(size=(2, rungs, seeds))
    return truth * np.exp(noise)


BOTH = np.stack([COMPUTE, COMPUTE])


def coverage(tables, multiplier: float):
    """How often 90% intervals hold the truth: of the mean, of two rungs, of the trend.

    `tables` are pairs of losses and of the baseline's further losses (or None).
    """
    held = []
    for seed, (losses, more) in enumerate(tables):
        made = estimate(BOTH, means_of(losses, more, count=300, seed=seed), level=0.9)
        held.append([multiplier in m for m in (made.mean, made.rungs[0], made.rungs[-1])])
        held[-1].append(1.0 in made.trend)
    return np.mean(held, axis=0)


Asked = Sequence[tuple[str, Recipe]]


class World:
    """An executor: the law in compute, a parabola in the rate around `best`, seeds' noise.

    `worth` is the multiplier of recipes whose optimizer is not the baseline's.
    """

    def __init__(
        self,
        worth: Callable[[float], float] | float = 1.0,
        best: float = 0.02,
        noise: float = 0.0,
        diverges: Callable[[Recipe], bool] = lambda recipe: False,
    ) -> None:
        self.worth, self.best, self.noise, self.diverges = worth, best, noise, diverges
        self.asked: list[tuple[str, Recipe]] = []

    def __call__(self, asked: Asked) -> list[dict[str, Any]]:
        self.asked += asked
        return [self.result(recipe) for _, recipe in asked]

    def result(self, recipe: Recipe) -> dict[str, Any]:
        spent = cost(recipe)
        compute = spent.flops_total + spent.flops_optimizer
        lever = recipe.optimizer.name != "adamw"
        worth = self.worth(compute) if callable(self.worth) else self.worth
        loss = float(law(compute * (worth if lever else 1.0)))
        loss *= 1 + 0.01 * math.log2(recipe.optimizer.lr / self.best) ** 2
        shared = random.Random(f"{recipe.seed} {recipe.model.width}").gauss(0, self.noise)
        lost = self.diverges(recipe)
        return {
            "key": recipe.key,
            "diverged": lost,
            "loss": None if lost else loss * math.exp(shared),
            "seconds": compute / 1e9,
        }

    def runs(self, optimizer: str) -> list[Recipe]:
        return [recipe for _, recipe in self.asked if recipe.optimizer.name == optimizer]
