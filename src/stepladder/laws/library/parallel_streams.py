"""Parallel streams: P forward passes whose outputs are combined count for more parameters."""

from collections.abc import Sequence

from numpy import log
from numpy.typing import ArrayLike

from stepladder.laws.law import Coefficient, Derived, Input, Law, Parameter, Values, power
from stepladder.laws.parts import FLOOR, exponent
from stepladder.laws.registry import register


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    counted = x["params"] * (1.0 + p["k"] * log(x["streams"]))
    return 1.0, power(counted, -p["alpha"])


PARALLEL_STREAMS = register(
    Law(
        name="parallel-streams",
        title="Parallel Scaling Law for Language Models",
        arxiv="2505.10475",
        form="L = E + (A / (N (k ln P + 1)))^alpha",
        inputs=(
            Input(name="params", meaning="parameters without embeddings", falls=True),
            Input(name="streams", meaning="parallel passes", low=1.0, choices=(1, 2, 4, 8)),
        ),
        parameters=(
            exponent("alpha", "parameters", search=(0.02, 0.8)),
            Parameter(name="k", meaning="what a factor of e in streams adds to size", low=0.0,
                      high=20.0, search=(0.05, 2.0)),
        ),
        coefficients=(FLOOR, Coefficient(name="scale", meaning="A^alpha")),
        columns=_columns,
        derived={"A": Derived("the paper's scale", lambda v: v["scale"] ** (1.0 / v["alpha"]))},
        note="At one number of tokens; fit each corpus by itself.",
    )
)  # fmt: skip
