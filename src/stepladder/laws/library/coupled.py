"""Chinchilla's law with a data term that follows the size of the model, as Farseer's does.

Chinchilla's data term is the same at every size; in Farseer's, scale and exponent change with it,
each along a curve of its own, which takes nine values and says anything far from its runs. Here
both go along straight lines: seven values, Chinchilla's law where the lines are level. It was not
published. It is here since it forecasts better than either, alone and in a mixture
(docs/laws.md, "Forecasts").
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Coefficient, Law, Values
from stepladder.laws.library.farseer import CENTRE, data_exponent, slope_of
from stepladder.laws.parts import FLOOR, PARAMS, TOKENS, exponent
from stepladder.laws.registry import register


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    size, tokens = np.log(x["params"] / CENTRE), np.log(x["tokens"])
    falls = p["beta"] * np.exp(p["exponent_slope"] * size)
    return (
        1.0,
        np.exp(-p["alpha"] * size),
        np.exp(p["scale_slope"] * size - falls * tokens),
    )


def _slopes(p: Values, x: Values, columns: Sequence[Array]) -> Mapping[str, Sequence[ArrayLike]]:
    size, tokens = np.log(x["params"] / CENTRE), np.log(x["tokens"])
    _, params, data = columns
    by_beta = -np.exp(p["exponent_slope"] * size) * tokens * data
    return {
        "alpha": (0.0, -size * params, 0.0),
        "beta": (0.0, 0.0, by_beta),
        "scale_slope": (0.0, 0.0, size * data),
        "exponent_slope": (0.0, 0.0, p["beta"] * size * by_beta),
    }


COUPLED = register(
    Law(
        name="coupled",
        title="Farseer: A Refined Scaling Law in Large Language Models",
        arxiv="2506.10972",
        form="L = E + A n^-alpha + S n^scale_slope D^(-beta n^exponent_slope), n = N / 1e9",
        inputs=(PARAMS, TOKENS),
        parameters=(
            exponent("alpha", "parameters"),
            data_exponent(),
            slope_of("scale", (-4.0, 1.0)),
            slope_of("exponent", (-0.4, 0.2)),
        ),
        coefficients=(
            FLOOR,
            Coefficient(name="A", meaning="parameter term at 1e9 parameters"),
            Coefficient(name="S", meaning="scale of the data term at 1e9 parameters"),
        ),
        columns=_columns,
        slopes=_slopes,
        rivals=("chinchilla", "kaplan"),
        note="Not published: Chinchilla's law whose data term follows the size of the model along "
        "straight lines, as Farseer's does along curves. Chinchilla's where both slopes are zero.",
    )
)
