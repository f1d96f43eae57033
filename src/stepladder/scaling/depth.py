"""Stacked blocks: how much deeper the model is than its base, and where a residual branch ends."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from functools import lru_cache

from stepladder.names import did_you_mean
from stepladder.scaling.shapes import Shape, Shapes

# The last linear map of a residual branch, in the names that public models use.
BRANCH_OUTPUTS = (
    "*attention.output",  # stepladder.models
    "*mlp.down",
    "*.o_proj",  # Llama and its relatives
    "*.down_proj",
    "*.out_proj",  # torch.nn.MultiheadAttention
    "*.linear2",  # torch.nn.TransformerEncoderLayer
    "*.c_proj",  # GPT-2
    "*.attn.proj",  # timm
    "*.mlp.fc2",
)


@dataclass(frozen=True, kw_only=True)
class Depths:
    """Which parameters sit in stacked blocks, how the stacks grew, and where branches end."""

    ratios: Mapping[str, float]  # parameter in a block -> model blocks / base blocks
    base_names: Mapping[str, str]  # parameter -> its counterpart in the base
    branch_outputs: frozenset[str]

    def base_of(self, name: str, base: Shapes) -> Shape:
        """The base's counterpart of a parameter: the same name, or the same place in a block."""
        return base[self.base_names[name]]

    def ratio(self, name: str) -> float:
        """Blocks in the model over blocks in the base, for the parameter's stack; 1 outside."""
        return self.ratios.get(name, 1.0)

    def in_block(self, name: str) -> bool:
        """Whether the parameter sits in a stacked block."""
        return name in self.ratios

    def is_branch_output(self, name: str) -> bool:
        """Whether the parameter ends a residual branch."""
        return name in self.branch_outputs


def read_depths(shapes: Shapes, base: Shapes, branches: Collection[str] = ()) -> Depths:
    """Match a model to its base block by block.

    Args:
        branches: globs over module paths (or parameter names) of the last linear map of each
            residual branch; empty for the names that public models use.

    Raises:
        ValueError: the two are not builds of one architecture.
    """
    _check_globs(branches, shapes)
    outputs = re.compile("|".join(map(translate, branches or BRANCH_OUTPUTS)))
    sizes, base_sizes = _stack_sizes(shapes), _stack_sizes(base)
    places = {_place(block_of(name)): name for name in base}  # the last block of its kind wins
    names = {name: _counterpart(name, shapes[name], base, places) for name in shapes}
    _check_nothing_left(shapes, base)
    ratios = {
        name: sizes[block.stack] / base_sizes[block.stack]
        for name in shapes
        if (block := block_of(name)) is not None
    }
    ends = (n for n in ratios if outputs.match(n) or outputs.match(n.rpartition(".")[0]))
    return Depths(ratios=ratios, base_names=names, branch_outputs=frozenset(ends))


def _check_globs(branches: Collection[str], shapes: Shapes) -> None:
    places = {*shapes, *(name.rpartition(".")[0] for name in shapes)}
    for glob in branches:
        if not any(fnmatchcase(place, glob) for place in places):
            raise ValueError(
                f"branches: no module matches {glob!r}{did_you_mean(glob, places)}; modules with "
                f"parameters are such as {min(places - set(shapes))!r}"
            )


@dataclass(frozen=True, kw_only=True)
class Block:
    """Where a parameter sits: the stack `blocks`, the block `blocks.7`, and the rest of its name.

    Stages of one network (`layer1`, `layer2`; `stages.0.blocks`) are one stack.
    """

    stack: str
    path: str
    rest: str


@lru_cache(maxsize=1 << 16)
def block_of(name: str) -> Block | None:
    """The stacked block that a parameter belongs to; None outside the stacks.

    A block is an indexed module with modules inside: a plain `Sequential` of layers has none, and
    experts side by side are not depth.
    """
    parts = name.split(".")
    for at in range(len(parts) - 3, -1, -1):
        if parts[at].isdigit() and not (at and parts[at - 1].startswith("expert")):
            stack = re.sub(r"\d+", "*", ".".join(parts[:at]))
            return Block(
                stack=stack, path=".".join(parts[: at + 1]), rest=".".join(parts[at + 1 :])
            )
    return None


def kind_name(name: str) -> str:
    """A parameter's name with its block's number left out: `blocks.*.mlp.up.weight`."""
    block = block_of(name)
    return name if block is None else f"{re.sub(_NUMBER, '*', block.path)}.{block.rest}"


_NUMBER = r"(?<![^.])\d+(?![^.])|\d+$"  # a whole component, or the end of `layer3`


def _stack_sizes(shapes: Shapes) -> dict[str, int]:
    blocks: dict[str, set[str]] = defaultdict(set)
    for name in shapes:
        if (block := block_of(name)) is not None:
            blocks[block.stack].add(block.path)
    return {stack: len(paths) for stack, paths in blocks.items()}


Place = tuple[str, str] | None  # the stack and the name within the block


def _counterpart(name: str, shape: Shape, base: Shapes, places: Mapping[Place, str]) -> str:
    place = _place(block_of(name))
    found = name if name in base else places.get(place) if place else None
    if found is None:
        raise ValueError(
            f"the base has no {name}{did_you_mean(name, base)}: it must be a smaller build of the "
            "same architecture"
        )
    if len(base[found].shape) != len(shape.shape):
        raise ValueError(
            f"{name} has shape {list(shape.shape)} and {list(base[found].shape)} in the base: "
            "it must be a smaller build of the same architecture"
        )
    return found


def _place(block: Block | None) -> Place:
    return None if block is None else (block.stack, block.rest)


def _check_nothing_left(shapes: Shapes, base: Shapes) -> None:
    places = {_place(block_of(name)) for name in shapes}
    places.discard(None)
    left = [n for n in base if n not in shapes and _place(block_of(n)) not in places]
    if left:
        raise ValueError(
            f"the model has no {left[0]}{did_you_mean(left[0], shapes)}, which its base has: "
            "the base must be a smaller build of the same architecture"
        )


def modules_of(path: str, names: Iterable[str]) -> list[str]:
    """The modules of a block that have parameters, by their names within it, in order."""
    inside = [b.rest for name in names if (b := block_of(name)) is not None and b.path == path]
    return list(dict.fromkeys(rest.rpartition(".")[0] or rest for rest in inside))


def missing_branch_outputs(names: Iterable[str], depths: Depths) -> list[str]:
    """Blocks in which no parameter ends a residual branch."""
    blocks = {b.path for name in names if (b := block_of(name)) is not None}
    ended = {b.path for name in depths.branch_outputs if (b := block_of(name)) is not None}
    return sorted(blocks - ended)
