"""The law of compute-optimal training: a floor, a term in parameters, a term in tokens."""

from collections.abc import Mapping, Sequence

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


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    return 1.0, power(x["params"], -p["alpha"]), power(x["tokens"], -p["beta"])


def _slopes(p: Values, x: Values, columns: Sequence[Array]) -> Mapping[str, Sequence[ArrayLike]]:
    return {
        "alpha": (0.0, -np.log(x["params"]) * columns[1], 0.0),
        "beta": (0.0, 0.0, -np.log(x["tokens"]) * columns[2]),
    }


CHINCHILLA = register(
    Law(
        name="chinchilla",
        title="Training Compute-Optimal Large Language Models",
        arxiv="2203.15556",
        form="L = E + A / N^alpha + B / D^beta",
        inputs=(
            Input(name="params", meaning="all parameters, embeddings included", falls=True),
            Input(name="tokens", meaning="training tokens, one pass", falls=True),
        ),
        parameters=(
            Parameter(
                name="alpha",
                meaning="exponent of parameters",
                low=0.0,
                high=4.0,
                search=(0.02, 1.2),
            ),
            Parameter(
                name="beta", meaning="exponent of tokens", low=0.0, high=4.0, search=(0.02, 1.2)
            ),
        ),
        coefficients=(
            Coefficient(name="E", meaning="loss left with endless parameters and data"),
            Coefficient(name="A", meaning="scale of the parameter term"),
            Coefficient(name="B", meaning="scale of the data term"),
        ),
        columns=_columns,
        slopes=_slopes,
        derived={
            # when C = 6 N D (paper, equation 4)
            "a": Derived(
                "the best N grows as compute to this power, D to 1 - a",
                lambda v: v["beta"] / (v["alpha"] + v["beta"]),
            ),
        },
        rivals=("kaplan", "coupled"),
        constants=(
            Constants(
                label="hoffmann",
                values={"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28},
                source="arXiv:2203.15556, equation 10 (approach 3)",
                valid={"params": (70e6, 16e9), "tokens": (5e9, 5e11)},
            ),
            Constants(
                label="epoch",
                values={
                    "E": 1.8172,
                    "A": 482.01,
                    "B": 2085.43,
                    "alpha": 0.3478,
                    "beta": 0.3658,
                },
                source="arXiv:2404.10102, table 1",
                convention="points read off a figure, tokens = flops / (6 params)",
                valid={"params": (70e6, 16e9), "tokens": (5e9, 5e11)},
            ),
        ),
        note="B and beta move together: dropping five of 245 points moves B by a factor of six.",
    )
)
