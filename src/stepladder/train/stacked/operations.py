"""Operations that vmap makes slow, written with the trials in front of the batch.

vmap multiplies [S, B, T, D] by matrices [S, D, O] as S x B small products over repeated matrices;
here they are S products over all tokens. On one core the layers of a small transformer take a half
to a third of the time.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stepladder.train.stacked.masks import HANDLERS, Masks


class Folded(Masks):
    """While it is on, linear layers inside `torch.func.vmap` are products over all tokens.

    Args:
        key: of dropout, as in `Masks`.
    """

    only_dropout = False

    @staticmethod
    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `torch.nn.functional.linear`."""
        out: Tensor = _Linear.apply(x, weight, bias)
        return out

    def handlers(self) -> Mapping[Any, Callable[..., Any]]:
        """Those of dropout, and linear layers."""
        return _FOLDED


def _linear(folded: Folded, *args: Any, **kwargs: Any) -> Tensor:
    return folded.linear(*args, **kwargs)


_FOLDED = {**HANDLERS, F.linear: _linear}


class _Linear(torch.autograd.Function):
    """A function whose vmap is ours; it is differentiated through what that calls."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing: outside of vmap nobody differentiates it."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, int]:
        trials = info.batch_size
        x_S = _in_front(x, in_dims[0], trials)
        weight_SOI = _in_front(weight, in_dims[1], trials)
        x_SNI = x_S.reshape(trials, -1, x_S.shape[-1])
        if bias is None:
            y_SNO = torch.bmm(x_SNI, weight_SOI.mT)
        else:
            bias_SO = _in_front(bias, in_dims[2], trials)
            y_SNO = torch.baddbmm(bias_SO[:, None], x_SNI, weight_SOI.mT)
        return y_SNO.view(*x_S.shape[:-1], weight_SOI.shape[1]), 0


def _in_front(tensor: Tensor, dim: int | None, trials: int) -> Tensor:
    """With the trials in the first dimension; what all share is repeated without memory."""
    if dim is None:
        return tensor.expand(trials, *tensor.shape)
    return tensor.movedim(dim, 0)
