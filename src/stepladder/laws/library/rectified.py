"""Fine-tuning: a flat phase before the power law, for what the model already knows."""

from collections.abc import Sequence

from numpy.typing import ArrayLike

from stepladder.laws.law import Coefficient, Derived, Input, Law, Values, power
from stepladder.laws.parts import exponent, scale
from stepladder.laws.registry import register


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    # (D_l)^beta is searched as a number of samples, so that its size does not hang on beta
    known = power(p["D_l"], p["beta"])
    return 1.0, 1.0 / (known + power(x["samples"], p["beta"]))


RECTIFIED = register(
    Law(
        name="rectified",
        title="Selecting Large Language Model to Fine-tune via Rectified Scaling Law",
        arxiv="2402.02314",
        form="L = E + B / (D_l^beta + D^beta)",
        inputs=(Input(name="samples", meaning="fine-tuning samples", falls=True),),
        parameters=(
            scale("D_l", "samples that pre-training is worth", 10, 1e6),
            exponent("beta", "samples", search=(0.05, 1.5), low=1e-3),
        ),
        coefficients=(
            Coefficient(name="E", meaning="loss left with endless samples"),
            Coefficient(name="B", meaning="scale"),
        ),
        columns=_columns,
        derived={
            "D_pretrained": Derived(
                "what pre-training is worth, as D^beta", lambda v: v["D_l"] ** v["beta"]
            ),
            "zero_shot": Derived(
                "loss without fine-tuning", lambda v: v["E"] + v["B"] / v["D_l"] ** v["beta"]
            ),
        },
        rivals=("hestness",),
        note="The paper writes D_l for what is D_pretrained here. Below D_l samples the loss "
        "hardly moves: a plain power law fitted there predicts nothing.",
    )
)
