"""Parts of large tensors that a chain of operations finds in the cache of a CPU core.

Ten operations over a tensor of many megabytes go ten times through memory; piece by piece they go
through it once, and cost a third of the time.
"""

from collections.abc import Iterable

from torch import Tensor

PIECE = 1 << 16  # entries: with a few of the like beside it, it fits into a core's second cache


def pieces(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """The same entries of tensors of one shape, a piece at a time, as vectors that share memory.

    All of them at once, as they are, where they are not on a CPU, small, or not contiguous.
    """
    first = tensors[0]
    if not _divides(first) or not all(t.shape == first.shape and _divides(t) for t in tensors):
        return [tensors]
    flat = [t.detach().view(-1).split(PIECE) for t in tensors]
    return zip(*flat, strict=True)


def rows(*tensors: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """The same rows of tensors with the same first dimensions, a piece at a time."""
    first = tensors[0]
    if first.is_cuda or first.numel() <= PIECE:
        return [tensors]
    count = max(1, PIECE * len(first) // first.numel())
    return zip(*(t.split(count) for t in tensors), strict=True)


def _divides(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.numel() > PIECE and tensor.is_contiguous()
