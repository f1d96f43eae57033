"""From a rule and a parameter's growth to one row of the plan: factors over base settings."""

from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from typing import Literal

from stepladder.scaling.optimizers import OPTIMIZERS, OptimizerScaling, Sizes
from stepladder.scaling.roles import Growth, Kind, Role
from stepladder.scaling.rules import Rule

Form = Literal["folded", "multiplier"]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One parameter's row.

    Attributes:
        role: what the parameter does.
        fan_in, fan_out: sizes in the model (kernel taps counted in the fan-in).
        width: growth over the base of the fan that the rule scales with.
        depth: growth of the number of blocks; 1 outside blocks.
        init_std: standard deviation to draw the stored tensor with; 0 for constant tensors (gains
            start at `fill`, biases at 0).
        fill: the constant that a tensor with `init_std` 0 starts at.
        multiplier: what the forward pass multiplies the stored tensor by; 1 unless `why` says.
        lr, weight_decay, eps: factors over the base settings.
        optimizer: which optimizer takes it.
        trainable: whether it is trained at all.
        why: the factors and their source, in words.
    """

    role: Role
    fan_in: int
    fan_out: int
    width: float
    depth: float
    init_std: float
    fill: float
    multiplier: float
    lr: float
    weight_decay: float
    eps: float
    optimizer: str
    trainable: bool = True
    why: str


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The factors of one parameter over its base settings, as it is stored."""

    init: float
    multiplier: float
    lr: float
    weight_decay: float
    eps: float


@lru_cache(maxsize=4096)  # the blocks of a stack are alike
def factors(rule: Rule, growth: Growth, optimizer: OptimizerScaling, form: Form) -> Factors:
    """The factors of one parameter under a rule.

    Worked out for the weight as it acts in the forward pass; in the multiplier form, converted by
    the abc-symmetry to what the paper's form stores.
    """
    branch = _branch(rule, growth)
    sizes = acting_sizes(rule, growth)
    multiplier = width(growth) ** -rule.exponents(growth.kind).multiplier * branch
    lr = 1.0 if rule.single_rate else optimizer.rate(sizes)
    stored = multiplier if form == "multiplier" else 1.0
    acting = Factors(
        init=sizes.init,
        multiplier=1.0,
        lr=lr,
        weight_decay=_decay(rule, lr, growth, multiplier, optimizer),
        eps=_epsilon(rule, sizes, multiplier, optimizer),
    )
    return replace(fold(acting, 1 / stored, optimizer), multiplier=stored)


def fold(stored: Factors, factor: float, optimizer: OptimizerScaling) -> Factors:
    """Store a weight multiplied by `factor`, that the forward pass need not: training is the same.

    abc-symmetry (Everett et al. 2024, arXiv 2407.05872), with weight decay and epsilon.
    """
    return Factors(
        init=stored.init * factor,
        multiplier=stored.multiplier,
        lr=stored.lr * factor**optimizer.fold,
        weight_decay=stored.weight_decay / factor**optimizer.decay_fold,
        eps=stored.eps / factor**optimizer.eps_fold,
    )


def acting_sizes(rule: Rule, growth: Growth) -> Sizes:
    """Initial scale, wanted update and arriving gradient of the weight as it acts.

    Depth: `depth` = alpha; each of L branches must move the residual stream by 1/L, so that its
    weights move by L^(alpha - 1) behind the factor L^-alpha (CompleteP, section 3).
    """
    n, exponents = width(growth), rule.exponents(growth.kind)
    branch, depth = _branch(rule, growth), growth.depth_ratio
    alpha = rule.depth if rule.depth is not None and growth.in_block else None
    move = 1.0 if alpha is None else depth ** (alpha - 1.0)
    arrives = 1.0 if alpha is None else depth**-alpha / branch
    through_readout = growth.kind in (Kind.INPUT, Kind.HIDDEN, Kind.VECTOR)
    gradient = growth.out_ratio**-rule.gradient if through_readout else 1.0
    return Sizes(
        init=_initial(rule, growth) * branch,
        update=n**-exponents.update * (gradient if rule.tangent else 1.0) * move * branch,
        gradient=gradient * arrives,
        in_ratio=growth.in_ratio,
        out_ratio=growth.out_ratio,
        tall=_tall(growth),
        readout=growth.kind is Kind.READOUT,
    )


def _initial(rule: Rule, growth: Growth) -> float:
    exponents = rule.exponents(growth.kind)
    if rule.spectral and growth.kind in (Kind.HIDDEN, Kind.READOUT, Kind.INPUT):
        return _spectral_std(growth.fan_in, growth.fan_out) / _spectral_std(
            growth.fan_in / growth.in_ratio, growth.fan_out / growth.out_ratio
        )
    return width(growth) ** -(exponents.multiplier + exponents.init)


def _spectral_std(fan_in: float, fan_out: float) -> float:
    """Entries that give a random matrix a spectral norm near sqrt(fan_out / fan_in)."""
    return fan_in**-0.5 * min(1.0, sqrt(fan_out / fan_in))


def width(growth: Growth) -> float:
    """The growth that a rule's exponents apply to: the fan-in of matrices, else the fan-out."""
    return growth.in_ratio if growth.kind in (Kind.HIDDEN, Kind.READOUT) else growth.out_ratio


def _tall(growth: Growth) -> tuple[float, float]:
    tall = growth.fan_out / growth.fan_in
    return tall, tall * growth.in_ratio / growth.out_ratio


def _branch(rule: Rule, growth: Growth) -> float:
    ends = rule.depth is not None and growth.branch_output
    return growth.depth_ratio**-rule.depth if ends and rule.depth is not None else 1.0


def _decay(
    rule: Rule, lr: float, growth: Growth, multiplier: float, optimizer: OptimizerScaling
) -> float:
    """Weight decay of the acting weight.

    Constant: the paper's stored weight keeps its coefficient. Scaled: the stored weight's
    rate * coefficient does not change with width; a rate that falls with depth takes the shrinkage
    with it, as in CompleteP. Independent: the coefficient is divided by the rate.
    """
    if rule.single_rate:
        return 1.0
    if rule.decay == "independent":
        return 1.0 / lr
    stored = 1.0
    if rule.decay == "scaled":
        alpha = rule.depth if rule.depth is not None and growth.in_block else 1.0
        stored = growth.depth_ratio ** (alpha - 1.0) * multiplier**optimizer.fold / lr
    return stored / multiplier**optimizer.decay_fold


def _epsilon(rule: Rule, sizes: Sizes, multiplier: float, optimizer: OptimizerScaling) -> float:
    """Epsilon of the acting weight: a share of the gradient, or the paper's stored form's own."""
    if rule.eps == "gradient":
        return sizes.gradient**optimizer.eps_fold
    return multiplier**-optimizer.eps_fold


_TAKES = {"hidden": (Kind.HIDDEN,), "matrices": (Kind.INPUT, Kind.HIDDEN, Kind.READOUT)}


def scaling_for(growth: Growth, optimizer: OptimizerScaling) -> OptimizerScaling:
    """The optimizer that takes this parameter: matrix optimizers leave the rest to another."""
    taken = not optimizer.rest or growth.kind in _TAKES[optimizer.takes]
    return optimizer if taken else OPTIMIZERS[optimizer.rest]


@lru_cache(maxsize=4096)
def explain(rule: Rule, growth: Growth, tied: bool) -> str:
    """Why a parameter has its factors: the powers of width and depth, and who says so."""
    words = [] if rule.single_rate else [_width_words(rule, growth)]
    if rule.depth is not None and growth.in_block:
        place = "ends a residual branch: scale" if growth.branch_output else "residual branch"
        words.append(f"{place} x depth^-{rule.depth:g}, move x depth^{rule.depth - 1:g}")
    if tied and not rule.single_rate:
        words.append("tied: the readout needs its multiplier in the forward pass")
    return f"{'; '.join(filter(None, words)) or 'as at the base'} [{rule.source}]"


def _width_words(rule: Rule, growth: Growth) -> str:
    powers = rule.exponents(growth.kind)
    scale, move = powers.multiplier + powers.init, powers.update
    words = f"scale x width^{-scale:g}, move x width^{-move:g}" if scale or move else ""
    falls = rule.tangent and growth.kind is not Kind.READOUT
    return words + f"; moves fall as fan-out^{-rule.gradient:g} as well" if falls else words
