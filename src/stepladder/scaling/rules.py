"""The rules, as data: how each kind of parameter changes with width and depth, and who says so."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from stepladder.names import did_you_mean
from stepladder.scaling.roles import Kind

# What does not change as the model grows: the coefficient of the paper's stored weight; that times
# the rate (mup, CompleteP); or the shrinkage a step, whatever the rate (u-muP).
Decay = Literal["constant", "scaled", "independent"]
Epsilon = Literal["constant", "gradient"]
Alignment = Literal["full", "none"]


@dataclass(frozen=True, kw_only=True)
class Exponents:
    """One kind of parameter, as powers of width: weight = n^-multiplier * w, w ~ n^-init, and an
    update of the acting weight with entries n^-update."""

    multiplier: float = 0.0
    init: float = 0.0
    update: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A parametrization.

    `gradient`: entries of the gradients of all but the readout fall as n^-gradient (the readout's
    initial entries, which they come through).
    `depth`: residual branches are multiplied by L^-depth; None leaves depth alone.
    `single_rate`: one learning rate everywhere, whatever the sizes say.
    `spectral`: initial scales keep spectral norms at sqrt(fan_out / fan_in) whatever the aspect
    ratio, instead of following powers of the fan-in.
    `tangent`: updates also fall as the gradients that arrive: the function moves, features do not.
    """

    name: str
    source: str
    input: Exponents = Exponents()
    hidden: Exponents
    readout: Exponents
    gradient: float
    depth: float | None = None
    decay: Decay = "constant"
    eps: Epsilon = "constant"
    single_rate: bool = False
    spectral: bool = False
    tangent: bool = False

    def exponents(self, kind: Kind) -> Exponents:
        """The exponents of one kind; vectors and fixed parameters have none."""
        by_kind = {Kind.INPUT: self.input, Kind.HIDDEN: self.hidden, Kind.READOUT: self.readout}
        return by_kind.get(kind, Exponents())


_EVERETT = "Everett et al. 2024, arXiv 2407.05872, Table 1"
_TP5 = "Yang et al. 2022 (Tensor Programs V), arXiv 2203.03466, Table 8"
_COMPLETEP = "Dey et al. 2025 (CompleteP), arXiv 2505.01618, Table 1"

_FAN_IN = Exponents(init=0.5, update=1.0)
_MUP: dict[str, Any] = {
    "hidden": _FAN_IN,
    "readout": Exponents(multiplier=1.0, update=1.0),
    "gradient": 1.0,
}

RULES: dict[str, Rule] = {}


def register_rule(rule: Rule) -> Rule:
    """Make a rule known to `parametrize` under its name."""
    RULES[rule.name] = rule
    return rule


for _rule in (
    Rule(
        name="sp",
        source="PyTorch's defaults: fan-in initial scales, one learning rate",
        hidden=_FAN_IN,
        readout=_FAN_IN,
        gradient=0.5,
        single_rate=True,
    ),
    Rule(
        name="sp-layerwise",
        source=_EVERETT,
        hidden=_FAN_IN,
        readout=_FAN_IN,
        gradient=0.5,
    ),
    Rule(
        name="ntk",
        source=_EVERETT,
        hidden=Exponents(multiplier=0.5, update=1.0),
        readout=Exponents(multiplier=0.5, update=1.0),
        gradient=0.5,
    ),
    Rule(
        name="mean-field",
        source=_EVERETT,
        hidden=Exponents(multiplier=0.5, update=1.0),
        readout=Exponents(multiplier=1.0, update=1.0),
        gradient=1.0,
    ),
    Rule(name="mup", source=_TP5, decay="scaled", **_MUP),
    Rule(
        name="depth-mup",
        source="Yang et al. 2023 (Tensor Programs VI), arXiv 2310.02244; Bordelon et al. 2023, "
        "arXiv 2309.16620",
        depth=0.5,
        decay="scaled",
        eps="gradient",
        **_MUP,
    ),
    Rule(
        name="u-mup",
        source="Blake et al. 2024 (u-muP), arXiv 2407.17465, Table 2; embeddings fall with "
        "width and depth is 1/sqrt(L) as in the unit-scaling package",
        input=Exponents(update=0.5),
        hidden=Exponents(multiplier=0.5, update=1.0),
        readout=Exponents(multiplier=1.0, update=1.0),
        gradient=1.0,
        depth=0.5,
        decay="independent",
    ),
    Rule(
        name="munit",
        source="Narayan et al. 2025 (munit scaling), arXiv 2502.05967, Table 2",
        hidden=Exponents(multiplier=0.5, update=1.0),
        readout=Exponents(multiplier=1.0, update=1.0),
        gradient=1.0,
        decay="independent",
    ),
    Rule(
        name="effective-theory",
        source="Dinan, Yaida & Zhang 2023, arXiv 2304.02034, equations 1.25 to 1.33 and 1.99 to "
        "1.116: the neural tangent scaling",
        hidden=_FAN_IN,
        readout=_FAN_IN,
        gradient=0.5,
        decay="scaled",
        tangent=True,
    ),
    Rule(
        name="spectral",
        source="Yang, Simon & Bernstein 2023, arXiv 2310.17813, Parametrization 1",
        hidden=_FAN_IN,
        readout=Exponents(init=1.0, update=1.0),
        gradient=1.0,
        decay="scaled",
        spectral=True,
    ),
    Rule(name="completep", source=_COMPLETEP, depth=1.0, decay="scaled", eps="gradient", **_MUP),
):
    register_rule(_rule)


def rule_named(rule: str | Rule) -> Rule:
    """A rule by name (or a `Rule` of your own).

    Raises:
        ValueError: no such rule.
    """
    if isinstance(rule, Rule):
        return rule
    if rule not in RULES:
        raise ValueError(
            f"no rule {rule!r}{did_you_mean(str(rule), RULES)}; rules are {', '.join(RULES)}"
        )
    return RULES[rule]


def unaligned(rule: Rule) -> Rule:
    """The rule for updates that do not line up with what they act on.

    A sum of n terms then grows as sqrt(n), not n, so that updates may be larger (Everett et al.
    2024, "no alignment").
    """
    return replace(
        rule,
        hidden=replace(rule.hidden, update=rule.hidden.update / 2),
        readout=replace(rule.readout, update=rule.readout.update / 2),
    )
