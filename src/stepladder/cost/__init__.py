"""What a recipe costs: parameters, FLOPs, bytes moved, memory and seconds, each term visible.

    c = cost(recipe)
    c.parameters.non_embedding, c.flops.total, c.memory.peak, c.seconds(device_named("h100")).total

Closed forms without torch, a fraction of a millisecond each: a plan tries hundreds of shapes.
"""

from dataclasses import dataclass

from stepladder.cost.counts import (
    TRAINING,
    Flops,
    Parameters,
    forward_flops,
    measured_tokens,
    parameters,
)
from stepladder.cost.memory import Memory, memory
from stepladder.cost.optimizer import Price, price_in
from stepladder.cost.seconds import Seconds, seconds
from stepladder.cost.traffic import Traffic, traffic
from stepladder.devices import Device
from stepladder.recipe import Recipe

__all__ = [
    "Cost",
    "Flops",
    "Memory",
    "Parameters",
    "Seconds",
    "Traffic",
    "cost",
    "forward_flops",
    "parameters",
]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one recipe. FLOPs are of the whole run, memory of one step's peak.

    Attributes:
        tokens: training tokens, whole batches only.
        flops: matrix products of training, forward and backward, by part.
        flops_optimizer: the optimizer's updates, all steps.
        flops_evaluation: matrix products of all measurements on the validation set.
        memory: bytes at the peak, by part.
        traffic: bytes moved by one step of the eager program, by part.
    """

    recipe: Recipe
    parameters: Parameters
    tokens: int
    flops: Flops
    flops_optimizer: float
    flops_evaluation: float
    memory: Memory
    traffic: Traffic
    price: Price

    @property
    def flops_total(self) -> float:
        """Training FLOPs of all matrix products, full square of attention scores: the C of laws."""
        return self.flops.total

    @property
    def flops_per_token(self) -> float:
        """Training FLOPs per token."""
        return self.flops.total / self.tokens

    @property
    def flops_6nd(self) -> float:
        """6ND with all parameters, as Chinchilla counts N (arXiv 2203.15556)."""
        return 6.0 * self.parameters.total * self.tokens

    @property
    def flops_6nd_non_embedding(self) -> float:
        """6ND with neither embedding nor head, as Kaplan et al. count N (arXiv 2001.08361)."""
        return 6.0 * self.parameters.non_embedding * self.tokens

    @property
    def peak_memory(self) -> float:
        """Bytes held at the worst moment of a step."""
        return self.memory.peak

    def seconds(self, device: Device) -> Seconds:
        """Seconds of the run on a device, by part; `.total` is their sum.

        Raises:
            ValueError: the device has no rate for the recipe's precision.
        """
        moved = traffic(self.recipe, self.price.state_bytes, compiled=device.compiled)
        return seconds(self.recipe, device, self.flops * (1 / self.recipe.steps), moved)


def cost(recipe: Recipe) -> Cost:
    """The cost of a recipe, by closed forms.

    Raises:
        ValueError: an optimizer that is not registered.
    """
    count, forward = parameters(recipe.model), forward_flops(recipe.model)
    optimizer = price_in(recipe)
    tokens = recipe.steps * recipe.batch
    return Cost(
        recipe=recipe,
        parameters=count,
        tokens=tokens,
        flops=forward * (TRAINING * tokens),
        flops_optimizer=optimizer.flops * count.total * recipe.steps,
        flops_evaluation=forward.total * measured_tokens(recipe),
        memory=memory(recipe, optimizer.state_bytes),
        traffic=traffic(recipe, optimizer.state_bytes),
        price=optimizer,
    )
