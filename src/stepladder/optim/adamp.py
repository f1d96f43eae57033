"""AdamP: no step along the weight where the loss does not depend on its length."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stepladder.card import Card
from stepladder.optim.adamw import adam_direction, adam_step, follow_moments
from stepladder.optim.foreach import lerp
from stepladder.optim.pieces import rows
from stepladder.optim.rule import Hyper, Measured, State, register_rule

CARD = Card(
    name="adamp",
    family="optim",
    title="AdamP: Slowing Down the Slowdown for Momentum Optimizers on Scale-invariant Weights",
    arxiv="2006.08217",
    claim="removing the radial part of momentum steps on scale-invariant weights: uniform gains "
    "over 13 benchmarks",
    scaling="adamw",
    state_bytes=8,
    flops=28,
    note="Rows are tried as scale-invariant units first, then the whole tensor, as in the authors' "
    "code. Vectors take Adam's step.",
)


@register_rule(CARD, betas=(0.9, 0.999))
@dataclass(frozen=True, kw_only=True)
class AdamP(Measured):
    """Adam's step u with its radial part removed where cos(w, g) < delta / sqrt(dim)."""

    flat = False
    by_rows = True
    delta: float = 0.1
    decay_ratio: float = 0.1

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape), "v": p.new_zeros(p.shape)}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        """As the two passes, in pieces."""
        m, v = state["m"], state["v"]
        if p.ndim < 2:
            p.mul_(h.shrink).sub_(adam_step(g, state, h) * h.lr)
            return
        sums = []
        for w, g_part, m_part, v_part in rows(p, g, m, v):
            moments = {"m": m_part, "v": v_part}
            follow_moments(g_part, moments, h)
            sums.append(_sums(w, g_part, adam_direction(moments, h)))
        radial, keep = self._radial(torch.cat(sums), p[0].numel(), h)
        for w, m_part, v_part, r in rows(p, m, v, radial.view(-1, *(1,) * (p.ndim - 1))):
            _take(w, {"m": m_part, "v": v_part, "radial": r, "keep": keep}, h)

    def measure(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> State:
        # moments are stored by `apply`: with sums of rows that would be a pass of its own
        moments = {"m": lerp(state["m"], g, h.new1), "v": lerp(state["v"], g * g, h.new2)}
        sums = _sums(p, g, adam_direction(moments, h))
        radial, keep = self._radial(sums, p.shape[1], h)
        return {"radial": radial.unsqueeze(1), "keep": keep}

    def apply(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        follow_moments(g, state, h)
        _take(p, state, h)

    def _radial(self, sums_R4: Tensor, columns: int, h: Hyper) -> tuple[Tensor, Tensor]:
        """What of each row is taken out of its step, [rows]; and the decay's factor."""
        whole_14 = sums_R4.sum(dim=0, keepdim=True)
        by_row = self._invariant(sums_R4, columns)
        by_whole = self._invariant(whole_14, columns * len(sums_R4))
        along = torch.where(by_whole, _along(whole_14, h.eps), 0.0)
        radial_R = torch.where(by_row, _along(sums_R4, h.eps), along)
        slower = torch.where(by_row | by_whole, self.decay_ratio, sums_R4.new_ones(()))
        return radial_R, 1 - h.lr * h.weight_decay * slower

    def _invariant(self, sums_R4: Tensor, size: int) -> Tensor:
        """Whether the gradient of every row is orthogonal to it up to chance (a 0-d bool)."""
        wg, ww, gg, _ = sums_R4.unbind(1)
        return (wg.abs() <= self.delta / math.sqrt(size) * ww.sqrt() * gg.sqrt()).all()


def _take(p: Tensor, state: State, h: Hyper) -> None:
    """Step by u - r w: what lies along w only changes the factor of w."""
    step = adam_direction(state, h).mul_(h.lr)
    p.mul_(state["keep"] + state["radial"] * h.lr).sub_(step)


def _sums(p: Tensor, g: Tensor, u: Tensor) -> Tensor:
    """w g, w w, g g and w u of each row, summed, [rows, 4]; u is Adam's step."""
    pairs = (p, g), (p, p), (g, g), (p, u)
    return torch.stack([(a * b).flatten(1).sum(1) for a, b in pairs], dim=1)


def _along(sums_R4: Tensor, eps: float) -> Tensor:
    """<w, u> / (|w| + eps)^2 of each row: the step's component along w, over w."""
    _, ww, _, wu = sums_R4.unbind(1)
    return wu / (ww.sqrt() + eps) ** 2
