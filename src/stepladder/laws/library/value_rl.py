"""Value-based reinforcement learning: data needed, batch and rate by updates per data point."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Coefficient, Derived, Input, Law, Values, power
from stepladder.laws.parts import exponent
from stepladder.laws.registry import register

TITLE = "Value-Based Deep RL Scales Predictably"
ARXIV = "2502.04327"
RATIO = Input(name="utd", meaning="gradient updates a new data point", unit="ratio", falls=True)
GRID = np.geomspace(1e-3, 1e4, 4001)


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    return 1.0, power(x["utd"], -p["alpha"])


def best_ratio(values: Mapping[str, float], price_per_update: float) -> tuple[float, float]:
    """(updates a data point, data points) with the least cost D + price * ratio * D.

    Args:
        values: of value-rl at the return that is wanted.
        price_per_update: cost of one update in data points.
    """
    data = VALUE_RL.predict(values, {"utd": GRID})
    at = int(np.argmin(data * (1.0 + price_per_update * GRID)))
    return float(GRID[at]), float(data[at])


VALUE_RL = register(
    Law(
        name="value-rl",
        title=TITLE,
        arxiv=ARXIV,
        form="D_J = D_min + (beta / ratio)^alpha",
        inputs=(RATIO,),
        target="samples",
        parameters=(exponent("alpha", "updates a data point", search=(0.05, 2.0), low=1e-3),),
        coefficients=(
            Coefficient(name="D_min", meaning="data needed however many updates"),
            Coefficient(name="B", meaning="beta^alpha"),
        ),
        columns=_columns,
        derived={"beta": Derived("the paper's scale", lambda v: v["B"] ** (1.0 / v["alpha"]))},
        note="Data needed for one return J; fit it after batch and rate follow their own laws in "
        "the ratio, or overfitting and lost plasticity bend it.",
    )
)


def _power(p: Values, x: Values) -> Sequence[ArrayLike]:
    return (power(x["utd"], -p["alpha"]),)


def _choice(target: str, meaning: str) -> Law:
    return Law(
        name=f"value-rl-{target}",
        title=TITLE,
        arxiv=ARXIV,
        form=f"{target} = A / ratio^alpha",
        inputs=(RATIO,),
        target=target,
        parameters=(exponent("alpha", "updates a data point", search=(0.01, 1.5)),),
        coefficients=(Coefficient(name="A", meaning=f"{meaning} at one update a data point"),),
        columns=_power,
    )


register(_choice("batch", "best batch"))
register(_choice("lr", "best learning rate"))
