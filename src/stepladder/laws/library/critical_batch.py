"""Steps to a target loss against batch size, and the critical batch size that follows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import (
    Array,
    Coefficient,
    Constants,
    Derived,
    Input,
    Law,
    Parameter,
    Values,
    power,
)
from stepladder.laws.registry import register

TITLE = "How Does Critical Batch Size Scale in Pre-training?"
BASE, OVERHEAD = 256.0, 0.2  # the paper's efficient batch (sequences), and the waste it accepts


def critical_batch(values: Values) -> Array:
    """The batch that needs a fifth more data than the base batch does.

    Data to the target is B steps(B) = a B + b; (1 + OVERHEAD) (a BASE + b) = a B + b gives B.
    """
    a, b = values["a"], values["b"]
    return np.where(a > 0, (1 + OVERHEAD) * BASE + OVERHEAD * b / a, np.inf)


register(
    Law(
        name="steps-to-target",
        title=TITLE,
        arxiv="2410.21676",
        form="steps = a + b / B",
        target="steps",
        inputs=(Input(name="batch", meaning="sequences a step", unit="sequences", falls=True),),
        coefficients=(
            Coefficient(name="a", meaning="steps with an endless batch"),
            Coefficient(name="b", meaning="sequences with the smallest batch"),
        ),
        columns=lambda p, x: (1.0, 1.0 / x["batch"]),
        derived={
            "critical_batch": Derived("batch that needs 20% more data than 256", critical_batch)
        },
        note="One model and one target loss at a time.",
    )
)


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    return (power(x["params"] / 1e6, p["alpha"]),)


register(
    Law(
        name="critical-batch",
        title=TITLE,
        arxiv="2410.21676",
        form="B_crit = k (N / 1e6)^alpha",
        target="batch",
        inputs=(Input(name="params", meaning="all parameters"),),
        parameters=(Parameter(name="alpha", meaning="exponent of parameters", low=0.0, high=2.0),),
        coefficients=(Coefficient(name="k", meaning="critical batch of a million parameters"),),
        columns=_columns,
        constants=(
            Constants(
                label="zhang",
                values={"alpha": 0.46828, "k": 93.1968},
                source="hlzhang109/critical-batch-size, plots/chinchilla.ipynb",
                convention="sequences of 512 tokens; runs at the Chinchilla ratio, so that tokens "
                "grow with parameters: at fixed tokens the paper finds hardly any effect of size",
                valid={"params": (85e6, 1.2e9)},
            ),
        ),
    )
)
