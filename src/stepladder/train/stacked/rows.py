"""Where the tensors of stacked trials lie: a row a trial, so that one operation is one for all.

Parameters with equal factors of rate and decay lie side by side in one matrix, a row a trial. Each
trial's own model and optimizer hold views of its rows: they initialise, save, load and evaluate it
as if it were alone, and the stack's program sees the same memory with the trials in front.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Parameters side by side: one matrix of values and one of gradients, a row a trial.

    Attributes:
        group: index of the parameter group whose hyperparameters they share.
        columns: parameter name -> its first and last column, and its shape.
        values, grads: [S, C] each, as many rows as there is room for trials.
    """

    group: int
    columns: Mapping[str, tuple[int, int, torch.Size]]
    values: Tensor
    grads: Tensor

    def stacked(self, matrix_SC: Tensor, name: str) -> Tensor:
        """A parameter's part of a matrix of this segment, with the rows in front."""
        first, last, shape = self.columns[name]
        return matrix_SC[:, first:last].view(-1, *shape)


class Rows:
    """Room for the parameters of several trials of one model.

    Args:
        model: one of them; the others have parameters of the same names and shapes.
        groups: names of parameters by parameter group.
        alone: parameters that get a segment of their own, so that theirs is contiguous.
        room: trials at most.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[Sequence[str]],
        *,
        alone: Collection[str],
        room: int,
    ) -> None:
        parameters = dict(model.named_parameters())
        self.room = room
        self.segments = [
            _segment(group, {name: parameters[name] for name in names}, room)
            for group, members in enumerate(groups)
            for names in _parts(members, parameters, alone)
        ]

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.segments[0].values.device

    def parameters(self) -> dict[str, nn.Parameter]:
        """A new set of parameters with the rows in front; `cover` says which rows.

        `.data`, so that they do not share a version counter: other threads update other rows.
        """
        return {
            name: nn.Parameter(segment.stacked(segment.values, name).data)
            for segment, name in self._places()
        }

    def cover(self, parameters: Mapping[str, nn.Parameter], rows: slice) -> None:
        """Let parameters be views of some of the rows."""
        for segment, name in self._places():
            parameters[name].data = segment.stacked(segment.values[rows], name)

    def adopt(self, row: int, model: nn.Module) -> None:
        """Move a trial's parameters into a row: the model's own are views of it from here on."""
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for segment, name in self._places():
                place = segment.stacked(segment.values, name)[row]
                place.copy_(parameters[name])
                parameters[name].data = place
                parameters[name].grad = segment.stacked(segment.grads, name)[row]

    def set_gradients(self, grads: Mapping[str, Tensor], rows: slice, *, add: bool) -> None:
        """Take the gradients of some rows by parameter, or add them to those here."""
        for segment in self.segments:
            parts = [grads[name].flatten(1) for name in segment.columns]
            if add:
                segment.grads[rows].add_(torch.cat(parts, dim=1))
            else:
                torch.cat(parts, dim=1, out=segment.grads[rows])

    def norms(self, rows: slice) -> Tensor:
        """The gradient norm of each trial in some rows, shape [S].

        Row by row: torch sums along a dimension in an order that depends on the number of rows,
        and a trial's norm would on its neighbours.
        """
        parts = [
            torch.stack(torch._foreach_norm(list(segment.grads[rows].unbind())))
            for segment in self.segments
        ]
        return torch.sqrt(torch.stack([part_S.square() for part_S in parts]).sum(dim=0))

    def scale_gradients(self, factors_S: Tensor, rows: slice) -> None:
        """Multiply each trial's gradients by a factor of its own."""
        for segment in self.segments:
            segment.grads[rows].mul_(factors_S[:, None])

    def _places(self) -> Iterator[tuple[Segment, str]]:
        return ((segment, name) for segment in self.segments for name in segment.columns)


def _parts(
    names: Sequence[str], parameters: Mapping[str, nn.Parameter], alone: Collection[str]
) -> list[list[str]]:
    """Names that share a segment: of one dtype, since a segment is one tensor."""
    together: dict[torch.dtype, list[str]] = {}
    for name in names:
        if name not in alone:
            together.setdefault(parameters[name].dtype, []).append(name)
    return [[name] for name in names if name in alone] + list(together.values())


def _segment(group: int, parameters: Mapping[str, nn.Parameter], room: int) -> Segment:
    ends = list(accumulate(p.numel() for p in parameters.values()))
    starts = [0, *ends[:-1]]
    first = next(iter(parameters.values()))
    return Segment(
        group=group,
        columns={
            name: (start, end, p.shape)
            for (name, p), start, end in zip(parameters.items(), starts, ends, strict=True)
        },
        values=torch.zeros(room, ends[-1], dtype=first.dtype, device=first.device),
        grads=torch.zeros(room, ends[-1], dtype=first.dtype, device=first.device),
    )
