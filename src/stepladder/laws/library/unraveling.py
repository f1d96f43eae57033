"""The whole loss curve at any batch: Kaplan's laws of steps and of the critical batch together.

The loss stands on both sides, L = (N_c/N)^alpha_N + (S_c/S_min)^alpha_S with
S_min = S / (1 + B_crit(L)/B) and B_crit = B_*/L^(1/alpha_B); it is solved by Newton's steps. The
right side falls as L grows and is convex, so that steps from below never overshoot.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Constants, Input, Law, Values, power
from stepladder.laws.parts import BODY, exponent, scale
from stepladder.laws.registry import register

NEWTON_STEPS = 20
CLOSE = 1e-9  # of the loss: the step after one so small ends at its last digit


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    size = power(p["N_c"] / x["params"], p["alpha_N"])
    loss = size + power(p["S_c"] / x["steps"], p["alpha_S"])  # of an endless batch: from below
    close = False
    for _ in range(NEWTON_STEPS):
        ratio, rest = _rest(p, x, loss)
        step = (size + rest - loss) / (1.0 + _falls(p, ratio, rest) / loss)
        loss = loss + step
        if close:
            break
        close = bool(np.all(np.abs(step) < CLOSE * np.abs(loss)))
    return (loss,)


def _rest(p: Values, x: Values, loss: Array) -> tuple[Array, Array]:
    """B_crit / B at a loss, and what the steps leave of the loss there."""
    ratio = p["B_star"] / x["batch"] * power(loss, -1.0 / p["alpha_B"])
    return ratio, power(p["S_c"] / x["steps"] * (1.0 + ratio), p["alpha_S"])


def _falls(p: Values, ratio: Array, rest: Array) -> Array:
    """By how much `rest` falls with the logarithm of the loss."""
    return np.asarray(rest * p["alpha_S"] / p["alpha_B"] * ratio / (1.0 + ratio))


def _slopes(p: Values, x: Values, columns: Sequence[Array]) -> Mapping[str, Sequence[ArrayLike]]:
    """Those of the right side at a fixed loss, over one and its own fall (implicit functions)."""
    (loss,) = columns
    ratio, rest = _rest(p, x, loss)
    falls, size = _falls(p, ratio, rest), loss - rest
    slopes = {
        "N_c": size * p["alpha_N"] / p["N_c"],
        "alpha_N": size * np.log(p["N_c"] / x["params"]),
        "S_c": rest * p["alpha_S"] / p["S_c"],
        "alpha_S": rest * np.log(rest) / p["alpha_S"],
        "B_star": falls * p["alpha_B"] / p["B_star"],
        "alpha_B": falls * np.log(loss) / p["alpha_B"],
    }
    return {name: (slope / (1.0 + falls / loss),) for name, slope in slopes.items()}


UNRAVELING = register(
    Law(
        name="unraveling",
        title="Unraveling the Mystery of Scaling Laws: Part I",
        arxiv="2403.06563",
        form="L = (N_c/N)^alpha_N + (S_c (1 + B_* / (B L^(1/alpha_B))) / S)^alpha_S",
        inputs=(
            BODY,
            Input(name="steps", meaning="optimizer steps taken", falls=True),
            Input(name="batch", meaning="tokens a step", low=1.0),
        ),
        parameters=(
            scale("N_c", "scale of parameters", 1e12, 1e15),
            exponent("alpha_N", "parameters", search=(0.03, 0.2)),
            scale("S_c", "scale of steps", 1e2, 1e5),
            exponent("alpha_S", "steps", search=(0.3, 1.2)),
            scale("B_star", "critical batch at one nat, tokens", 1e6, 1e10),
            exponent("alpha_B", "loss (inverse), of the critical batch", search=(0.1, 0.5),
                     low=0.05),
        ),
        columns=_columns,
        slopes=_slopes,
        constants=(
            Constants(
                label="kaplan",
                values={
                    "N_c": 6.5e13, "alpha_N": 0.077, "S_c": 2.1e3, "alpha_S": 0.76,
                    "B_star": 2e8, "alpha_B": 0.21,
                },
                source="arXiv:2001.08361, table 3 and equation 1.4: the recipe's own constants "
                "belong to each setup",
                valid={"params": (768.0, 1.5e9)},
            ),
        ),
        note="The recipe: fit N_c, alpha_N on converged runs, the rest on curves at two or more "
        "batch sizes of models of 1M to 60M parameters; the paper then predicts 33B. Constants "
        "move with tokenizer, context, data and learning rate.",
    )
)  # fmt: skip
