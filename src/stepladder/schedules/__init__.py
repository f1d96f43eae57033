"""Learning-rate schedules: pure functions of progress. No torch.

    get("wsd").factor(0.95, warmup=0.02, decay=0.2)

A schedule gives the multiplier of the peak rate at a progress between 0 (the run's start) and 1
(its horizon). Its shape is a plain function; the linear warmup, the checks of range and of
parameter names are common to all and stand here. `Schedule.at` is the convention of the training
loop: the middle of each step, lengths in fractions of the run or in tokens.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from numbers import Real
from typing import Any, Protocol, cast

from stepladder.card import REQUIRED, Card, Registry, own_settings
from stepladder.names import did_you_mean


class Shape(Protocol):
    """The seam: the factor after warmup.

    `progress` and `warmup` are fractions of the whole run, with warmup <= progress <= 1; further
    keyword-only parameters are the schedule's own.
    """

    def __call__(self, progress: float, warmup: float, /, **params: Any) -> float: ...


class Controller(Protocol):
    """The seam of schedules that react to training: a value whose `update` gives the next one.

    `over` names the schedule that the factor multiplies. `inner` is the product of a gradient with
    the step before, reversed: above 0 where the loss still falls in the direction of that step. In
    the training loop it is the cosine.
    """

    @property
    def factor(self) -> float: ...

    @property
    def over(self) -> str: ...

    def update(self, inner: float, /) -> "Controller": ...


# Own parameters of these names are lengths, where they are numbers: fractions of the run up to 1,
# tokens above, as the warmup is.
LENGTHS = ("cooldown", "decay")

REGISTRY: Registry[Callable[..., Any]] = Registry("stepladder.schedules")
CONTROLLERS: set[str] = set()
register = REGISTRY.register


def register_controller(card: Card) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator that adds a controller: `get` refuses it, `controller` makes it."""
    CONTROLLERS.add(card.name)
    return REGISTRY.register(card)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A named shape with the warmup and the checks that all share."""

    card: Card
    shape: Callable[..., float]

    def factor(
        self, progress: float, *, warmup: float = 0.0, warmup_from: float = 0.0, **params: Any
    ) -> float:
        """The multiplier of the peak rate.

        Args:
            progress: fraction of the horizon done, 0 to 1.
            warmup: fraction of the horizon over which the rate rises linearly to the shape.
            warmup_from: the factor at progress 0, as a share of the factor at the warmup's end.
            params: the shape's own parameters; see `parameters`.

        Raises:
            ValueError: progress outside [0, 1] (beyond the horizon), warmup outside [0, 1],
                a parameter that the schedule does not have or that is of another type, or
                parameters that make the factor negative or not finite.
        """
        self._check(progress, warmup, warmup_from, params)
        if progress >= warmup:
            return self._shaped(progress, warmup, params)
        peak = self._shaped(warmup, warmup, params)
        # The quotient first: of fractions it is exact (see `at`).
        return peak * (warmup_from + (1.0 - warmup_from) * (progress / warmup))

    def at(
        self,
        step: int,
        steps: int,
        batch: int,
        /,
        *,
        taken: int = 1,
        warmup: float = 0.0,
        **params: Any,
    ) -> float:
        """The multiplier of the peak rate at a step, from 0: in its middle (`midpoint`).

        With a length in tokens, progress and lengths are exact fractions. The quotients that shapes
        are made of then do not depend on the horizon, to the bit, where the formula does not: runs
        of different lengths have equal rates for as long as they share a trunk.

        Args:
            steps, batch: of the run; a batch in tokens. taken: steps that are taken as one.
            warmup, params: as for `factor`, but lengths above 1 are tokens (`LENGTHS`).

        Raises:
            ValueError: as `factor`; a step outside the horizon, a batch that is not positive.
        """
        if not batch > 0:
            raise ValueError(f"schedule {self.card.name!r}: a batch is positive: {batch!r}")
        given = {"warmup": warmup, **{name: params[name] for name in LENGTHS if name in params}}
        tokens = {name: value for name, value in given.items() if _is_in_tokens(value)}
        if not tokens:
            return self.factor(midpoint(step, steps, taken), warmup=warmup, **params)
        _require_within(step, steps, taken)
        exact: dict[str, Any] = {
            name: Fraction(value) / (steps * batch) for name, value in tokens.items()
        }
        progress: Any = Fraction(2 * step + taken, 2 * steps)
        return self.factor(progress, **{"warmup": warmup, **params, **exact})

    @property
    def parameters(self) -> dict[str, Any]:
        """The shape's own parameters with their defaults (`card.REQUIRED` where there is none)."""
        return dict(_parameters(self.shape))

    def _shaped(self, progress: float, warmup: float, params: dict[str, Any]) -> float:
        try:
            factor = float(self.shape(progress, warmup, **params))
        except OverflowError:
            factor = math.inf
        if not -1e-12 <= factor < math.inf:
            given = ", ".join(f"{key} = {value!r}" for key, value in params.items())
            raise ValueError(
                f"schedule {self.card.name!r}: with {given} the factor would be {factor:g}; rates "
                "are finite and not negative"
            )
        return max(0.0, factor)  # an end of zero may be missed by rounding

    def _check(
        self, progress: float, warmup: float, warmup_from: float, params: dict[str, Any]
    ) -> None:
        name, own = self.card.name, _parameters(self.shape)
        if not 0.0 <= progress <= 1.0:
            raise ValueError(
                f"schedule {name!r} was asked for progress {progress!r}, outside [0, 1]: "
                "the run went beyond its horizon; give it a longer horizon (more tokens)"
            )
        for label, value in (("warmup", warmup), ("warmup_from", warmup_from)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"schedule {name!r}: {label} is a fraction in [0, 1]: {value!r}")
        for key in params.keys() - own.keys():
            near = did_you_mean(key, own)
            raise ValueError(
                f"schedule {name!r} has no parameter {key!r}{near}; it has {sorted(own) or 'none'}"
            )
        for key, default in own.items():
            if key in params:
                _check_type(f"schedule {name!r}: {key}", params[key], default)
            elif default is REQUIRED:
                raise ValueError(f"schedule {name!r} needs the parameter {key!r}")


@cache
def get(name: str) -> Schedule:
    """The schedule of that name.

    Raises:
        ValueError: there is none (the text names the nearest), or it reacts to training and is
            no function of progress.
    """
    schedule = Schedule(card=REGISTRY.card(name), shape=REGISTRY[name])
    if name in CONTROLLERS:
        raise ValueError(
            f"{name!r} reacts to training and has no curve before it; in Python use "
            "stepladder.schedules.controller"
        )
    return schedule


def controller(name: str, **params: Any) -> Controller:
    """A schedule that reacts to training, at its start.

    Raises:
        ValueError: there is none of that name among the controllers, or it has no such parameter.
    """
    made = REGISTRY[name]
    if name not in CONTROLLERS:
        raise ValueError(f"{name!r} is a function of progress; use stepladder.schedules.get")
    known = own_settings(made)
    for key in params.keys() - known.keys():
        near = did_you_mean(key, known)
        raise ValueError(f"schedule {name!r} has no parameter {key!r}{near}; it has {list(known)}")
    return cast(Controller, made(**params))


def reacting(name: str, params: Mapping[str, Any]) -> Controller | None:
    """A schedule's controller at its start; None for one that progress alone decides.

    Raises:
        ValueError: no schedule of that name, or parameters that a controller refuses.
    """
    REGISTRY.card(name)
    return controller(name, **params) if name in CONTROLLERS else None


def timed(name: str, params: Mapping[str, Any]) -> tuple[Schedule, dict[str, Any]]:
    """The part of a schedule that progress decides, with its parameters: the schedule itself, or
    what a controller multiplies.

    Raises:
        ValueError: as `get` and `controller`.
    """
    made = reacting(name, params)
    return (get(made.over), {}) if made else (get(name), dict(params))


def midpoint(step: int, steps: int, taken: int = 1) -> float:
    """Progress of step `step` (from 0) of `steps`: its middle, so that neither the first step
    of a warmup nor the last of a decay to zero is spent at rate zero.

    Args:
        taken: of the steps, that are taken as one.

    Raises:
        ValueError: a step outside the horizon.
    """
    _require_within(step, steps, taken)
    return (step + taken / 2) / steps


def rebase(progress: float, start: float, end: float = 1.0) -> float:
    """Share of the stretch [start, end] that is done, clipped to [0, 1]; 1 where it is empty."""
    if end <= start:
        return 1.0
    return min(1.0, max(0.0, (progress - start) / (end - start)))


@cache
def _parameters(shape: Callable[..., float]) -> dict[str, Any]:
    """Read once: rates are asked for at every step, and a signature takes longer than a rate."""
    return own_settings(shape)


def _check_type(what: str, value: Any, default: Any) -> None:
    """Refuse what is not of the default's kind; a parameter without a default is a number."""
    if isinstance(default, str):
        if not isinstance(value, str):
            raise ValueError(f"{what} is a name, as {default!r}: {value!r}")
    elif isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not all(isinstance(v, Real) for v in value):
            raise ValueError(f"{what} is a list of numbers, as {list(default)}: {value!r}")
    elif not isinstance(value, Real):
        raise ValueError(f"{what} is a number: {value!r}")


def _is_in_tokens(length: Any) -> bool:
    return isinstance(length, int | float) and length > 1


def _require_within(step: int, steps: int, taken: int) -> None:
    if not 0 <= step <= steps - taken:
        raise ValueError(f"step {step} is outside the horizon of {steps} steps; lengthen it")
