"""How a run reacts to its own gradients: what is measured of a step, and what is made of it.

Two seams: a batch policy decides how many of the recipe's batches the coming step takes, and a
controller what the schedule's rate is multiplied by. Both are values; what they have reached is in
the run's progress, and a decision is taken before it is saved, so that a run that was stopped goes
on with the bits it would have had.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stepladder import batching, schedules
from stepladder.batching.noise_scale import LEAST_STEPS, NoiseScaleMeter
from stepladder.batching.probe import ShardProbe
from stepladder.recipe import Recipe
from stepladder.schedules import Controller
from stepladder.train.checkpoint import Progress


def policy_of(recipe: Recipe) -> batching.Policy | None:
    """The recipe's batch policy, counted in the recipe's batches; None where the batch stays.

    Raises:
        ValueError: no such policy, settings that it refuses, or a test of the gradient's variance
            in a recipe whose step has only one shard.
    """
    if not recipe.batching.name:
        if recipe.batching.params:
            raise ValueError("batching.params belong to a policy: set batching.name")
        return None
    made = batching.policy(recipe.batching.name, **dict[str, Any](recipe.batching.params))
    if made.measures != "nothing" and recipe.accumulate < 2:
        raise ValueError(
            f"{recipe.batching.name!r} tests the variance between micro-batches: set accumulate to "
            f"2 or more (now {recipe.accumulate})"
        )
    return made


def controller_of(recipe: Recipe, rate: float = 1.0) -> Controller | None:
    """The recipe's controller, at the factor it has reached; None where progress alone decides.

    Raises:
        ValueError: no such schedule, or settings that it refuses.
    """
    given = recipe.schedule
    if schedules.reacting(given.name, given.params) is None:
        return None
    return schedules.controller(given.name, **{**given.params, "factor": rate})


def measures(recipe: Recipe) -> batching.Measures:
    """What its batch policy must be shown of the gradients."""
    policy = policy_of(recipe)
    return policy.measures if policy else "nothing"


def reacts(recipe: Recipe) -> bool:
    """Whether a recipe's steps depend on more than their number, so that it trains by itself."""
    return bool(recipe.batching.name) or recipe.schedule.name in schedules.CONTROLLERS


class Batches:
    """How many batches the coming step takes.

    Args:
        parameters: those whose gradients a test is shown.
    """

    def __init__(self, recipe: Recipe, parameters: Iterable[Tensor]) -> None:
        self.recipe, self.parameters = recipe, list(parameters)
        self.policy, self.measures = policy_of(recipe), measures(recipe)
        self.probe: ShardProbe | None = None

    def first(self) -> int:
        """Of the run's first step; a test begins with the recipe's own."""
        if self.policy is None or self.measures != "nothing":
            return 1
        return self._within(self.policy.next_batch(1, progress=0.0, statistics=None), 0)

    def watch(self, taken: int) -> None:
        """A step of `taken` batches begins."""
        if self.measures != "nothing":
            parts = self.recipe.accumulate
            self.probe = ShardProbe(
                self.parameters,
                shards=parts,
                micro_batches=parts * taken,
                micro_size=1 / parts,
            )

    def after_backward(self) -> None:
        """The gradients hold one more micro-batch."""
        if self.probe:
            self.probe.after_backward()

    def next(self, taken: int, done: int) -> int:
        """Of the step after one of `taken` batches, with `done` behind it: never beyond the run."""
        if self.policy is None:
            return 1
        progress = done / self.recipe.steps
        seen = None
        if self.probe:
            seen = self.probe.statistics(coordinates=self.measures == "coordinates")
        return self._within(self.policy.next_batch(taken, progress=progress, statistics=seen), done)

    def _within(self, asked: int, done: int) -> int:
        return max(1, min(asked, self.recipe.steps - done))


class Hindsight:
    """Whether a step still agrees with the gradient that comes after it.

    Holds the last step (parameters after less before), a copy of the parameters.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.moved: list[Tensor] = []

    @torch.no_grad()
    def agreement(self) -> float | None:
        """The cosine between the gradient and the last step reversed; None before there is one, or
        where either is zero or not finite."""
        if not self.moved:
            return None
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        product = -_inner(grads, self.moved)
        lengths = (_inner(grads, grads) * _inner(self.moved, self.moved)).sqrt()
        cosine = float(product / lengths)
        return cosine if abs(cosine) <= 2.0 else None

    @torch.no_grad()
    def before(self) -> None:
        """A step is about to be taken."""
        self.moved = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def after(self) -> None:
        """It was taken."""
        for moved, parameter in zip(self.moved, self.parameters, strict=True):
            moved.neg_().add_(parameter)


def note_noise(
    progress: Progress, measured: Iterable[tuple[float, float, tuple[int, int]]]
) -> None:
    """Keep what steps say about the gradient's noise.

    Args:
        measured: of each step the norms of a part's gradient and of the whole, and the tokens of
            the part and of the whole; where a step had only one part, it says nothing.
    """
    meter = NoiseScaleMeter(progress.noise)
    for first, whole, (small, big) in measured:
        if small < big and math.isfinite(first) and math.isfinite(whole):
            meter.add(small_square=first**2, big_square=whole**2, small=small, big=big)
    progress.noise = meter.steps


def noise_scale(progress: Progress) -> dict[str, float | None]:
    """The noise scale in tokens with its 90% interval, over the steps since it was last asked for;
    None where the steps cannot tell an end from infinity. Empty where they are too few."""
    if len(progress.noise) < LEAST_STEPS:
        return {}
    found, progress.noise = NoiseScaleMeter(progress.noise).estimate(), []
    numbers = {
        "noise_scale": found.scale,
        "noise_scale_low": found.low,
        "noise_scale_high": found.high,
    }
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def _inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    return torch.stack(
        [(a.double() * b.double()).sum() for a, b in zip(left, right, strict=True)]
    ).sum()
