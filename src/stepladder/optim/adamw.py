"""AdamW: torch's own, fused where the device has the kernel; a rule of ours for stacked trials."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.optim import register
from stepladder.optim.engine import RuleOptimizer
from stepladder.optim.foreach import follow
from stepladder.optim.guard import Groups
from stepladder.optim.rule import Hyper, Rule, State
from stepladder.optim.twin import Twin, twin_of

BETAS, EPS = (0.9, 0.95), 1e-8

CARD = Card(
    name="adamw",
    family="optim",
    title="Decoupled Weight Decay Regularization",
    arxiv="1711.05101",
    claim="decoupling weight decay from the gradient improves Adam's generalisation",
    scaling="adamw",
    state_bytes=8,
    flops=15,
    note="Wraps torch.optim.AdamW; weight decay is multiplied by the rate, as in torch. Stacked "
    "trials run the same arithmetic written here.",
)


@register(CARD)
def adamw(
    groups: Groups,
    /,
    *,
    lr: float,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    trials: int | None = None,
    fused: bool | None = None,
) -> Optimizer:
    """torch.optim.AdamW, fused where every parameter allows it, else foreach (torch's choice).

    With `trials`, parameters stack that many trials in their first dimension, and a group's lr,
    weight_decay and eps may hold one value a trial. `fused` overrides the choice of kernel.
    """
    settings: dict[str, Any] = {
        "lr": lr,
        "betas": betas or BETAS,
        "eps": EPS if eps is None else eps,
        "weight_decay": weight_decay,
    }
    if trials is not None:
        return RuleOptimizer(groups, AdamW(), settings, trials=trials)
    fused = (can_fuse(groups) or None) if fused is None else fused
    return torch.optim.AdamW(groups, **settings, fused=fused)


@dataclass(frozen=True, kw_only=True)
class AdamW(Rule):
    """w <- (1 - lr wd) w - lr m_hat / (sqrt(v_hat) + eps)  (Algorithm 2, torch's decay)."""

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape), "v": p.new_zeros(p.shape)}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        p.mul_(h.shrink).sub_(adam_step(g, state, h) * h.lr)


@twin_of(torch.optim.AdamW)
def _twin(group: dict[str, Any]) -> Twin | None:
    if group["amsgrad"]:
        return None
    return Twin(rule=AdamW(), names={"m": "exp_avg", "v": "exp_avg_sq"})


def adam_step(g: Tensor, state: State, h: Hyper) -> Tensor:
    """Adam's step of unit rate, after the moments have followed `g`."""
    follow_moments(g, state, h)
    return adam_direction(state, h)


def follow_moments(g: Tensor, state: State, h: Hyper) -> None:
    """Take a gradient into `m` and `v`."""
    follow(state["m"], g, h.new1)
    follow(state["v"], g * g, h.new2)


def adam_direction(state: State, h: Hyper) -> Tensor:
    """m_hat / (sqrt(v_hat) + eps)."""
    return (state["m"] * h.unbias1).div_(state["v"].sqrt().mul_(h.unbias2).add_(h.eps))


def can_fuse(groups: Groups) -> bool:
    """Whether torch has a fused Adam kernel for every parameter: real floating point, and CPU,
    CUDA or another device that torch lists."""
    params = [p for group in groups for p in group["params"]]
    return all(p.is_floating_point() and p.device.type in ("cpu", "cuda", "mps") for p in params)
