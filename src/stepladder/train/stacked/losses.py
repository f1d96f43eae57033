"""Losses of stacked trials of the reference model, one a trial."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stepladder.models.loss import CHUNK_ELEMENTS, next_token_loss, token_losses
from stepladder.models.transformer import Transformer


def training_losses(stack: Transformer, tokens_SBT: Tensor, targets_SBT: Tensor) -> Tensor:
    """Mean next-token loss of each trial's batch, shape [S], nats per token.

    `stack` is the model in stacked layers. Logits of all trials stand together while they are few,
    else the trials take turns.
    """
    hidden_SND, weight_SVD = _hidden(stack, tokens_SBT), stack.head.weight
    targets_SN, scale = targets_SBT.flatten(1), stack.readout_multiplier
    if targets_SN.numel() * weight_SVD.shape[1] > CHUNK_ELEMENTS:
        parts = zip(hidden_SND, weight_SVD, targets_SN, strict=True)
        return torch.stack([next_token_loss(h, w, t, scale=scale) for h, w, t in parts])
    logits_SNV = torch.bmm(hidden_SND, weight_SVD.mT)
    logits_SNV = logits_SNV.to(torch.promote_types(logits_SNV.dtype, torch.float32))
    if scale != 1.0:
        logits_SNV = scale * logits_SNV
    losses = F.cross_entropy(logits_SNV.flatten(0, 1), targets_SN.flatten(), reduction="none")
    return losses.view(targets_SN.shape).mean(dim=1)


@torch.no_grad()
def sequence_losses(stack: Transformer, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Mean loss of each sequence in every trial, shape [S, B]; all see the same sequences."""
    trials = stack.head.weight.shape[0]
    hidden_SND = _hidden(stack, tokens_BT.expand(trials, *tokens_BT.shape))
    losses_SN = [
        token_losses(h, w, targets_BT.flatten(), scale=stack.readout_multiplier)
        for h, w in zip(hidden_SND, stack.head.weight, strict=True)
    ]
    return torch.stack(losses_SN).view(trials, *targets_BT.shape).mean(dim=2)


def _hidden(stack: Transformer, tokens_SBT: Tensor) -> Tensor:
    """Final hidden states [S, N, D]: the trials go through the model folded into the batch."""
    return stack.hidden(tokens_SBT.flatten(0, 1)).unflatten(0, tokens_SBT.shape[:2]).flatten(1, 2)
