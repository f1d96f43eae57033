"""GaLore: Adam in the top singular directions of the gradient."""

from dataclasses import dataclass

from torch import Tensor

from stepladder.card import Card
from stepladder.optim.adamw import adam_step
from stepladder.optim.projection import Subspace
from stepladder.optim.rule import Hyper, Rule, State, register_rule

CARD = Card(
    name="galore",
    family="optim",
    title="GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection",
    arxiv="2403.03507",
    claim="up to 65.5% less optimizer memory at the quality of full-rank training",
    state_bytes=1.5,
    flops=516,
    grows_with="rank",
    note="At 1024 x 1024: rank 128; FLOPs are the two projections, without the SVD, whose cost "
    "grows with the smaller side and is paid every `gap` steps. As in the authors' code, moments "
    "survive a refresh although the new basis has other directions and arbitrary signs.",
)


@register_rule(CARD, betas=(0.9, 0.999), eps=1e-6)
@dataclass(frozen=True, kw_only=True)
class GaLore(Rule):
    """w <- (1 - lr wd) w - lr scale P adam(P^T g)  (Algorithm 2).

    Tensors that are not matrices, or whose smaller side is at most `rank`, take Adam's step.
    """

    flat = False
    coupled = True
    rank: int = 128
    gap: int = 200
    scale: float = 0.25

    def init(self, p: Tensor) -> State:
        space = Subspace(p, self.rank)
        return {"m": space.zeros(p), "v": space.zeros(p), **space.init(p)}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        space = Subspace(p, self.rank)
        space.refresh(g, state, h.step, self.gap)
        step = adam_step(space.project(g, state), state, h)
        step.mul_(h.lr * (self.scale if space.active else 1.0))
        space.subtract(step, state, p.mul_(h.shrink))
