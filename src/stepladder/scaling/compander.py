"""Weights seen through a curve that bounds them: w = a arctan(v / b), where v is what is trained.

Cakaj, Mehnert & Yang 2023, *Weight Compander* (arXiv 2306.16993): no weight passes a * pi / 2, and
small ones are moved most, since dw/dv is largest at 0. The arctangent is the catalogue's reading of
the paper; its printed constants could not be confirmed, so that both sizes must be given.
"""

from math import pi

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class WeightCompander(nn.Module):
    """The curve, for `torch.nn.utils.parametrize`: v -> w elementwise, and back.

    Args:
        bound: the size that no weight reaches; a = 2 bound / pi.
        knee: b, the size of v beyond which the curve flattens. With knee = a small weights are
            their v, and only large ones are bent.
        learn: whether bound and knee are trained (as logarithms, so that they stay above 0).

    Raises:
        ValueError: a size is not above 0.
    """

    def __init__(self, bound: float, knee: float, *, learn: bool = False) -> None:
        super().__init__()
        if not (bound > 0 and knee > 0):
            raise ValueError(f"bound and knee are above 0, not {bound} and {knee}")
        sizes = torch.tensor([bound, knee], dtype=torch.float64).log()
        self.log_sizes: Tensor
        if learn:
            self.log_sizes = nn.Parameter(sizes)
        else:
            self.register_buffer("log_sizes", sizes)

    def forward(self, stored: Tensor) -> Tensor:
        """v -> w, of any shape."""
        bound, knee = self.log_sizes.to(stored.dtype).exp()
        return 2 / pi * bound * torch.atan(stored / knee)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """w -> v: what to store so that a module keeps the weights it has.

        Raises:
            ValueError: a weight is as large as the bound.
        """
        bound, knee = self.log_sizes.detach().to(weight.dtype).exp()
        largest = float(weight.abs().max())
        if largest >= bound:
            raise ValueError(
                f"a weight of size {largest:.4g} is not below the bound of {float(bound):.4g}: "
                "give a larger bound"
            )
        return knee * torch.tan(weight * pi / (2 * bound))


def compand(module: nn.Module, bound: float, knee: float, *, learn: bool = False) -> nn.Module:
    """Put a curve of its own on every weight matrix inside a module, in place.

    `bound` is in units of each matrix's own largest weight and has to be above 1, `knee` in units
    of its root mean square, so that one pair serves layers of any size. Biases and gains are left
    alone.

    Raises:
        ValueError: there is nothing to compand, or a size is out of range.
    """
    found = [
        (layer, name)
        for layer in module.modules()
        for name, parameter in layer.named_parameters(recurse=False)
        if parameter.dim() > 1 and not parametrize.is_parametrized(layer, name)
    ]
    if not found:
        raise ValueError("the module has no weight matrices to compand")
    for layer, name in found:
        weight = getattr(layer, name).detach()
        peak, rms = float(weight.abs().max()), float(weight.square().mean().sqrt())
        curve = WeightCompander(bound * peak, knee * rms, learn=learn)
        parametrize.register_parametrization(layer, name, curve)
    return module
