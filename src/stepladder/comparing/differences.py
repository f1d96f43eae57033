"""What two recipes differ in, and whether their losses can be compared at all."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stepladder.ladder.plan import at_rate
from stepladder.recipe import Recipe

# A loss is on one scale only where these agree: what is predicted, from how much of it.
SHARED = (
    "data.source",
    "data.tokenizer",
    "data.text_field",
    "data.fingerprint",
    "model.vocab_size",
    "model.context",
    "validation",
)
RATE = "optimizer.lr"
TUNED = (RATE, "seed", "evaluations")  # set by the comparison itself, for both
DECAY = "optimizer.weight_decay"
CLOSE = 1e-9  # relative


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One field in which the recipes differ; None where a recipe does not have it."""

    name: str
    base: Any
    lever: Any

    def __str__(self) -> str:
        return f"{self.name}: {_said(self.base)} -> {_said(self.lever)}"


def differences(base: Recipe, lever: Recipe, *, as_given: bool = False) -> list[Difference]:
    """Where the lever differs from the baseline, apart from what a comparison sets for both.

    Rates are tuned, and rate x weight decay is kept while they are: weight decay is looked at at
    the baseline's rate.

    Args:
        as_given: the lever keeps its rate, which is then a difference as any other.
    """
    first = flat(base.to_dict())
    second = flat(at_rate(lever, base.optimizer.lr).to_dict())
    if as_given:
        second[RATE] = lever.optimizer.lr
    set_for_both = [name for name in TUNED if not (as_given and name == RATE)]
    found = [
        Difference(name=name, base=first.get(name), lever=second.get(name))
        for name in sorted(first.keys() | second.keys())
        if name not in set_for_both and not _same(first.get(name), second.get(name))
    ]
    own = lever.optimizer.lr / base.optimizer.lr
    return [
        replace(one, name=f"{DECAY} (at rate {base.optimizer.lr:.3g})")
        if one.name == DECAY and own != 1
        else one
        for one in found
    ]


def require_comparable(base: Recipe, lever: Recipe, *, as_given: bool = False) -> list[Difference]:
    """The differences of two recipes that can be compared.

    Raises:
        ValueError: they differ in nothing but what is tuned, or in what makes losses comparable.
    """
    first, second = flat(base.to_dict()), flat(lever.to_dict())
    foreign = [
        f"{name} ({_said(first[name])} and {_said(second[name])})"
        for name in SHARED
        if first[name] != second[name]
    ]
    if foreign:
        raise ValueError(
            f"losses of the two recipes are not on one scale: they differ in {', '.join(foreign)}; "
            "give both the same"
        )
    found = differences(base, lever, as_given=as_given)
    if not found:
        raise ValueError(
            "the two recipes are one: they differ in nothing but what compare tunes for both "
            f"({', '.join(TUNED)}; rate x weight decay is kept); change the lever's recipe"
        )
    return found


def flat(content: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted names."""
    out: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{path}{name}.")
        else:
            out[path + name] = value
    return out


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=CLOSE)
    return bool(a == b)


def _said(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
