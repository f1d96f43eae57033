"""`parametrize`: one call from a model, its base and a rule to a plan."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from math import inf
from pathlib import Path
from typing import get_args

from torch import nn

from stepladder.names import did_you_mean
from stepladder.scaling.depth import Depths, missing_branch_outputs, modules_of, read_depths
from stepladder.scaling.optimizers import optimizer_scaling
from stepladder.scaling.own import missing_factor, own_scales
from stepladder.scaling.plan import Plan
from stepladder.scaling.records import Form, scaling_for
from stepladder.scaling.roles import Role, read_growth
from stepladder.scaling.rows import (
    FAN_IN,
    InitStd,
    Kept,
    fold_into_norm,
    initial_stds,
    record,
    stored_scales,
    without_decay,
)
from stepladder.scaling.rules import Alignment, Decay, Epsilon, Rule, rule_named, unaligned
from stepladder.scaling.shapes import Shapes, load_shapes, read_shapes

Base = nn.Module | Shapes | str | Path


def parametrize(
    model: nn.Module,
    *,
    base: Base,
    rule: str | Rule = "completep",
    optimizer: str = "adamw",
    init_std: Mapping[str, InitStd] | None = None,
    roles: Mapping[str, str] | None = None,
    branches: Collection[str] = (),
    weight_decay: Decay | None = None,
    eps: Epsilon | None = None,
    alignment: Alignment = "full",
    no_decay: Collection[str] = (),
    readout_norm: str | None = None,
    form: Form = "folded",
) -> Plan:
    """Scale a model's initial values and optimizer settings from its base by a rule.

    Nothing is written on the model until `plan.initialize`, and nothing is hidden on it then. At
    the base's shape every factor is 1.

    Args:
        model: the model to train; may be on the meta device.
        base: another build of the same class (meta device or not), its `read_shapes`, or a file of
            `save_shapes`. Base hyperparameters are those tuned at this shape. It is usually the
            smaller one; at its own shape all factors are 1, and below it they go the other way.
        rule: a name in `stepladder.scaling.RULES`, or a `Rule`.
        optimizer: a name in `stepladder.scaling.OPTIMIZERS`.
        init_std: standard deviations at the base's shape, by role or glob over names; `"fan_in"`
            is 1 / sqrt(fan-in at the base). Roles of hidden matrices fall back on `"hidden"`,
            `"input"` and tied embeddings on `"embedding"`. Gains start at 1, biases and vectors at
            0 unless given. Without it, the model's own values are kept and scaled.
        roles: glob over names -> role, where the shapes cannot tell.
        branches: globs over modules that end a residual branch, where names cannot tell.
        weight_decay, eps: other conventions than the rule's own.
        alignment: whether updates are taken to line up with activations (`"full"`: they add up as
            the width) or not (`"none"`: as its square root; Everett et al. 2024).
        no_decay: roles or globs whose weight decay is 0.
        readout_norm: the module whose gain (and bias) feeds a tied readout and nothing else; it
            takes over the readout's multiplier, so that the forward pass is left alone.
        form: `"folded"` leaves the forward pass alone; `"multiplier"` is the paper's form, which
            needs `plan.multipliers()` in the forward pass.

    Raises:
        ValueError: the base is of another architecture, a role cannot be inferred, the optimizer
            or rule is unknown, or a depth rule cannot find where a branch ends.
    """
    _check_choice("form", form, get_args(Form))
    chosen = _with_options(rule_named(rule), weight_decay, eps, alignment)
    scaling = optimizer_scaling(optimizer)
    shapes, base_shapes = read_shapes(model), _base_shapes(base)
    depths = read_depths(shapes, base_shapes, branches)
    if chosen.depth is not None:
        _check_branches(chosen, model, shapes, depths)
    growths = read_growth(shapes, base_shapes, depths, roles or {})
    _check_patterns("init_std", init_std or {}, shapes)
    _check_stds(init_std or {})
    _check_patterns("no_decay", no_decay, shapes)
    scales = stored_scales(growths, chosen, scaling, form)
    if readout_norm is not None:
        scales = fold_into_norm(readout_norm, scales, growths, scaling)
    kept: Kept = {}
    if init_std is None:
        own = own_scales(model, base, shapes, base_shapes, growths, depths.base_names, chosen)
        kept = {n: (o, missing_factor(chosen, growths[n], scales[n], o)) for n, o in own.items()}
    stds = initial_stds(growths, scales, init_std or {}, kept)
    table = {
        name: record(
            growth,
            shapes[name],
            chosen,
            scaling_for(growth, scaling),
            scales[name],
            stds[name],
            kept.get(name),
        )
        for name, growth in growths.items()
    }
    return Plan(
        table={name: without_decay(name, row, no_decay) for name, row in table.items()},
        rule=chosen.name,
        optimizer=optimizer,
        decay=chosen.decay,
        aliases={alias: name for name, shape in shapes.items() for alias in shape.aliases},
        own=kept,
        model=model,
    )


def _with_options(
    rule: Rule, decay: Decay | None, eps: Epsilon | None, alignment: Alignment
) -> Rule:
    _check_choice("weight_decay", decay, get_args(Decay))
    _check_choice("eps", eps, get_args(Epsilon))
    _check_choice("alignment", alignment, get_args(Alignment))
    rule = replace(rule, decay=decay or rule.decay, eps=eps or rule.eps)
    return unaligned(rule) if alignment == "none" else rule


def _check_choice(option: str, choice: str | None, choices: Collection[str]) -> None:
    if choice is not None and choice not in choices:
        raise ValueError(
            f"{option}={choice!r} is not one of {', '.join(choices)}{did_you_mean(choice, choices)}"
        )


def _base_shapes(base: Base) -> Shapes:
    if isinstance(base, nn.Module):
        return read_shapes(base)
    if not isinstance(base, str | Path | Mapping):
        raise ValueError(
            "base is a smaller build of the model, its read_shapes, or a file of save_shapes, "
            f"not {base!r}"
        )
    return load_shapes(base) if isinstance(base, str | Path) else base


def _check_branches(rule: Rule, model: nn.Module, shapes: Shapes, depths: Depths) -> None:
    after = [n for n, m in model.named_modules() if getattr(m, "norm_first", True) is False]
    if after:
        raise ValueError(
            f"{rule.name} scales residual branches by depth, and {after[0]} normalises after "
            "adding them, which undoes it: build with norm_first=True, or take rule='mup'"
        )
    missing = missing_branch_outputs(shapes, depths)
    if missing:
        inside = modules_of(missing[0], shapes)
        raise ValueError(
            f"{rule.name} scales residual branches by depth, and it is not known where those of "
            f"{missing[0]} end: name the last linear map of each branch, such as "
            f"branches=['*.{inside[-1]}'] (in the block: {', '.join(inside)}); stepladder check "
            f"takes --branches '*.{inside[-1]}'"
        )


def _check_stds(stds: Mapping[str, InitStd]) -> None:
    for key, std in stds.items():
        if std != FAN_IN and (isinstance(std, str) or not 0 <= std < inf):
            raise ValueError(
                f"init_std: {key!r} is {std!r}; give a standard deviation of at least 0, or "
                f"{FAN_IN!r}{did_you_mean(str(std), [FAN_IN])}"
            )


def _check_patterns(option: str, patterns: Collection[str], shapes: Shapes) -> None:
    for pattern in patterns:
        known = pattern in list(Role) or any(fnmatchcase(name, pattern) for name in shapes)
        if not known:
            raise ValueError(
                f"{option}: {pattern!r} is neither a role nor a parameter"
                f"{did_you_mean(pattern, [*map(str, Role), *shapes])}"
            )
