"""What a recipe plans for a budget: every number with its source, and how far it reaches."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from stepladder.laws.law import Constants, Law
from stepladder.planning.counting import Convention

UNITS = {
    "params": "parameters", "params_body": "parameters", "params_all": "parameters",
    "width": "", "depth": "blocks", "tokens": "tokens", "batch": "tokens a step",
    "steps": "steps", "lr": "", "lr_muon": "", "weight_decay": "", "beta2": "",
    "warmup": "tokens", "schedule": "", "passes": "of the data",
    "seconds": "seconds on one device",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is planned for.

    Args:
        flops: training compute.
        vocab: size of the vocabulary.
        context: tokens a sequence.
        unique_tokens: tokens there are; None where they do not run out.
    """

    flops: float
    vocab: int = 50_304
    context: int = 2048
    unique_tokens: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.flops < float("inf"):
            raise ValueError(f"a budget of {self.flops:g} FLOP buys nothing: it must be positive")
        if self.vocab < 2 or self.context < 1:
            raise ValueError("vocab must be at least 2 and context at least 1")
        if self.unique_tokens is not None and not self.unique_tokens > 0:
            raise ValueError("unique_tokens must be positive; leave it out where data is endless")


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of a plan, or one text (a schedule).

    Args:
        source: paper, equation or file it comes from.
        beyond: where it leaves the range its source was fitted on; empty where it does not.
        interval: low and high, where the source states how sure it is.
        confirmed: whether the source was read, or only recalled.
    """

    value: float | str
    source: str
    beyond: str = ""
    interval: tuple[float, float] | None = None
    confirmed: bool = True


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe's plan.

    Args:
        recipe: short name.
        title: paper or code base.
        convention: what its `params` counts, and its compute, in words.
        counts: the same of `params`, for converting it.
        quantities: by the names of `UNITS`; what the recipe does not say is absent.
        notes: limits, and what was added to the recipe.
    """

    recipe: str
    title: str
    convention: str
    counts: Convention
    quantities: Mapping[str, Quantity]
    notes: tuple[str, ...] = field(default=())

    def __getitem__(self, name: str) -> Quantity:
        return self.quantities[name]

    def number(self, name: str) -> float:
        """A quantity's value; NaN where the recipe does not say, or says it in words."""
        value = self.quantities[name].value if name in self.quantities else float("nan")
        return value if isinstance(value, float) else float("nan")

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)


def from_law(law: Law, label: str, inputs: Mapping[str, float], **changes: Any) -> Quantity:
    """A published law at `inputs`, with what lies outside the range of its constants."""
    constants = law.published(label)
    value = float(law.predict(constants.values, dict(inputs)))
    return Quantity(
        value=value, source=f"{constants.source}: {law.form}",
        beyond=outside(constants, inputs), **changes,
    )  # fmt: skip


def outside(constants: Constants, inputs: Mapping[str, float]) -> str:
    """Which inputs lie beyond the fitted range and by which factor; empty where none does."""
    parts = []
    for name, (low, high) in constants.valid.items():
        if name not in inputs:
            continue
        if inputs[name] > high:
            parts.append(f"{name} {inputs[name] / high:.3g}x above")
        elif inputs[name] < low:
            parts.append(f"{name} {low / inputs[name]:.3g}x below")
    return ", ".join(parts)
