"""Every number of a target with its range and where it is from."""

from dataclasses import dataclass

from stepladder.cost import cost
from stepladder.data import Dataset
from stepladder.ladder.rule import BATCH_EXPONENT, WIDTH_PER_LAYER, Rule
from stepladder.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One number of a recipe: its value as shown, the range it could have, and its source."""

    name: str
    value: str
    range: str
    source: str


def choices(rule: Rule, target: Recipe, dataset: Dataset) -> tuple[Choice, ...]:
    """What the planner chose for a target, and why."""
    model, spent = target.model, cost(target)
    base = rule.tokens(rule.base_width)
    low, high = (
        rule.base_batch * rule.context * (target.tokens / base) ** e for e in (0.47, 0.571)
    )
    params = spent.parameters
    rows = [
        (
            "width x depth",
            f"{model.width} x {model.depth}",
            "",
            f"the widest that budget and text allow; a layer for each {WIDTH_PER_LAYER} of width, "
            "at least 2",
        ),
        (
            "parameters",
            f"{params.total:,}",
            f"{params.non_embedding:,} without embedding and head",
            "counted",
        ),
        (
            "tokens",
            f"{target.tokens:,}",
            f"{dataset.epochs(target.tokens):.2f} epochs",
            f"{rule.ratio:g} a parameter (embedding not counted)",
        ),
        (
            "batch",
            f"{target.batch:,} tokens",
            f"{low:,.0f} to {high:,.0f}",
            f"tokens^{BATCH_EXPONENT:g} from the base; exponent .47 (2410.21676) to "
            ".571 (2503.04715)",
        ),
        ("learning rate", "tuned at the base", "", f"transferred by {_rule(target)}"),
        (
            "weight decay",
            f"{target.optimizer.weight_decay:.3g} at the middle rate",
            "",
            "constant AdamW memory in epochs (2405.13698, 2505.13738)",
        ),
        ("schedule", target.schedule.name, "", "linear to zero (2502.15938)"),
    ]
    return tuple(Choice(name=n, value=v, range=r, source=s) for n, v, r, s in rows)


def _rule(target: Recipe) -> str:
    return f"{target.parametrization.rule}, base width {target.parametrization.base_width}"
