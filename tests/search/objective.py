"""A smooth objective with a choice, a conditional parameter, levels and a region that diverges."""

import math

from stepladder.search.space import Space

COSTS = (1.0, 3.0, 9.0)
SPACE = Space.parse(["a=log:1e-4..1", "b=0..1", "kind=x,y", "d=0..1 if kind=x", "n=int:1..5"])
FLOOR = 1.0  # the loss at the optimum, at the top level


def loss(values, level):
    """Lowest at a = 0.01, b = 0.3, kind = x, d = 0.5, n = 3; levels agree about that."""
    out = (math.log10(values["a"]) + 2) ** 2 + (values["b"] - 0.3) ** 2
    out += 0.3 * (values["kind"] == "y") + 0.1 * (values.get("d", 0.0) - 0.5) ** 2
    return FLOOR + out + 0.02 * (values["n"] - 3) ** 2 + 1.0 / (level + 1) - 1 / len(COSTS)
