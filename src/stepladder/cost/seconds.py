"""Seconds of a run on a device: a roofline of each part, every term visible.

A part takes the longer of its arithmetic at the rate the device reaches for its size, and its bytes
at the bandwidth the device reaches for them (Williams et al. 2009, *Roofline*); parts run one after
another.
"""

from dataclasses import dataclass, fields

from stepladder.cost.counts import TRAINING, Flops, measured_tokens, parameters
from stepladder.cost.memory import logits_held
from stepladder.cost.traffic import Traffic
from stepladder.devices import Device, interpolate
from stepladder.recipe import Model, Recipe

MEASURED_AT_ONCE = 16_384  # tokens of one batch of a measurement, as in `train.evaluate`
LEAST_HEAD = 32  # narrower heads leave the softmax as long as it was, and take as much time


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Seconds of a whole run by part.

    `overhead` is what launching operations adds, `start` what a run takes before its first step
    and after its last.
    """

    projections: float
    mlp: float
    attention: float
    head: float
    elementwise: float
    loss: float
    optimizer: float
    overhead: float
    evaluation: float
    start: float

    @property
    def training(self) -> float:
        """Seconds of the steps."""
        return self.total - self.evaluation - self.start

    @property
    def total(self) -> float:
        """Seconds of the run."""
        return float(sum(getattr(self, f.name) for f in fields(self)))


def seconds(recipe: Recipe, device: Device, flops: Flops, moved: Traffic) -> Seconds:
    """Seconds of a run.

    Args:
        recipe: the run.
        device: where it runs.
        flops: training FLOPs of one step.
        moved: bytes of one step.

    Raises:
        ValueError: the device has no rate for the recipe's precision.
    """
    micro = recipe.batch // recipe.accumulate
    step = {
        **_products(recipe, device, flops, moved),
        "elementwise": _elementwise(recipe.model, device, moved),
        "loss": moved.loss / interpolate(device.loss, logits_held(recipe.model, micro)),
        "optimizer": _update(device, moved),
    }
    pace = interpolate(device.pace, recipe.model.width)
    step = {part: value * pace for part, value in step.items()}
    busy, launching = sum(step.values()), _launching(recipe.model, device)
    step["overhead"] = _exposed(device, busy, recipe.accumulate * launching)
    forward = (busy - step["optimizer"]) / TRAINING / recipe.batch  # of a token
    at_once = min(MEASURED_AT_ONCE, recipe.validation)
    waiting = _exposed(device, forward * at_once, launching / TRAINING) / at_once
    return Seconds(
        evaluation=(forward + waiting) * measured_tokens(recipe),
        start=device.start,
        **{part: value * recipe.steps for part, value in step.items()},
    )


def _products(recipe: Recipe, device: Device, flops: Flops, moved: Traffic) -> dict[str, float]:
    """Seconds of one step's parts that are matrix products."""
    model, slowest = recipe.model, device.bandwidth[-1][1]
    out: dict[str, float] = {}
    for part, weights in matrix_weights(model).items():
        rate = device.matmul_rate(recipe.precision, _side(model, part))
        transfer = getattr(moved, part) + moved.weights * weights
        out[part] = max(getattr(flops, part) / rate, transfer / slowest)
    rate = device.attention_rate(recipe.precision, model.context)
    rate *= min(1.0, model.head_size / LEAST_HEAD)
    out["attention"] = max(flops.attention / rate, moved.attention / slowest)
    return out


def matrix_weights(model: Model) -> dict[str, float]:
    """Each part's share of the weights that are in matrix products."""
    count = parameters(model)
    parts = {"projections": count.attention, "mlp": count.mlp, "head": count.head}
    return {part: number / sum(parts.values()) for part, number in parts.items()}


def _side(model: Model, part: str) -> float:
    """Side of the square matrix that stands for a part's matrices: their shorter side."""
    other = {
        "projections": model.head_size * (model.heads + model.kv_heads) / 2,
        "mlp": model.mlp_width,
        "head": model.vocab_size,
    }
    return min(model.width, other[part])


def _elementwise(model: Model, device: Device, moved: Traffic) -> float:
    wide = moved.elementwise / interpolate(device.elementwise, model.width)
    return wide + moved.heads / interpolate(device.elementwise, model.head_size)


def _update(device: Device, moved: Traffic) -> float:
    touched = moved.optimizer + moved.gradients
    return touched / interpolate(device.bandwidth, touched)


def _launching(model: Model, device: Device) -> float:
    """Seconds that launching a micro-batch's operations takes, forward and backward."""
    return device.step_launch + model.depth * device.block_launch


def _exposed(device: Device, busy: float, launching: float) -> float:
    """What launching adds to the work: on a GPU's queue, only what the work does not hide."""
    return max(0.0, launching - busy) if device.asynchronous else launching
