"""The checks that every optimizer shares: groups before it is built, gradients and state after."""

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from stepladder.card import own_settings
from stepladder.names import did_you_mean

Groups = list[dict[str, Any]]
NAME_KEY = "built_as"  # in every group, so that a state dict says whose it is


def checked_groups(name: str, param_groups: Sequence[Any], **defaults: float) -> Groups:
    """Groups as dictionaries with a list of parameters each, refused where they cannot work.

    Raises:
        ValueError: no group, an empty group, a parameter that is complex, repeated or not a leaf,
            a rate that is negative or not finite, or betas outside [0, 1).
    """
    groups = [_as_group(g) for g in _grouped(param_groups)]
    if not groups:
        raise ValueError(f"{name}: no parameters to optimize; pass model.parameters() or groups")
    seen: set[Tensor] = set()
    for index, group in enumerate(groups):
        _check_group(f"{name}: group {index}", {**defaults, **group}, seen)
    return groups


def _check_group(where: str, group: Mapping[str, Any], seen: set[Tensor]) -> None:
    _check_parameters(where, group["params"], seen)
    for key in ("lr", "weight_decay", "eps"):
        if key in group:
            check_rate(where, key, group[key])
    check_betas(where, group.get("betas"))


def _grouped(param_groups: Any) -> list[Any]:
    if isinstance(param_groups, Tensor):
        return [{"params": param_groups}]
    items = list(param_groups)
    return items if items and isinstance(items[0], dict) else [{"params": items}] if items else []


def _as_group(group: Any) -> dict[str, Any]:
    """With a list of parameters; of `named_parameters` the names are left out."""
    if not (isinstance(group, Mapping) and "params" in group):
        raise ValueError(f"a group is a dictionary with `params`, not {group!r}")
    params = [group["params"]] if isinstance(group["params"], Tensor) else group["params"]
    return {**group, "params": [p[1] if _is_named(p) else p for p in params]}


def _is_named(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)


def _check_parameters(where: str, params: list[Any], seen: set[Tensor]) -> None:
    if not params:
        raise ValueError(f"{where} is empty; leave it out")
    for p in params:
        if not isinstance(p, Tensor):
            raise ValueError(f"{where} holds a {type(p).__name__}, not a parameter")
        if p.is_complex():
            raise ValueError(f"{where}: complex parameters are not supported; use view_as_real")
        if not p.is_leaf:
            raise ValueError(f"{where}: a parameter of shape {tuple(p.shape)} is not a leaf")
        if p in seen:
            raise ValueError(f"{where}: a parameter of shape {tuple(p.shape)} is given twice")
        seen.add(p)


def check_rate(where: str, key: str, value: Any) -> None:
    """Refuse a rate that is negative or not finite (a tensor holds one per stacked trial).

    Raises:
        ValueError: with the name of the rate.
    """
    values = value.flatten().tolist() if isinstance(value, Tensor) else [value]
    for number in values:
        if not is_rate(number):
            raise ValueError(f"{where}: {key} must be finite and not negative: {number!r}")


def is_rate(number: Any) -> bool:
    """Whether it is a number, finite and not negative (numpy's count, too)."""
    is_number = isinstance(number, int | float | np.floating)
    return is_number and math.isfinite(number) and bool(number >= 0)


def check_betas(name: str, betas: tuple[float, float] | None) -> None:
    """Refuse decay rates outside [0, 1).

    Raises:
        ValueError: with the pair.
    """
    if betas is None:
        return
    is_pair = isinstance(betas, Collection) and len(betas) == 2
    if not (is_pair and all(is_rate(beta) and beta < 1 for beta in betas)):
        raise ValueError(f"{name}: betas are two numbers in [0, 1): {betas!r}")


def check_options(name: str, builder: Callable[..., Optimizer], options: Mapping[str, Any]) -> None:
    """Refuse options that a builder does not name (one that takes any checks them itself).

    Raises:
        ValueError: with the nearest option.
    """
    taken = inspect.signature(builder).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken):
        return
    shared = {"lr", "betas", "eps", "weight_decay"}
    known = own_settings(builder).keys() - shared
    for option in options.keys() - known:
        near = did_you_mean(option, known)
        raise ValueError(
            f"{name} has no option {option!r}{near}; it has {sorted(known) or 'none of its own'}"
        )


class Guarded(Optimizer):
    """Base of the optimizers written here: copies and pickles keep what it was built with (torch
    keeps settings and state only) and its guards.

    `built_with` names the attributes that the constructor sets.
    """

    built_with: ClassVar[tuple[str, ...]] = ()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {name: getattr(self, name) for name in self.built_with}

    def __setstate__(self, state: dict[str, Any]) -> None:
        is_new = not vars(self)  # torch also calls this to load a state
        super().__setstate__(state)
        if is_new:
            _watch(self)

    def fresh_state(self, p: Tensor) -> Mapping[str, Tensor] | None:
        """The state of a parameter before its first step; None where parts keep it."""
        return None


def guard(name: str, optimizer: Optimizer) -> Optimizer:
    """Mark an optimizer's groups with its name and watch its gradients and loaded state."""
    for group in optimizer.param_groups:
        _mark(name, group)
    _watch(optimizer)
    return optimizer


def _mark(name: str, group: dict[str, Any]) -> None:
    group[NAME_KEY] = name
    group.setdefault("initial_lr", group["lr"])


def _watch(optimizer: Optimizer) -> None:
    optimizer.register_step_pre_hook(_check_step)
    optimizer.register_load_state_dict_pre_hook(_refuse_foreign)


def _check_step(
    optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Before a step; gradients that a closure makes are looked at after it."""
    name = optimizer.param_groups[0][NAME_KEY]
    for group in optimizer.param_groups:
        if NAME_KEY not in group:  # joined by `add_param_group`
            _check_parameters(f"{name}: an added group", group["params"], set())
            _mark(name, group)
    this, *given = args
    closure = given[0] if given else kwargs.get("closure")
    if closure is None:
        _check_gradients(optimizer)
        return None

    def checked() -> Any:
        loss = closure()
        _check_gradients(optimizer)
        return loss

    return (this, checked, *given[1:]), {k: v for k, v in kwargs.items() if k != "closure"}


def _check_gradients(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for p in (p for p in group["params"] if p.grad is not None):
            if p.grad.layout is not torch.strided:
                raise ValueError(
                    f"{group[NAME_KEY]}: sparse gradient for a parameter of shape "
                    f"{tuple(p.shape)}; build the embedding with sparse=False"
                )
            if group.get("fused") and p.grad.stride() != p.stride():
                # set by hand, not by autograd; torch's fused kernels take both for laid out alike
                p.grad = torch.empty_like(p).copy_(p.grad)


def _refuse_foreign(optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
    own = optimizer.param_groups[0][NAME_KEY]
    found = {group[NAME_KEY] for group in state_dict["param_groups"] if NAME_KEY in group}
    if found != {own}:
        names = ", ".join(sorted(found)) or "an optimizer that stepladder.optim.build did not make"
        raise ValueError(f"cannot resume {own} from the state of {names}; build that one instead")
    params = [p for group in optimizer.param_groups for p in group["params"]]
    ids = [index for group in state_dict["param_groups"] for index in group["params"]]
    for p, index in zip(params, ids, strict=False):  # torch says it where the numbers differ
        saved = state_dict["state"].get(index)
        if saved and not _fits(optimizer, p, saved):
            raise ValueError(
                f"cannot resume {own}: the saved state of parameter {index} is not one of shape "
                f"{tuple(p.shape)} and type {p.dtype}; use the model and the options that it was "
                "saved with"
            )


def _fits(optimizer: Optimizer, p: Tensor, saved: Mapping[str, Any]) -> bool:
    """Whether a parameter's saved state has the shapes that the optimizer keeps (torch's fused
    kernels would write beyond the end of a smaller one)."""
    shapes = {key: tuple(value.shape) for key, value in saved.items() if isinstance(value, Tensor)}
    stand_in = torch.empty(p.shape, dtype=p.dtype, device="meta")
    fresh = optimizer.fresh_state(stand_in) if isinstance(optimizer, Guarded) else None
    if fresh is not None:
        return shapes == {key: tuple(value.shape) for key, value in fresh.items()}
    kept = {shape for key, shape in shapes.items() if key != "step"}
    whole = tuple(p.shape)
    return kept <= {whole} or (len(kept) > 1 and all(_spreads(shape, whole) for shape in kept))


def _spreads(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether a shape is the whole's, or its rows' or columns' (Adafactor)."""
    return len(shape) == len(whole) and all(n in (1, m) for n, m in zip(shape, whole, strict=True))
