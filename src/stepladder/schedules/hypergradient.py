"""FedHyper: the rate moves by the inner product of successive update directions."""

import math
from dataclasses import dataclass, replace
from typing import Self

from stepladder.card import Card
from stepladder.schedules import register_controller

CARD = Card(
    name="fedhyper",
    family="schedules",
    title="FedHyper: A Universal and Robust Learning Rate Scheduler for Federated Learning with "
    "Hypergradient Descent",
    arxiv="2310.03156",
    claim="1.1 to 3 times faster than FedAvg; up to 15% more accurate when the first rate is bad",
    note="A controller, not a function of progress: it multiplies the schedule named by `over`. "
    "With one machine it is hypergradient descent (Baydin et al., arXiv 1703.04782). The training "
    "loop gives it the cosine between a gradient and the step before, in [-1, 1]: the paper's "
    "unscaled product has the model's scale and would need another `sensitivity` at each size. "
    "The bounds gamma = 3 (server) and 10 (clients) are the paper's at second hand. Costs a copy "
    "of the parameters.",
)


@register_controller(CARD)
@dataclass(frozen=True, kw_only=True)
class Hypergradient:
    """The factor of a rate, as a value: `update` returns the next one.

    Attributes:
        factor: the multiplier of the peak rate now.
        gamma: the factor stays in [1/gamma, gamma].
        sensitivity: multiplies the inner product.
        over: the schedule that the factor multiplies.
    """

    factor: float = 1.0
    gamma: float = 3.0
    sensitivity: float = 1.0
    over: str = "constant"

    def __post_init__(self) -> None:
        if not 1 < self.gamma < math.inf:
            raise ValueError(f"fedhyper: gamma must be above 1 and finite: {self.gamma!r}")
        if not 0 < self.sensitivity < math.inf:
            raise ValueError(
                f"fedhyper: sensitivity must be positive and finite: {self.sensitivity!r}"
            )
        if not 1 / self.gamma <= self.factor <= self.gamma:
            raise ValueError(f"fedhyper: factor must lie in [1/gamma, gamma]: {self.factor!r}")

    def update(self, inner: float) -> Self:
        """After a step: `inner` is <this update direction, the one before> (FedHyper-G).

        A direction that agrees with the last one means that the step was too short.
        """
        moved = self.factor + self.sensitivity * inner
        return replace(self, factor=min(self.gamma, max(1.0 / self.gamma, moved)))
