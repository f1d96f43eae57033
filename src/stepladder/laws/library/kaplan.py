"""The laws of Kaplan et al.: one resource at a time, parameters with data, parameters with steps.

Parameters are counted without embeddings, compute as C = 6 N B S without them either.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import (
    Array,
    Coefficient,
    Columns,
    Constants,
    Derived,
    Input,
    Law,
    Values,
    power,
)
from stepladder.laws.parts import BODY, FLOPS, PF_DAY, TOKENS, exponent, scale
from stepladder.laws.registry import register

TITLE = "Scaling Laws for Neural Language Models"
ARXIV = "2001.08361"
VALID_PARAMS = (768.0, 1.5e9)
Range = Mapping[str, tuple[float, float]]
STEPS = Input(name="steps", meaning="least steps, at a batch far above critical", falls=True)
LOSS = Input(name="loss", meaning="loss reached, nats a token")


def minimum_steps(steps: ArrayLike, batch: ArrayLike, critical: ArrayLike) -> Array:
    """Steps that a batch far above the critical one would need: S / (1 + B_crit / B).

    Equation 5.4 of arXiv:2001.08361; batches in tokens.
    """
    return np.asarray(np.asarray(steps) / (1.0 + np.asarray(critical) / np.asarray(batch)))


def minimum_compute(flops: ArrayLike, batch: ArrayLike, critical: ArrayLike) -> Array:
    """Compute that a batch far below the critical one would need: C / (1 + B / B_crit).

    Equation 5.5 of arXiv:2001.08361; batches in tokens.
    """
    return np.asarray(np.asarray(flops) / (1.0 + np.asarray(batch) / np.asarray(critical)))


def _one(resource: str) -> Columns:
    """Columns of (c / x)^alpha, as its logarithm."""

    def columns(p: Values, x: Values) -> Sequence[ArrayLike]:
        return (p["alpha"] * (np.log(p["c"]) - np.log(x[resource])),)

    return columns


def _both(p: Values, x: Values) -> Sequence[ArrayLike]:
    ratio = p["alpha_N"] / p["alpha_D"]
    size = power(p["N_c"], ratio) * power(x["params"], -ratio)
    return (p["alpha_D"] * np.log(size + p["D_c"] / x["tokens"]),)


def _steps(p: Values, x: Values) -> Sequence[ArrayLike]:
    return power(x["params"], -p["alpha_N"]), power(x["steps"], -p["alpha_S"])


def _batch(p: Values, x: Values) -> Sequence[ArrayLike]:
    return (power(x["loss"], -1.0 / p["alpha_B"]),)


def _single(name: str, given: Input, c: float, alpha: float, where: str, valid: Range) -> Law:
    return register(
        Law(
            name=name,
            title=TITLE,
            arxiv=ARXIV,
            form=f"L = (c / x)^alpha, x: {given.meaning}",
            inputs=(given,),
            parameters=(
                scale("c", f"{given.name} at which the loss would be one nat", c * 1e-3, c * 1e3),
                exponent("alpha", given.name, search=(0.02, 0.5)),
            ),
            columns=_one(given.name),
            link="exp",
            constants=(
                Constants(
                    label="kaplan",
                    values={"c": c, "alpha": alpha},
                    source=f"arXiv:{ARXIV}, {where}",
                    valid=valid,
                ),
            ),
            note="No floor: the loss of text cannot follow it to zero.",
        )
    )


_single("kaplan-params", BODY, 8.8e13, 0.076, "equation 1.1", {"params": VALID_PARAMS})
_single("kaplan-data", TOKENS, 5.4e13, 0.095, "equation 1.2", {"tokens": (22e6, 23e9)})
_single(
    "kaplan-compute", FLOPS, 3.1e8 * PF_DAY, 0.050, "equation 1.3 (batch below critical)",
    {"flops": (1e-9 * PF_DAY, 1e1 * PF_DAY)},
)  # fmt: skip

register(
    Law(
        name="kaplan",
        title=TITLE,
        arxiv=ARXIV,
        form="L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
        inputs=(BODY, TOKENS),
        parameters=(
            scale("N_c", "scale of parameters", 1e10, 1e17),
            scale("D_c", "scale of data", 1e10, 1e17),
            exponent("alpha_N", "parameters", search=(0.02, 0.5), low=1e-3),
            exponent("alpha_D", "tokens", search=(0.02, 0.5), low=1e-3),
        ),
        columns=_both,
        link="exp",
        rivals=("chinchilla",),
        constants=(
            Constants(
                label="kaplan",
                values={"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103},
                source=f"arXiv:{ARXIV}, table 2",
                convention="early stopping on D tokens, dropout 10%: D may be passed many times",
                valid={"params": VALID_PARAMS, "tokens": (22e6, 23e9)},
            ),
        ),
        note="D here is the size of the corpus under early stopping, not tokens seen: do not "
        "combine it with C = 6 N D.",
    )
)


def _compute_exponent(v: Values) -> Array:
    """1 / (1/alpha_N + 1/alpha_S + 1/alpha_B) with the paper's alpha_B of 0.21 (equation B.7)."""
    return 1.0 / (1.0 / v["alpha_N"] + 1.0 / v["alpha_S"] + 1.0 / 0.21)


register(
    Law(
        name="kaplan-steps",
        title=TITLE,
        arxiv=ARXIV,
        form="L = A / N^alpha_N + B / S^alpha_S, A = N_c^alpha_N, B = S_c^alpha_S",
        inputs=(BODY, STEPS),
        parameters=(
            exponent("alpha_N", "parameters", search=(0.02, 0.5)),
            exponent("alpha_S", "steps"),
        ),
        coefficients=(
            Coefficient(name="A", meaning="scale of the parameter term"),
            Coefficient(name="B", meaning="scale of the term in steps"),
        ),
        columns=_steps,
        derived={
            "N_c": Derived("parameter scale", lambda v: v["A"] ** (1.0 / v["alpha_N"])),
            "S_c": Derived("step scale", lambda v: v["B"] ** (1.0 / v["alpha_S"])),
            "alpha_C": Derived("exponent of compute, spent at best", _compute_exponent),
        },
        constants=(
            Constants(
                label="kaplan",
                values={"alpha_N": 0.077, "alpha_S": 0.76, "A": 6.5e13**0.077, "B": 2.1e3**0.76},
                source=f"arXiv:{ARXIV}, table 3 (N_c = 6.5e13, S_c = 2.1e3)",
                valid={"params": VALID_PARAMS},
            ),
        ),
        note="S is the least number of steps (equation 5.4): see minimum_steps.",
    )
)

register(
    Law(
        name="kaplan-critical-batch",
        title=TITLE,
        arxiv=ARXIV,
        form="B_crit = B / L^(1 / alpha_B), tokens",
        inputs=(LOSS,),
        target="batch",
        parameters=(exponent("alpha_B", "loss (inverse)", search=(0.1, 1.0), low=0.02),),
        coefficients=(Coefficient(name="B", meaning="critical batch at a loss of one nat"),),
        columns=_batch,
        constants=(
            Constants(
                label="kaplan",
                values={"alpha_B": 0.21, "B": 2e8},
                source=f"arXiv:{ARXIV}, equation 1.4 (2.1e8 in its table 5)",
            ),
        ),
    )
)
