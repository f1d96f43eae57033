"""AdaBound: Adam whose per-entry rate is clipped into a band that narrows to SGD's."""

from dataclasses import dataclass

from torch import Tensor

from stepladder.card import Card
from stepladder.optim.adamw import follow_moments
from stepladder.optim.rule import Hyper, Rule, Scalar, State, register_rule

CARD = Card(
    name="adabound",
    family="optim",
    title="Adaptive Gradient Methods with Dynamic Bound of Learning Rate",
    arxiv="1902.09843",
    claim="moves from Adam to SGD: early speed of the one, generalisation of the other",
    state_bytes=8,
    flops=16,
    note="The final SGD rate is given as a multiple of each group's own peak rate (the paper: 0.1 "
    "absolute at lr 1e-3, hence 100), so that the schedule and a parametrization's factors reach "
    "it.",
)


@register_rule(CARD, betas=(0.9, 0.999))
@dataclass(frozen=True, kw_only=True)
class AdaBound(Rule):
    """w <- w - clip(lr sqrt(1-b2^t) / (1-b1^t) / (sqrt(v) + eps), lo, hi) m  (Algorithm 2).

    lo, hi = final (1 - 1/(gamma t + 1)), final (1 + 1/(gamma t)).
    """

    final: float = 100.0
    gamma: float = 1e-3

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(f"adabound: gamma must be positive: {self.gamma!r}")

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape), "v": p.new_zeros(p.shape)}

    def constants(self, h: Hyper) -> dict[str, Scalar]:
        final = self.final * h.lr
        return {
            "rate": h.lr * h.unbias1 / h.unbias2,
            "low": final * (1 - 1 / (self.gamma * h.step + 1)),
            "high": final * (1 + 1 / (self.gamma * h.step)),
        }

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        m, v, c = state["m"], state["v"], h.extra
        follow_moments(g, state, h)
        rate = v.sqrt().add_(h.eps).reciprocal_().mul_(c["rate"])
        p.mul_(h.shrink).sub_(rate.clamp_min_(c["low"]).clamp_max_(c["high"]).mul_(m))
