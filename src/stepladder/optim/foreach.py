"""Many tensors behind the face of one, so that a rule is written once.

A rule written with `Tensor` methods and operators runs on a tensor (loop, compiled, stacked) and,
with `Many` in its place, as torch's foreach kernels: one launch for a whole parameter group.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class Many:
    """A list of tensors with the methods of a tensor, each applied to every member.

    `many.name(...)` is `torch._foreach_name` where torch has it, else a loop. In-place methods
    (`add_`) change the members and return `self`. Scalars and other `Many` of the same length are
    valid arguments.
    """

    __slots__ = ("tensors",)

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = list(tensors)

    def __getattr__(self, name: str) -> Callable[..., "Many"]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self._apply(name, args, kwargs)

    def _apply(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Many":
        foreach = getattr(torch, f"_foreach_{name}", None)
        if foreach is None:
            return each(lambda t, *rest: getattr(t, name)(*rest, **kwargs), self, *args)
        lists = [a.tensors if isinstance(a, Many) else a for a in args]
        result = foreach(self.tensors, *lists, **kwargs)
        return self if name.endswith("_") else Many(result)

    def __add__(self, other: Any) -> "Many":
        return self._apply("add", (other,), {})

    def __sub__(self, other: Any) -> "Many":
        return self._apply("sub", (other,), {})

    def __mul__(self, other: Any) -> "Many":
        return self._apply("mul", (other,), {})

    def __truediv__(self, other: Any) -> "Many":
        return self._apply("div", (other,), {})

    def __neg__(self) -> "Many":
        return self._apply("neg", (), {})

    __radd__ = __add__
    __rmul__ = __mul__


def each(function: Callable[..., Tensor], *args: Any) -> Any:
    """`function(*args)`, member by member where an argument is `Many`.

    For what torch has no foreach kernel for; meant for the few small tensors (norms, ratios).
    """
    lengths = {len(a.tensors) for a in args if isinstance(a, Many)}
    if not lengths:
        return function(*args)
    (length,) = lengths
    columns = [a.tensors if isinstance(a, Many) else [a] * length for a in args]
    return Many([function(*row) for row in zip(*columns, strict=True)])


def lerp(start: Any, end: Any, weight: Any) -> Any:
    """start + weight (end - start).

    torch's own has two formulas, and compiled it would weigh both at every entry.
    """
    if torch.compiler.is_compiling():
        return start + (end - start) * weight
    return start.lerp(end, weight)


def follow(average: Tensor, value: Any, weight: Any) -> None:
    """average <- lerp(average, value, weight)."""
    if torch.compiler.is_compiling():
        average.copy_(lerp(average, value, weight))
    else:
        average.lerp_(value, weight)


def sign(x: Tensor) -> Tensor:
    """The sign of every entry, NaN where the entry is not finite.

    torch's `sign` gives 0 for NaN: a diverged parameter would quietly stop instead of showing it.
    (`x * 0` would do as well, but the compiler takes it for zero.)
    """
    return x.sign().add_(x - x)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of two tensors of one shape; compiled, in one pass with whatever else is done
    to them."""
    if torch.compiler.is_compiling():
        return summed(a * b)
    return torch.dot(a.reshape(-1), b.reshape(-1))


def summed(x: Tensor) -> Tensor:
    """The sum of all entries. Compiled it is summed line by line (see `compiled.lines`), and lines
    in float64: within rounding even in float32."""
    if torch.compiler.is_compiling():
        return x.sum(-1).sum(dtype=torch.float64).to(x.dtype)
    return x.sum()


def held(x: Any) -> Any:
    """`x`, kept: the compiler keeps what a reduction gives, unless it is of eight entries or fewer,
    and makes all else again at every entry that needs it."""
    return x.expand(16, *x.shape).amax(0) if torch.compiler.is_compiling() else x


def norm(x: Any) -> Any:
    """The Euclidean norm, exact to rounding: torch's own of 10^7 float32 entries is 3e-4 short."""
    if isinstance(x, Many):
        wide = Many(torch._foreach_norm(x.tensors, 2, torch.float64))
        return each(lambda n, t: n.to(t.dtype), wide, x)
    if torch.compiler.is_compiling():
        return dot(x, x).sqrt()
    return (x * x).sum(dtype=torch.float64).sqrt().to(x.dtype)
