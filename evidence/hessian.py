"""The sharpest curvature of a model's loss on a batch, for any model that has gradients."""

import torch
from torch import Tensor

from stepladder.models.transformer import Transformer

POWER_STEPS = 16
NUDGE = 1e-4  # of the weights' norm, for a product with the Hessian


def top_of_hessian(model: Transformer, x: Tensor, y: Tensor) -> float:
    """The Hessian's largest eigenvalue in size, by power iteration on differences of gradients."""
    weights = list(model.parameters())
    start = [p.detach().clone() for p in weights]
    step = NUDGE * float(torch.sqrt(sum(p.square().sum() for p in start)))
    generator = torch.Generator().manual_seed(0)
    v = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in weights]

    def gradient(along: float) -> tuple[Tensor, ...]:
        with torch.no_grad():
            for p, first, one in zip(weights, start, v, strict=True):
                p.copy_(first + along * one)
        return torch.autograd.grad(model.loss(x, y), weights)

    found = 0.0
    for _ in range(POWER_STEPS):
        norm = torch.sqrt(sum(one.square().sum() for one in v))
        v = [one / norm for one in v]
        turned = [
            (up - down) / (2 * step)
            for up, down in zip(gradient(step), gradient(-step), strict=True)
        ]
        found = float(sum((a * b).sum() for a, b in zip(v, turned, strict=True)))
        v = turned
    with torch.no_grad():
        for p, first in zip(weights, start, strict=True):
            p.copy_(first)
    return found
