"""What a model's parameters look like: plain data read once from modules, or from a file.

Everything the rules need is here, so that a plan never has to look at tensors again, and a base
model may be a file of shapes.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter


class Layout(StrEnum):
    """Which axes of a tensor are outputs and which are inputs."""

    OUT_IN = "out, in"  # Linear, convolution, recurrent
    IN_OUT = "in, out"  # transposed convolution, GPT-2's Conv1D
    LOOKUP = "rows, out"  # embedding: rows are looked up, never summed over
    VECTOR = "out"
    BROADCAST = "1, ..., out"  # position or class tokens: added, not multiplied
    BARE = "unknown"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One parameter: its size, its layout, the class that owns it, and its other names."""

    shape: tuple[int, ...]
    layout: Layout
    module: str
    aliases: tuple[str, ...] = ()
    trainable: bool = True
    in_attention: bool = False

    @property
    def out_axes(self) -> tuple[int, ...]:
        """Axes whose size is a fan-out."""
        if self.layout in (Layout.OUT_IN, Layout.VECTOR):
            return (0,)
        return (1,) if self.layout is Layout.IN_OUT else (len(self.shape) - 1,)

    @property
    def in_axes(self) -> tuple[int, ...]:
        """Axes that are summed over: a fan-in, kernel taps included."""
        axes = range(len(self.shape))
        if self.layout is Layout.OUT_IN:
            return tuple(axes[1:])
        return (0, *axes[2:]) if self.layout is Layout.IN_OUT else ()


Shapes = dict[str, Shape]


def read_shapes(model: nn.Module) -> Shapes:
    """The shapes of every parameter of `model` (any device, meta included), tied ones once.

    Raises:
        ValueError: a lazily initialised or a quantised parameter, or a model without parameters.
    """
    names: dict[int, list[str]] = {}
    found: dict[str, tuple[nn.Module, str, nn.Parameter, bool]] = {}
    attention = _attention_prefixes(model)
    for path, module in model.named_modules(remove_duplicate=False):
        for local, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            name = plain_name(f"{path}.{local}" if path else local)
            names.setdefault(id(parameter), []).append(name)
            found[name] = (module, local, parameter, _inside(path, attention))
    if not found:
        raise ValueError("the model has no parameters: there is nothing to parametrize")
    return {
        same[0]: _shape(*found[same[0]], name=same[0], aliases=tuple(same[1:]))
        for same in names.values()
    }


def plain_name(name: str) -> str:
    """A parameter's name without what torch.compile, DDP and activation checkpointing add."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    return ".".join(parts[1:] if parts[0] == "module" else parts)


_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")


def _attention_prefixes(model: nn.Module) -> set[str]:
    return {
        path for path, module in model.named_modules() if "attention" in _class_name(module).lower()
    }


def _inside(path: str, modules: set[str]) -> bool:
    parts = path.split(".")
    return any(".".join(parts[:end]) in modules for end in range(1, len(parts) + 1))


def _shape(
    module: nn.Module,
    local: str,
    parameter: nn.Parameter,
    in_attention: bool,
    *,
    name: str,
    aliases: tuple[str, ...],
) -> Shape:
    _check_usable(name, parameter)
    return Shape(
        shape=tuple(parameter.shape),
        layout=_layout(module, local, parameter),
        module=_class_name(module),
        aliases=aliases,
        trainable=parameter.requires_grad,
        in_attention=in_attention,
    )


def _check_usable(name: str, parameter: nn.Parameter) -> None:
    if isinstance(parameter, UninitializedParameter):
        raise ValueError(
            f"{name} is lazily initialised and has no shape yet: "
            "run one batch through the model before parametrizing it"
        )
    if not parameter.is_floating_point():
        raise ValueError(
            f"{name} holds no floating-point numbers but {parameter.dtype}: parametrize the model "
            "before quantising it"
        )


def _class_name(module: nn.Module) -> str:
    return type(module).__name__


_TRANSPOSED_CONVOLUTIONS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MATRICES = (nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)


def _layout(module: nn.Module, local: str, parameter: torch.Tensor) -> Layout:
    if parameter.dim() < 2:
        return Layout.VECTOR
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return Layout.LOOKUP
    if isinstance(module, _TRANSPOSED_CONVOLUTIONS) or _class_name(module) == "Conv1D":
        return Layout.IN_OUT
    if isinstance(module, _MATRICES + _CONVOLUTIONS) and "weight" in local:
        return Layout.OUT_IN
    return Layout.BROADCAST if parameter.shape[0] == 1 else Layout.BARE


def save_shapes(shapes: Shapes, path: str | Path) -> None:
    """Write shapes as TOML, for a base model that is not worth building again."""
    lines: list[str] = []
    for name, shape in shapes.items():
        lines += [f"[{_quote(name)}]", f"shape = {list(shape.shape)}"]
        lines += [f"layout = {_quote(shape.layout)}", f"module = {_quote(shape.module)}"]
        flags = {"trainable": shape.trainable, "in_attention": shape.in_attention}
        lines += [f"{key} = {json.dumps(flag)}" for key, flag in flags.items()]
        lines += [f"aliases = [{', '.join(map(_quote, shape.aliases))}]", ""]
    Path(path).write_text("\n".join(lines))


def load_shapes(path: str | Path) -> Shapes:
    """Read what `save_shapes` wrote.

    Raises:
        ValueError: there is no such file, or it is not one of shapes.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}: write one with save_shapes(read_shapes(base))")
    try:
        tables = tomllib.loads(Path(path).read_text())
        return {name: _from_table(table) for name, table in tables.items()}
    except (tomllib.TOMLDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a file written by save_shapes: {error}") from None


def _quote(text: str) -> str:
    return json.dumps(text)  # a JSON string is a TOML string


def _from_table(table: Mapping[str, object]) -> Shape:
    sizes, aliases = table["shape"], table.get("aliases", [])
    if not isinstance(sizes, Iterable) or not isinstance(aliases, Iterable):
        raise TypeError("shape and aliases are lists")
    return Shape(
        shape=tuple(int(size) for size in sizes),
        layout=Layout(str(table["layout"])),
        module=str(table["module"]),
        aliases=tuple(map(str, aliases)),
        trainable=bool(table["trainable"]),
        in_attention=bool(table["in_attention"]),
    )
