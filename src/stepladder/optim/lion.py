"""Lion: the sign of an interpolated momentum."""

from dataclasses import dataclass

from torch import Tensor

from stepladder.card import Card
from stepladder.optim.foreach import follow, lerp, sign
from stepladder.optim.rule import Hyper, Rule, State, register_rule

CARD = Card(
    name="lion",
    family="optim",
    title="Symbolic Discovery of Optimization Algorithms",
    arxiv="2302.06675",
    claim="one state buffer; up to 5x less pre-training compute than Adam for vision, 2.3x less "
    "for diffusion, gain growing with batch size",
    scaling="lion",
    state_bytes=4,
    flops=12,
    note="Wants a rate 3 to 10 times smaller than AdamW's and a weight decay larger by as much. "
    "Its update has size one whatever the gradient's scale, as Adam's.",
)


@register_rule(CARD, betas=(0.9, 0.99))
@dataclass(frozen=True, kw_only=True)
class Lion(Rule):
    """w <- w - lr (sign(b1 m + (1-b1) g) + wd w);  m <- b2 m + (1-b2) g  (Program 1)."""

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape)}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        m = state["m"]
        direction = sign(lerp(m, g, h.new1))
        p.mul_(h.shrink).sub_(direction.mul_(h.lr))
        follow(m, g, h.new2)
