"""Optimizers whose step size is one number for the whole model, measured as training goes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepladder.optim.guard import NAME_KEY, Groups
from stepladder.optim.pieces import pieces

LOW_PRECISION = (torch.bfloat16, torch.float16)


class Entry(NamedTuple):
    """A parameter that has a gradient, or a piece of it. `scale` is its group's rate over the
    largest rate."""

    p: Tensor
    g: Tensor
    state: dict[str, Tensor]
    group: dict[str, Any]
    scale: float


class WholeModelOptimizer(Optimizer):
    """Base: collects entries, calls the closure, keeps counters in the first group.

    Large parameters come in pieces, so `update` may only work entry by entry and with sums.

    Sums over the whole model lose too much in bfloat16, so low-precision parameters are refused.

    Raises:
        ValueError: low-precision parameters; stacked trials.
    """

    needs_loss = False
    counters: dict[str, float] = {}  # noqa: RUF012  # name -> value before the first step

    def __init__(self, groups: Groups, defaults: dict[str, Any]) -> None:
        super().__init__(groups, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                if p.dtype in LOW_PRECISION:
                    raise ValueError(
                        f"{type(self).__name__} sums over the whole model and needs float32 "
                        f"parameters, not {p.dtype}"
                    )
        self.param_groups[0].update(self.counters)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns the closure's result.

        Raises:
            ValueError: the method needs the loss and there is no closure that returns it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.needs_loss and loss is None:
            raise ValueError(
                f"{self.param_groups[0].get(NAME_KEY)} takes its step size from the loss: call "
                "step(closure), where the closure returns it (lambda: loss after backward)"
            )
        top = max(group["lr"] for group in self.param_groups)
        entries = [
            entry
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
            for entry in _in_pieces(p, p.grad, self._state(p), group, top)
        ]
        if entries:
            self.update(entries, top, None if loss is None else float(loss))
        return loss

    def init(self, p: Tensor) -> dict[str, Tensor]:
        """The state of a parameter before its first step."""
        raise NotImplementedError

    def update(self, entries: Sequence[Entry], lr: float, loss: float | None) -> None:
        """Change parameters, states and counters in place; `lr` is the largest group's rate."""
        raise NotImplementedError

    def _state(self, p: Tensor) -> dict[str, Tensor]:
        state = self.state[p]
        if not state:
            state.update(self.init(p))
        return state


def total(terms: Sequence[Tensor], weights: Sequence[float] | None = None) -> float:
    """The sum of 0-d tensors, weighted where weights are given, in float64; fetched once."""
    wide = torch.stack(list(terms)).double()
    return float(wide.sum() if weights is None else wide.cpu() @ wide.new_tensor(weights).cpu())


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of two tensors of one shape."""
    return torch.dot(a.reshape(-1), b.reshape(-1))


def _in_pieces(
    p: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any], top: float
) -> Iterator[Entry]:
    scale = group["lr"] / top if top else 0.0
    for p_part, g_part, *rest in pieces(p, g, *state.values()):
        yield Entry(p_part, g_part, dict(zip(state, rest, strict=True)), group, scale)
