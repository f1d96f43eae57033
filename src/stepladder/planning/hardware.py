"""What a plan takes on a device, and the compute that a span of time there buys: the cost model."""

from dataclasses import replace

from stepladder.cost import Cost, cost
from stepladder.devices import Device
from stepladder.planning.plan import Plan, Quantity, Setting
from stepladder.planning.recipes import get
from stepladder.recipe import Model, Optimizer, Recipe

HEAD_SIZE = 64
MLP_RATIO = 8 / 3  # of a gated unit: as many parameters as a plain one of ratio 4
BATCH = 2**19  # tokens a step where a recipe states none
MICRO = 2**13  # tokens that are in memory at once
TYPICAL = "chinchilla-refit"  # whose shape turns time into compute
ROUNDS = 20
FIRST_SIZE = 1024.0  # width at whose rate the search for a budget begins


def compute_in(seconds: float, device: Device, precision: str, setting: Setting) -> Quantity:
    """The training FLOP that a device does in `seconds`, at the size that so much compute wants.

    A larger budget trains a larger model, whose products run faster: the two are solved together.

    Args:
        setting: vocabulary and context; its own `flops` is not used.

    Raises:
        ValueError: the device has no rate for the precision, or the time buys no model.
    """
    flops = seconds * 0.5 * device.matmul_rate(precision, FIRST_SIZE)
    for _ in range(ROUNDS):
        plan = get(TYPICAL)(replace(setting, flops=flops))
        spent = _cost(plan, replace(setting, flops=flops), precision)
        # shapes come in steps: half the way in ratio settles where the whole would swing
        flops *= (seconds / spent.seconds(device).training) ** 0.5
    return Quantity(
        value=flops,
        source=f"{seconds:.4g} s on one {device.name} by the cost model ({device.source})",
    )


def on_device(plan: Plan, setting: Setting, device: Device, precision: str) -> Plan:
    """The plan, with the time it takes on one such device, and a note where it does not fit."""
    if not plan.number("width") > 0:
        return plan
    spent = _cost(plan, setting, precision)
    taken = Quantity(
        value=spent.seconds(device).training,
        source=f"cost model: {precision} on one {device.name} ({device.source})",
    )
    needed = spent.memory.peak
    note = (
        f"needs {needed / 1e9:.3g} GB where one {device.name} has {device.memory / 1e9:.3g}: "
        "several, or sharded"
    )
    notes = (*plan.notes, note) if needed > device.memory else plan.notes
    return replace(plan, quantities={**plan.quantities, "seconds": taken}, notes=notes)


def _cost(plan: Plan, setting: Setting, precision: str) -> Cost:
    """The cost of training the plan's shape on its tokens, as a dense decoder."""
    width, context = int(plan.number("width")), setting.context
    heads = max(1, width // HEAD_SIZE)
    tokens = max(int(plan.number("tokens")), context)
    stated = plan.number("batch")
    batch = min(stated if stated > 0 else BATCH, tokens)
    micro = context * max(1, min(int(batch), MICRO) // context)
    accumulate = max(1, int(batch) // micro)
    return cost(
        Recipe(
            model=Model(
                width=width,
                depth=int(plan.number("depth")),
                heads=heads,
                kv_heads=heads,
                head_size=width // heads,
                mlp_width=round(MLP_RATIO * width / 8) * 8,
                context=context,
                vocab_size=setting.vocab,
            ),
            optimizer=Optimizer(lr=1e-3),
            tokens=max(tokens, micro * accumulate),
            batch=micro * accumulate,
            accumulate=accumulate,
            precision=precision,
        )
    )
