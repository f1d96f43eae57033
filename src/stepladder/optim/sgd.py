"""SGD with momentum: torch's own, fused where it can be; a rule of ours for stacked trials."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.optim import register
from stepladder.optim.adamw import can_fuse
from stepladder.optim.engine import RuleOptimizer
from stepladder.optim.guard import Groups
from stepladder.optim.rule import Hyper, Rule, State
from stepladder.optim.twin import Twin, twin_of

CARD = Card(
    name="sgd",
    family="optim",
    title="On the importance of initialization and momentum in deep learning",
    arxiv="ICML 2013 (PMLR 28:1139)",
    claim="momentum with a slow start trains deep networks that were thought to need second order",
    scaling="sgd",
    state_bytes=4,
    flops=6,
    note="Wraps torch.optim.SGD. betas[0] is the momentum (0.9 by default), betas[1] and eps are "
    "not used. Weight decay is coupled: it enters the gradient. Stacked trials run the same "
    "arithmetic written here.",
)


@register(CARD)
def sgd(
    groups: Groups,
    /,
    *,
    lr: float,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    dampening: float = 0.0,
    trials: int | None = None,
) -> Optimizer:
    """torch.optim.SGD with momentum betas[0], fused where every parameter allows it.

    With `trials`, parameters stack that many trials in their first dimension, and a group's lr
    and weight_decay may hold one value a trial.

    Raises:
        ValueError: dampening with stacked trials.
    """
    momentum = 0.9 if betas is None else betas[0]
    if trials is not None:
        if dampening:
            raise ValueError("sgd: stacked trials have no dampening; leave it out")
        defaults = {"lr": lr, "betas": (momentum, 0.0), "eps": 0.0, "weight_decay": weight_decay}
        return RuleOptimizer(groups, SGD(nesterov=nesterov), defaults, trials=trials)
    return torch.optim.SGD(
        groups,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        nesterov=nesterov,
        dampening=dampening,
        fused=can_fuse(groups) or None,
    )


@dataclass(frozen=True, kw_only=True)
class SGD(Rule):
    """m <- b1 m + g + wd w;  w <- w - lr m  (Nesterov: w - lr (g + wd w + b1 m))."""

    nesterov: bool = False

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape)}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        m, decayed = state["m"], g + p * h.weight_decay
        m.mul_(h.beta1).add_(decayed)
        p.sub_((decayed + m * h.beta1 if self.nesterov else m) * h.lr)


@twin_of(torch.optim.SGD)
def _twin(group: dict[str, Any]) -> Twin | None:
    if group["dampening"]:
        return None
    rule = SGD(nesterov=group["nesterov"])
    return Twin(rule=rule, names={"m": "momentum_buffer"}, settings=_as_rule, counts=False)


def _as_rule(group: dict[str, Any]) -> dict[str, Any]:
    return {**group, "betas": (group["momentum"], 0.0), "eps": 0.0}
