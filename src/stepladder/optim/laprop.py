"""LaProp: normalise first, then average."""

from dataclasses import dataclass

from torch import Tensor

from stepladder.card import Card
from stepladder.optim.foreach import follow
from stepladder.optim.rule import Hyper, Rule, Scalar, State, register_rule

CARD = Card(
    name="laprop",
    family="optim",
    title="LaProp: Separating Momentum and Adaptivity in Adam",
    arxiv="2002.04839",
    claim="decoupling momentum from adaptivity bounds the update for any pair of betas: faster and "
    "more stable than Adam",
    scaling="adamw",
    state_bytes=8,
    flops=14,
    note="The rate multiplies the averaged direction, as in the paper's algorithm; the authors' "
    "code averages rate times direction, which differs only while the rate changes.",
)


@register_rule(CARD, betas=(0.9, 0.999), eps=1e-15)
@dataclass(frozen=True, kw_only=True)
class LaProp(Rule):
    """m <- b1 m + (1-b1) g / (sqrt(v_hat) + eps);  w <- (1 - lr wd) w - lr m / (1 - b1^t)."""

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape), "v": p.new_zeros(p.shape)}

    def constants(self, h: Hyper) -> dict[str, Scalar]:
        return {"rate": h.lr * h.unbias1}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        m, v = state["m"], state["v"]
        follow(v, g * g, h.new2)
        follow(m, g / v.sqrt().mul_(h.unbias2).add_(h.eps), h.new1)
        p.mul_(h.shrink).sub_(m * h.extra["rate"])
