"""D-Adaptation: SGD and Adam without a learning rate to tune."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.optim import register
from stepladder.optim.guard import Groups
from stepladder.optim.whole import Entry, WholeModelOptimizer, dot, total

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
    flops=12,
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
) -> Optimizer:
    """D-Adapted SGD with momentum betas[0]; `d0`: first estimate, `growth`: its largest ratio."""
    defaults = {"lr": lr, "eps": 0.0, "weight_decay": weight_decay, "growth": growth}
    momentum = (betas or (0.9, 0.0))[0]
    return DAdaptSGD(groups, {**defaults, "momentum": momentum}, d0)


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
) -> Optimizer:
    """D-Adapted Adam; `d0`: first estimate, `growth`: its largest ratio between steps."""
    defaults = {"lr": lr, "eps": 1e-8 if eps is None else eps, "weight_decay": weight_decay}
    defaults |= {"growth": growth}
    return DAdaptAdam(groups, {**defaults, "betas": betas or (0.9, 0.999)}, d0)


class _DAdapt(WholeModelOptimizer):
    counters = {"numerator": 0.0}  # noqa: RUF012

    def __init__(self, groups: Groups, defaults: dict, d0: float) -> None:
        if not d0 > 0:
            raise ValueError(f"d-adaptation: d0 must be positive: {d0!r}")
        super().__init__(groups, defaults)
        self.param_groups[0]["d"] = d0

    def _raise_estimate(self, estimate: float) -> None:
        head = self.param_groups[0]
        head["d"] = max(head["d"], min(estimate, head["d"] * head["growth"]))


class DAdaptSGD(_DAdapt):
    """s += d lr / ||g_0|| g;  d_hat = 2 sum <g, s> / ||s||;  z = x_0 - s;  x averages z."""

    def init(self, p: Tensor) -> dict[str, Tensor]:
        return {"s": p.new_zeros(p.shape), "x0": p.detach().clone()}

    def update(self, entries: Sequence[Entry], lr: float, loss: float | None) -> None:
        head, scales = self.param_groups[0], [e.scale for e in entries]
        if "g0" not in head:
            head["g0"] = math.sqrt(total([dot(e.g, e.g) for e in entries], scales))
        if head["g0"] == 0:
            del head["g0"]
            return
        rate = head["d"] * lr / head["g0"]
        gained, squares = zip(*(self._follow(e, rate) for e in entries), strict=True)
        head["numerator"] += rate * total(gained, scales)
        squared = total(squares, scales)
        if squared == 0:
            return
        self._raise_estimate(2 * head["numerator"] / math.sqrt(squared))
        for e in entries:
            z = e.state["x0"].sub(e.state["s"], alpha=e.scale)
            e.p.lerp_(z, 1 - e.group["momentum"])

    def _follow(self, e: Entry, rate: float) -> tuple[Tensor, Tensor]:
        """Take the gradient into s; <g, s> before, and ||s||^2 after."""
        decay, s = e.group["weight_decay"], e.state["s"]
        g = e.g + e.p * decay if decay else e.g
        gained = dot(g, s)
        s.add_(g, alpha=rate)
        return gained, dot(s, s)


class DAdaptAdam(_DAdapt):
    """Adam on d g, with d raised by <g, s / sqrt(v)> over ||s||_1."""

    def init(self, p: Tensor) -> dict[str, Tensor]:
        return {key: p.new_zeros(p.shape) for key in ("m", "v", "s")}

    def update(self, entries: Sequence[Entry], lr: float, loss: float | None) -> None:
        head, scales = self.param_groups[0], [e.scale for e in entries]
        rate, root = head["d"] * lr, math.sqrt(head["betas"][1])
        gained, lengths = zip(*(self._follow(e, rate, root) for e in entries), strict=True)
        length = total(lengths, scales)
        head["numerator"] = root * head["numerator"] + (1 - root) * rate * total(gained, scales)
        if length == 0:
            return
        if lr > 0:
            self._raise_estimate(head["numerator"] / ((1 - root) * length))
        for e in entries:
            e.p.mul_(1 - e.group["weight_decay"] * e.scale * rate)
            e.p.addcdiv_(e.state["m"], _root(e), value=-1)

    def _follow(self, e: Entry, rate: float, root: float) -> tuple[Tensor, Tensor]:
        """Take the gradient into m, v and s; <g, s / sqrt(v)> before, and ||s||_1 after."""
        (beta1, beta2), s = e.group["betas"], e.state["s"]
        gained = dot(e.g, s / _root(e))
        e.state["m"].mul_(beta1).add_(e.g, alpha=e.scale * rate * (1 - beta1))
        e.state["v"].lerp_(e.g * e.g, 1 - beta2)
        s.mul_(root).add_(e.g, alpha=rate * (1 - root))
        return gained, torch.linalg.vector_norm(s, 1)


def _root(e: Entry) -> Tensor:
    return e.state["v"].sqrt().add_(e.group["eps"])
