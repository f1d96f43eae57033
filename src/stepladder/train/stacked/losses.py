"""Losses of stacked trials of the reference model, one a trial, with few logits held at once."""

from collections.abc import Iterator

import torch
from torch import Tensor

from stepladder.models.loss import CHUNK_ELEMENTS
from stepladder.models.transformer import Transformer

# Logits of one block on a CPU: half a MiB in float32, so that what follows finds them in the cache.
CPU_BLOCK_ELEMENTS = 1 << 17


def training_losses(stack: Transformer, tokens_SBT: Tensor, targets_SBT: Tensor) -> Tensor:
    """Mean next-token loss of each trial's batch, shape [S], nats per token.

    `stack` is the model in stacked layers.
    """
    hidden_SND, weight_SVD = _hidden(stack, tokens_SBT), stack.head.weight
    if torch.is_autocast_enabled(hidden_SND.device.type):
        dtype = torch.get_autocast_dtype(hidden_SND.device.type)
        hidden_SND, weight_SVD = hidden_SND.to(dtype), weight_SVD.to(dtype)
    losses_S: Tensor = _BlockedLosses.apply(
        hidden_SND, weight_SVD, targets_SBT.flatten(1), stack.readout_multiplier
    )
    return losses_S


def _hidden(stack: Transformer, tokens_SBT: Tensor) -> Tensor:
    """Final hidden states [S, N, D]: the trials go through the model folded into the batch."""
    return stack.hidden(tokens_SBT.flatten(0, 1)).unflatten(0, tokens_SBT.shape[:2]).flatten(1, 2)


class _BlockedLosses(torch.autograd.Function):
    """Cross-entropy by blocks of trials and tokens, with the gradient computed beside the loss.

    As in `models.loss`, where a block is of one trial's tokens. Sums are kept in float32 at least.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        hidden_SND: Tensor,
        weight_SVD: Tensor,
        targets_SN: Tensor,
        scale: float,
    ) -> Tensor:
        wide = torch.promote_types(hidden_SND.dtype, torch.float32)
        losses_S = torch.zeros(len(hidden_SND), device=hidden_SND.device, dtype=wide)
        grad_hidden_SND = torch.empty_like(hidden_SND)
        grad_weight_SVD = torch.zeros_like(weight_SVD, dtype=wide)
        for trials, tokens in _blocks(hidden_SND, weight_SVD.shape[1]):
            h, w = hidden_SND[trials, tokens], weight_SVD[trials]
            t = targets_SN[trials, tokens, None]
            logits = torch.bmm(h, w.mT).to(wide)
            log_p = (logits.mul_(scale) if scale != 1.0 else logits).log_softmax(dim=-1)
            losses_S[trials] -= log_p.gather(2, t).sum(dim=(1, 2))
            slope = log_p.exp_().scatter_add_(2, t, torch.full_like(t, -1, dtype=wide)).to(h.dtype)
            grad_hidden_SND[trials, tokens] = torch.bmm(slope, w)
            grad_weight_SVD[trials] += torch.bmm(slope.mT, h)
        count = targets_SN.shape[1]
        ctx.save_for_backward(
            grad_hidden_SND.mul_(scale / count),
            grad_weight_SVD.mul_(scale / count).to(weight_SVD.dtype),
        )
        return losses_S / count

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, grad_S: Tensor
    ) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden_SND, grad_weight_SVD = ctx.saved_tensors  # type: ignore[attr-defined]
        factor = grad_S[:, None, None]
        return (
            grad_hidden_SND * factor.to(grad_hidden_SND.dtype),
            grad_weight_SVD * factor.to(grad_weight_SVD.dtype),
            None,
            None,
        )


def _blocks(hidden_SND: Tensor, vocab_size: int) -> Iterator[tuple[slice, slice]]:
    """Slices of trials and of tokens, with as many logits each as may be held at once."""
    trials, tokens, _ = hidden_SND.shape
    most = CPU_BLOCK_ELEMENTS if hidden_SND.device.type == "cpu" else CHUNK_ELEMENTS
    rows = max(1, most // vocab_size)
    # One trial after another on a CPU: torch's order of summation depends on the shape, and a
    # trial's loss must not depend on its neighbours.
    beside = 1 if hidden_SND.device.type == "cpu" else max(1, rows // tokens)
    for first in range(0, trials, beside):
        for start in range(0, tokens, rows):
            yield slice(first, first + beside), slice(start, start + rows)
