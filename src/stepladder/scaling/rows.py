"""The rows of a plan: from growth and a rule to factors, initial scales and records."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from stepladder.names import did_you_mean
from stepladder.scaling.optimizers import OptimizerScaling
from stepladder.scaling.own import OwnScale
from stepladder.scaling.records import (
    Factors,
    Form,
    Record,
    explain,
    factors,
    fold,
    scaling_for,
    width,
)
from stepladder.scaling.roles import Growth, Kind, Role
from stepladder.scaling.rules import Rule
from stepladder.scaling.shapes import Shape

InitStd = float | str  # a standard deviation, or FAN_IN
FAN_IN = "fan_in"  # 1 / sqrt(fan-in)
Kept = dict[str, tuple[OwnScale, float]]  # parameters that keep their values -> (scale, factor)


def stored_scales(
    growths: Mapping[str, Growth], rule: Rule, optimizer: OptimizerScaling, form: Form
) -> dict[str, Factors]:
    """The factors of every parameter; a tied readout's multiplier with its embedding."""
    return {
        name: _tied(factors(rule, growth, scaling_for(growth, optimizer), form), rule, growth)
        for name, growth in growths.items()
    }


def record(
    growth: Growth,
    shape: Shape,
    rule: Rule,
    optimizer: OptimizerScaling,
    scale: Factors,
    std: float,
    kept: tuple[OwnScale, float] | None,
) -> Record:
    """One parameter's row; `kept` where it starts from its module's own values."""
    return Record(
        role=growth.role,
        fan_in=growth.fan_in,
        fan_out=growth.fan_out,
        width=width(growth),
        depth=growth.depth_ratio,
        init_std=std,
        fill=_fill(growth, scale, kept),
        multiplier=scale.multiplier,
        lr=scale.lr,
        weight_decay=scale.weight_decay,
        eps=scale.eps,
        optimizer=optimizer.name,
        trainable=shape.trainable,
        why=explain(rule, growth, bool(shape.aliases)),
    )


def _fill(growth: Growth, scale: Factors, kept: tuple[OwnScale, float] | None) -> float:
    """The constant at the start: the module's own, or 1 for gains and 0 for the rest."""
    if kept is not None:
        own, factor = kept
        return own.rms * factor if own.constant else 0.0
    return scale.init if growth.role is Role.NORM else 0.0


def initial_stds(
    growths: Mapping[str, Growth],
    scales: Mapping[str, Factors],
    given: Mapping[str, InitStd],
    kept: Kept,
) -> dict[str, float]:
    """Initial standard deviations in the model: the module's own, or those given at the base.

    Raises:
        ValueError: none was given for a matrix.
    """
    return {
        name: _own_std(*kept[name])
        if name in kept
        else _base_std(name, growth, given) * scales[name].init
        for name, growth in growths.items()
    }


def _own_std(own: OwnScale, factor: float) -> float:
    return 0.0 if own.constant else own.rms * factor


_FALL_BACK = {Role.INPUT: Role.EMBEDDING, Role.TIED: Role.EMBEDDING}


def _base_std(name: str, growth: Growth, stds: Mapping[str, InitStd]) -> float:
    """The base scale that was given for a parameter; a glob wins over a role."""
    role = growth.role
    wider = Role.HIDDEN if growth.kind is Kind.HIDDEN else _FALL_BACK.get(role, role)
    named = next((std for glob, std in stds.items() if fnmatchcase(name, glob)), None)
    std = named if named is not None else stds.get(role, stds.get(wider))
    if std is None:
        if growth.kind is Kind.VECTOR:
            return 0.0
        raise ValueError(f"init_std has no scale for {name}: add {str(wider)!r} to it")
    return (growth.fan_in / growth.in_ratio) ** -0.5 if std == FAN_IN else float(std)


def _tied(scale: Factors, rule: Rule, growth: Growth) -> Factors:
    """A tied readout keeps the embedding's scale, so that its own must be in the forward pass."""
    if growth.role is not Role.TIED or rule.single_rate:
        return scale
    readout = rule.readout
    return replace(scale, multiplier=growth.out_ratio ** -(readout.multiplier + readout.init))


def fold_into_norm(
    norm: str,
    scales: Mapping[str, Factors],
    growths: Mapping[str, Growth],
    optimizer: OptimizerScaling,
) -> dict[str, Factors]:
    """Give the multiplier of a tied readout to the norm before it, by the abc-symmetry.

    Raises:
        ValueError: there is no such norm, or no tied readout.
    """
    feeds = [name for name in scales if name.rpartition(".")[0] == norm]
    tied = [name for name, growth in growths.items() if growth.role is Role.TIED]
    if not feeds or not tied:
        modules = {name.rpartition(".")[0] for name in scales}
        missing = f"no module {norm!r} with parameters" if not feeds else "no tied embedding"
        raise ValueError(f"readout_norm: the model has {missing}{did_you_mean(norm, modules)}")
    factor = scales[tied[0]].multiplier
    folded = {
        name: fold(scales[name], factor, scaling_for(growths[name], optimizer)) for name in feeds
    }
    return {**scales, **folded, tied[0]: replace(scales[tied[0]], multiplier=1.0)}


def without_decay(name: str, row: Record, no_decay: Collection[str]) -> Record:
    """The row, with a decay of 0 where its role or name says so."""
    exempt = any(pattern == row.role or fnmatchcase(name, pattern) for pattern in no_decay)
    return replace(row, weight_decay=0.0) if exempt else row
