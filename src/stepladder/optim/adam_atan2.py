"""Adam-atan2: Adam without epsilon, exactly invariant to the gradient's scale."""

from dataclasses import dataclass

from torch import Tensor

from stepladder.card import Card
from stepladder.optim.foreach import follow
from stepladder.optim.rule import Hyper, Rule, Scalar, State, register_rule

CARD = Card(
    name="adam-atan2",
    family="optim",
    title="Scaling Exponents Across Parameterizations and Optimizers",
    arxiv="2407.05872",
    claim="removing epsilon keeps Adam's update from vanishing where gradients shrink with width",
    scaling="adam-atan2",
    state_bytes=8,
    flops=16,
    note="Here a = b = 1 unless given; a = 1.27 makes the typical update as large as Adam's. "
    "eps is not used.",
)

TINY = 2.0**-126  # the smallest normal float32


@register_rule(CARD)
@dataclass(frozen=True, kw_only=True)
class AdamAtan2(Rule):
    """w <- (1 - lr wd) w - lr a atan2(m_hat, b sqrt(v_hat))."""

    a: float = 1.0
    b: float = 1.0

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape), "v": p.new_zeros(p.shape)}

    def constants(self, h: Hyper) -> dict[str, Scalar]:
        return {"root": self.b * h.unbias2, "rate": self.a * h.lr}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        m, v = state["m"], state["v"]
        follow(m, g, h.new1)
        follow(v, g * g, h.new2)
        # The scale is not negative, where atan2(m, s) = atan(m / s), which costs a third of it; a
        # scale of zero comes with m = 0, or is too small for the type and gives a right angle.
        scale = v.sqrt().mul_(h.extra["root"]).clamp_min_(TINY)
        p.mul_(h.shrink).sub_((m * h.unbias1).div_(scale).atan_().mul_(h.extra["rate"]))
