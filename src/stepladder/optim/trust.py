"""LARS and LAMB: each tensor's step has a length in proportion to the tensor's norm."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stepladder.card import Card
from stepladder.optim.adamw import adam_direction, follow_moments
from stepladder.optim.foreach import each, norm
from stepladder.optim.rule import Hyper, Measured, State, register_rule

CARD = Card(
    name="lars",
    family="optim",
    title="Large Batch Training of Convolutional Networks",
    arxiv="1708.03888",
    claim="layer-wise rates let batches grow to 32K on ImageNet without loss of accuracy",
    scaling="adafactor",
    state_bytes=4,
    flops=10,
    note="beta1 is the momentum; beta2 and eps are not used. Weight decay enters the gradient, as "
    "in the paper. Vectors (biases, gains) take the plain momentum step, as is usual. The scaling "
    "(a step relative to the weight's own size) is exact without weight decay.",
)
LAMB_CARD = Card(
    name="lamb",
    family="optim",
    title="Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
    arxiv="1904.00962",
    claim="BERT at batch 32K in 76 minutes with no loss of quality",
    scaling="adafactor",
    state_bytes=8,
    flops=27,
    note="phi is the identity; bias correction is inside the ratio, as in the paper (some ports "
    "apply it outside or clamp the norms). Weight decay is part of the direction, hence decoupled. "
    "The scaling is exact without weight decay.",
)


def ratio(p_norm: Tensor, u_norm: Tensor, adapt: Tensor) -> Tensor:
    """||w|| / ||u||; 1 where either is zero or where the tensor is not adapted."""
    use = (p_norm > 0) & (u_norm > 0) & (adapt > 0)
    return torch.where(use, p_norm / torch.where(use, u_norm, 1.0), 1.0)


@register_rule(CARD, betas=(0.9, 0.999))
@dataclass(frozen=True, kw_only=True)
class Lars(Measured):
    """m <- b1 m + lr trust ||w|| / (||g|| + wd ||w||) (g + wd w);  w <- w - m  (Algorithm 1)."""

    trust: float = 1e-3

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape), "adapt": p.new_tensor(float(p.ndim > 1))}

    def measure(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> State:
        p_norm = norm(p)
        local = each(self._local, p_norm, norm(g) + p_norm * h.weight_decay, state["adapt"])
        return {"rate": local * h.lr, "decay": state["adapt"] * h.weight_decay}

    def apply(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        state["m"].mul_(h.beta1).add_((g + p * state["decay"]) * state["rate"])
        p.sub_(state["m"])

    def _local(self, p_norm: Tensor, g_norm: Tensor, adapt: Tensor) -> Tensor:
        factor = ratio(p_norm, g_norm, adapt)
        return torch.where((adapt > 0) & (p_norm > 0) & (g_norm > 0), factor * self.trust, factor)


@register_rule(LAMB_CARD, betas=(0.9, 0.999), eps=1e-6)
@dataclass(frozen=True, kw_only=True)
class Lamb(Measured):
    """u = m_hat / (sqrt(v_hat) + eps) + wd w;  w <- w - lr ||w|| / ||u|| u  (Algorithm 2)."""

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape), "v": p.new_zeros(p.shape), "adapt": p.new_ones(())}

    def measure(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> State:
        follow_moments(g, state, h)
        u = self._direction(p, state, h)
        return {"rate": each(ratio, norm(p), norm(u), state["adapt"]) * h.lr}

    def apply(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        p.sub_(self._direction(p, state, h).mul_(state["rate"]))

    def _direction(self, p: Tensor, state: State, h: Hyper) -> Tensor:
        """Made twice a step: that takes no memory, and a root and a division more."""
        return adam_direction(state, h).add_(p * h.weight_decay)
