"""What an optimizer does to the size of an update: all that a rule has to know about it.

Every rule states, for each parameter, three sizes relative to the base: its initial scale, the
update that training should make, and the gradient that arrives. An optimizer turns them into a
learning rate, and says how its settings change when a weight is stored as `multiplier * weight`
(abc-symmetry, Everett et al. 2024, arXiv 2407.05872).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from stepladder.names import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """One parameter relative to the base, as it acts in the forward pass.

    `init`, `update`, `gradient`: typical entry of the weight, of the wanted update, of the
    gradient. `in_ratio`, `out_ratio`: growth of the fans. `tall`: rows / columns in the model and
    in the base. `readout`: gradients of the rest come through this parameter.
    """

    init: float
    update: float
    gradient: float
    in_ratio: float = 1.0
    out_ratio: float = 1.0
    tall: tuple[float, float] = (1.0, 1.0)
    readout: bool = False


@dataclass(frozen=True, kw_only=True)
class OptimizerScaling:
    """How one optimizer scales.

    `rate`: sizes -> learning-rate factor for a weight used as it is stored.
    `fold`: storing a weight divided by A needs the rate divided by A**fold.
    `decay_fold`: the same for weight decay (divided in `decay` = multiplied back in the product).
    `eps_fold`: the same for epsilon, which is in the units of gradient**eps_fold; 0: no epsilon.
    `rest`: the optimizer for parameters that this one does not take.
    `takes`: what one with a `rest` takes: hidden matrices (Muon), or every matrix, those of
    embeddings and readouts included (Shampoo, K-FAC).
    """

    name: str
    rate: Callable[[Sizes], float]
    fold: int
    decay_fold: int
    eps_fold: int = 0
    rest: str = ""
    takes: Literal["hidden", "matrices"] = "hidden"


def _adaptive(sizes: Sizes) -> float:
    return sizes.update


def _gradient(sizes: Sizes) -> float:
    """Plain gradients: a readout that outgrew its initial entries would grow all gradients."""
    wanted = min(sizes.update, sizes.init) if sizes.readout else sizes.update
    return wanted / sizes.gradient


def _relative(sizes: Sizes) -> float:
    return sizes.update / sizes.init


def _orthogonal(sizes: Sizes) -> float:
    """An orthogonal step has spectral norm 1 at any width; an aligned one with entries `update`
    has a spectral norm in proportion to update * sqrt(fan_in * fan_out)."""
    return sizes.update * sqrt(sizes.in_ratio * sizes.out_ratio)


def _torch_muon(sizes: Sizes) -> float:
    """torch.optim.Muon multiplies the orthogonal step by sqrt(max(1, rows / columns))."""
    tall, base = sizes.tall
    return _orthogonal(sizes) / sqrt(max(1.0, tall) / max(1.0, base))


def _matched_muon(sizes: Sizes) -> float:
    """torch.optim.Muon with `adjust_lr_fn="match_rms_adamw"`: times sqrt(max(rows, columns))."""
    tall, base = sizes.tall
    longest = sizes.in_ratio * max(1.0, tall) / max(1.0, base)
    return _orthogonal(sizes) / sqrt(longest)


def _natural(sizes: Sizes) -> float:
    """K-FAC: B^-1 G A^-1, where A and B are the second moments of inputs and of output gradients.

    Over a batch that does not grow, their largest eigenvalues are in proportion to fan_in and to
    gradient^2 * fan_out, so that a step has entries 1 / (gradient * fan_in * fan_out): at muP's
    sizes, those wanted. Damping must be a share of each factor's trace (Ishikawa & Karakida 2023,
    arXiv 2312.12226), or grow as fan_in for A and as gradient^2 * fan_out for B.
    """
    return sizes.update * sizes.gradient * sizes.in_ratio * sizes.out_ratio


OPTIMIZERS: dict[str, OptimizerScaling] = {}


def register_optimizer(scaling: OptimizerScaling) -> OptimizerScaling:
    """Make an optimizer known to `parametrize` under its name."""
    OPTIMIZERS[scaling.name] = scaling
    return scaling


for _known in (
    OptimizerScaling(name="sgd", rate=_gradient, fold=2, decay_fold=2),
    OptimizerScaling(name="adam", rate=_adaptive, fold=1, decay_fold=2, eps_fold=1),
    OptimizerScaling(name="adamw", rate=_adaptive, fold=1, decay_fold=1, eps_fold=1),
    OptimizerScaling(name="adam-atan2", rate=_adaptive, fold=1, decay_fold=1),
    OptimizerScaling(name="lion", rate=_adaptive, fold=1, decay_fold=1),
    OptimizerScaling(name="adafactor", rate=_relative, fold=0, decay_fold=0),
    OptimizerScaling(name="muon", rate=_torch_muon, fold=1, decay_fold=1, rest="adamw"),
    OptimizerScaling(name="muon-matched", rate=_matched_muon, fold=1, decay_fold=1, rest="adamw"),
    OptimizerScaling(
        name="shampoo",
        rate=_orthogonal,
        fold=1,
        decay_fold=1,
        eps_fold=2,
        rest="adamw",
        takes="matrices",
    ),
    OptimizerScaling(
        name="kfac", rate=_natural, fold=0, decay_fold=0, rest="adamw", takes="matrices"
    ),
):
    register_optimizer(_known)


def optimizer_scaling(name: str) -> OptimizerScaling:
    """The scaling of an optimizer by name.

    Raises:
        ValueError: no scaling is known for it.
    """
    if name not in OPTIMIZERS:
        meant = getattr(name, "__name__", str(name)).lower()  # a class is the usual slip
        raise ValueError(
            f"no scaling is known for the optimizer {name!r}{did_you_mean(meant, OPTIMIZERS)}; "
            f"known: {', '.join(OPTIMIZERS)}; declare a new one with register_optimizer"
        )
    return OPTIMIZERS[name]
