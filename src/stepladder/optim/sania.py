"""SANIA: a preconditioned Polyak step, invariant to the scale of every coordinate."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.names import did_you_mean
from stepladder.optim import register
from stepladder.optim.foreach import dot, follow
from stepladder.optim.guard import Groups
from stepladder.optim.whole import Entry, Scalars, WholeModelOptimizer, total

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
    mode: str = "foreach",
) -> Optimizer:
    """SANIA with a diagonal preconditioner: a name in `PRECONDITIONERS`.

    Raises:
        ValueError: an unknown preconditioner.
    """
    if preconditioner not in PRECONDITIONERS:
        near = did_you_mean(preconditioner, PRECONDITIONERS)
        raise ValueError(
            f"no preconditioner {preconditioner!r}{near}; one of {tuple(PRECONDITIONERS)}"
        )
    defaults: dict[str, Any] = {
        "lr": lr,
        "eps": 0.1 if eps is None else eps,
        "weight_decay": weight_decay,
    }
    defaults |= {"betas": betas or (0.9, 0.999), "preconditioner": preconditioner}
    return Sania(groups, defaults, mode)


class Sania(WholeModelOptimizer):
    """w <- w - lambda B^-1 g,  lambda = 1 - sqrt(1 - 2 f / ||g||^2_{B^-1}) or 1  (Algorithm 1)."""

    needs_loss = True
    counters = {"k": 0}  # noqa: RUF012

    def fresh_state(self, p: Tensor) -> dict[str, Tensor]:
        return {"v": p.new_zeros(p.shape)}

    def update(self, entries: Sequence[Entry], lr: float, loss: float | None) -> None:
        assert loss is not None
        self.param_groups[0]["k"] += 1
        metric = PRECONDITIONERS[self.param_groups[0]["preconditioner"]]
        found = self.each(metric.take, entries, self._scalars, sums=True)
        length = polyak(loss, total([f["squared"] for f in found]))

        def scalars(e: Entry) -> Scalars:
            rate = e.group["lr"] * length
            shrink = 1 - rate * e.group["weight_decay"]
            return {**self._scalars(e), "rate": rate, "shrink": shrink}

        self.each(metric.move, entries, scalars)

    def _scalars(self, e: Entry) -> Scalars:
        beta2 = e.group["betas"][1]
        unbias = 1 / (1 - beta2 ** self.param_groups[0]["k"])
        return {"new2": 1 - beta2, "unbias": unbias, "eps": e.group["eps"]}


@dataclass(frozen=True)
class Preconditioner:
    """B of a kind, and the two passes of a step with it."""

    kind: str

    def take(
        self, p: Tensor, g: Tensor, state: dict[str, Tensor], c: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Take the gradient into B; its squared length in that metric."""
        v = state["v"]
        if self.kind.startswith("adam"):
            follow(v, g * g, c["new2"])
        elif self.kind != "identity":
            v.add_(g * g)
        return {"squared": dot(self._direction(g, v, c), g)}

    def move(self, p: Tensor, g: Tensor, state: dict[str, Tensor], c: Mapping[str, Any]) -> None:
        p.mul_(c["shrink"]).sub_(self._direction(g, state["v"], c) * c["rate"])

    def _direction(self, g: Tensor, v: Tensor, c: Mapping[str, Any]) -> Tensor:
        """B^-1 g: with v itself for the -sqr kinds (their point), with its root for the others.
        Made in both passes: that is cheaper than to keep it."""
        if self.kind == "identity":
            return g
        if self.kind.startswith("adam"):
            v = v * c["unbias"]
        scale = v.clamp_min(c["eps"])
        return g / (scale if self.kind.endswith("-sqr") else scale.sqrt())


PRECONDITIONERS = {
    kind: Preconditioner(kind)
    for kind in ("adam-sqr", "adagrad-sqr", "adam", "adagrad", "identity")
}


def polyak(loss: float, squared: float) -> float:
    """The step length that solves the quadratic Polyak condition, 1 where it has no solution.

    Raises:
        ValueError: a loss below its bound; the step would go uphill.
    """
    if loss < 0:
        raise ValueError(f"sania takes 0 for the least loss there can be: {loss:g} is below it")
    if squared == 0:
        return 0.0
    inside = 1 - 2 * loss / squared
    return 1.0 if inside <= 0 else 1 - math.sqrt(inside)  # NaN where the loss is
