"""Dropout whose masks depend on a key, a position and nothing else.

torch draws masks from one generator: what a trial draws would depend on its neighbours in a stack,
and a trial alone would draw something else. Here every trial has a key of its own (from its seed
and step), so that its masks are the same in any company, on any device.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

_WORD = 0xFFFFFFFF  # 32 bits, kept in int64: torch has no unsigned products
_GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: keys of following calls lie far apart


class Masks(TorchFunctionMode):
    """While it is on, dropout (also that of attention) takes its masks from a key.

    Args:
        key: int64, 0-d, of one trial at one step; None only counts the calls of active dropout.
    """

    only_dropout = True  # whether calls without dropout are left to torch
    linear = staticmethod(F.linear)

    def __init__(self, key: Tensor | None) -> None:
        super().__init__()
        self.key, self.calls = key, 0

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        handler = self.handlers().get(func)
        if handler is None:
            return func(*args, **(kwargs or {}))
        return handler(self, *args, **(kwargs or {}))

    def handlers(self) -> Mapping[Any, Callable[..., Any]]:
        """Functions of torch -> what is called in their place, with this object in front."""
        return HANDLERS

    def dropped(self, x: Tensor, p: float, shape: torch.Size) -> Tensor:
        """x with a share p of its entries at 0 and the rest over 1 - p; `shape` is the mask's."""
        self.calls += 1
        if self.key is None:
            return x
        kept = _bits(self.key, self.calls, shape) >= int(p * (_WORD + 1))
        return x * kept.to(x.dtype).mul(1 / (1 - p) if p < 1 else 0.0)


def key_of(seed: int, step: int) -> int:
    """A trial's key at a step, below 2^32."""
    return _mixed_number(_mixed_number(seed & _WORD) ^ (step & _WORD))


def _bits(key: Tensor, call: int, shape: torch.Size) -> Tensor:
    """Random 32-bit numbers, in int64."""
    own = _mixed((key + call * _GOLDEN) & _WORD)
    return _mixed(_positions(shape.numel(), key.device) ^ own).view(shape)


@lru_cache(maxsize=16)
def _positions(count: int, device: torch.device) -> Tensor:
    return _mixed(torch.arange(count, device=device))


def _mixed(x: Tensor) -> Tensor:
    """A bijection of 32-bit numbers in which every bit depends on every other: `lowbias32` of
    Wellons' *Prospecting for Hash Functions* (2018)."""
    x = (x ^ (x >> 16)) * 0x7FEB352D & _WORD
    x = (x ^ (x >> 15)) * 0x846CA68B & _WORD
    return x ^ (x >> 16)


def _mixed_number(x: int) -> int:
    return int(_mixed(torch.tensor(x)))


def _dropout(
    masks: Masks, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    if not training or p == 0:
        return input
    return masks.dropped(input, p, input.shape)


def _channels(axes: int) -> Callable[..., Tensor]:
    """Dropout of whole channels, whose `axes` last dimensions share an entry of the mask."""

    def dropout(
        masks: Masks, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or p == 0:
            return input
        kept = input.shape[: input.ndim - axes]
        return masks.dropped(input, p, torch.Size((*kept, *(1,) * axes)))

    return dropout


def _attention(
    masks: Masks,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention as torch defines it, with weights that exist to be dropped."""
    if dropout_p == 0:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if enable_gqa:
        group = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(group, dim=-3) for x in (key, value))
    logits = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = _causal(logits)
    if attn_mask is not None:
        logits = logits + _added(attn_mask, logits)
    weights = logits.softmax(dim=-1)
    return masks.dropped(weights, dropout_p, weights.shape) @ value


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as what is added to logits; a boolean one is True where attention is allowed."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, -torch.inf)


def _multi_head(masks: Masks, *args: Any, **kwargs: Any) -> Any:
    """`nn.MultiheadAttention`'s, inside of which no mode sees; rarer forms are left to torch."""
    given = _ARGUMENTS(*args, **kwargs)
    usual = given["query"].ndim == 3 and not any(_is_given(given[name]) for name in _RARE)
    if not given["training"]:
        given["dropout_p"] = 0.0
    if not usual or (masks.only_dropout and given["dropout_p"] == 0):
        return F.multi_head_attention_forward(*args, **kwargs)
    return _multi_head_outside(masks, given)


def _is_given(value: Any) -> bool:
    return value is not None and value is not False


def _multi_head_outside(masks: Masks, given: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    heads, bias = given["num_heads"], given["in_proj_bias"]
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    q, k, v = (
        masks.linear(x, w, b).unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)  # [B, H, T, E]
        for x, w, b in zip(
            (given["query"], given["key"], given["value"]),
            given["in_proj_weight"].chunk(3),
            biases,
            strict=True,
        )
    )
    logits = q @ k.mT * q.shape[-1] ** -0.5
    if given["attn_mask"] is not None:
        mask = _forbidden(given["attn_mask"], logits)
        logits = logits + (mask if mask.ndim == 2 else mask.unflatten(0, (-1, heads)))
    elif given["is_causal"]:
        logits = logits + _added(_causal(logits), logits)
    if given["key_padding_mask"] is not None:
        logits = logits + _forbidden(given["key_padding_mask"], logits)[:, None, None]
    weights = logits.softmax(dim=-1)
    if given["dropout_p"] > 0:
        weights = masks.dropped(weights, given["dropout_p"], weights.shape)
    mixed = (weights @ v).permute(2, 0, 1, 3).flatten(2)
    out = masks.linear(mixed, given["out_proj_weight"], given["out_proj_bias"])
    if not given["need_weights"]:
        return out, None
    return out, weights.mean(dim=1) if given["average_attn_weights"] else weights


def _causal(logits: Tensor) -> Tensor:
    return torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()


def _forbidden(mask: Tensor, like: Tensor) -> Tensor:
    """As `_added`, of this layer's masks, which are True where attention is not allowed."""
    return _added(~mask if mask.dtype == torch.bool else mask, like)


def _arguments_of(function: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    signature = inspect.signature(function)

    def bound(*args: Any, **kwargs: Any) -> dict[str, Any]:
        found = signature.bind(*args, **kwargs)
        found.apply_defaults()
        return dict(found.arguments)

    return bound


_ARGUMENTS = _arguments_of(F.multi_head_attention_forward)
_RARE = ("bias_k", "bias_v", "add_zero_attn", "use_separate_proj_weight", "static_k", "static_v")

HANDLERS: dict[Any, Callable[..., Any]] = {
    F.dropout: _dropout,
    F.dropout1d: _channels(1),
    F.dropout2d: _channels(2),
    F.dropout3d: _channels(3),
    F.scaled_dot_product_attention: _attention,
    F.multi_head_attention_forward: _multi_head,
}
