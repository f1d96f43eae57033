"""Rules: how one parameter is updated from its gradient. The seam of the optimizers written here.

A rule is a frozen dataclass (its fields are the method's own options) with `init`, `scalars`,
`constants` and `update`. It sees one tensor at a time and knows nothing of groups, steps or
devices; the engine runs it as a loop, as foreach kernels, compiled, or over stacked trials.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypeVar

from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.names import did_you_mean
from stepladder.optim import register
from stepladder.optim.foreach import held
from stepladder.optim.guard import Groups, is_rate

Scalar = Any  # a float; or a tensor: 0-d when compiled, one value a trial when stacked
State = dict[str, Tensor]


class Hyper(NamedTuple):
    """What a rule is told at a step. Products of hyperparameters are made here, once a step, and
    not in the kernels.

    Attributes:
        shrink: 1 - lr weight_decay, the factor of decoupled weight decay.
        new1, new2: 1 - beta, the weight of the newest gradient.
        unbias1, unbias2: 1 / (1 - beta1^step) and 1 / sqrt(1 - beta2^step), Adam's corrections of
            the first moment and of the root of the second.
        extra: the rule's `scalars` and `constants`.
    """

    lr: Scalar
    beta1: Scalar
    beta2: Scalar
    eps: Scalar
    weight_decay: Scalar
    step: Scalar
    shrink: Scalar
    new1: Scalar
    new2: Scalar
    unbias1: Scalar
    unbias2: Scalar
    extra: Mapping[str, Scalar]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Base of the rules. `flat` says that the parameter may be viewed as a vector (elementwise
    rules and whole-tensor norms); `by_rows`, that it is seen as a matrix, the first dimension by
    the others, and can be compiled so; `coupled`, that entries of a parameter influence each
    other."""

    flat = True
    by_rows = False
    coupled = False

    def init(self, p: Tensor) -> State:
        """The state of a parameter before its first step; `p` has the dtype to compute in."""
        raise NotImplementedError

    def scalars(self, group: dict[str, Any]) -> dict[str, Scalar]:
        """Extra hyperparameters of a group, once a step; may keep counters in the group."""
        return {}

    def constants(self, h: Hyper) -> dict[str, Scalar]:
        """Products of hyperparameters that `update` needs, as entries of `h.extra`."""
        return {}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        """Change `p` and `state` in place; `g` is only read.

        Only tensor methods, arithmetic and `each` are used, so that `Many` can stand for a tensor.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Measured(Rule):
    """A rule that measures a whole parameter (a norm, sums of rows) before it changes it.

    Compiled, the two are loops over one tensor after another, so that the second may find in a
    cache what the first has read.
    """

    coupled = True

    def measure(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> State:
        """What `apply` needs of the whole parameter, a few numbers under names that the state has
        not; may change `state`."""
        raise NotImplementedError

    def apply(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        """Change `p` and `state`, which also holds what was measured."""
        raise NotImplementedError

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        measured = {key: held(value) for key, value in self.measure(p, g, state, h).items()}
        self.apply(p, g, {**state, **measured}, h)


R = TypeVar("R", bound=type[Rule])


def register_rule(
    card: Card, *, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8
) -> Callable[[R], R]:
    """Decorator that puts a rule into the registry as a builder, with its default betas and eps."""
    default_betas, default_eps = betas, eps

    def add(rule_type: R) -> R:
        def builder(
            groups: Groups,
            /,
            *,
            lr: float,
            betas: tuple[float, float] | None = None,
            eps: float | None = None,
            weight_decay: float = 0.0,
            mode: str = "foreach",
            trials: int | None = None,
            **options: Any,
        ) -> Optimizer:
            from stepladder.optim.engine import RuleOptimizer

            return RuleOptimizer(
                groups,
                make_rule(card.name, rule_type, options),
                {
                    "lr": lr,
                    "betas": betas or default_betas,
                    "eps": default_eps if eps is None else eps,
                    "weight_decay": weight_decay,
                },
                mode=mode,
                trials=trials,
            )

        builder.__signature__ = _signature(builder, rule_type)  # type: ignore[attr-defined]
        register(card)(builder)
        return rule_type

    return add


def _signature(builder: Callable[..., Optimizer], rule_type: type[Rule]) -> inspect.Signature:
    """A builder's, with the rule's own options: the catalogue lists them."""
    *shared, _ = inspect.signature(builder).parameters.values()
    own = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default)
        for field in fields(rule_type)
    ]
    return inspect.Signature([*shared, *own])


def make_rule(name: str, rule_type: type[Rule], options: Mapping[str, Any]) -> Rule:
    """A rule from its options.

    Raises:
        ValueError: an option that the rule does not have, with the nearest; or one that is no
            number from 0 on (a count: no whole number from 1 on).
    """
    known = {field.name: field.default for field in fields(rule_type)}
    for option in options.keys() - known.keys():
        near = did_you_mean(option, known)
        raise ValueError(
            f"{name} has no option {option!r}{near}; it has {sorted(known) or 'none of its own'}"
        )
    for option, value in options.items():
        _check_option(f"{name}: {option}", value, is_count=isinstance(known[option], int))
    return rule_type(**options)


def _check_option(what: str, value: Any, *, is_count: bool) -> None:
    if is_count and not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{what} must be a whole number, 1 or more: {value!r}")
    if not is_rate(value):
        raise ValueError(f"{what} must be finite and not negative: {value!r}")
