"""ALR-SMAG: Polyak's step size for stochastic gradients with momentum."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.optim import register
from stepladder.optim.foreach import dot
from stepladder.optim.guard import Groups
from stepladder.optim.whole import Entry, Scalars, WholeModelOptimizer, total

CARD = Card(
    name="smag",
    family="optim",
    title="Generalized Polyak Step Size for First Order Optimization with Momentum",
    arxiv="2305.12939",
    claim="a Polyak step for momentum: less sensitive to beta, no oscillation when ill-conditioned",
    state_bytes=4,
    flops=7,
    note="lr is the cap on the step size. Needs the loss, through the closure. With groups of "
    "different rates the cap acts group by group. On the corpus, with c = 8, the Polyak step is "
    "below the cap in two thirds of the steps; with c = 1 in none, which is SGD with momentum.",
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
    mode: str = "foreach",
) -> Optimizer:
    """ALR-SMAG; betas[0] is the momentum, betas[1] and eps are not used.

    Args:
        c: divides the step; the paper's constant.
        lower_bound: f*, the least loss a batch can have.

    Raises:
        ValueError: c not positive.
    """
    if not c > 0:
        raise ValueError(f"smag: c divides the step and must be positive: {c!r}")
    momentum = (betas or (0.9, 0.0))[0]
    defaults = {"lr": lr, "eps": 0.0, "weight_decay": weight_decay}
    defaults |= {"momentum": momentum, "c": c, "lower_bound": lower_bound}
    return Smag(groups, defaults, mode)


class Smag(WholeModelOptimizer):
    """d <- beta d + g;  tau = min((f - f*) / (c ||d||^2), lr);  w <- w - tau d  (ALR-SMAG)."""

    needs_loss = True

    def fresh_state(self, p: Tensor) -> dict[str, Tensor]:
        return {"d": p.new_zeros(p.shape)}

    def update(self, entries: Sequence[Entry], lr: float, loss: float | None) -> None:
        assert loss is not None
        found = self.each(_follow, entries, lambda e: {"momentum": e.group["momentum"]}, sums=True)
        squared = total([f["squared"] for f in found])

        def scalars(e: Entry) -> Scalars:
            tau = self._step_size(e.group, loss, squared)
            return {"tau": tau, "shrink": 1 - tau * e.group["weight_decay"]}

        self.each(_move, entries, scalars)

    def _step_size(self, group: dict[str, Any], loss: float, squared: float) -> float:
        """Nothing where the loss is below its bound: the step would go uphill. NaN where it is."""
        if squared == 0:
            return 0.0
        above = max(loss - group["lower_bound"], 0.0)
        return min(above / (group["c"] * squared), group["lr"])


def _follow(p: Tensor, g: Tensor, state: dict[str, Tensor], c: Any) -> dict[str, Tensor]:
    """Take the gradient into the momentum; its squared length."""
    d = state["d"].mul_(c["momentum"]).add_(g)
    return {"squared": dot(d, d)}


def _move(p: Tensor, g: Tensor, state: dict[str, Tensor], c: Any) -> None:
    p.mul_(c["shrink"]).sub_(state["d"] * c["tau"])
