"""Subset-Norm, alone and with Subspace-Momentum: AdamW with a second moment per row."""

from dataclasses import dataclass

from torch import Tensor

from stepladder.card import Card
from stepladder.optim.foreach import follow
from stepladder.optim.projection import Subspace
from stepladder.optim.rule import Hyper, Measured, Rule, Scalar, State, register_rule

TITLE = (
    "Efficient Adaptive Optimization via Subset-Norm and Subspace-Momentum: Fast, Memory-Reduced "
    "Training with Convergence Guarantees"
)
CARD = Card(
    name="adam-sn",
    family="optim",
    title=TITLE,
    arxiv="2411.07120",
    claim="one second moment per row of a matrix: Adam's perplexity with half its state",
    state_bytes=4.004,
    flops=8,
    note="Subsets are the rows of a matrix along its larger side (the authors' recommended "
    "heuristic); vectors keep Adam's second moment. Wants about ten times Adam's rate. Epsilon "
    "acts after bias correction, as in Adam; the authors' code adds it before.",
)
SNSM_CARD = Card(
    name="adam-snsm",
    family="optim",
    title=TITLE,
    arxiv="2411.07120",
    claim="Adam's perplexity with half the tokens and 20% of its optimizer state (LLaMA 60M to 1B)",
    state_bytes=1.004,
    flops=520,
    grows_with="rank",
    note="Momentum lives in the top singular directions of a gradient and restarts when they are "
    "refreshed; what lies outside them is followed without momentum. At 1024 x 1024: rank 128.",
)


def subset_denominator(g: Tensor, state: State, h: Hyper) -> Tensor:
    """sqrt(v_hat) + eps with one v per subset, broadcastable to the gradient.

    v sums, not averages, the squares of its subset: that is the paper's norm.
    """
    squares = g * g
    if g.ndim > 1:
        summed = [dim for dim, size in enumerate(state["v"].shape) if size == 1]
        squares = squares.sum(dim=summed, keepdim=True)
    follow(state["v"], squares, h.new2)
    return state["v"].sqrt().mul_(h.unbias2).add_(h.eps)


def _summed(g: Tensor) -> list[int]:
    """The dimensions a subset spans: all but the first, or only the first if that is shorter."""
    rest = list(range(1, g.ndim))
    return rest if g.shape[0] >= g[0].numel() else [0]


def _second_moment(p: Tensor) -> Tensor:
    return (
        p.new_zeros(p.shape) if p.ndim < 2 else p.new_zeros(p.shape).sum(_summed(p), keepdim=True)
    )


@register_rule(CARD, betas=(0.9, 0.999), eps=1e-6)
@dataclass(frozen=True, kw_only=True)
class AdamSubsetNorm(Measured):
    """w <- (1 - lr wd) w - lr m_hat / (sqrt(v_hat per subset) + eps)."""

    flat = False
    by_rows = True

    def init(self, p: Tensor) -> State:
        return {"m": p.new_zeros(p.shape), "v": _second_moment(p)}

    def constants(self, h: Hyper) -> dict[str, Scalar]:
        return {"rate": h.lr * h.unbias1}

    def measure(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> State:
        return {"rate": h.extra["rate"] / subset_denominator(g, state, h)}

    def apply(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        follow(state["m"], g, h.new1)
        p.mul_(h.shrink).sub_(state["m"] * state["rate"])


@register_rule(SNSM_CARD, betas=(0.9, 0.999), eps=1e-6)
@dataclass(frozen=True, kw_only=True)
class AdamSubsetNormSubspaceMomentum(Rule):
    """The same with m = P m_low + (g - P P^T g), m_low the average of P^T g.

    Matrices whose smaller side is at most `rank`, and all other tensors, keep full momentum.
    """

    flat = False
    coupled = True
    rank: int = 128
    gap: int = 200

    def init(self, p: Tensor) -> State:
        space = Subspace(p, self.rank)
        return {"m": space.zeros(p), "v": _second_moment(p), **space.init(p)}

    def constants(self, h: Hyper) -> dict[str, Scalar]:
        return {"rate": h.lr * h.unbias1}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        space, m = Subspace(p, self.rank), state["m"]
        if space.refresh(g, state, h.step, self.gap):
            m.zero_()
        low = space.project(g, state)
        follow(m, low, h.new1)
        direction = space.back(m - low, state).add_(g) if space.active else m
        p.mul_(h.shrink).sub_(direction * (h.extra["rate"] / subset_denominator(g, state, h)))
