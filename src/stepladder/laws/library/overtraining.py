"""Over-training: every ratio of tokens to parameters has the same exponent in compute."""

from collections.abc import Sequence

from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Coefficient, Derived, Input, Law, Values, power
from stepladder.laws.parts import FLOOR, FLOPS, exponent
from stepladder.laws.registry import register


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    falls = power(x["flops"], -p["eta"])
    ratio = power(x["tokens_per_param"], p["eta"])
    return 1.0, ratio * falls, falls / ratio


def _best_ratio(v: Values) -> Array:
    """Tokens per parameter with the least loss at any compute: (b / a)^(1 / 2 eta)."""
    return (v["b"] / v["a"]) ** (0.5 / v["eta"])


OVERTRAINING = register(
    Law(
        name="overtraining",
        title="Language models scale reliably with over-training and on downstream tasks",
        arxiv="2403.08540",
        form="L = E + (a M^eta + b M^-eta) C^-eta, M = D / N",
        inputs=(
            FLOPS,
            Input(name="tokens_per_param", meaning="M = D / N, all parameters", low=1e-3),
        ),
        parameters=(exponent("eta", "compute", search=(0.02, 0.6), low=1e-3),),
        coefficients=(
            FLOOR,
            Coefficient(name="a", meaning="scale of what more parameters remove"),
            Coefficient(name="b", meaning="scale of what more tokens remove"),
        ),
        columns=_columns,
        derived={"best_tokens_per_param": Derived("the least loss for its compute", _best_ratio)},
        note="Chinchilla's law with one exponent for both, alpha = beta = 2 eta and C = 6 N D. "
        "Tuned at 20 tokens a parameter; measured from 20 to 640 and at 0.011B to 6.9B.",
    )
)
