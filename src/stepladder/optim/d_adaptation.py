"""D-Adaptation: SGD and Adam without a learning rate to tune."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.optim import register
from stepladder.optim.foreach import dot, follow, summed
from stepladder.optim.guard import Groups
from stepladder.optim.whole import Entry, Scalars, WholeModelOptimizer, total

NOTE = (
    "lr multiplies the estimate (1 is the method; a schedule's factor goes through it). Groups of "
    "different rates act as the authors' layer_scale; for SGD, where their code has none, the "
    "distance is measured in the metric of the scales. "
)
SGD_CARD = Card(
    name="d-adapt-sgd",
    family="optim",
    title="Learning-Rate-Free Learning by D-Adaptation",
    arxiv="2301.07733",
    claim="matches hand-tuned rates on more than a dozen problems",
    state_bytes=8,
    flops=13,
    note=NOTE + "Weight decay enters the gradient. beta1 is the momentum.",
)
ADAM_CARD = Card(
    name="d-adapt-adam",
    family="optim",
    title="Learning-Rate-Free Learning by D-Adaptation",
    arxiv="2301.07733",
    claim="matches hand-tuned rates on more than a dozen problems",
    state_bytes=12,
    flops=22,
    note=NOTE + "Weight decay is decoupled.",
)


@register(SGD_CARD)
def d_adapt_sgd(
    groups: Groups,
    /,
    *,
    lr: float = 1.0,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    d0: float = 1e-6,
    growth: float = math.inf,
    mode: str = "foreach",
) -> Optimizer:
    """D-Adapted SGD with momentum betas[0]; `d0`: first estimate, `growth`: its largest ratio."""
    defaults = {"lr": lr, "eps": 0.0, "weight_decay": weight_decay, "growth": growth}
    momentum = (betas or (0.9, 0.0))[0]
    return DAdaptSGD(groups, {**defaults, "momentum": momentum}, d0, mode)


@register(ADAM_CARD)
def d_adapt_adam(
    groups: Groups,
    /,
    *,
    lr: float = 1.0,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    d0: float = 1e-6,
    growth: float = math.inf,
    mode: str = "foreach",
) -> Optimizer:
    """D-Adapted Adam; `d0`: first estimate, `growth`: its largest ratio between steps."""
    defaults = {"lr": lr, "eps": 1e-8 if eps is None else eps, "weight_decay": weight_decay}
    defaults |= {"growth": growth}
    return DAdaptAdam(groups, {**defaults, "betas": betas or (0.9, 0.999)}, d0, mode)


class _DAdapt(WholeModelOptimizer):
    counters = {"numerator": 0.0}  # noqa: RUF012

    def __init__(self, groups: Groups, defaults: dict, d0: float, mode: str) -> None:
        if not d0 > 0:
            raise ValueError(f"d-adaptation: d0 must be positive: {d0!r}")
        super().__init__(groups, defaults, mode)
        self.param_groups[0]["d"] = d0

    def _raise_estimate(self, estimate: float) -> None:
        head = self.param_groups[0]
        head["d"] = max(head["d"], min(estimate, head["d"] * head["growth"]))


class DAdaptSGD(_DAdapt):
    """s += d lr / ||g_0|| g;  d_hat = 2 sum <g, s> / ||s||;  z = x_0 - s;  x averages z."""

    def fresh_state(self, p: Tensor) -> dict[str, Tensor]:
        return {"s": p.new_zeros(p.shape), "x0": p.detach().clone()}

    def update(self, entries: Sequence[Entry], lr: float, loss: float | None) -> None:
        head, scales = self.param_groups[0], [e.scale for e in entries]
        if "g0" not in head:
            squares = self.each(_squared, entries, lambda e: {}, sums=True)
            head["g0"] = math.sqrt(total([f["g0"] for f in squares], scales))
        if head["g0"] == 0:
            del head["g0"]
            return
        rate = head["d"] * lr / head["g0"]

        def scalars(e: Entry) -> Scalars:
            decay = e.group["weight_decay"]
            return {"rate": rate, "decay": decay} if decay else {"rate": rate}

        found = self.each(_sgd_follow, entries, scalars, sums=True)
        head["numerator"] += rate * total([f["gained"] for f in found], scales)
        squared = total([f["squared"] for f in found], scales)
        if squared == 0:
            return
        self._raise_estimate(2 * head["numerator"] / math.sqrt(squared))
        self.each(_sgd_move, entries, lambda e: {"scale": e.scale, "new": 1 - e.group["momentum"]})


def _squared(p: Tensor, g: Tensor, state: dict[str, Tensor], c: Any) -> dict[str, Tensor]:
    return {"g0": dot(g, g)}


def _sgd_follow(p: Tensor, g: Tensor, state: dict[str, Tensor], c: Any) -> dict[str, Tensor]:
    """Take the gradient into s; <g, s> before, and ||s||^2 after."""
    s = state["s"]
    if "decay" in c:
        g = g + p * c["decay"]
    gained = dot(g, s)
    s.add_(g * c["rate"])
    return {"gained": gained, "squared": dot(s, s)}


def _sgd_move(p: Tensor, g: Tensor, state: dict[str, Tensor], c: Any) -> None:
    follow(p, state["x0"] - state["s"] * c["scale"], c["new"])


class DAdaptAdam(_DAdapt):
    """Adam on d g, with d raised by <g, s / sqrt(v)> over ||s||_1."""

    def fresh_state(self, p: Tensor) -> dict[str, Tensor]:
        return {key: p.new_zeros(p.shape) for key in ("m", "v", "s")}

    def update(self, entries: Sequence[Entry], lr: float, loss: float | None) -> None:
        head, scales = self.param_groups[0], [e.scale for e in entries]
        rate, root = head["d"] * lr, math.sqrt(head["betas"][1])

        def scalars(e: Entry) -> Scalars:
            beta1, beta2 = e.group["betas"]
            return {
                "beta1": beta1,
                "take": e.scale * rate * (1 - beta1),
                "new2": 1 - beta2,
                "root": root,
                "gain": rate * (1 - root),
                "eps": e.group["eps"],
                "shrink": 1 - e.group["weight_decay"] * e.scale * rate,
            }

        found = self.each(_adam_follow, entries, scalars, sums=True)
        gained, length = (total([f[k] for f in found], scales) for k in ("gained", "length"))
        head["numerator"] = root * head["numerator"] + (1 - root) * rate * gained
        if length == 0:
            return
        if lr > 0:
            self._raise_estimate(head["numerator"] / ((1 - root) * length))
        self.each(_adam_move, entries, scalars)


def _adam_follow(p: Tensor, g: Tensor, state: dict[str, Tensor], c: Any) -> dict[str, Tensor]:
    """Take the gradient into m, v and s; <g, s / sqrt(v)> before, and ||s||_1 after."""
    s = state["s"]
    gained = dot(g, s / _root(state, c))
    state["m"].mul_(c["beta1"]).add_(g * c["take"])
    follow(state["v"], g * g, c["new2"])
    s.mul_(c["root"]).add_(g * c["gain"])
    return {"gained": gained, "length": summed(s.abs())}


def _adam_move(p: Tensor, g: Tensor, state: dict[str, Tensor], c: Any) -> None:
    p.mul_(c["shrink"]).sub_(state["m"] / _root(state, c))


def _root(state: dict[str, Tensor], c: Any) -> Tensor:
    return state["v"].sqrt().add_(c["eps"])
