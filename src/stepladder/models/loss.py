"""Next-token loss that never holds the logits of all tokens when the vocabulary is large."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

# Logits of one chunk: 16 MiB in float32, the best of 2^19 to 2^24 on a CPU (vocabularies of 1,024
# to 32,768). CUDA takes four times as many, so that a chunk's products fill the device.
CHUNK_ELEMENTS = 1 << 22
CUDA_CHUNKS = 4


def next_token_loss(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, scale: float = 1.0
) -> Tensor:
    """Mean cross-entropy of `scale * hidden @ weight.T` against the targets, in nats per token.

    Args:
        hidden_ND: final hidden states, one row a token.
        weight_VD: the head's matrix.
        targets_N: index of the next token.
        scale: multiplier of the logits.

    The gradient is computed beside the loss, chunk by chunk, so peak memory is one chunk of logits
    instead of all of them; the arithmetic (three matrix products) stays the same. It also saves
    passes over the logits: 1.1 to 1.6 times as fast as `cross_entropy` of all logits on a CPU.
    """
    if torch.is_autocast_enabled(hidden_ND.device.type):
        dtype = torch.get_autocast_dtype(hidden_ND.device.type)
        hidden_ND, weight_VD = hidden_ND.to(dtype), weight_VD.to(dtype)
    loss: Tensor = _ChunkedLoss.apply(hidden_ND, weight_VD, targets_N, scale)
    return loss


def token_losses(
    hidden_ND: Tensor, weight_VD: Tensor, targets_N: Tensor, *, scale: float = 1.0
) -> Tensor:
    """Cross-entropy of each token, without gradient, in chunks. Shape [N], nats."""
    losses = [
        F.cross_entropy(_logits(h, weight_VD, scale), t, reduction="none")
        for h, t in _chunks(hidden_ND, targets_N, weight_VD.shape[0])
    ]
    return torch.cat(losses)


def _logits(hidden_ND: Tensor, weight_VD: Tensor, scale: float) -> Tensor:
    """Logits [N, V] in float32, or in float64 where the weights are."""
    logits_NV = F.linear(hidden_ND, weight_VD)
    wide = logits_NV.to(_wide(logits_NV.dtype))
    return wide if scale == 1.0 else scale * wide


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _chunks(
    hidden_ND: Tensor, targets_N: Tensor, vocab_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    rows = _rows(hidden_ND, vocab_size)
    return zip(hidden_ND.split(rows), targets_N.split(rows), strict=True)


def _rows(hidden_ND: Tensor, vocab_size: int) -> int:
    """Tokens in a chunk."""
    elements = CHUNK_ELEMENTS * (CUDA_CHUNKS if hidden_ND.is_cuda else 1)
    return max(1, elements // vocab_size)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        targets_N: Tensor,
        scale: float,
    ) -> Tensor:
        wide = _wide(hidden_ND.dtype)
        total = torch.zeros((), device=hidden_ND.device, dtype=wide)
        grad_hidden_ND = torch.empty_like(hidden_ND)
        # The sum over chunks is kept in float32 whatever the weights are.
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=wide)
        begin = 0
        for h, t in _chunks(hidden_ND, targets_N, weight_VD.shape[0]):
            losses, slope, share = _softmax_slope(_logits(h, weight_VD, scale), t[:, None])
            total = total + losses.sum()
            slope, share = slope.to(h.dtype), share.to(h.dtype)
            grad_h = grad_hidden_ND[begin : begin + len(t)]
            torch.mm(slope, weight_VD, out=grad_h).mul_(share)
            if h.dtype == wide:
                torch.addmm(grad_weight_VD, slope.T, h * share, out=grad_weight_VD)
            else:
                grad_weight_VD += slope.T @ (h * share)
            begin += len(t)
            del slope  # before the next chunk's
        # What is common to all rows is left to the gradients, which are smaller than the logits.
        ctx.factor = scale / len(targets_N)  # type: ignore[attr-defined]
        ctx.save_for_backward(grad_hidden_ND, grad_weight_VD)
        return total / len(targets_N)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, grad: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden_ND, grad_weight_VD = ctx.saved_tensors  # type: ignore[attr-defined]
        factor = grad * ctx.factor  # type: ignore[attr-defined]
        narrow = grad_hidden_ND.dtype
        return grad_hidden_ND * factor, (grad_weight_VD * factor).to(narrow), None, None


def _softmax_slope(logits_NV: Tensor, targets_N1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [N, 1], and their derivatives by the logits as a product with one factor a row.

    The sums of exponentials are such a factor: their rows of hidden states are divided by them
    instead of the many logits. Overwrites the logits.
    """
    top_N1 = logits_NV.amax(dim=1, keepdim=True)
    chosen_N1 = logits_NV.gather(1, targets_N1)
    powers_NV = logits_NV.sub_(top_N1).exp_()
    sums_N1 = powers_NV.sum(dim=1, keepdim=True)
    losses_N1 = sums_N1.log() + (top_N1 - chosen_N1)
    return losses_N1, powers_NV.scatter_add_(1, targets_N1, -sums_N1), sums_N1.reciprocal()
