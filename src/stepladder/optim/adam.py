"""Adam with coupled weight decay, from torch."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.optim import register
from stepladder.optim.adamw import adam_step, can_fuse
from stepladder.optim.guard import Groups
from stepladder.optim.rule import Hyper, Rule, State
from stepladder.optim.twin import Twin, twin_of

CARD = Card(
    name="adam",
    family="optim",
    title="Adam: A Method for Stochastic Optimization",
    arxiv="1412.6980",
    claim="per-entry rates from the gradient's moments; little tuning",
    scaling="adam",
    state_bytes=8,
    flops=16,
    note="Wraps torch.optim.Adam. Weight decay is coupled: it enters the gradient.",
)


@register(CARD)
def adam(
    groups: Groups,
    /,
    *,
    lr: float,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> Optimizer:
    """torch.optim.Adam, fused where every parameter allows it."""
    return torch.optim.Adam(
        groups,
        lr=lr,
        betas=betas or (0.9, 0.999),
        eps=1e-8 if eps is None else eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
        fused=can_fuse(groups) or None,
    )


@dataclass(frozen=True, kw_only=True)
class Adam(Rule):
    """w <- w - lr m_hat / (sqrt(v_hat) + eps), the moments those of g + wd w  (Algorithm 1)."""

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape), "v": p.new_zeros(p.shape)}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        p.sub_(adam_step(g + p * h.weight_decay, state, h) * h.lr)


@twin_of(torch.optim.Adam)
def _twin(group: dict[str, Any]) -> Twin | None:
    if group["amsgrad"] or group["decoupled_weight_decay"]:
        return None
    return Twin(rule=Adam(), names={"m": "exp_avg", "v": "exp_avg_sq"})
