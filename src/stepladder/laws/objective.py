"""What a fit minimises: a loss of residuals, summed over points.

A residual is `log prediction - log target` ("log") or `prediction - target` ("plain"). `quantile`
below one half leans the fit to the lower edge of the points, which is right when runs are
undertuned: their losses can only lie above the law.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from stepladder.laws.law import Array
from stepladder.names import did_you_mean

LOSSES = ("huber", "squares", "asymmetric", "quantile")
RESIDUALS = ("log", "plain")
LEANING = 0.1  # the quantile of "asymmetric" and "quantile" where none is given


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of one residual.

    Args:
        loss: "huber" (Huber with `delta`), "squares", "asymmetric" (squares, weighted by side:
            an expectile) or "quantile" (Huber weighted by side: a quantile as delta shrinks).
        residual: "log" or "plain".
        delta: where Huber turns from quadratic to linear, in units of the residual. Hoffmann et
            al. (arXiv:2203.15556, section 3.3) use 1e-3 on logarithms.
        quantile: points below the law count `2 (1 - quantile)` times, points above `2 quantile`.
    """

    loss: Literal["huber", "squares", "asymmetric", "quantile"] = "huber"
    residual: Literal["log", "plain"] = "log"
    delta: float = 1e-3
    quantile: float = 0.5

    def __post_init__(self) -> None:
        _check(self.loss, LOSSES, "loss")
        _check(self.residual, RESIDUALS, "residual")
        if not 0 < self.quantile < 1:
            raise ValueError(f"quantile must lie between 0 and 1, not {self.quantile:g}")
        if not self.delta > 0:
            raise ValueError(f"delta must be positive, not {self.delta:g}")

    @property
    def quadratic(self) -> bool:
        """Whether the loss is a square on both sides of zero."""
        return self.loss in ("squares", "asymmetric")


class Terms(NamedTuple):
    """The loss of each residual, its derivative, and two curvatures.

    `curvature` is the second derivative; `bound` that of the parabola through the point which lies
    above the loss everywhere: a step by it never overshoots, a step by `curvature` ends quickly.
    """

    value: Array
    slope: Array
    curvature: Array
    bound: Array


def leaning(loss: str) -> Objective:
    """The objective called `loss`, with the quantile that its name implies."""
    one_sided = loss in ("asymmetric", "quantile")
    return Objective(loss=loss, quantile=LEANING if one_sided else 0.5)  # type: ignore[arg-type]


def terms(objective: Objective, residual: Array) -> Terms:
    """The loss of every residual; any shape."""
    if objective.quadratic:
        flat = np.ones_like(residual)
        result = Terms(0.5 * residual**2, residual, flat, flat)
    else:
        result = _huber(residual, objective.delta)
    if objective.quantile == 0.5:
        return result
    side = 2.0 * np.where(residual > 0, 1.0 - objective.quantile, objective.quantile)
    return Terms(*(side * term for term in result))


def _huber(residual: Array, delta: float) -> Terms:
    size = np.abs(residual)
    inside = (size < delta).astype(np.float64)
    bound = np.maximum(size, delta, out=size)
    np.divide(delta, bound, out=bound)
    slope = residual * bound
    # slope (residual - slope / 2): a square inside and a line outside, without a branch
    value = np.multiply(slope, -0.5)
    value += residual
    value *= slope
    return Terms(value, slope, inside, bound)


def _check(value: str, known: tuple[str, ...], what: str) -> None:
    if value not in known:
        near = did_you_mean(value, known)
        raise ValueError(f"{what} cannot be {value!r}{near}; it is one of {', '.join(known)}")
