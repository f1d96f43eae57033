"""Optimizers whose step size is one number for the whole model, measured as training goes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from stepladder.optim.compiled import (
    Batched,
    lines,
    longest_line,
    state_of,
    vector,
    worth_compiling,
)
from stepladder.optim.engine import LOW_PRECISION, check_mode
from stepladder.optim.guard import NAME_KEY, Groups, Guarded
from stepladder.optim.pieces import pieces
from stepladder.optim.shortcut import Result, Row

Scalars = Mapping[str, float]
Work = Callable[[Tensor, Tensor, dict[str, Tensor], Any], dict[str, Tensor] | None]


class Entry(NamedTuple):
    """A parameter that has a gradient, or a piece of it. `scale` is its group's rate over the
    largest rate."""

    p: Tensor
    g: Tensor
    state: dict[str, Tensor]
    group: dict[str, Any]
    scale: float


class WholeModelOptimizer(Guarded):
    """Base: collects entries, calls the closure, keeps counters in the first group.

    Large parameters come in pieces, so `update` may only work entry by entry and with sums. In mode
    "compiled" they come whole, and go through fused kernels; the other modes are one.

    Sums over the whole model lose too much in bfloat16, so low-precision parameters are refused.

    Raises:
        ValueError: low-precision parameters; stacked trials.
    """

    built_with = ("_mode",)
    needs_loss = False
    counters: dict[str, float] = {}  # noqa: RUF012  # name -> value before the first step

    def __init__(self, groups: Groups, defaults: dict[str, Any], mode: str = "foreach") -> None:
        check_mode(mode)
        super().__init__(groups, defaults)
        self._mode = mode
        self.param_groups[0].update(self.counters)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's.

        Raises:
            ValueError: low-precision parameters.
        """
        super().add_param_group(param_group)
        for p in self.param_groups[-1]["params"]:
            if p.dtype in LOW_PRECISION:
                raise ValueError(
                    f"{type(self).__name__} sums over the whole model and needs float32 "
                    f"parameters, not {p.dtype}"
                )

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
            for entry in self._entries(p, p.grad, group, top)
        ]
        if entries:
            self.update(entries, top, None if loss is None else float(loss))
        return loss

    def fresh_state(self, p: Tensor) -> dict[str, Tensor]:
        """The state of a parameter before its first step."""
        raise NotImplementedError

    def update(self, entries: Sequence[Entry], lr: float, loss: float | None) -> None:
        """Change parameters, states and counters in place; `lr` is the largest group's rate."""
        raise NotImplementedError

    def each(
        self,
        work: Work,
        entries: Sequence[Entry],
        scalars: Callable[[Entry], Scalars],
        *,
        sums: bool = False,
    ) -> list[dict[str, Tensor]]:
        """`work(p, g, state, scalars)` on every entry; what it measured, entry by entry.

        Args:
            work: a function of the module (it is compiled once), in tensor arithmetic.
            scalars: its scalars for an entry, equal within a group.
            sums: whether it measures.
        """
        found: list[dict[str, Tensor]] = [{}] * len(entries)
        fused: dict[int, list[int]] = {}
        one_each = {id(e.group): e for e in entries}
        of_group = {group: scalars(e) for group, e in one_each.items()}
        for index, e in enumerate(entries):
            if self._mode == "compiled" and worth_compiling(e.p, e.g):
                fused.setdefault(id(e.group), []).append(index)
            else:
                found[index] = work(e.p, e.g, e.state, of_group[id(e.group)]) or {}
        for group, indices in fused.items():
            values = partial(_as_tensors, of_group[group])
            rows = [_as_row(entries[i], sums) for i in indices]
            for i, result in zip(indices, _compiled(work)(rows, values), strict=True):
                found[i] = result
        return found

    def _entries(self, p: Tensor, g: Tensor, group: dict[str, Any], top: float) -> Iterator[Entry]:
        scale = group["lr"] / top if top else 0.0
        split = _whole if self._mode == "compiled" else _in_pieces
        return split(p, g, self._state(p), group, scale)

    def _state(self, p: Tensor) -> dict[str, Tensor]:
        state = self.state[p]
        if not state:
            state.update(self.fresh_state(p))
        return state


def total(terms: Sequence[Tensor], weights: Sequence[float] | None = None) -> float:
    """The sum of 0-d tensors, weighted where weights are given, in float64; fetched once."""
    wide = torch.stack(list(terms)).double()
    return float(wide.sum() if weights is None else wide.cpu() @ wide.new_tensor(weights).cpu())


@cache
def _compiled(work: Work) -> Batched:
    def run(row: Row, scalars: Any) -> Result:
        state = state_of(row)
        g = row["g"] * state.pop("ones") if "ones" in state else row["g"]
        return work(row["p"], g, state, scalars) or {}

    return Batched(run)


def _as_row(entry: Entry, sums: bool) -> Row:
    """In lines where sums are taken, each with a one that its gradient is multiplied by: if nothing
    told lines apart, the compiler would merge them, and sum all before it writes any."""
    tensors = {"p": entry.p, "g": entry.g, **entry.state}
    if not sums:
        return {key: vector(t) for key, t in tensors.items()}
    longest = longest_line(len(tensors))
    row = {key: lines(t, longest) for key, t in tensors.items()}
    return {**row, "ones": torch.ones_like(row["p"][..., :1])}


def _as_tensors(scalars: Scalars, dtype: torch.dtype) -> dict[str, Tensor]:
    return {key: torch.as_tensor(value, dtype=dtype) for key, value in scalars.items()}


def _whole(
    p: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any], scale: float
) -> Iterator[Entry]:
    yield Entry(p, g, state, group, scale)


def _in_pieces(
    p: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any], scale: float
) -> Iterator[Entry]:
    for p_part, g_part, *rest in pieces(p, g, *state.values()):
        yield Entry(p_part, g_part, dict(zip(state, rest, strict=True)), group, scale)
