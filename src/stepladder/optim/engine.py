"""Runs a rule over parameter groups: as a loop, foreach, compiled, or over stacked trials.

Low-precision parameters (bfloat16, float16) are updated in float32 with the part that rounding
drops kept in a `residual` of the parameter's own dtype, so that small updates are not lost; their
state is float32. A deterministic alternative to stochastic rounding (Kahan's compensation).
"""

import warnings
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from stepladder.names import did_you_mean
from stepladder.optim.compiled import (
    BATCH,
    Batched,
    lines,
    matrix,
    state_of,
    vector,
    worth_compiling,
)
from stepladder.optim.foreach import Many
from stepladder.optim.guard import Groups, Guarded
from stepladder.optim.rule import Hyper, Measured, Rule, State
from stepladder.optim.shortcut import Row

MODES = ("foreach", "loop", "compiled")
LOW_PRECISION = (torch.bfloat16, torch.float16)
Update = Callable[[Tensor, Tensor, State, Hyper], None]


class RuleOptimizer(Guarded):
    """A torch optimizer made from a rule.

    Args:
        groups: checked parameter groups.
        rule: how one parameter is updated.
        defaults: lr, betas, eps and weight_decay of the groups that state none.
        mode: "foreach" (one kernel for many parameters), "loop" (one parameter after another) or
            "compiled" (fused kernels for large parameters, through torch.compile, foreach for the
            small; the fastest, needs a C++ compiler on the CPU, compiles once for all shapes).
        trials: the number of stacked trials. Every parameter then has them as its first
            dimension, and a group's lr, weight_decay and eps may be tensors with one value each.

    Raises:
        ValueError: an unknown mode; a parameter whose first dimension is not `trials`.
    """

    built_with = ("rule", "trials", "_mode")

    def __init__(
        self,
        groups: Groups,
        rule: Rule,
        defaults: dict[str, Any],
        *,
        mode: str = "foreach",
        trials: int | None = None,
    ) -> None:
        check_mode(mode)
        super().__init__(groups, defaults)
        self.rule = rule
        self.trials = trials
        self._mode = "loop" if trials or not (rule.flat or mode == "compiled") else mode
        if trials is not None:
            self._check_trials(trials)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns the closure's result."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            extra = self.rule.scalars(group)
            for step, params in self._due(group):
                self._run(params, hyper(self.rule, group, step, extra))
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, but the state keeps its own dtype: torch would cast it to the parameter's."""
        super().load_state_dict(state_dict)
        params = [p for group in self.param_groups for p in group["params"]]
        ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        for p, index in zip(params, ids, strict=True):
            for key, value in state_dict["state"].get(index, {}).items():
                device = "cpu" if key == "step" else p.device
                self.state[p][key] = value.detach().clone().to(device=device)

    def _check_trials(self, trials: int) -> None:
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.ndim == 0 or p.shape[0] != trials:
                raise ValueError(
                    f"a parameter of shape {tuple(p.shape)} does not stack {trials} trials in its "
                    "first dimension"
                )

    def _due(self, group: dict[str, Any]) -> Iterator[tuple[int, list[Tensor]]]:
        """Parameters that have a gradient, by the number of the step they take (1 is the first).

        Empty ones (a process's share of a sharded model may be) have nothing to update.
        """
        params = [p for p in group["params"] if p.grad is not None and p.numel()]
        for p in params:
            if not self.state[p]:
                self.state[p].update(self.fresh_state(p))
        counts = [self.state[p]["step"] for p in params]
        by_step: dict[int, list[Tensor]] = {}
        if counts:  # all at once: two calls instead of two for every parameter
            torch._foreach_add_(counts, 1)
            for p, step in zip(params, torch.stack(counts).tolist(), strict=True):
                by_step.setdefault(int(step), []).append(p)
        yield from by_step.items()

    def fresh_state(self, p: Tensor) -> State:
        """The state of a parameter before its first step."""
        low = p.dtype in LOW_PRECISION
        template = p.float() if low else p
        state = {"step": torch.zeros((), dtype=torch.float32), **self._state_of(template)}
        return {**state, "residual": torch.zeros_like(p)} if low else state

    def _state_of(self, p: Tensor) -> State:
        if not self.trials:
            return self.rule.init(p)
        one_by_one = [self.rule.init(trial) for trial in p]
        return {key: torch.stack([s[key] for s in one_by_one]) for key in one_by_one[0]}

    def _run(self, params: list[Tensor], h: Hyper) -> None:
        fused = [p for p in params if self._mode == "compiled" and self._fuses(p)]
        self._run_compiled([p for p in fused if p.dtype not in LOW_PRECISION], h)
        low = [p for p in fused if p.dtype in LOW_PRECISION]
        for start in range(0, len(low), BATCH):  # so that few exist in float32 at a time
            self._run_compiled(low[start : start + BATCH], h)
        done = {id(p) for p in fused}
        one_by_one = [p for p in params if id(p) not in done]
        if self._mode != "loop" and self.rule.flat:
            exact = [p for p in one_by_one if p.dtype not in LOW_PRECISION]
            one_by_one = [p for p in one_by_one if p.dtype in LOW_PRECISION]
            if exact:
                self._run_foreach(exact, h)
        for p in one_by_one:
            self._run_one(p, h, self._run_stacked if self.trials else self.rule.update)

    def _run_foreach(self, params: list[Tensor], h: Hyper) -> None:
        states = [_without_step(self.state[p]) for p in params]
        state: Any = {key: Many([s[key] for s in states]) for key in states[0]}
        grads: Any = Many([p.grad for p in params])  # type: ignore[misc]
        many: Any = Many(params)
        self.rule.update(many, grads, state, h)

    def _run_one(self, p: Tensor, h: Hyper, update: Update) -> None:
        """Update one parameter; a low-precision one through its float32 value."""
        wide, g = self._widened(p)
        update(wide, g, _without_step(self.state[p]), h)
        self._narrow(p, wide)

    def _widened(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """A parameter and its gradient as they are computed with."""
        assert p.grad is not None
        if p.dtype not in LOW_PRECISION:
            return p, p.grad
        return p.float() + self.state[p]["residual"].float(), p.grad.float()

    def _narrow(self, p: Tensor, wide: Tensor) -> None:
        """Store what was computed, and what rounding drops of it."""
        if wide is not p:
            p.copy_(wide)
            self.state[p]["residual"].copy_(wide - p.float())

    @cached_property
    def _passes(self) -> list[Batched]:
        return _passes(self.rule)

    def _fuses(self, p: Tensor) -> bool:
        assert p.grad is not None
        return worth_compiling(p, p.grad) and (
            self.rule.flat or (self.rule.by_rows and min(_sides(p)) > 1)
        )

    def _run_compiled(self, params: list[Tensor], h: Hyper) -> None:
        if not params:  # `_passes` would load the compiler
            return
        view = (lines if self.rule.coupled else vector) if self.rule.flat else matrix
        computed = [self._widened(p) for p in params]
        rows: list[Row] = []
        for p, (wide, g) in zip(params, computed, strict=True):
            state = _without_step(self.state[p])
            rows.append({k: view(t) for k, t in {"p": wide, "g": g, **state}.items()})
        for run in self._passes:
            measured = run(rows, partial(_as_tensors, h))
            rows = [{**row, **found} for row, found in zip(rows, measured, strict=True)]
        for p, (wide, _) in zip(params, computed, strict=True):
            self._narrow(p, wide)

    def _run_stacked(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        """Trials are the first dimension. Elementwise rules broadcast; the others are vmapped."""
        assert self.trials is not None
        if self.rule.flat and not self.rule.coupled:
            shape = (self.trials,) + (1,) * (p.ndim - 1)
            self.rule.update(p, g, state, _map(partial(_per_trial, like=p, shape=shape), h))
            return
        spread = _map(partial(_per_trial, like=p, shape=(self.trials,)), h)
        axes = _map(lambda v: 0 if isinstance(v, Tensor) and v.ndim else None, spread)
        with warnings.catch_warnings():  # vmap has no rule for lerp_ and runs it trial by trial
            warnings.filterwarnings("ignore", message="There is a performance drop")
            torch.vmap(self.rule.update, (0, 0, 0, axes), out_dims=None)(p, g, state, spread)


def check_mode(mode: str) -> None:
    """Refuse a mode that there is not.

    Raises:
        ValueError: with the nearest.
    """
    if mode not in MODES:
        raise ValueError(f"no mode {mode!r}{did_you_mean(mode, MODES)}; one of {MODES}")


def hyper(rule: Rule, group: dict[str, Any], step: int, scalars: dict[str, Any]) -> Hyper:
    """What a rule is told at a step (1 is the first) of a group, with the group's `scalars`."""
    beta1, beta2 = group["betas"]
    h = Hyper(
        lr=group["lr"],
        beta1=beta1,
        beta2=beta2,
        eps=group["eps"],
        weight_decay=group["weight_decay"],
        step=step,
        shrink=1 - group["lr"] * group["weight_decay"],
        new1=1 - beta1,
        new2=1 - beta2,
        unbias1=1 / (1 - beta1**step),
        unbias2=(1 - beta2**step) ** -0.5,
        extra=scalars,
    )
    return h._replace(extra={**scalars, **rule.constants(h)})


def _map(function: Callable[[Any], Any], h: Hyper) -> Hyper:
    extra = {key: function(value) for key, value in h.extra.items()}
    return Hyper(**{k: function(v) for k, v in h._asdict().items() if k != "extra"}, extra=extra)


def _passes(rule: Rule) -> list[Batched]:
    """A rule as functions of rows. One; or two, where the first measures the rows of a matrix: with
    two free lengths, both in one take minutes to compile."""

    def whole(update: Callable[[Tensor, Tensor, State, Hyper], State | None]) -> Any:
        return lambda row, h: update(row["p"], row["g"], state_of(row), h) or {}

    if rule.by_rows and isinstance(rule, Measured):
        return [Batched(whole(f), free=2) for f in (rule.measure, rule.apply)]
    return [Batched(whole(rule.update))]


def _sides(p: Tensor) -> tuple[int, int]:
    """Of a parameter as a matrix."""
    return (p.shape[0], p[0].numel()) if p.ndim > 1 else (1, p.numel())


def _as_tensors(h: Hyper, dtype: torch.dtype) -> Hyper:
    return _map(lambda v: torch.as_tensor(v, dtype=dtype), h)


def _per_trial(value: Any, *, like: Tensor, shape: tuple[int, ...]) -> Any:
    return value.to(like).view(shape) if isinstance(value, Tensor) and value.ndim else value


def _without_step(state: State) -> State:
    return {k: v for k, v in state.items() if k not in ("step", "residual")}
