"""What keeps two of the user's modules from being one program."""

from collections.abc import Iterator, Mapping
from enum import Enum
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stepladder.optim.twin import twin

_OF_MODULES = frozenset(vars(nn.Module()))  # parameters, buffers, submodules and hooks of a module
_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, Enum)


def difference(a: nn.Module, b: nn.Module) -> str:
    """How b differs from a in what is the program's and not a trial's; empty where it does not.

    Layers, shapes, dtypes and plain settings (a dropout's rate, a number of heads) must be equal;
    the values of parameters and buffers may differ. What a module keeps that is none of these
    (objects of other classes) is not compared.
    """
    for compare in (_layers, _tensors, _settings):
        found = compare(a, b)
        if found:
            return found
    return ""


def optimizers_differ(a: Optimizer, a_names: list[list[str]], b: Optimizer, b_names: Any) -> str:
    """How b differs from a apart from rates, decay and other values of its groups."""
    if type(a) is not type(b):
        return f"its optimizer is {type(b).__name__}, not {type(a).__name__}"
    if a_names != b_names:
        return "its optimizer groups the parameters in another way"
    first, second = twin(a), twin(b)
    if (first and first.rule) != (second and second.rule):
        return f"its {type(b).__name__} has other settings"
    return ""


def _layers(a: nn.Module, b: nn.Module) -> str:
    return _first_difference(
        {name: type(layer).__name__ for name, layer in a.named_modules()},
        {name: type(layer).__name__ for name, layer in b.named_modules()},
    )


def _tensors(a: nn.Module, b: nn.Module) -> str:
    return _first_difference(dict(_told(a)), dict(_told(b)))


def _told(model: nn.Module) -> Iterator[tuple[str, str]]:
    for found in (model.named_parameters, model.named_buffers):
        for name, tensor in found(remove_duplicate=False):
            frozen = "" if tensor.requires_grad else ", no gradient"
            yield name, f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}{frozen}"


def _settings(a: nn.Module, b: nn.Module) -> str:
    for (path, one), (_, other) in zip(a.named_modules(), b.named_modules(), strict=True):
        own, theirs = _own(one), _own(other)
        for name in own.keys() | theirs.keys():
            if not _equal(own.get(name), theirs.get(name)):
                at = f"{path}.{name}" if path else name
                return f"{at} is {theirs.get(name)!r}, not {own.get(name)!r}"
    return ""


def _own(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if name not in _OF_MODULES} | {
        "training": module.training
    }


def _equal(a: Any, b: Any) -> bool:
    """Whether two settings say the same; where that cannot be told, they do."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and bool(torch.equal(a, b))
    if isinstance(a, _PLAIN) or isinstance(b, _PLAIN):
        return bool(type(a) is type(b) and (a == b or a != a))
    if isinstance(a, FunctionType) and isinstance(b, FunctionType):
        return _same_function(a, b)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return type(a) is type(b)


def _same_function(a: FunctionType, b: FunctionType) -> bool:
    """The same code over the same values: two closures of one function may differ in these."""
    if a is b:
        return True
    held = ([cell.cell_contents for cell in f.__closure__ or ()] for f in (a, b))
    return a.__code__ is b.__code__ and all(map(_equal, *held))


def _first_difference(a: Mapping[str, str], b: Mapping[str, str]) -> str:
    for name in [*a, *b]:
        if a.get(name) != b.get(name):
            return f"{name or 'it'} is {b.get(name, 'not there')}, not {a.get(name, 'there')}"
    return ""
