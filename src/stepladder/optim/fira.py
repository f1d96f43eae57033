"""Fira: GaLore plus what it discards, scaled as Adam scaled the rest."""

from dataclasses import dataclass

import torch
from torch import Tensor

from stepladder.card import Card
from stepladder.optim.adamw import adam_step
from stepladder.optim.projection import Subspace
from stepladder.optim.rule import Hyper, Rule, Scalar, State, register_rule

CARD = Card(
    name="fira",
    family="optim",
    title="Fira: Can We Achieve Full-rank Training of LLMs Under Low-rank Constraint?",
    arxiv="2410.01623",
    claim="full-rank quality or better with low-rank optimizer memory, above LoRA and GaLore",
    state_bytes=1.5,
    flops=521,
    grows_with="rank",
    note="At 1024 x 1024: rank 128; FLOPs without the SVD every `gap` steps. The limiter's first "
    "step is not limited. `scale` multiplies the projected part; the authors' code, whose default "
    "is 1, also multiplies what it subtracts.",
)
TINY = 1e-8  # the authors' guard of both divisions


@register_rule(CARD, betas=(0.9, 0.999), eps=1e-6)
@dataclass(frozen=True, kw_only=True)
class Fira(Rule):
    """w <- (1 - lr wd) w - lr (scale P psi + limit(||psi_i|| / ||r_i|| (g - P r)))  (Algorithm 1).

    r = P^T g, psi = Adam's step on r, norms by column of the projected side; the second term's
    norm may grow by at most the factor `growth` from one step to the next.
    """

    flat = False
    coupled = True
    rank: int = 128
    gap: int = 200
    scale: float = 1.0
    growth: float = 1.01

    def init(self, p: Tensor) -> State:
        space = Subspace(p, self.rank)
        state = {"m": space.zeros(p), "v": space.zeros(p), **space.init(p)}
        return {**state, "norm": p.new_zeros(())} if space.active else state

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        space = Subspace(p, self.rank)
        space.refresh(g, state, h.step, self.gap)
        low = space.project(g, state)
        psi = adam_step(low, state, h)
        if not space.active:
            p.mul_(h.shrink).sub_(psi.mul_(h.lr))
            return
        # P psi + (g - P low) k = P (psi - low k) + g k: k is constant along the projected side
        kept = self._kept(g, psi, low, state, h.unbias1 / h.unbias2)
        inside = (psi * self.scale).sub_(low * kept).mul_(h.lr)
        space.subtract(inside, state, p.mul_(h.shrink).sub_(g * (kept * h.lr)))

    def _kept(
        self, g: Tensor, psi: Tensor, low: Tensor, state: State, correction: Scalar
    ) -> Tensor:
        """How much of the rest g - P low is kept, row by row or column by column.

        As in the authors' code, growth is judged before Adam's bias correction, which alone would
        change the norm over the first steps.
        """
        side = 0 if psi.shape[0] < psi.shape[1] else 1
        inside = low.norm(dim=side, keepdim=True)
        ratio = psi.norm(dim=side, keepdim=True) / (inside + TINY)
        # P is orthonormal: ||g - P low||^2 = ||g||^2 - ||low||^2
        rest = (g.norm(dim=side, keepdim=True) ** 2 - inside**2).clamp_min(0.0)
        norm, last = (ratio * ratio * rest).sum().sqrt() / correction, state["norm"].clone()
        excess = torch.clamp_min(norm / (last + TINY), self.growth) / self.growth
        limit = torch.where(last > 0, excess, 1.0)
        state["norm"].copy_(norm / limit)
        return ratio / limit
