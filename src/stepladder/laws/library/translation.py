"""Encoder and decoder: a product of two powers, and the best split of a parameter budget."""

from collections.abc import Sequence

from numpy.typing import ArrayLike

from stepladder.laws.law import Coefficient, Derived, Input, Law, Values, power
from stepladder.laws.parts import FLOOR, exponent
from stepladder.laws.registry import register


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    encoder = power(x["encoder_params"], -p["p_e"])
    return 1.0, encoder * power(x["decoder_params"], -p["p_d"])


TRANSLATION = register(
    Law(
        name="translation",
        title="Scaling Laws for Neural Machine Translation",
        arxiv="2109.07740",
        form="L = E + A / (N_e^p_e N_d^p_d)",
        inputs=(
            Input(name="encoder_params", meaning="parameters of the encoder", falls=True),
            Input(name="decoder_params", meaning="parameters of the decoder", falls=True),
        ),
        parameters=(
            exponent("p_e", "encoder parameters"),
            exponent("p_d", "decoder parameters"),
        ),
        coefficients=(FLOOR, Coefficient(name="A", meaning="scale")),
        columns=_columns,
        derived={
            "encoder_share": Derived(
                "best share of the parameters", lambda v: v["p_e"] / (v["p_e"] + v["p_d"])
            )
        },
        note="encoder_share is the best share of a parameter total. The paper normalises sizes by "
        "reference ones, which changes A only. Text whose source side is original follows other "
        "exponents than text whose target side is.",
    )
)
