"""ALR-SMAG: Polyak's step size for stochastic gradients with momentum."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.optim import register
from stepladder.optim.guard import Groups
from stepladder.optim.whole import Entry, WholeModelOptimizer, dot, total

CARD = Card(
    name="smag",
    family="optim",
    title="Generalized Polyak Step Size for First Order Optimization with Momentum",
    arxiv="2305.12939",
    claim="a Polyak step for momentum: less sensitive to beta, no oscillation when ill-conditioned",
    state_bytes=4,
    flops=7,
    note="lr is the cap on the step size. Needs the loss, through the closure. With groups of "
    "different rates the cap acts group by group.",
)


@register(CARD)
def smag(
    groups: Groups,
    /,
    *,
    lr: float,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    c: float = 1.0,
    lower_bound: float = 0.0,
) -> Optimizer:
    """ALR-SMAG; betas[0] is the momentum, betas[1] and eps are not used.

    Args:
        c: divides the step; the paper's constant.
        lower_bound: f*, the least loss a batch can have.
    """
    momentum = (betas or (0.9, 0.0))[0]
    defaults = {"lr": lr, "eps": 0.0, "weight_decay": weight_decay}
    return Smag(groups, {**defaults, "momentum": momentum, "c": c, "lower_bound": lower_bound})


class Smag(WholeModelOptimizer):
    """d <- beta d + g;  tau = min((f - f*) / (c ||d||^2), lr);  w <- w - tau d  (ALR-SMAG)."""

    needs_loss = True

    def init(self, p: Tensor) -> dict[str, Tensor]:
        return {"d": p.new_zeros(p.shape)}

    def update(self, entries: Sequence[Entry], lr: float, loss: float | None) -> None:
        assert loss is not None
        squared = total([self._follow(e) for e in entries])
        for e in entries:
            tau = self._step_size(e.group, loss, squared)
            e.p.mul_(1 - tau * e.group["weight_decay"]).sub_(e.state["d"], alpha=tau)

    def _follow(self, e: Entry) -> Tensor:
        """Take the gradient into the momentum; its squared length."""
        d = e.state["d"].mul_(e.group["momentum"]).add_(e.g)
        return dot(d, d)

    def _step_size(self, group: dict[str, Any], loss: float, squared: float) -> float:
        if squared == 0:
            return 0.0
        return min((loss - group["lower_bound"]) / (group["c"] * squared), group["lr"])
