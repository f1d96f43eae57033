"""Routed models: loss by dense size and number of experts, and the dense size they are worth."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Coefficient, Constants, Derived, Input, Law, Values
from stepladder.laws.parts import scale
from stepladder.laws.registry import register

TEN = np.log(10.0)
ROUTERS = {  # a, b, c, d, E_start, E_max
    "s-base": (-0.082, -0.108, 0.009, 1.104, 1.847, 314.478),
    "rl-r": (-0.083, -0.126, 0.012, 1.111, 1.880, 469.982),
    "hash": (-0.087, -0.136, 0.012, 1.157, 4.175, 477.741),
}


def saturated(experts: ArrayLike, start: ArrayLike, most: ArrayLike) -> Array:
    """The number of experts that counts: from `start` at one expert to `most` at endless many.

    1 / E_hat = 1 / (E - 1 + 1 / (1/start - 1/most)) + 1 / most (arXiv:2202.01169, equation 3).
    """
    inner = np.asarray(experts) - 1.0 + 1.0 / (1.0 / np.asarray(start) - 1.0 / np.asarray(most))
    return np.asarray(1.0 / (1.0 / inner + 1.0 / np.asarray(most)))


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    size = np.log(x["params"]) / TEN
    most = p["E_start"] * (1.0 + p["E_spread"])  # keeps it above E_start whatever is searched
    experts = np.log(saturated(x["experts"], p["E_start"], most)) / TEN
    return TEN * size, TEN * experts, TEN * size * experts, TEN


def effective_params(values: Mapping[str, float], params: ArrayLike, experts: ArrayLike) -> Array:
    """Parameters of the dense model with the same loss (the paper's effective parameter count).

    Args:
        values: of the law, as published or fitted.
        params: dense parameters, any shape.
        experts: number of experts, the same shape.
    """
    start = values["E_start"]
    most = start * (1.0 + values["E_spread"])
    hat = np.log10(saturated(experts, start, most))
    dense = np.log10(start)
    a, b, c = values["a"], values["b"], values["c"]
    size = np.log10(np.asarray(params, dtype=np.float64))
    log_loss = (a + c * hat) * size + b * (hat - dense)
    return np.asarray(10.0 ** (log_loss / (a + c * dense)))


def total_params(x: Mapping[str, ArrayLike]) -> Array:
    """Parameters held: in every second layer the feed-forward part, two thirds of it, E times."""
    extra = (np.asarray(x["experts"], dtype=np.float64) - 1.0) / 3.0
    return np.asarray(np.asarray(x["params"]) * (1.0 + extra))


def _cutoff(v: Values) -> Array:
    """Dense parameters beyond which more experts no longer help: where b + c log N is zero."""
    return np.where(v["c"] > 0, 10.0 ** (-v["b"] / v["c"]), np.inf)


def _published(name: str) -> Constants:
    a, b, c, d, start, most = ROUTERS[name]
    return Constants(
        label=name,
        values={"a": a, "b": b, "c": c, "d": d, "E_start": start, "E_spread": most / start - 1.0},
        source="arXiv:2202.01169, table 3 (second-hand)",
        convention="130B tokens, routing in every second layer, one expert a token",
        valid={"params": (15e6, 1.3e9), "experts": (1.0, 512.0)},
    )


ROUTED = register(
    Law(
        name="routed",
        title="Unified Scaling Laws for Routed Language Models",
        arxiv="2202.01169",
        form="log10 L = a log10 N + b log10 E_hat + c log10 N log10 E_hat + d",
        inputs=(
            Input(name="params", meaning="parameters of the dense model", falls=True),
            Input(name="experts", meaning="number of experts, 1 for dense", low=1.0,
                  choices=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)),
        ),
        parameters=(
            scale("E_start", "experts that a dense model counts for", 0.5, 10),
            scale("E_spread", "E_max / E_start - 1", 2, 1e4),
        ),
        coefficients=(
            Coefficient(name="a", meaning="slope in parameters", free=True),
            Coefficient(name="b", meaning="slope in experts", free=True),
            Coefficient(name="c", meaning="how much size takes from experts", free=True),
            Coefficient(name="d", meaning="level", free=True),
        ),
        columns=_columns,
        link="exp",
        stored=total_params,
        derived={
            "N_cutoff": Derived("parameters from where routing no longer helps", _cutoff),
            "E_max": Derived(
                "effective experts, at most",
                lambda v: v["E_start"] * (1.0 + v["E_spread"]),
            ),
        },
        constants=tuple(_published(name) for name in ROUTERS),
        note="At fixed tokens, so that N_cutoff moves with them. Published to three digits: "
        "N_cutoff computed from them is good to a factor of three.",
    )
)  # fmt: skip
