"""Loss on the fixed validation set, with its standard error."""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from stepladder.models.transformer import Transformer

BATCH_TOKENS = 16_384


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Mean loss in nats per token, and the standard error of that mean over sequences.

    The error speaks for other text of the same kind, taking sequences as independent; runs
    compared on the same sequences share it.
    """

    loss: float
    standard_error: float


@torch.no_grad()
def evaluate(model: Transformer, inputs_NT: Tensor, targets_NT: Tensor) -> Evaluation:
    """Evaluate on sequences [N, T] that live on the model's device."""
    return summary(sequence_losses(model, inputs_NT, targets_NT))


@torch.no_grad()
def sequence_losses(model: Transformer, inputs_NT: Tensor, targets_NT: Tensor) -> Tensor:
    """Mean loss of each sequence [N], in float64, a batch at a time."""
    rows = max(1, BATCH_TOKENS // inputs_NT.shape[1])
    parts = zip(inputs_NT.split(rows), targets_NT.split(rows), strict=True)
    return torch.cat([model.sequence_losses(x, y) for x, y in parts]).double()


def summary(losses_N: Tensor) -> Evaluation:
    """What the losses of sequences say together."""
    spread = float(losses_N.std()) if len(losses_N) > 1 else float("nan")
    return Evaluation(loss=float(losses_N.mean()), standard_error=spread / sqrt(len(losses_N)))
