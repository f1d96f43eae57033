"""INNAprop: a discretised inertial Newton system with RMSprop scaling."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from stepladder.card import Card
from stepladder.optim.foreach import follow
from stepladder.optim.rule import Hyper, Rule, Scalar, State, register_rule

CARD = Card(
    name="innaprop",
    family="optim",
    title="A second-order-like optimizer with adaptive gradient scaling for deep learning",
    arxiv="2410.05871",
    claim="matches or beats AdamW with little tuning, at AdamW's memory",
    state_bytes=8,
    flops=17,
    note="beta2 is the paper's sigma; beta1 is not used. alpha = beta = 2 is the paper's slower, "
    "better-generalising setting.",
)


@register_rule(CARD, betas=(0.9, 0.999))
@dataclass(frozen=True, kw_only=True)
class InnaProp(Rule):
    """psi, w <- the semi-implicit step of the inertial system, gradient / sqrt(v_hat) (Alg. 1)."""

    alpha: float = 0.1
    beta: float = 0.9

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"innaprop: beta must be positive: {self.beta!r}")

    def init(self, p: Tensor) -> State:
        return {"psi": p * (1 - self.alpha * self.beta), "v": p.new_zeros(p.shape)}

    def scalars(self, group: dict[str, Any]) -> dict[str, Scalar]:
        if not isinstance(group["lr"], Tensor) and group["lr"] >= self.beta:
            raise ValueError(
                f"innaprop divides by beta - lr: lr {group['lr']} must be < {self.beta}"
            )
        return {}

    def constants(self, h: Hyper) -> dict[str, Scalar]:
        a, b = self.alpha, self.beta
        pull = h.lr / (b - h.lr)
        return {
            "psi_keep": 1 - h.lr / b,
            "psi_gain": h.lr * (1 / b - a),
            "keep": 1 + pull * (1 - a * b),
            "pull": pull,
            "rate": h.lr * b,
        }

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        psi, v, c = state["psi"], state["v"], h.extra
        p.mul_(h.shrink)
        follow(v, g * g, h.new2)
        psi.mul_(c["psi_keep"]).add_(p * c["psi_gain"])
        p.mul_(c["keep"]).sub_(psi * c["pull"])
        p.sub_((g / v.sqrt().mul_(h.unbias2).add_(h.eps)).mul_(c["rate"]))
