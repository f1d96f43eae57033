"""What both checks need: builds at a size, batches, a loss, and a few steps of training."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn

from stepladder.scaling.parametrize import parametrize
from stepladder.scaling.plan import Plan

Batch = Any
Build = Callable[
    ..., Any
]  # (width, depth) -> model, or (model, optimizer) of the user's own making
Loss = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True, kw_only=True)
class Size:
    """A shape to build: a width, and a depth where the build takes one."""

    width: int
    depth: int | None = None

    def __str__(self) -> str:
        return f"width {self.width}" + ("" if self.depth is None else f", depth {self.depth}")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a trial is trained: a rule and an optimizer, or None for the user's own of both.

    `options` go to `parametrize`.
    """

    rule: str | None
    optimizer: str
    weight_decay: float
    options: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One model, ready to train."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    plan: Plan | None


def prepare(build: Build, size: Size, base: Size, recipe: Recipe, *, lr: float, seed: int) -> Trial:
    """Build a model at a size, scaled from the base by the recipe's rule.

    Raises:
        ValueError: the rule is missing where the build returns no optimizer.
    """
    torch.manual_seed(seed)
    built = call_build(build, size, lr)
    model = built[0] if isinstance(built, tuple) else built
    plan = None if recipe.rule is None else plan_for(build, model, base, recipe, lr)
    if isinstance(built, tuple):
        return Trial(model=model, optimizer=built[1], plan=plan)
    if plan is None:
        raise ValueError("give rule=, or let build return (model, optimizer) of your own")
    _check_multipliers(plan)
    plan.initialize(seed=seed)
    groups = plan.param_groups(lr=lr, weight_decay=recipe.weight_decay)
    return Trial(model=model, optimizer=make_optimizer(recipe.optimizer, groups), plan=plan)


def _check_multipliers(plan: Plan) -> None:
    needed = plan.multipliers()
    if needed:
        raise ValueError(
            f"{min(needed)} needs a multiplier in the forward pass: give readout_norm=, or "
            "--readout-norm (the name of the norm that feeds the tied readout), or let build apply "
            "it and return (model, optimizer)"
        )


def plan_for(build: Build, model: nn.Module, base: Size, recipe: Recipe, lr: float) -> Plan:
    """The plan that the recipe's rule makes for a model of this build."""
    small = call_build(build, base, lr)
    small = small[0] if isinstance(small, tuple) else small
    rule = recipe.rule or "sp"
    return parametrize(model, base=small, rule=rule, optimizer=recipe.optimizer, **recipe.options)


def require_growth(build: Build, sizes: Sequence[Size], lr: float) -> None:
    """Refuse a build whose models are all alike: nothing about scale would be seen.

    Raises:
        ValueError: the smallest and the largest have the same parameters.
    """
    least, most = min(sizes, key=_extent), max(sizes, key=_extent)
    if least != most and _shapes(build, least, lr) == _shapes(build, most, lr):
        raise ValueError(
            f"build makes the same model at {least} and at {most}: does it use its arguments?"
        )


def _extent(size: Size) -> tuple[int, int]:
    return size.width, size.depth or 0


def _shapes(build: Build, size: Size, lr: float) -> list[torch.Size]:
    built = call_build(build, size, lr)
    return [p.shape for p in (built[0] if isinstance(built, tuple) else built).parameters()]


def call_build(build: Build, size: Size, lr: float) -> Any:
    """Call a build with what it takes: `width`, and `depth` and `lr` where it names them.

    Raises:
        ValueError: it takes no width, or no depth where one is asked for, or returns neither a
            model nor (model, optimizer).
    """
    taken = inspect.signature(build).parameters
    if not taken:
        raise ValueError("build takes no width: define it as build(width) or build(width, depth)")
    if size.depth is not None and "depth" not in taken:
        raise ValueError(
            "build takes no depth: define it as build(width, depth), or leave depths out"
        )
    extra: dict[str, Any] = {} if size.depth is None else {"depth": size.depth}
    if "lr" in taken:
        extra["lr"] = lr
    built = build(size.width, **extra)
    pair = isinstance(built, tuple) and len(built) == 2
    if not isinstance(built[0] if pair else built, nn.Module) or (
        pair
        and not hasattr(built[1], "step")  # several optimizers in one need not be torch's class
    ):
        raise ValueError(
            f"build must return a model or (model, optimizer), not a {type(built).__name__}"
        )
    return built


_OPTIMIZERS: dict[str, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adafactor": torch.optim.Adafactor,
}


def make_optimizer(name: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """An optimizer for a plan's groups: torch's own, or one of `stepladder.optim`.

    Raises:
        ValueError: there is none of that name to train with.
    """
    if name in _OPTIMIZERS:
        return _OPTIMIZERS[name](groups)
    from stepladder.optim import REGISTRY, build

    if name not in REGISTRY:
        raise ValueError(
            f"there is no {name} here to train with: let build return (model, your optimizer)"
        )

    return build(name, groups, lr=groups[0]["lr"])


def default_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the model's logits: (inputs, targets), or tokens predicting the next."""
    inputs, targets = batch if isinstance(batch, tuple | list) else (batch[:, :-1], batch[:, 1:])
    logits = logits_of(model(inputs))
    return nn.functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())


def logits_of(output: Any) -> Tensor:
    """The logits of a model's output: a tensor, or what carries one as `logits` (Hugging Face)."""
    found = getattr(output, "logits", output)
    return found[0] if isinstance(found, tuple) else found


def inputs_of(batch: Batch) -> Tensor:
    """What is fed to the model."""
    return batch[0] if isinstance(batch, tuple | list) else batch[:, :-1]


def as_batches(batches: Iterable[Batch] | None, model: nn.Module) -> list[Batch]:
    """The user's batches; without them, random tokens for a model with an embedding.

    Tokens are as uneven as words (frequencies fall as 1 / rank). Even ones have nothing in common
    to learn: below a width of about their number updates then line up less with what they act on,
    which looks like rates that are too small by up to width^0.45.

    Raises:
        ValueError: there are none and none can be made.
    """
    if batches is not None:
        found = list(batches)
        if not found:
            raise ValueError("batches is empty: give at least one")
        return found
    vocabulary = next((m.num_embeddings for m in model.modules() if isinstance(m, nn.Embedding)), 0)
    if not vocabulary:
        raise ValueError(
            "the model has no token embedding: give batches=[(inputs, targets), ...], or "
            "--batches FUNCTION"
        )
    generator = torch.Generator().manual_seed(0)
    frequencies = 1 / torch.arange(1.0, vocabulary + 1)
    drawn = torch.multinomial(frequencies, 2 * 4 * 33, replacement=True, generator=generator)
    return list(drawn.view(2, 4, 33))


def train(trial: Trial, batches: Sequence[Batch], loss: Loss, steps: int) -> Iterator[float]:
    """Train for some steps over the batches in turn; yields the loss before each step."""
    for batch in islice(cycle(batches), steps):
        trial.optimizer.zero_grad()
        value = loss(trial.model, batch)
        value.backward()
        trial.optimizer.step()
        yield float(value.detach())
