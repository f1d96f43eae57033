"""Precision: low-bit training counts as fewer parameters, low-bit storage costs loss afterwards."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Coefficient, Constants, Input, Law, Parameter, Values, power
from stepladder.laws.parts import BODY, FLOOR, TOKENS, exponent
from stepladder.laws.registry import register

TITLE = "Scaling Laws for Precision"
ARXIV = "2411.04330"
BITS = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 16.0)
PARTS = ("weights", "activations", "cache")
VALID = {"params": (30e6, 220e6), "tokens": (1.5e9, 26e9)}


def _bits(part: str) -> Input:
    return Input(name=f"bits_{part}", meaning=f"bits of {part} in training", low=1.0, choices=BITS)


def _decay(name: str, what: str) -> Parameter:
    return Parameter(
        name=name, meaning=f"bits over which {what}", low=0.05, high=50.0, search=(0.5, 5), log=True
    )


def effective_params(p: Values, x: Values) -> Array:
    """Parameters that count: N prod (1 - exp(-bits / gamma)) (equation 4)."""
    kept = [-np.expm1(-x[f"bits_{part}"] / p[f"gamma_{part}"]) for part in PARTS]
    return np.asarray(x["params"] * kept[0] * kept[1] * kept[2])


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    return 1.0, power(effective_params(p, x), -p["alpha"]), power(x["tokens"], -p["beta"])


def _compute(x: Mapping[str, ArrayLike]) -> Array:
    """6 N D at 16 bits, in proportion to the bits (section 4.3); the mean over the three parts."""
    bits = np.mean([np.asarray(x[f"bits_{part}"]) for part in PARTS], axis=0)
    return np.asarray(6.0 / 16.0 * bits * np.asarray(x["params"]) * np.asarray(x["tokens"]))


def _stored(x: Mapping[str, ArrayLike]) -> Array:
    """Parameters of 16 bits that take as much memory."""
    return np.asarray(np.asarray(x["bits_weights"]) / 16.0 * np.asarray(x["params"]))


register(
    Law(
        name="precision",
        title=TITLE,
        arxiv=ARXIV,
        form="L = E + A / N_eff^alpha + B / D^beta, N_eff = N prod (1 - exp(-P_i / gamma_i))",
        inputs=(BODY, TOKENS, *(_bits(part) for part in PARTS)),
        parameters=(
            exponent("alpha", "effective parameters"),
            exponent("beta", "tokens"),
            *(_decay(f"gamma_{part}", f"{part} come to count in full") for part in PARTS),
        ),
        coefficients=(
            FLOOR,
            Coefficient(name="A", meaning="scale of the parameter term"),
            Coefficient(name="B", meaning="scale of the data term"),
        ),
        columns=_columns,
        compute=_compute,
        stored=_stored,
        note="Published: alpha = beta = 0.4965, E = 2.7648 and a best training precision of 7 to 8 "
        "bits at any compute (second-hand); its other constants could not be confirmed and are "
        "left out. The authors call them unlikely to transfer.",
    )
)


def _post_columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    data = power(x["tokens"], p["gamma_D"]) * power(x["params"], -p["gamma_N"])
    return (data * np.exp(-x["bits_stored"] / p["gamma_post"]),)


register(
    Law(
        name="quantization",
        title=TITLE,
        arxiv=ARXIV,
        form="dL = C_T D^gamma_D / N^gamma_N exp(-P / gamma_post)",
        inputs=(
            Input(name="params", meaning="parameters without embeddings", falls=True),
            Input(name="tokens", meaning="training tokens", low=1.0),
            Input(name="bits_stored", meaning="bits of weights after training", low=1.0),
        ),
        target="loss_increase",
        parameters=(
            exponent("gamma_D", "tokens (the cost rises)"),
            exponent("gamma_N", "parameters"),
            _decay("gamma_post", "the cost falls by e"),
        ),
        coefficients=(Coefficient(name="C_T", meaning="scale"),),
        columns=_post_columns,
        constants=(
            Constants(
                label="kumar",
                values={"gamma_D": 0.5068, "gamma_N": 0.3439, "gamma_post": 0.5907, "C_T": 0.0598},
                source=f"arXiv:{ARXIV}, table 2 (second-hand; gamma_post unconfirmed)",
                valid={**VALID, "bits_stored": (3.0, 8.0)},
            ),
        ),
        note="More pretraining can make a model worse once it is quantized. Added to the loss of "
        "a model trained in 16 bits.",
    )
)
