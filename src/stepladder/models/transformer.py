"""The reference model: a decoder-only transformer.

RMSNorm before each branch, rotary positions, grouped-query attention with optional normalisation of
queries and keys, SwiGLU or squared ReLU, tied or untied head, no biases. Shapes in names: B batch,
T context, D width, H heads, K key-value heads, E head size, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stepladder.models.loss import next_token_loss, token_losses
from stepladder.recipe import Model

NORM_EPS = 1e-6


class Attention(nn.Module):
    """Causal self-attention with rotary positions; query heads share key-value heads in groups."""

    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.head_size = shape.head_size
        self.grouped = shape.heads != shape.kv_heads
        inner, kv_inner = shape.heads * shape.head_size, shape.kv_heads * shape.head_size
        self.query = nn.Linear(shape.width, inner, bias=False)
        self.key = nn.Linear(shape.width, kv_inner, bias=False)
        self.value = nn.Linear(shape.width, kv_inner, bias=False)
        self.output = nn.Linear(inner, shape.width, bias=False)
        self.query_norm = _head_norm(shape)
        self.key_norm = _head_norm(shape)

    def forward(self, x_BTD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        q_BHTE = rotate(self.query_norm(self._heads(self.query(x_BTD))), cos_TE, sin_TE)
        k_BKTE = rotate(self.key_norm(self._heads(self.key(x_BTD))), cos_TE, sin_TE)
        v_BKTE = self._heads(self.value(x_BTD))
        y_BHTE = F.scaled_dot_product_attention(
            q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=self.grouped
        )
        out: Tensor = self.output(y_BHTE.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_size)).transpose(1, 2)


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x): Shazeer 2020, *GLU Variants Improve Transformer*."""

    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.gate = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.up = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.down = nn.Linear(shape.mlp_width, shape.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = self.down(F.silu(self.gate(x_BTD)) * self.up(x_BTD))
        return out


class SquaredReLU(nn.Module):
    """down(relu(up x)^2): So et al. 2021, *Primer*."""

    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.up = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.down = nn.Linear(shape.mlp_width, shape.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = self.down(F.relu(self.up(x_BTD)).square())
        return out


MLPS: dict[str, type[nn.Module]] = {"swiglu": SwiGLU, "relu2": SquaredReLU}


class Block(nn.Module):
    """One layer: attention and MLP, each added to the residual stream."""

    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width, eps=NORM_EPS)
        self.attention = Attention(shape)
        self.mlp_norm = nn.RMSNorm(shape.width, eps=NORM_EPS)
        self.mlp = MLPS[shape.activation](shape)

    def forward(self, x_BTD: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD), cos_TE, sin_TE)
        out: Tensor = x_BTD + self.mlp(self.mlp_norm(x_BTD))
        return out


class Transformer(nn.Module):
    """Tokens [B, T] to logits [B, T, V], or to a loss.

    `readout_multiplier` scales the logits; a parametrization sets it where the head is tied (an
    untied head takes the factor into its initial scale and rate).
    """

    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.shape = shape
        self.readout_multiplier = 1.0
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.RMSNorm(shape.width, eps=NORM_EPS)
        self.head = nn.Linear(shape.width, shape.vocab_size, bias=False)
        self.tie()

    def tie(self) -> None:
        """Have the head share the embedding's matrix where the shape says so: after `to_empty`."""
        if self.shape.tied:
            self.head.weight = self.embedding.weight

    def hidden(self, tokens_BT: Tensor) -> Tensor:
        """Final normalised hidden states [B, T, D]."""
        x_BTD = self.embedding(tokens_BT)
        cos_TE, sin_TE = self._rotary_tables(tokens_BT.shape[1], x_BTD)
        for block in self.blocks:
            x_BTD = block(x_BTD, cos_TE, sin_TE)
        out: Tensor = self.norm(x_BTD)
        return out

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits [B, T, V]."""
        return self.readout_multiplier * F.linear(self.hidden(tokens_BT), self.head.weight)

    def loss(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean next-token loss of the batch, in nats per token."""
        hidden_ND = self.hidden(tokens_BT).flatten(0, 1)
        return next_token_loss(
            hidden_ND, self.head.weight, targets_BT.flatten(), scale=self.readout_multiplier
        )

    @torch.no_grad()
    def sequence_losses(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Mean loss of each sequence, shape [B], in nats per token; no gradient."""
        hidden_ND = self.hidden(tokens_BT).flatten(0, 1)
        losses_N = token_losses(
            hidden_ND, self.head.weight, targets_BT.flatten(), scale=self.readout_multiplier
        )
        return losses_N.view(targets_BT.shape).mean(dim=1)

    def _rotary_tables(self, length: int, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        # Not x's own length: with sequence parallelism x is a process's share of the tokens.
        return rotary_tables(length, self.shape.head_size, self.shape.rope_theta, x_BTD)


def rotary_tables(length: int, head_size: int, theta: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and signed sines [T, E] of Su et al. 2021 (*RoFormer*), in the half-split layout."""
    half = torch.arange(0, head_size, 2, device=like.device, dtype=torch.float32)
    frequency_F = theta ** (-half / head_size)
    angle_TF = torch.arange(length, device=like.device, dtype=torch.float32)[:, None] * frequency_F
    cos_TF, sin_TF = angle_TF.cos(), angle_TF.sin()
    cos_TE = torch.cat((cos_TF, cos_TF), dim=-1)
    sin_TE = torch.cat((-sin_TF, sin_TF), dim=-1)
    return cos_TE.to(like.dtype), sin_TE.to(like.dtype)


def rotate(x_BHTE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    """Turn pairs (i, i + E/2) of each head by the angle of their position."""
    first, second = x_BHTE.chunk(2, dim=-1)
    return x_BHTE * cos_TE + torch.cat((second, first), dim=-1) * sin_TE


class HeadNorm(nn.RMSNorm):
    """RMSNorm of queries or keys, which autocast makes narrow: the gain follows them, since torch
    has no fused norm for mixed types (it computes in float32 inside)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def _head_norm(shape: Model) -> nn.Module:
    return HeadNorm(shape.head_size, eps=NORM_EPS) if shape.qk_norm else nn.Identity()
