"""Layers with a stack of weights: trial s of the input goes through weight s.

The trials lie in front of the batch, folded into one dimension: x is [S*B, ...]. Whatever else a
model does (attention, activations, sums) treats sequences apart and needs no change; only where
parameters meet activations is the trial unfolded.
"""

import copy
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepladder.models.transformer import HeadNorm


class Unstackable(ValueError):  # noqa: N818 (a state, said as one)
    """What keeps a model from being stacked."""


class StackedLinear(nn.Module):
    """Batched matrix products: weight [S, out, in]."""

    def __init__(self, weight_SOI: nn.Parameter, bias_SO: nn.Parameter | None) -> None:
        super().__init__()
        self.weight, self.bias = weight_SOI, bias_SO

    def forward(self, x: Tensor) -> Tensor:
        trials, out, size = self.weight.shape
        x_SNI = x.reshape(trials, -1, size)
        if self.bias is None:
            y_SNO = torch.bmm(x_SNI, self.weight.mT)
        else:
            y_SNO = torch.baddbmm(self.bias[:, None], x_SNI, self.weight.mT)
        return y_SNO.view(*x.shape[:-1], out)


class StackedEmbedding(nn.Module):
    """One table of all trials' rows: weight [S, V, D]."""

    def __init__(self, weight_SVD: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight_SVD

    def forward(self, tokens: Tensor) -> Tensor:
        trials, vocab_size, _ = self.weight.shape
        first_S = torch.arange(0, trials * vocab_size, vocab_size, device=tokens.device)
        rows = tokens.reshape(trials, -1) + first_S[:, None]
        return F.embedding(rows.view(tokens.shape), self.weight.flatten(0, 1))


class StackedRMSNorm(nn.Module):
    """RMSNorm over the last dimension: gain [S, D]. Computes in float32 at least, as torch's."""

    def __init__(self, weight_SD: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = weight_SD, eps

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _RMSNorm.apply(x, self.weight, self.eps)
        return out


class _RMSNorm(torch.autograd.Function):
    """y = x r w with r = 1 / sqrt(mean x^2 + eps); half the passes of the composite on a CPU."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight_SD: Tensor, eps: float
    ) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, weight_SD.dtype))
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        r = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight_SD, r)
        return (wide * r).mul_(_spread(weight_SD, x)).to(x.dtype)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, grad: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        x, weight_SD, r = ctx.saved_tensors  # type: ignore[attr-defined]
        unit = x.to(r.dtype) * r
        grad_weight = _summed(grad * unit, weight_SD)
        grad_unit = grad * _spread(weight_SD, x)
        # d unit / d x = r (1 - unit unit^T / D)
        along = (grad_unit * unit).sum(dim=-1, keepdim=True).div_(x.shape[-1])
        grad_x = grad_unit.sub_(unit.mul_(along)).mul_(r)
        return grad_x.to(x.dtype), grad_weight, None


def _spread(weight_SD: Tensor, x: Tensor) -> Tensor:
    """The gains, repeated for each row of the batch and broadcastable to x [S*B, ..., D]."""
    trials, size = weight_SD.shape
    per_row = weight_SD.repeat_interleave(x.shape[0] // trials, dim=0)
    return per_row.view(x.shape[0], *(1,) * (x.ndim - 2), size)


def _summed(product: Tensor, weight_SD: Tensor) -> Tensor:
    trials, size = weight_SD.shape
    return product.reshape(trials, -1, size).sum(dim=1)


Stacked = Mapping[str, nn.Parameter]  # a layer's parameter -> the same of all trials


def _linear(layer: nn.Module, given: Stacked) -> nn.Module:
    return StackedLinear(given["weight"], given.get("bias"))


def _embedding(layer: nn.Module, given: Stacked) -> nn.Module:
    return StackedEmbedding(given["weight"])


def _rms_norm(layer: nn.Module, given: Stacked) -> nn.Module:
    assert isinstance(layer, nn.RMSNorm)
    eps = layer.eps
    assert eps is not None
    return StackedRMSNorm(given["weight"], eps)


LAYERS: dict[type[nn.Module], Callable[[nn.Module, Stacked], nn.Module]] = {
    nn.Linear: _linear,
    nn.Embedding: _embedding,
    nn.RMSNorm: _rms_norm,
    HeadNorm: _rms_norm,
}


def stack_layers(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> nn.Module:
    """The model with every layer that has parameters in its stacked form.

    Args:
        model: one trial's; it is not changed.
        parameters: name -> the parameter of all trials, the trials in front.

    Raises:
        Unstackable: a layer with parameters has no stacked form here.
    """
    names = {id(p): name for name, p in model.named_parameters()}  # tied ones by their first name
    whole = copy.deepcopy(model)
    for path, layer in model.named_modules():
        own = {name: parameters[names[id(p)]] for name, p in layer.named_parameters(recurse=False)}
        if not own:
            continue
        if type(layer) not in LAYERS:
            raise Unstackable(f"{path} is a {type(layer).__name__}, which has no stacked form")
        whole.set_submodule(path, LAYERS[type(layer)](layer, own))
    return whole
