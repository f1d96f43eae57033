"""The FLOPs on the cards, counted from the operations that a step really runs."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from stepladder.optim import REGISTRY, build, card

from .reference import parameters

# per element of the result; whatever is not listed (copies, views, allocations) is free
ELEMENTWISE = {
    **dict.fromkeys(
        [
            "mul",
            "mul_",
            "sub",
            "sub_",
            "div",
            "div_",
            "sqrt",
            "sqrt_",
            "sign",
            "sign_",
            "neg",
            "atan",
            "atan_",
            "reciprocal",
            "reciprocal_",
            "clamp_min",
            "clamp_min_",
            "clamp_max",
            "clamp_max_",
            "where",
            "abs",
            "rsub",
        ],
        1,
    ),
    **dict.fromkeys(["add", "add_"], 1),
    **dict.fromkeys(["addcmul_", "addcdiv_"], 2),
    **dict.fromkeys(["lerp", "lerp_"], 3),
}
REDUCTIONS = {"sum": 1, "linalg_vector_norm": 2, "dot": 2}
BIG = 1000
SIDE = 1024


class CountFlops(TorchDispatchMode):
    """Counts the floating-point operations on large tensors."""

    def __init__(self):
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in ("mm", "addmm_"):
            self.flops += 2 * args[0].numel() * args[1].shape[1]
        elif name in REDUCTIONS:
            self.flops += REDUCTIONS[name] * args[0].numel()
        elif name in ELEMENTWISE and result.numel() > BIG:
            scaled = (kwargs or {}).get("alpha", 1) != 1
            self.flops += (ELEMENTWISE[name] + scaled) * result.numel()
        return result


WRITTEN_HERE = [
    name
    for name in REGISTRY
    if name not in {"sgd", "adam", "adamw", "adafactor", "muon"}  # torch's own fused kernels
]


@pytest.mark.parametrize("name", WRITTEN_HERE)
def test_flops_are_as_many_as_the_card_says(name):
    weight = nn.Parameter(torch.randn(SIDE, SIDE))
    options = {} if name in {"smag", "sania"} or name.startswith("d-adapt") else {"mode": "loop"}
    optimizer = build(name, [weight], lr=0.01, weight_decay=0.1, **options)
    weight.grad = torch.randn(SIDE, SIDE)
    optimizer.step(lambda: torch.tensor(1.0))
    with CountFlops() as count:
        optimizer.step(lambda: torch.tensor(1.0))
    assert count.flops / weight.numel() == pytest.approx(card(name).flops, rel=0.02)


def test_adamws_card_is_the_count_of_the_same_arithmetic():
    (stack,) = parameters(((1, SIDE, SIDE),), torch.float32)
    optimizer = build("adamw", [stack], lr=0.01, weight_decay=0.1, trials=1)
    stack.grad = torch.randn_like(stack)
    optimizer.step()
    with CountFlops() as count:
        optimizer.step()
    assert count.flops / stack.numel() == pytest.approx(card("adamw").flops, rel=0.02)
