"""Compiled functions that are entered through torch once for given shapes, and then directly.

Every call of what torch.compile gives asks whether this compilation serves its arguments: half of
what a call costs, a millisecond once large tensors have emptied the caches of that code. For
arguments of which it was asked before, the compiled kernel is called as it was called then.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

Row = dict[str, Tensor]
Result = dict[str, Tensor]
Description = tuple[tuple[Any, ...], ...]
Options = dict[str, str | int | bool | Callable[..., Any]]
Kernel = Callable[..., Sequence[Tensor]]


class Shortcut:
    """`function(rows, scalars)`, compiled for any shapes.

    Args:
        function: of rows of tensors and of scalars: 0-d tensors in a mapping, or in a named tuple
            whose last entry is one. Changes tensors in place, and returns small tensors for every
            row.
        options: of the compiler.
    """

    def __init__(
        self, function: Callable[[list[Row], Any], list[Result]], options: Options
    ) -> None:
        # torch limits the compilations of one piece of code, hence a copy for every function
        function.__code__ = function.__code__.replace()
        self._compiled = torch.compile(function, dynamic=True, backend=self._kernel)
        self._options = options
        self._calls: list[Call] = []
        self._ways: dict[Any, Way | None] = {}

    def __call__(self, rows: list[Row], scalars: Any, descriptions: Any) -> list[Result]:
        """The function's results, row by row.

        Args:
            rows: of contiguous tensors that share no memory.
            scalars: the function's.
            descriptions: what tells the descriptions of the rows.
        """
        names, values = named(scalars)
        inputs = [t for row in rows for t in row.values()] + values
        key = (descriptions, names, tuple(t.device for t in values), torch.get_num_threads())
        if (way := self._ways.get(key)) is not None:
            return way(inputs)
        self._calls.clear()
        with torch._dynamo.config.patch(specialize_float=True):  # numbers that a rule has
            results = self._compiled(rows, scalars)
        self._ways[key] = way_of(self._calls, inputs, results)
        self._calls.clear()
        return results

    def _kernel(self, graph: torch.fx.GraphModule, examples: list[Any]) -> Kernel:
        """A compiled graph that tells of its calls."""
        kernel = torch._inductor.compile(graph, examples, options=self._options)

        def told(*arguments: Any) -> Sequence[Tensor]:
            outputs = kernel(*arguments)
            self._calls.append(Call(kernel, arguments, outputs))
            return outputs

        return told


class Call(NamedTuple):
    """Of a kernel: its arguments (tensors, and sizes of them) and what it returned."""

    kernel: Kernel
    arguments: tuple[Any, ...]
    outputs: Sequence[Tensor]


@dataclass(frozen=True)
class Way:
    """From a function's inputs to its results, through one kernel.

    Attributes:
        arguments: the kernel's, without the tensors among them.
        taken: places among the arguments, and the inputs that belong there.
        results: for every row, the outputs that its names stand for.
    """

    kernel: Kernel
    arguments: list[Any]
    taken: list[tuple[int, int]]
    results: list[dict[str, int]]

    def __call__(self, inputs: Sequence[Tensor]) -> list[Result]:
        arguments = self.arguments.copy()
        for place, index in self.taken:
            arguments[place] = inputs[index]
        outputs = self.kernel(*arguments)
        return [{name: outputs[i] for name, i in row.items()} for row in self.results]


def way_of(calls: Sequence[Call], inputs: Sequence[Tensor], results: list[Result]) -> Way | None:
    """The way that a call of the function went, if it was one kernel and nothing beside it: all of
    the kernel's tensors are inputs, and all results are outputs of it."""
    if len(calls) != 1:
        return None
    kernel, arguments, outputs = calls[0]
    input_of = {id(t): index for index, t in enumerate(inputs)}
    output_of = {id(t): index for index, t in enumerate(outputs)}
    tensors = {place: id(a) for place, a in enumerate(arguments) if isinstance(a, Tensor)}
    found = {id(t) for row in results for t in row.values()}
    if not (set(tensors.values()) <= input_of.keys() and found <= output_of.keys()):
        return None
    return Way(
        kernel,
        [None if place in tensors else a for place, a in enumerate(arguments)],
        [(place, input_of[t]) for place, t in tensors.items()],
        [{name: output_of[id(t)] for name, t in row.items()} for row in results],
    )


def description(row: Row) -> Description:
    """All that a compilation of a row depends on."""
    return tuple((name, t.shape, t.dtype, t.device) for name, t in row.items())


def named(scalars: Any) -> tuple[tuple[str, ...], list[Tensor]]:
    """The scalars in order, and the names of those that may be others at another call."""
    if isinstance(scalars, Mapping):
        return tuple(scalars), list(scalars.values())
    *values, rest = scalars
    return tuple(rest), [*values, *rest.values()]
