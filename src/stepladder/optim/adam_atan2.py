"""Adam-atan2: Adam without epsilon, exactly invariant to the gradient's scale."""

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from stepladder.card import Card
from stepladder.optim.adamw import follow_moments
from stepladder.optim.rule import Hyper, Rule, Scalar, State, register_rule

CARD = Card(
    name="adam-atan2",
    family="optim",
    title="Scaling Exponents Across Parameterizations and Optimizers",
    arxiv="2407.05872",
    claim="removing epsilon keeps Adam's update from vanishing where gradients shrink with width",
    scaling="adam-atan2",
    state_bytes=8,
    flops=15,
    note="Here a = b = 1 unless given; a = 1.27 makes the typical update as large as Adam's. "
    "eps is not used.",
)

TINY = 2.0**-126  # the smallest normal float32

# atan(t) / t on [0, 1] by powers of t^2, so that the largest relative error is least: 1.5e-8, less
# than float32 rounds. The compiler's own arc tangent takes half the time of a whole step.
SERIES = (
    1.0, -0.3333307206630707, 0.1999261975288391, -0.14203645288944244, 0.10640934854745865,
    -0.0750429555773735, 0.04269152879714966, -0.016068631783127785, 0.0028498899191617966,
)  # fmt: skip


def angle(y: Tensor, x: Tensor) -> Tensor:
    """atan2(y, x) of an x that is not negative; of (0, 0) it is 0."""
    if torch.compiler.is_compiling() and y.dtype == torch.float32:
        return _angle_by_series(y, x)
    # atan(y / x) costs a third of atan2; an x of zero comes with y = 0 or gives a right angle
    return (y / x.clamp_min(TINY)).atan_()


def _angle_by_series(y: Tensor, x: Tensor) -> Tensor:
    """Of the quotient that is at most 1: a right angle less the one beyond it where y is longer.

    `minimum` and `maximum` would be five instructions each, for the sake of NaN.
    """
    x = x + TINY
    steep = y.abs() > x
    t = torch.where(steep, x, y) / torch.where(steep, y, x)
    flat = t * _series(t * t)
    right = torch.where(y < 0, -pi / 2, pi / 2)
    return torch.where(steep, right - flat, flat)


def _series(x: Tensor) -> Tensor:
    total = SERIES[-1] * x + SERIES[-2]
    for term in SERIES[-3::-1]:
        total = total * x + term
    return total


@register_rule(CARD)
@dataclass(frozen=True, kw_only=True)
class AdamAtan2(Rule):
    """w <- (1 - lr wd) w - lr a atan2(m_hat, b sqrt(v_hat))."""

    a: float = 1.0
    b: float = 1.0

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape), "v": p.new_zeros(p.shape)}

    def constants(self, h: Hyper) -> dict[str, Scalar]:
        return {"root": self.b * h.unbias2 / h.unbias1, "rate": self.a * h.lr}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        follow_moments(g, state, h)
        scale = state["v"].sqrt().mul_(h.extra["root"])
        p.mul_(h.shrink).sub_(angle(state["m"], scale).mul_(h.extra["rate"]))
