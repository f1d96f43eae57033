"""The training loss of the reference model in fewer operations than autograd makes of it.

Value and gradients are those of `Transformer.loss`, to rounding. Every branch of a block is written
out with its derivative: a norm with its derivative takes a third of the passes of torch's own, sums
are part of the products before them, and what is cheap to compute again is not kept. Meant for
models that run operation by operation. A compiler does better from the plain composition, and
models that are stacked or spread over processes have layers and hooks that only that one calls.

A `g` before a name: the loss's gradient by it. Shapes as in `models.transformer`; F is the width
inside an MLP, O that of any product, N the tokens of all sequences.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stepladder.models.loss import next_token_loss
from stepladder.models.transformer import (
    NORM_EPS,
    Block,
    SquaredReLU,
    SwiGLU,
    Transformer,
    rotary_tables,
)


def loss_function(model: Transformer, *, compiled: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """The training loss of a model that one process has whole, by the faster of its programs: the
    plain composition for a compiler, the one written out here for running without."""
    if compiled:
        chosen: Callable[[Tensor, Tensor], Tensor] = torch.compile(model.loss)
        return chosen
    return partial(training_loss, model)


def training_loss(model: Transformer, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Mean next-token loss of the batch, in nats per token, as `model.loss` gives it."""
    x_ND = model.embedding(tokens_BT.flatten())
    narrow = _product_dtype(x_ND)
    for block in model.blocks:
        assert isinstance(block, Block)
        x_ND = _attend(x_ND, tokens_BT.shape, block, model.shape.rope_theta, narrow)
        x_ND = _transform(x_ND, block, narrow)
    return next_token_loss(
        _Norm.apply(x_ND, model.norm.weight),
        model.head.weight,
        targets_BT.flatten(),
        scale=model.readout_multiplier,
    )


def _product_dtype(x: Tensor) -> torch.dtype:
    """What enters matrix products: narrower than the residual stream under autocast."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


# The branches -------------------------------------------------------------------------------------


def _attend(
    x_ND: Tensor, shape_BT: torch.Size, block: Block, theta: float, narrow: torch.dtype
) -> Tensor:
    own = block.attention
    q_BHTE, k_BKTE, v_BKTE, x_ND = _Heads.apply(
        x_ND,
        block.attention_norm.weight,
        own.query.weight,
        own.key.weight,
        own.value.weight,
        getattr(own.query_norm, "weight", None),
        getattr(own.key_norm, "weight", None),
        (shape_BT, own.head_size, theta, narrow),
    )
    y_BHTE = F.scaled_dot_product_attention(
        q_BHTE, k_BKTE, v_BKTE, is_causal=True, enable_gqa=own.grouped
    )
    out: Tensor = _AddHeads.apply(x_ND, y_BHTE, own.output.weight)
    return out


def _transform(x_ND: Tensor, block: Block, narrow: torch.dtype) -> Tensor:
    own = block.mlp
    activation = ACTIVATIONS[type(own)]
    entering = (own.get_parameter(f"{name}.weight") for name in activation.projections)
    out: Tensor = _MLP.apply(
        x_ND,
        block.mlp_norm.weight,
        own.get_parameter("down.weight"),
        (activation, narrow),
        *entering,
    )
    return out


class _Heads(torch.autograd.Function):
    """Queries, keys and values of the normalised x: the first two normalised and turned as well.

    x is given back, so that what comes past the branch is added where the branch's gradient ends.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        gain_D: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_gain_E: Tensor | None,
        key_gain_E: Tensor | None,
        settings: tuple[torch.Size, int, float, torch.dtype],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        shape_BT, size, theta, narrow = settings
        u_ND, r_N1 = _normalised(x_ND)
        y_ND = (u_ND * gain_D).to(narrow)
        q_BTHE, k_BTKE, v_BTKE = (
            (y_ND @ w.to(narrow).T).view(*shape_BT, -1, size) for w in (query, key, value)
        )
        ctx.tables = [
            _tables(shape_BT[1], z.shape[2], size, theta, x_ND.device, x_ND.dtype)
            for z in (q_BTHE, k_BTKE)
        ]
        q_BTHE, kept_q = _turned(q_BTHE.to(x_ND.dtype), query_gain_E, ctx.tables[0])
        k_BTKE, kept_k = _turned(k_BTKE.to(x_ND.dtype), key_gain_E, ctx.tables[1])
        ctx.save_for_backward(u_ND, r_N1, gain_D, query, key, value, *kept_q, *kept_k)
        heads = (z.to(narrow).transpose(1, 2) for z in (q_BTHE, k_BTKE, v_BTKE))
        return *heads, x_ND  # type: ignore[return-value]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, gq_BHTE: Tensor, gk_BKTE: Tensor, gv_BKTE: Tensor, gx_ND: Tensor
    ) -> tuple[Tensor | None, ...]:
        u_ND, r_N1, gain_D, query, key, value, *kept = ctx.saved_tensors
        gq_BTHE, gquery_gain_E = _turned_back(gq_BHTE.transpose(1, 2), kept[:3], ctx.tables[0])
        gk_BTKE, gkey_gain_E = _turned_back(gk_BKTE.transpose(1, 2), kept[3:], ctx.tables[1])
        gs_NO = [
            g.reshape(len(u_ND), -1).to(gv_BKTE.dtype)
            for g in (gq_BTHE, gk_BTKE, gv_BKTE.transpose(1, 2))
        ]
        gx_ND, ggain_D, gweights = _through_norm(
            gs_NO, (query, key, value), u_ND, r_N1, gain_D, gx_ND
        )
        return gx_ND, ggain_D, *gweights, gquery_gain_E, gkey_gain_E, None


class _AddHeads(torch.autograd.Function):
    """x + y w^T, the heads of y side by side."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, y_BHTE: Tensor, weight: Tensor) -> Tensor:
        y_NO = y_BHTE.transpose(1, 2).reshape(len(x_ND), -1)
        ctx.shape_BTHE = y_BHTE.transpose(1, 2).shape
        ctx.save_for_backward(y_NO, weight)
        return _sum_with_product(x_ND, y_NO, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_ND: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y_NO, weight = ctx.saved_tensors
        narrow_g_ND = g_ND.to(y_NO.dtype)
        gy_NO = narrow_g_ND @ weight.to(y_NO.dtype)
        gy_BHTE = gy_NO.view(ctx.shape_BTHE).transpose(1, 2)
        return g_ND, gy_BHTE, (narrow_g_ND.T @ y_NO).to(weight.dtype)


class _MLP(torch.autograd.Function):
    """x + down(activation(projections of the normalised x))."""

    @staticmethod
    def forward(
        ctx: Any,
        x_ND: Tensor,
        gain_D: Tensor,
        down: Tensor,
        settings: tuple["Activation", torch.dtype],
        *entering: Tensor,
    ) -> Tensor:
        ctx.activation, narrow = settings
        u_ND, r_N1 = _normalised(x_ND)
        y_ND = (u_ND * gain_D).to(narrow)
        inside = [y_ND @ w.to(narrow).T for w in entering]
        ctx.save_for_backward(u_ND, r_N1, gain_D, down, *inside, *entering)
        return _sum_with_product(x_ND, ctx.activation.value(*inside), down)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_ND: Tensor) -> tuple[Tensor | None, ...]:
        u_ND, r_N1, gain_D, down, *rest = ctx.saved_tensors
        inside, entering = rest[: len(rest) // 2], rest[len(rest) // 2 :]
        narrow_g_ND = g_ND.to(inside[0].dtype)
        a_NF, *gs_NF = ctx.activation.gradient(narrow_g_ND @ down.to(narrow_g_ND.dtype), *inside)
        gdown = (narrow_g_ND.T @ a_NF).to(down.dtype)
        gx_ND, ggain_D, gentering = _through_norm(gs_NF, entering, u_ND, r_N1, gain_D, g_ND)
        return gx_ND, ggain_D, gdown, None, *gentering


class _Norm(torch.autograd.Function):
    """RMSNorm with a gain."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, gain_D: Tensor) -> Tensor:
        u_ND, r_N1 = _normalised(x_ND)
        ctx.save_for_backward(u_ND, r_N1, gain_D)
        return u_ND * gain_D

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_ND: Tensor) -> tuple[Tensor, Tensor]:
        u_ND, r_N1, gain_D = ctx.saved_tensors
        across_ND, ggain_D = _across(g_ND, u_ND, gain_D)
        return across_ND.mul_(r_N1), ggain_D


def _sum_with_product(x_ND: Tensor, y_NO: Tensor, weight: Tensor) -> Tensor:
    """x + y w^T; y may be narrower than x."""
    if y_NO.dtype == x_ND.dtype:
        return torch.addmm(x_ND, y_NO, weight.T)
    return x_ND + y_NO @ weight.to(y_NO.dtype).T


# Norms and rotary positions -----------------------------------------------------------------------


def _normalised(x: Tensor) -> tuple[Tensor, Tensor]:
    """u = x r and r = 1 / sqrt(mean x^2 + eps), over the last dimension."""
    r = _inverse_length(x)
    return x * r, r


def _inverse_length(x: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square_().div_(x.shape[-1]).add_(NORM_EPS).rsqrt_()


def _across(g: Tensor, u: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Of u gain, where u = x r, the gradients by x, over r, and by the gain: with e = g gain, they
    are e - u mean(e u), and the sum of g u over all rows."""
    gu = g * u
    ggain = gu.sum(dim=tuple(range(g.ndim - 1)))
    along = (gu @ gain).div_(len(gain)).unsqueeze_(-1)
    return torch.mul(g, gain, out=gu).addcmul_(u, along, value=-1), ggain


def _through_norm(
    gs_NO: Sequence[Tensor],
    weights: Sequence[Tensor],
    u_ND: Tensor,
    r_N1: Tensor,
    gain_D: Tensor,
    gx_ND: Tensor,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Of products of y = u gain with weights, the gradients by x (added to what came past it), by
    the gain and by the weights."""
    narrow = gs_NO[0].dtype
    y_ND = (u_ND * gain_D).to(narrow)
    gweights = [(g.T @ y_ND).to(w.dtype) for g, w in zip(gs_NO, weights, strict=True)]
    gy_ND = gs_NO[0] @ weights[0].to(narrow)
    for g, w in zip(gs_NO[1:], weights[1:], strict=True):
        gy_ND.addmm_(g, w.to(narrow))
    across_ND, ggain_D = _across(gy_ND.to(u_ND.dtype), u_ND, gain_D)
    return torch.addcmul(gx_ND, across_ND, r_N1), ggain_D, gweights


Tables = tuple[Tensor, Tensor]


Kept = Sequence[Tensor | None]  # heads z, 1 / their lengths and the gain; or thrice nothing


def _turned(z_BTHE: Tensor, gain_E: Tensor | None, tables: Tables) -> tuple[Tensor, Kept]:
    """Heads turned by their positions, normalised before where they have a gain; and what their
    gradient takes."""
    cos_THE, sin_THE = tables
    if gain_E is None:
        return _turn(z_BTHE, cos_THE, sin_THE), (None, None, None)
    s_BTH1 = _inverse_length(z_BTHE)
    other_E = gain_E.roll(len(gain_E) // 2)
    turned_BTHE = _turn(z_BTHE, cos_THE * gain_E, sin_THE * other_E).mul_(s_BTH1)
    return turned_BTHE, (z_BTHE, s_BTH1, gain_E)


def _turned_back(g_BTHE: Tensor, kept: Kept, tables: Tables) -> tuple[Tensor, Tensor | None]:
    """Gradients of `_turned` by z and by the gain: a rotation's transpose turns the other way."""
    z_BTHE, s_BTH1, gain_E = kept
    g_BTHE = _turn(g_BTHE.to(tables[0].dtype), *tables, way=-1)
    if z_BTHE is None or s_BTH1 is None or gain_E is None:
        return g_BTHE, None
    across_BTHE, ggain_E = _across(g_BTHE, z_BTHE * s_BTH1, gain_E)
    return across_BTHE.mul_(s_BTH1), ggain_E


def _turn(x_BTHE: Tensor, cos_THE: Tensor, sin_THE: Tensor, way: int = 1) -> Tensor:
    """Pairs (i, i + E/2) turned by the angle of their position, or (way = -1) back."""
    out = x_BTHE * cos_THE
    (first, second), sines, turned = (z.chunk(2, dim=-1) for z in (x_BTHE, sin_THE, out))
    turned[0].addcmul_(second, sines[0], value=way)
    turned[1].addcmul_(first, sines[1], value=way)
    return out


@lru_cache(maxsize=16)
def _tables(
    length: int, heads: int, size: int, theta: float, device: torch.device, dtype: torch.dtype
) -> Tables:
    """Cosines and signed sines, written out for every head: narrow heads alone are short rows."""
    like = torch.empty((), device=device, dtype=dtype)
    cos_TE, sin_TE = rotary_tables(length, size, theta, like)
    return cos_TE[:, None].repeat(1, heads, 1), sin_TE[:, None].repeat(1, heads, 1)


# Activations --------------------------------------------------------------------------------------


class Activation(NamedTuple):
    """What stands between an MLP's products: a function of the projections that enter.

    Attributes:
        projections: names of the layers that enter, in order.
        value: their values -> the function's.
        gradient: the loss's gradient by the function, which it may overwrite, and their values ->
            the function's value again and the gradients by theirs.
    """

    projections: tuple[str, ...]
    value: Callable[..., Tensor]
    gradient: Callable[..., tuple[Tensor, ...]]


def _swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate).mul_(up)


def _swiglu_gradient(g: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, ...]:
    bent = F.silu(gate)
    gup = g * bent
    ggate = torch.ops.aten.silu_backward(g.mul_(up), gate)
    return bent.mul_(up), ggate, gup


def _relu2(up: Tensor) -> Tensor:
    return F.relu(up).square_()


def _relu2_gradient(g: Tensor, up: Tensor) -> tuple[Tensor, ...]:
    positive = F.relu(up)
    gup = g.mul_(positive).mul_(2)
    return positive.square_(), gup


ACTIVATIONS: dict[type[nn.Module], Activation] = {
    SwiGLU: Activation(("gate", "up"), _swiglu, _swiglu_gradient),
    SquaredReLU: Activation(("up",), _relu2, _relu2_gradient),
}
