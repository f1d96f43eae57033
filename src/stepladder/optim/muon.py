"""Muon for matrices, from torch, with AdamW for the rest."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

from stepladder.card import Card
from stepladder.optim import register
from stepladder.optim.adamw import BETAS, EPS, can_fuse
from stepladder.optim.guard import Groups, Guarded

CARD = Card(
    name="muon",
    family="optim",
    title="Muon is Scalable for LLM Training",
    arxiv="2502.16982",
    claim="about half of AdamW's training FLOPs at equal loss",
    scaling="muon",
    state_bytes=4,
    flops=30728,
    grows_with="side",
    note="Wraps torch.optim.Muon for groups marked optimizer='muon' (as a parametrization's plan "
    "does) and, in unmarked groups, for every matrix; everything else takes torch's AdamW. Mark "
    "embeddings and the readout 'adamw'. beta1 and beta2 are AdamW's; `momentum` is Muon's. FLOPs "
    "are the five Newton-Schulz steps of a square 1024 x 1024 matrix.",
)


@register(CARD)
def muon(
    groups: Groups,
    /,
    *,
    lr: float,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    momentum: float = 0.95,
    nesterov: bool = True,
    ns_steps: int = 5,
    adjust: str = "original",
) -> Optimizer:
    """torch.optim.Muon with torch.optim.AdamW.

    Args:
        momentum, nesterov, ns_steps: Muon's own.
        adjust: how the rate follows a matrix's shape: "original" (sqrt(max(1, rows / columns)))
            or "match_rms_adamw" (0.2 sqrt(max(rows, columns)), one rate for both optimizers).
    """
    matrices, rest = _split(groups)
    for group in matrices:
        group.pop("eps", None)  # Muon's own guards a norm; the plan's belongs to AdamW
    parts: list[Optimizer] = []
    if matrices:
        parts.append(
            torch.optim.Muon(
                matrices,
                lr=lr,
                weight_decay=weight_decay,
                momentum=momentum,
                nesterov=nesterov,
                ns_steps=ns_steps,
                adjust_lr_fn=adjust,
            )
        )
    if rest:
        parts.append(
            torch.optim.AdamW(
                rest,
                lr=lr,
                betas=betas or BETAS,
                eps=EPS if eps is None else eps,
                weight_decay=weight_decay,
                fused=can_fuse(rest) or None,
            )
        )
    return Together(parts)


def _split(groups: Groups) -> tuple[Groups, Groups]:
    matrices: Groups = []
    rest: Groups = []
    for group in groups:
        marked = group.get("optimizer", "muon") == "muon"
        for chosen, is_muon in ((matrices, True), (rest, False)):
            params = [p for p in group["params"] if (marked and p.ndim == 2) is is_muon]
            if params:
                chosen.append({**group, "params": params})
    return matrices, rest


class Together(Guarded):
    """Several optimizers as one: their groups in one list, their state in one dictionary."""

    built_with = ("parts",)

    def __init__(self, parts: list[Optimizer]) -> None:
        super().__init__([g for part in parts for g in part.param_groups], {})
        self.parts = parts
        self._share()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's, while it is built.

        Raises:
            ValueError: it is built, and its parts have their groups.
        """
        if "parts" in vars(self):
            raise ValueError("muon: no group can be added; build it anew with all groups")
        super().add_param_group(param_group)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every part; returns the closure's result."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, with the parts' groups and state taken from it."""
        super().load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        start = 0
        for part in self.parts:
            part.param_groups = self.param_groups[start : start + len(part.param_groups)]
            part.state = self.state
            start += len(part.param_groups)
