"""SANIA: a preconditioned Polyak step, invariant to the scale of every coordinate."""

import math
from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.names import did_you_mean
from stepladder.optim import register
from stepladder.optim.guard import Groups
from stepladder.optim.whole import Entry, WholeModelOptimizer, dot, total

CARD = Card(
    name="sania",
    family="optim",
    title="SANIA: Polyak-type Optimization Framework Leads to Scale Invariant Stochastic "
    "Algorithms",
    arxiv="2312.17369",
    claim="no step size to tune, and invariance to badly scaled features, for convex and "
    "non-convex classification",
    state_bytes=4,
    flops=15,
    note="lr multiplies the Polyak step (1 is the paper's method). Needs the loss, through the "
    "closure; its lower bound is taken as 0. The Hutchinson and full-Hessian preconditioners need "
    "second derivatives and are not here. eps = 0.1 bounds the preconditioner from below, as in "
    "public code; scale invariance holds where it does not act. beta1 is not used.",
)
PRECONDITIONERS = ("adam-sqr", "adagrad-sqr", "adam", "adagrad", "identity")


@register(CARD)
def sania(
    groups: Groups,
    /,
    *,
    lr: float,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    preconditioner: str = "adam-sqr",
) -> Optimizer:
    """SANIA with a diagonal preconditioner: one of `PRECONDITIONERS`.

    Raises:
        ValueError: an unknown preconditioner.
    """
    if preconditioner not in PRECONDITIONERS:
        near = did_you_mean(preconditioner, PRECONDITIONERS)
        raise ValueError(f"no preconditioner {preconditioner!r}{near}; one of {PRECONDITIONERS}")
    defaults = {"lr": lr, "eps": 0.1 if eps is None else eps, "weight_decay": weight_decay}
    return Sania(
        groups, {**defaults, "betas": betas or (0.9, 0.999), "preconditioner": preconditioner}
    )


class Sania(WholeModelOptimizer):
    """w <- w - lambda B^-1 g,  lambda = 1 - sqrt(1 - 2 f / ||g||^2_{B^-1}) or 1  (Algorithm 1)."""

    needs_loss = True
    counters = {"k": 0}  # noqa: RUF012

    def init(self, p: Tensor) -> dict[str, Tensor]:
        return {"v": p.new_zeros(p.shape)}

    def update(self, entries: Sequence[Entry], lr: float, loss: float | None) -> None:
        assert loss is not None
        self.param_groups[0]["k"] += 1
        squared = total([self._follow(e) for e in entries])
        length = polyak(loss, squared)
        for e in entries:
            rate = e.group["lr"] * length
            e.p.mul_(1 - rate * e.group["weight_decay"]).sub_(self._direction(e), alpha=rate)

    def _follow(self, e: Entry) -> Tensor:
        """Take the gradient into the preconditioner; its squared length in that metric."""
        kind, v = e.group["preconditioner"], e.state["v"]
        if kind.startswith("adam"):
            v.lerp_(e.g * e.g, 1 - e.group["betas"][1])
        elif kind != "identity":
            v.addcmul_(e.g, e.g)
        return dot(self._direction(e), e.g)

    def _direction(self, e: Entry) -> Tensor:
        """B^-1 g: with v itself for the -sqr kinds (their point), with its root for the others.
        Made twice a step: that is cheaper than to keep it."""
        kind, v = e.group["preconditioner"], e.state["v"]
        if kind == "identity":
            return e.g
        if kind.startswith("adam"):
            v = v / (1 - e.group["betas"][1] ** self.param_groups[0]["k"])
        scale = v.clamp_min(e.group["eps"])
        return e.g / (scale if kind.endswith("-sqr") else scale.sqrt_())


def polyak(loss: float, squared: float) -> float:
    """The step length that solves the quadratic Polyak condition, 1 where it has no solution."""
    if squared == 0:
        return 0.0
    inside = 1 - 2 * loss / squared
    return 1 - math.sqrt(inside) if inside > 0 else 1.0
