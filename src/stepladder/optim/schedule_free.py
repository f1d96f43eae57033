"""Schedule-Free: averaging in place of a decaying rate; no horizon to choose."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.optim import register
from stepladder.optim.engine import RuleOptimizer
from stepladder.optim.foreach import follow
from stepladder.optim.guard import Groups
from stepladder.optim.rule import Hyper, Rule, Scalar, State, make_rule

NOTE = (
    "Gradients are taken at y, which the parameters hold; the answer is the average x: evaluate "
    "and save under `stepladder.optim.evaluating`. Use the constant schedule with warmup, and no "
    "decay. Weight decay acts at y. "
)
CARD = Card(
    name="schedule-free-adamw",
    family="optim",
    title="The Road Less Scheduled",
    arxiv="2405.15682",
    claim="matches tuned schedules without knowing the horizon; won AlgoPerf's self-tuning track",
    scaling="adamw",
    state_bytes=8,
    flops=17,
    note=NOTE,
)
SGD_CARD = Card(
    name="schedule-free-sgd",
    family="optim",
    title="The Road Less Scheduled",
    arxiv="2405.15682",
    claim="matches tuned schedules without knowing the horizon",
    scaling="sgd",
    state_bytes=4,
    flops=9,
    note=NOTE + "beta1 is the interpolation; beta2 and eps are not used.",
)


@dataclass(frozen=True, kw_only=True)
class ScheduleFreeSGD(Rule):
    """y <- lerp(y, z, c) + lr (b1 (1-c) - 1) g;  z <- z - lr g  (Algorithm 1 in terms of y, z).

    c = w_t / sum w, w_t = t^r lr_max^2: the weight of the newest z in the average.
    """

    r: float = 0.0

    def init(self, p: Tensor) -> State:
        return {"z": p.clone()}

    def scalars(self, group: dict[str, Any]) -> dict[str, Scalar]:
        group["k"] = group.get("k", 0) + 1
        rate = torch.as_tensor(group["lr"], dtype=torch.float64)
        group["lr_max"] = torch.maximum(rate, torch.as_tensor(group.get("lr_max", 0.0)))
        weight = group["k"] ** self.r * group["lr_max"] ** 2
        group["weight_sum"] = group.get("weight_sum", 0.0) + weight
        share = torch.nan_to_num(weight / group["weight_sum"])  # 0 while every rate was 0
        return {"c": share if share.ndim else share.item()}

    def constants(self, h: Hyper) -> dict[str, Scalar]:
        keep = 1 - h.extra["c"]
        return {"keep": keep, "rate": h.lr * (h.beta1 * keep - 1)}

    def update(self, p: Tensor, g: Tensor, state: State, h: Hyper) -> None:
        z, c = state["z"], h.extra
        direction = self.direction(g, state, h) + p * h.weight_decay
        p.mul_(c["keep"]).add_(z * c["c"]).add_(direction * c["rate"])
        z.sub_(direction * h.lr)

    def direction(self, g: Tensor, state: State, h: Hyper) -> Tensor:
        return g


@dataclass(frozen=True, kw_only=True)
class ScheduleFreeAdamW(ScheduleFreeSGD):
    """The same with g / (sqrt(v_hat) + eps) for g; the momentum of Adam is the interpolation."""

    def init(self, p: Tensor) -> State:
        return {"z": p.clone(), "v": p.new_zeros(p.shape)}

    def direction(self, g: Tensor, state: State, h: Hyper) -> Tensor:
        follow(state["v"], g * g, h.new2)
        return g / state["v"].sqrt().mul_(h.unbias2).add_(h.eps)


class ScheduleFreeOptimizer(RuleOptimizer):
    """A rule optimizer that can put the average x in the place of y, and y back bit for bit."""

    _kept: list[tuple[Tensor, Tensor]] | None = None

    @torch.no_grad()
    def enter_evaluation(self) -> None:
        """Put x = y + (1 - 1/beta1) (z - y) into the parameters.

        Raises:
            ValueError: it is there already.
        """
        if self._kept is not None:
            raise ValueError("schedule-free: evaluation was entered twice")
        self._kept = []
        for group in self.param_groups:
            for p in group["params"]:
                if "z" in self.state[p]:
                    self._kept.append((p, p.clone()))
                    x = torch.lerp(p.to(z := self.state[p]["z"]), z, 1 - 1 / group["betas"][0])
                    p.copy_(x)

    @torch.no_grad()
    def leave_evaluation(self) -> None:
        """Put y back."""
        for p, y in self._kept or []:
            p.copy_(y)
        self._kept = None

    def step(self, closure: Any = None) -> Any:
        """One update.

        Raises:
            ValueError: called while the parameters hold the average.
        """
        if self._kept is not None:
            raise ValueError("schedule-free: step inside `evaluating`; leave it first")
        return super().step(closure)


def _build(
    name: str, rule: type[Rule], groups: Groups, mode: str, trials: int | None, **settings: Any
) -> Optimizer:
    keys = ("lr", "betas", "eps", "weight_decay")
    defaults = {key: settings.pop(key) for key in keys}
    defaults["betas"] = defaults["betas"] or (0.9, 0.999)
    defaults["eps"] = 1e-8 if defaults["eps"] is None else defaults["eps"]
    if not defaults["betas"][0] > 0:
        raise ValueError(f"{name}: beta1 must be positive, the average is recovered through it")
    made = make_rule(name, rule, settings)
    return ScheduleFreeOptimizer(groups, made, defaults, mode=mode, trials=trials)


@register(CARD)
def schedule_free_adamw(
    groups: Groups,
    /,
    *,
    mode: str = "foreach",
    trials: int | None = None,
    r: float = 0.0,
    **settings: Any,
) -> Optimizer:
    """Schedule-Free AdamW; `r`: power of the step in the average's weights."""
    return _build(CARD.name, ScheduleFreeAdamW, groups, mode, trials, r=r, **settings)


@register(SGD_CARD)
def schedule_free_sgd(
    groups: Groups,
    /,
    *,
    mode: str = "foreach",
    trials: int | None = None,
    r: float = 0.0,
    **settings: Any,
) -> Optimizer:
    """Schedule-Free SGD; `r`: power of the step in the average's weights."""
    return _build(SGD_CARD.name, ScheduleFreeSGD, groups, mode, trials, r=r, **settings)
