"""How much each parameter amplifies, when it starts and after it has moved: its own share only.

A layer's activations also change because of the layers below; its gain does not. For a matrix W
acting on x it is rms(W x) / rms(x), at the start, and with the change of W after training. Both
must not depend on the width, whatever the rule (Yang, Simon & Bernstein 2023, arXiv 2310.17813).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stepladder.scaling.depth import block_of
from stepladder.scaling.shapes import plain_name

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, kw_only=True)
class Gains:
    """Of one parameter: `start` at the initial values, `move` of the change. NaN: none to measure
    (a constant start, a parameter that did not move)."""

    start: float
    move: float


def start_gains(model: nn.Module, probe: Callable[[], object]) -> dict[str, float]:
    """The gain of every trained parameter as it is. `probe` passes a batch through the model."""
    return _all_gains(model, probe, {}, vectors=False)


def move_gains(
    model: nn.Module, initial: dict[str, Tensor], probe: Callable[[], object]
) -> dict[str, float]:
    """The gain of what every trained parameter has learned since `initial`."""
    return _all_gains(model, probe, initial, vectors=True)


def _all_gains(
    model: nn.Module, probe: Callable[[], object], initial: dict[str, Tensor], *, vectors: bool
) -> dict[str, float]:
    inputs, found = _inputs(model, probe), {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for local, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue  # tied parameters count once, where they come first
            seen.add(id(parameter))
            name = plain_name(f"{path}.{local}" if path else local)
            change = parameter.detach() - initial[name] if initial else parameter.detach()
            if change.dim() > 1:
                found[name] = _gain(module, local, change, inputs.get(path))
            else:
                unit = _unit(module, name, initial.get(plain_name(f"{path}.weight")))
                found[name] = _or_nan(_rms(change) / unit) if vectors else _NONE
    return found


def _unit(module: nn.Module, name: str, weight: Tensor | None) -> float:
    """What a vector's change is measured in: the own gain of a norm outside the blocks, which may
    carry a factor of its readout; else 1."""
    norm = "norm" in type(module).__name__.lower() and block_of(name) is None
    return (_rms(weight) if norm and weight is not None and weight.dim() == 1 else 1.0) or 1.0


_NONE = float("nan")


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter."""
    return {plain_name(name): p.detach().clone() for name, p in model.named_parameters()}


@torch.no_grad()
def _inputs(model: nn.Module, forward: Callable[[], object]) -> dict[str, Tensor]:
    """What reaches every module with parameters of its own in one pass."""
    caught: dict[str, Tensor] = {}

    def catch(path: str) -> Callable[[nn.Module, tuple], None]:
        def hook(_: nn.Module, args: tuple) -> None:
            if args and isinstance(args[0], Tensor):
                caught[path] = args[0].detach()

        return hook

    handles = [m.register_forward_pre_hook(catch(path)) for path, m in model.named_modules()]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    return caught


@torch.no_grad()
def _gain(module: nn.Module, local: str, weight: Tensor, x: Tensor | None) -> float:
    if local == "weight" and x is not None and _acts(module):
        return _acting(module, weight, x)
    return _or_nan(_rms(weight)) if weight.shape[0] == 1 else _spectral(weight)


def _acts(module: nn.Module) -> bool:
    known = (nn.Linear, nn.Embedding, *_CONVOLUTIONS)
    return isinstance(module, known) or type(module).__name__ == "Conv1D"


def _acting(module: nn.Module, weight: Tensor, x: Tensor) -> float:
    values = {"weight": weight}
    if getattr(module, "bias", None) is not None:
        values["bias"] = torch.zeros_like(module.bias)  # type: ignore[arg-type]
    size = _rms(x) if x.is_floating_point() else 1.0
    return _or_nan(_rms(functional_call(module, values, (x,))) / size if size else 0.0)


def _spectral(weight: Tensor) -> float:
    """Where the input is not to be had: the spectral norm over sqrt(fan-out / fan-in)."""
    matrix = weight.double().flatten(1) if weight.dim() == 2 else weight.double().flatten(0, -2)
    out, fan_in = matrix.shape
    return _or_nan(float(torch.linalg.matrix_norm(matrix, 2)) * (fan_in / out) ** 0.5)


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt()) if x.numel() else 0.0


def _or_nan(value: float) -> float:
    return value if value > 0 else float("nan")
