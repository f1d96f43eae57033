"""Batch size: measured, changed while a run goes on, and what else changes with it.

Three kinds of members share the registry, each with its own seam:

- conversions: what the other hyperparameters become when the batch is k times larger;
      convert("sde", settings, 4)
- policies: the next batch, from progress and the gradient's statistics;
      policy("norm-test", eta=0.2, largest=512).next_batch(64, progress=0.1, statistics=...)
  a recipe names one by `batching.name`, counted in batches of its own;
- measurements: plain functions and classes (`noise_scale`, `critical`, `laws`), with a card.

A batch is counted in whatever unit the caller uses throughout (sequences or tokens). No torch,
except inside `probe`.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Protocol

from stepladder.batching.statistics import GradientStatistics
from stepladder.card import REQUIRED, Card, Registry, own_settings
from stepladder.names import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a change of batch can change.

    `tokens` is the horizon (any unit of data), `ema` the decay of a weight average per step.

    Raises:
        ValueError: a batch or horizon that is not positive, a rate, epsilon or decay that is
            negative, betas or an average's decay outside [0, 1), or any that is not finite.
    """

    batch: float
    lr: float
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    tokens: float | None = None
    ema: float | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "tokens"):
            if getattr(self, name) is not None:
                require_positive("settings", **{name: getattr(self, name)})
        for name in ("lr", "eps", "weight_decay"):
            if not (is_finite(value := getattr(self, name)) and value >= 0):
                raise ValueError(f"settings: {name} must be finite and not negative: {value!r}")
        for name in ("beta1", "beta2", "ema"):
            value = getattr(self, name)
            if value is not None and not (is_finite(value) and 0 <= value < 1):
                raise ValueError(f"settings: {name} must lie in [0, 1): {value!r}")


def is_finite(value: Any) -> bool:
    """Whether it is a number, and neither infinite nor NaN."""
    return isinstance(value, Real) and math.isfinite(value)


def require_positive(what: str, **values: Any) -> None:
    """Refuse what is not a positive, finite number.

    Raises:
        ValueError: with the first such value.
    """
    for name, value in values.items():
        if not (is_finite(value) and value > 0):
            raise ValueError(f"{what}: {name} must be positive and finite: {value!r}")


def require_count(what: str, **values: Any) -> None:
    """Refuse what is not a whole number from 1 on.

    Raises:
        ValueError: with the first such value.
    """
    for name, value in values.items():
        if not (isinstance(value, Integral) and int(value) >= 1):
            raise ValueError(f"{what}: {name} must be a whole number, 1 or more: {value!r}")


class Conversion(Protocol):
    """The seam of conversions: the fields that change when the batch is k times larger."""

    def __call__(self, settings: Settings, k: float, /, **options: Any) -> dict[str, float]: ...


# What a policy must be shown of every step's gradients: nothing, the inner products of equal
# shards, or the shards' gradients by coordinate.
Measures = Literal["nothing", "shards", "coordinates"]


class Policy(Protocol):
    """The seam of policies: the batch of the next step. It is a value and remembers nothing."""

    measures: ClassVar[Measures]

    def next_batch(
        self, batch: int, *, progress: float, statistics: GradientStatistics | None
    ) -> int: ...


REGISTRY: Registry[Any] = Registry("stepladder.batching")
_KINDS: dict[str, str] = {}


def _register(kind: str, card: Card) -> Callable[[Any], Any]:
    _KINDS[card.name] = kind
    return REGISTRY.register(card)


def register_conversion(card: Card) -> Callable[[Any], Any]:
    """Decorator for a conversion."""
    return _register("conversion", card)


def register_policy(card: Card) -> Callable[[Any], Any]:
    """Decorator for the class of a policy; its fields are the policy's options."""
    return _register("policy", card)


def register_measurement(card: Card) -> Callable[[Any], Any]:
    """Decorator for a function or class that measures or states a law."""
    return _register("measurement", card)


def names(kind: str) -> list[str]:
    """The members of a kind: conversion, policy or measurement."""
    return [name for name in REGISTRY if _KINDS[name] == kind]


def convert(rules: str | Sequence[str], settings: Settings, k: float, **options: Any) -> Settings:
    """The settings at a batch k times larger (k < 1: smaller).

    Args:
        rules: one conversion, or several that change different fields (("sde", "ema")).
        k: new batch over old.
        options: the rule's own.

    Raises:
        ValueError: k not positive, a name that is no conversion, two rules that change one field,
            an option that the rule lacks or needs, or settings that it cannot convert.
    """
    if not (is_finite(k) and k > 0):
        raise ValueError(f"the ratio of batches must be positive and finite: {k!r}")
    changes: dict[str, float] = {"batch": settings.batch * k}
    for name in [rules] if isinstance(rules, str) else rules:
        rule = _of_kind("conversion", name)
        _check_settings(name, options, own_settings(rule))
        new = rule(settings, k, **options)
        if both := changes.keys() & new.keys():
            raise ValueError(f"two of {rules} change {min(both)}; choose one of them")
        changes |= new
    return replace(settings, **changes)


def policy(name: str, **options: Any) -> Policy:
    """A policy by name.

    Raises:
        ValueError: no policy of that name, or options it refuses.
    """
    kind = _of_kind("policy", name)
    _check_settings(name, options, own_settings(kind))
    made: Policy = kind(**options)
    return made


def _check_settings(name: str, given: Collection[str], known: Mapping[str, Any]) -> None:
    for key in set(given) - known.keys():
        near = did_you_mean(key, known)
        its = ", ".join(known) or "none"
        raise ValueError(f"{name!r} has no setting {key!r}{near}; it has {its}")
    for key, default in known.items():
        if default is REQUIRED and key not in given:
            raise ValueError(f"{name!r} needs the setting {key!r}")


def micro_batches(batch: int, micro: int) -> int:
    """How many micro-batches of `micro` make one step of `batch`.

    Raises:
        ValueError: the batch does not divide, with the nearest two that do.
    """
    if micro < 1 or batch < 1:
        raise ValueError(f"batch {batch} and micro-batch {micro} must be at least 1")
    if batch % micro:
        below, above = batch // micro * micro, (batch // micro + 1) * micro
        nearest = f"{below} or {above}" if below else str(above)
        raise ValueError(f"batch {batch} does not divide into micro-batches of {micro}: {nearest}")
    return batch // micro


def round_up(batch: float, granularity: int, largest: int) -> int:
    """The smallest multiple of `granularity` that is at least `batch`, at most `largest`."""
    if not batch < largest:
        return largest
    return min(largest, max(1, math.ceil(batch / granularity)) * granularity)


def _of_kind(kind: str, name: str) -> Any:
    member = REGISTRY[name]
    if _KINDS[name] != kind:
        raise ValueError(f"{name!r} is a {_KINDS[name]}, not a {kind}; one of {names(kind)}")
    return member
