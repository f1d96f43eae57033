"""A law whose data exponent depends on the size of the model.

The paper writes it with values at one parameter and one token, nine decades from any run: there
they trade off against each other without limit where an exponent is near zero, and a search cannot
find them. Here it is written around a billion parameters, where runs are; the paper's own values
follow from these.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Coefficient, Constants, Derived, Law, Parameter, Values
from stepladder.laws.parts import BODY, TOKENS
from stepladder.laws.registry import register

CENTRE = 1e9  # parameters
NEAR_ZERO = 1e-5  # of an exponent times a logarithm: series, where differences lose their digits


def _bent(size: ArrayLike, exponent: ArrayLike) -> Array:
    """log x bent by an exponent, (x^c - 1) / c of x = size / CENTRE (Box and Cox 1964)."""
    log = np.log(np.asarray(size) / CENTRE)
    z = np.asarray(exponent) * log
    near = np.abs(z) < NEAR_ZERO
    exact = np.expm1(z) / np.where(near, 1.0, z)
    return np.asarray(log * np.where(near, 1.0 + z * (0.5 + z / 6.0), exact))


def _bend_slope(size: ArrayLike, exponent: ArrayLike, bent: Array) -> Array:
    """The derivative of `_bent` by its exponent."""
    log = np.log(np.asarray(size) / CENTRE)
    z = np.asarray(exponent) * log
    near = np.abs(z) < NEAR_ZERO
    exact = (log * np.exp(z) - bent) / np.where(near, 1.0, exponent)
    return np.asarray(np.where(near, log**2 * (0.5 + z * (1.0 / 3.0 + z / 8.0)), exact))


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    n = x["params"]
    exponent = p["beta"] * np.exp(p["exponent_slope"] * _bent(n, p["a"]))
    return (
        np.exp(p["floor_slope"] * _bent(n, p["q"])),
        np.exp(p["scale_slope"] * _bent(n, p["b"]) - exponent * np.log(x["tokens"])),
    )


def _slopes(p: Values, x: Values, columns: Sequence[Array]) -> Mapping[str, Sequence[ArrayLike]]:
    n, (floor, data) = x["params"], columns
    in_floor, in_scale, in_exponent = (_bent(n, p[name]) for name in "qba")
    by_q, by_b, by_a = (
        _bend_slope(n, p[name], bent)
        for name, bent in zip("qba", (in_floor, in_scale, in_exponent), strict=True)
    )
    by_beta = -np.exp(p["exponent_slope"] * in_exponent) * np.log(x["tokens"]) * data
    by_level = p["beta"] * by_beta  # of the logarithm of the exponent
    return {
        "floor_slope": (in_floor * floor, 0.0),
        "q": (p["floor_slope"] * by_q * floor, 0.0),
        "scale_slope": (0.0, in_scale * data),
        "b": (0.0, p["scale_slope"] * by_b * data),
        "beta": (0.0, by_beta),
        "exponent_slope": (0.0, by_level * in_exponent),
        "a": (0.0, by_level * p["exponent_slope"] * by_a),
    }


def from_paper(
    *, s: float, q: float, S: float, B: float, b: float, Q: float, A: float, a: float, E: float
) -> dict[str, float]:
    """The values here of the law as the paper writes it."""
    return {
        "floor_slope": s * q * CENTRE**q,
        "q": q,
        "scale_slope": B * b * CENTRE**b,
        "b": b,
        "beta": float(np.exp(A * CENTRE**a + E)),
        "exponent_slope": A * a * CENTRE**a,
        "a": a,
        "floor": float(np.exp(s * CENTRE**q + S)),
        "scale": float(np.exp(B * CENTRE**b + Q)),
    }


def data_exponent() -> Parameter:
    """The exponent of tokens of a model of a billion parameters."""
    return Parameter(
        name="beta",
        meaning="exponent of data at 1e9 parameters",
        low=1e-3,
        high=10.0,
        search=(0.08, 1.0),
        log=True,
    )


def slope_of(what: str, search: tuple[float, float]) -> Parameter:
    """How the logarithm of something follows that of the size of the model."""
    return Parameter(
        name=f"{what}_slope",
        meaning=f"slope of log {what} in log N at 1e9 parameters",
        low=-100,
        high=100,
        search=search,
    )


def _curve(name: str, of: str, search: tuple[float, float]) -> tuple[Parameter, Parameter]:
    """Slope and bend of a logarithm that follows the size of the model."""
    bend = Parameter(
        name=name,
        meaning=f"exponent of N in log {of}; 0: a power law",
        low=-3,
        high=3,
        search=(-0.5, 0.5),
    )
    return slope_of(of, search), bend


FARSEER = register(
    Law(
        name="farseer",
        title="Farseer: A Refined Scaling Law in Large Language Models",
        arxiv="2506.10972",
        form="L = exp(s N^q + S) + exp(B N^b + Q) D^(-exp(A N^a + E))",
        inputs=(BODY, TOKENS),
        parameters=(
            *_curve("q", "floor", (-0.4, 0.0)),
            *_curve("b", "scale", (-4.0, 1.0)),
            data_exponent(),
            *_curve("a", "exponent", (-0.4, 0.2)),
        ),
        coefficients=(
            Coefficient(name="floor", meaning="loss left with endless data at 1e9 parameters"),
            Coefficient(name="scale", meaning="scale of the data term at 1e9 parameters"),
        ),
        columns=_columns,
        slopes=_slopes,
        derived={
            "s": Derived(
                "the paper's", lambda v: v["floor_slope"] / (v["q"] * CENTRE ** v["q"])
            ),
            "S": Derived("the paper's", lambda v: np.log(v["floor"]) - v["floor_slope"] / v["q"]),
            "B": Derived(
                "the paper's", lambda v: v["scale_slope"] / (v["b"] * CENTRE ** v["b"])
            ),
            "Q": Derived("the paper's", lambda v: np.log(v["scale"]) - v["scale_slope"] / v["b"]),
            "A": Derived(
                "the paper's", lambda v: v["exponent_slope"] / (v["a"] * CENTRE ** v["a"])
            ),
            "E": Derived("the paper's", lambda v: np.log(v["beta"]) - v["exponent_slope"] / v["a"]),
        },
        constants=(
            Constants(
                label="farseer",
                values=from_paper(
                    s=-0.062465473, q=0.13, S=0.128488,
                    B=230.734371, b=-0.1729, Q=-1.544209554,
                    A=-1.665630816, a=0.0459, E=3.133347,
                ),
                source="law printed with the points of ScaleBench (arXiv:2604.22753)",
                valid={"params": (1e8, 6.4e9), "tokens": (1e9, 5.12e11)},
            ),
        ),
        rivals=("chinchilla", "kaplan", "coupled"),
        note="Nine values: needs hundreds of runs. s, S, B, Q, A and E are the paper's; they have "
        "no bounds where the exponent beside them may be zero, and the law is unharmed.",
    )
)  # fmt: skip
