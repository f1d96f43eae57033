"""Twins: the rule that does what an optimizer does, entry by entry, and where its state is kept.

Trials that train as one program are updated by one rule over stacked tensors, a hyperparameter a
trial; each trial's own optimizer keeps the state (as rows of the stack), so that it is saved and
resumed as if the trial had trained alone. Optimizers without a twin (those that measure a matrix or
the whole model) update their trials one after another.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from stepladder.optim import REGISTRY
from stepladder.optim.engine import RuleOptimizer
from stepladder.optim.rule import Rule

Group = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A rule in an optimizer's place.

    Attributes:
        rule: elementwise; its state has the parameter's shape.
        names: the rule's names of its state -> the optimizer's; those left out are the same.
        settings: an optimizer's group as the rule's: lr, betas, eps and weight_decay.
        counts: whether the optimizer keeps a count of steps beside each parameter's state.
    """

    rule: Rule
    names: Mapping[str, str]
    settings: Callable[[Group], Group] = dict
    counts: bool = True


TWINS: dict[type[Optimizer], Callable[[Group], Twin | None]] = {}


def twin_of(optimizer: type[Optimizer]) -> Callable[[Callable[[Group], Twin | None]], Any]:
    """Decorator that registers the twin of one of torch's optimizers, made from a group."""

    def add(make: Callable[[Group], Twin | None]) -> Callable[[Group], Twin | None]:
        TWINS[optimizer] = make
        return make

    return add


def twin(optimizer: Optimizer) -> Twin | None:
    """The twin of an optimizer, None where its update is not entry by entry."""
    if isinstance(optimizer, RuleOptimizer):
        rule = optimizer.rule
        return Twin(rule=rule, names={}) if rule.flat and not rule.coupled else None
    list(REGISTRY)  # loads the modules that say them
    make = TWINS.get(type(optimizer))
    groups = optimizer.param_groups
    if make is None or any(group.get("maximize") for group in groups):
        return None
    found = [make(group) for group in groups]
    alike = all(one is not None and one.rule == (found[0] and found[0].rule) for one in found)
    return found[0] if alike else None
