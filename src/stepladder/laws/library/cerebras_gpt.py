"""A family at 20 tokens a parameter on the Pile: loss by compute."""

from collections.abc import Sequence

from numpy.typing import ArrayLike

from stepladder.laws.law import Coefficient, Constants, Derived, Law, Values, power
from stepladder.laws.parts import FLOOR, FLOPS, exponent
from stepladder.laws.registry import register


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    return 1.0, power(x["flops"], -p["alpha"])


CEREBRAS_GPT = register(
    Law(
        name="cerebras-gpt",
        title="Cerebras-GPT: Open Compute-Optimal Language Models Trained on the Cerebras "
        "Wafer-Scale Cluster",
        arxiv="2304.03208",
        form="L = E + (C / C_0)^-alpha",
        inputs=(FLOPS,),
        parameters=(exponent("alpha", "compute", search=(0.01, 0.5), low=1e-4),),
        coefficients=(FLOOR, Coefficient(name="A", meaning="C_0^alpha")),
        columns=_columns,
        derived={"C_0": Derived("compute scale", lambda v: v["A"] ** (1.0 / v["alpha"]))},
        rivals=("power",),
        constants=(
            Constants(
                label="pile",
                values={"E": 0.5066, "A": 5.984e22**0.0737, "alpha": 0.0737},
                source="arXiv:2304.03208, equation 1 (two independent copies)",
                convention="Pile test loss, nats a token of GPT-2's vocabulary",
                valid={"flops": (2.6e18, 2.3e22)},
            ),
        ),
    )
)
