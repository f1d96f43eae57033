"""Experts, active parameters and tokens on one law, for budgets of compute and of memory."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Coefficient, Input, Law, Values
from stepladder.laws.library.routed import saturated
from stepladder.laws.parts import FLOOR, exponent, scale, slope
from stepladder.laws.registry import register

FEED_FORWARD = 2.0 / 3.0  # of a block's parameters at a feed-forward width of four


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    most = p["E_start"] * (1.0 + p["E_spread"])
    log_experts = np.log(saturated(x["experts"], p["E_start"], most))
    size = p["delta"] * log_experts - (p["alpha"] + p["gamma"] * log_experts) * np.log(x["params"])
    data = p["omega"] * log_experts - (p["beta"] + p["zeta"] * log_experts) * np.log(x["tokens"])
    return 1.0, np.exp(size), np.exp(data)


def total_params(x: Mapping[str, ArrayLike]) -> Array:
    """Parameters held: every feed-forward layer E times, the rest once."""
    extra = FEED_FORWARD * (np.asarray(x["experts"], dtype=np.float64) - 1.0)
    return np.asarray(np.asarray(x["params"]) * (1.0 + extra))


JOINT_MOE = register(
    Law(
        name="joint-moe",
        title="Joint MoE Scaling Laws: Mixture of Experts Can Be Memory Efficient",
        arxiv="2502.05172",
        form="L = E + A E_hat^delta / N^(alpha + gamma ln E_hat) + "
        "B E_hat^omega / D^(beta + zeta ln E_hat)",
        inputs=(
            Input(name="params", meaning="active parameters without embeddings", falls=True),
            Input(name="tokens", meaning="training tokens, one pass", falls=True),
            Input(name="experts", meaning="experts, one of them active", low=1.0,
                  choices=(1, 2, 4, 8, 16, 32)),
        ),
        parameters=(
            exponent("alpha", "active parameters"),
            exponent("beta", "tokens"),
            slope("gamma", "what experts add to alpha", search=(-0.1, 0.1)),
            slope("zeta", "what experts add to beta", search=(-0.1, 0.1)),
            slope("delta", "experts, in the parameter term"),
            slope("omega", "experts, in the data term"),
            scale("E_start", "experts that a dense model counts for", 0.5, 10),
            scale("E_spread", "E_max / E_start - 1", 2, 1e4),
        ),
        coefficients=(
            FLOOR,
            Coefficient(name="A", meaning="scale of the parameter term"),
            Coefficient(name="B", meaning="scale of the data term"),
        ),
        columns=_columns,
        stored=total_params,
        note="The form is confirmed second-hand; the constants could not be and are left out. "
        "Memory counts every feed-forward layer (two thirds of a block) once an expert.",
    )
)  # fmt: skip
