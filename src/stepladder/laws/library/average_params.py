"""Sparse and dense runs on one law: the mean number of parameters over training counts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Coefficient, Input, Law, Values, power
from stepladder.laws.parts import FLOOR, TOKENS, exponent
from stepladder.laws.registry import register


def average_params(params: ArrayLike, tokens: ArrayLike) -> float:
    """Mean parameters over training tokens.

    Args:
        params: parameters that are not zero, at the end of each stretch of training, (stretches,).
        tokens: tokens of each stretch, (stretches,).
    """
    return float(np.average(np.asarray(params, dtype=np.float64), weights=np.asarray(tokens)))


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    return 1.0, power(x["params"], -p["alpha"]), power(x["tokens"], -p["beta"])


AVERAGE_PARAMS = register(
    Law(
        name="average-params",
        title="The Journey Matters: Average Parameter Count over Pre-training Unifies Sparse and "
        "Dense Scaling Laws",
        arxiv="2501.12486",
        form="L = E + A / Nbar^alpha + B / D^beta, Nbar = mean over tokens of live parameters",
        inputs=(
            Input(name="params", meaning="mean over tokens of live parameters", falls=True),
            TOKENS,
        ),
        parameters=(exponent("alpha", "mean parameters"), exponent("beta", "tokens")),
        coefficients=(
            FLOOR,
            Coefficient(name="A", meaning="scale of the parameter term"),
            Coefficient(name="B", meaning="scale of the data term"),
        ),
        columns=_columns,
        rivals=("kaplan",),
        note="Pruning from 25% to 75% of training compute is near the best; C = 6 Nbar D. The "
        "paper's constants could not be confirmed and are left out.",
    )
)
