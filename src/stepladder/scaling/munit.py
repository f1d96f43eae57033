"""munit scaling: unit weights, one constant a matrix product, and a residual stream of size 1.

Narayan et al. 2025 (arXiv 2502.05967). It is simpler than unit scaling as u-muP has it: forward and
backward passes share one constant, and what it cannot keep at size 1 is normalised, at the end of
each branch (Res-Post-LayerNorm). Train with `parametrize(..., rule="munit", form="multiplier",
init_std={"embedding": 1.0, "hidden": 1.0, "readout": 1.0})` and an embedding drawn with standard
deviation 1 (`nn.Embedding`): these modules apply the multipliers themselves.

Shapes: B batch, T context, D width, E head size.
"""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MunitLinear(nn.Linear):
    """x W^T / sqrt(fan-in), without bias; weights start with standard deviation 1 (Table 2)."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(fan_in, fan_out, bias=False)

    def reset_parameters(self) -> None:
        """Draw the initial values."""
        nn.init.normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight) * self.in_features**-0.5


class MunitReadout(MunitLinear):
    """x W^T / fan-in: muP's smaller readout."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight) / self.in_features


class MunitBlock(nn.Module):
    """Causal attention and a GELU MLP, each normalised at its end and joined with weight tau.

    `tau`: a branch's share of the stream's variance. It falls with depth by no formula (Figure 9);
    the paper's four-layer models have 0.4, and its convergence test of deep ones has 0.1.

    Raises:
        ValueError: the heads do not divide the width, or tau is not between 0 and 1.
    """

    def __init__(self, width: int, heads: int, tau: float, mlp_ratio: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        if not 0 < tau < 1:
            raise ValueError(f"tau is a share between 0 and 1, not {tau}")
        self.heads, self.tau = heads, tau
        self.query, self.key, self.value = (MunitLinear(width, width) for _ in range(3))
        self.out_proj = MunitLinear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.up = MunitLinear(width, mlp_ratio * width)
        self.down_proj = MunitLinear(mlp_ratio * width, width)
        self.mlp_norm = nn.LayerNorm(width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D]."""
        x_BTD = residual(x_BTD, self.attention_norm(self._attention(x_BTD)), self.tau)
        return residual(x_BTD, self.mlp_norm(self._mlp(x_BTD)), self.tau)

    def _attention(self, x_BTD: Tensor) -> Tensor:
        q, k, v = (self._split(m(x_BTD)) for m in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _mlp(self, x_BTD: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.gelu(self.up(x_BTD)))
        return out


def residual(x: Tensor, branch: Tensor, tau: float) -> Tensor:
    """sqrt(1 - tau) x + sqrt(tau) branch: two parts of variance 1 make one (equation 11)."""
    return sqrt(1 - tau) * x + sqrt(tau) * branch


def square_root_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention weighted by the square roots of its scores (equation 9); all [..., T, E].

    Over independent values it keeps their variance at every position, where softmax's falls as
    1 / position. Values in text are not independent, so that the paper's models normalise instead.
    """
    length, size = query.shape[-2:]
    future = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
    logits = query @ key.transpose(-1, -2) / sqrt(size)
    return logits.masked_fill(future, float("-inf")).softmax(-1).sqrt() @ value
