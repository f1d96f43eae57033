"""MARS: a variance-reduced gradient, fed to AdamW or Lion."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stepladder.card import Card
from stepladder.optim.adamw import adam_step
from stepladder.optim.foreach import each, follow, norm, sign
from stepladder.optim.rule import Hyper, Measured, Scalar, State, register_rule

NOTE = (
    "The approximate variant: the gradient of the previous batch at the previous weights stands "
    "for a second pass (the paper's practical choice). Applied to every parameter; the authors' "
    "code leaves vectors to AdamW. The first step takes the previous gradient as zero, as theirs."
)
CARD = Card(
    name="mars-adamw",
    family="optim",
    title="MARS: Unleashing the Power of Variance Reduction for Training Large Models",
    arxiv="2411.10438",
    claim="variance reduction brings a clear gain over AdamW on GPT-2",
    scaling="adamw",
    state_bytes=12,
    flops=24,
    note=NOTE,
)
LION_CARD = Card(
    name="mars-lion",
    family="optim",
    title="MARS: Unleashing the Power of Variance Reduction for Training Large Models",
    arxiv="2411.10438",
    claim="variance reduction with a sign update",
    scaling="lion",
    state_bytes=8,
    flops=18,
    note=NOTE,
)


@dataclass(frozen=True, kw_only=True)
class Mars(Measured):
    """c = g + gamma b1/(1-b1) (g - g_previous), scaled into the unit ball (Algorithm 1)."""

    gamma: float = 0.025

    def constants(self, h: Hyper) -> dict[str, Scalar]:
        return {"correction": self.gamma * h.beta1 / h.new1}

    def measure(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> State:
        return {"factor": each(_into_unit_ball, norm(_corrected(g, state, h)))}

    def corrected(self, g: Tensor, state: State, h: Hyper) -> Tensor:
        """The gradient to step by, made once more: to read twice is cheaper than to keep it."""
        c = _corrected(g, state, h).mul_(state["factor"])
        state["last"].copy_(g)
        return c


def _corrected(g: Tensor, state: State, h: Hyper) -> Tensor:
    return (g - state["last"]).mul_(h.extra["correction"]).add_(g)


def _into_unit_ball(norm: Tensor) -> Tensor:
    return 1 / torch.clamp_min(norm, 1.0)


@register_rule(CARD, betas=(0.95, 0.99))
@dataclass(frozen=True, kw_only=True)
class MarsAdamW(Mars):
    """AdamW on the corrected gradient (Algorithm 2)."""

    def init(self, p: Tensor) -> State:
        return {key: p.new_zeros(p.shape) for key in ("m", "v", "last")}

    def apply(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        step = adam_step(self.corrected(g, state, h), state, h)
        p.mul_(h.shrink).sub_(step.mul_(h.lr))


@register_rule(LION_CARD, betas=(0.95, 0.99))
@dataclass(frozen=True, kw_only=True)
class MarsLion(Mars):
    """w <- (1 - lr wd) w - lr sign(m), m the average of corrected gradients (Algorithm 3)."""

    def init(self, p: Tensor) -> State:
        return {key: p.new_zeros(p.shape) for key in ("m", "last")}

    def apply(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        m = state["m"]
        follow(m, self.corrected(g, state, h), h.new1)
        p.mul_(h.shrink).sub_(sign(m).mul_(h.lr))
