"""A law whose data exponent depends on the size of the model."""

from collections.abc import Sequence

from numpy import exp
from numpy.typing import ArrayLike

from stepladder.laws.law import Coefficient, Constants, Input, Law, Parameter, Values, power
from stepladder.laws.registry import register


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    n, d = x["params"], x["tokens"]
    data_exponent = exp(p["A"] * power(n, p["a"]) + p["E"])
    return (
        exp(p["s"] * power(n, p["q"])),
        exp(p["B"] * power(n, p["b"])) * power(d, -data_exponent),
    )


FARSEER = register(
    Law(
        name="farseer",
        title="Farseer: A Refined Scaling Law in Large Language Models",
        arxiv="2506.10972",
        form="L = exp(s N^q + S) + exp(B N^b + Q) D^(-exp(A N^a + E))",
        inputs=(
            Input(name="params", meaning="parameters without embeddings", falls=True),
            Input(name="tokens", meaning="training tokens, one pass", falls=True),
        ),
        parameters=(
            Parameter(name="s", meaning="slope of the floor", low=-10, high=0, search=(-1, 0)),
            Parameter(name="q", meaning="exponent of the floor", low=0.01, high=1),
            Parameter(
                name="B", meaning="slope of the data scale", low=0, high=2e4, search=(10, 600)
            ),
            Parameter(name="b", meaning="exponent of the data scale", low=-1, high=-0.01),
            Parameter(
                name="A", meaning="slope of the data exponent", low=-20, high=0, search=(-4, 0)
            ),
            Parameter(
                name="a",
                meaning="exponent of the data exponent",
                low=0.005,
                high=1,
                search=(0.01, 0.3),
            ),
            Parameter(
                name="E", meaning="level of the data exponent", low=-10, high=20, search=(-2, 6)
            ),
        ),
        coefficients=(
            Coefficient(name="expS", meaning="exp(S), scale of the floor"),
            Coefficient(name="expQ", meaning="exp(Q), scale of the data term"),
        ),
        columns=_columns,
        constants=(
            Constants(
                label="farseer",
                values={
                    "E": 3.133347,
                    "s": -0.062465473,
                    "q": 0.13,
                    "expS": 1.1371078,
                    "B": 230.734371,
                    "b": -0.1729,
                    "expQ": 0.2134805,
                    "A": -1.665630816,
                    "a": 0.0459,
                },
                source="law printed with the points of ScaleBench (arXiv:2604.22753)",
                convention="S = 0.128488 and Q = -1.544209554 as their exponentials",
            ),
        ),
        rivals=("chinchilla", "kaplan"),
        note="Nine values: needs hundreds of runs. At q, a or b near zero its scales trade off, "
        "and a fit may end in another valley than the published values, above them: compare them.",
    )
)
