"""The user's own module as the program of many trials: vmap over stacked parameters."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from stepladder.train.stacked.masks import Masks
from stepladder.train.stacked.operations import Folded
from stepladder.train.stacked.rows import Rows

Loss = Callable[[nn.Module, Any], Tensor]
MODEL = "model."  # where a model's parameters are within `_Losses`


class Others:
    """What the trials keep beside trained parameters, a row a trial: buffers, frozen parameters.

    Each trial's own are views of its row, so that running statistics are its own.
    """

    def __init__(self, model: nn.Module, trained: set[str], room: int) -> None:
        self.stacked = {
            name: torch.zeros(room, *value.shape, dtype=value.dtype, device=value.device)
            for name, value in tensors_by_name(model).items()
            if name not in trained
        }

    @torch.no_grad()
    def adopt(self, row: int, model: nn.Module) -> None:
        """Move a trial's into a row."""
        own = tensors_by_name(model)
        for name, value_S in self.stacked.items():
            value_S[row].copy_(own[name])
            own[name].data = value_S[row]

    def of(self, rows: slice) -> dict[str, Tensor]:
        """Those of some rows, by name."""
        return {name: value_S[rows] for name, value_S in self.stacked.items()}


class VmappedLoss:
    """A copy of a model through which stacked trials go at once.

    Args:
        like: a batch, whose tensors are replaced by the trials'.
        masked: whether the last input is the trials' keys of dropout.
    """

    def __init__(self, model: nn.Module, loss: Loss, like: Any, *, masked: bool) -> None:
        self.like, self.masked = like, masked
        self._losses = _Losses(copy.deepcopy(model), loss)
        self._vmapped: Callable[..., Tensor] = vmap(self._one, randomness="error")

    def __call__(
        self,
        trained: Mapping[str, Tensor],
        others: Mapping[str, Tensor],
        inputs: Sequence[Tensor],
    ) -> Tensor:
        """Losses [S] from parameters, the model's other tensors, and inputs, all [S, ...]."""
        return self._vmapped(_within(trained), _within(others), tuple(inputs))

    def _one(
        self, trained: dict[str, Tensor], others: dict[str, Tensor], inputs: tuple[Tensor, ...]
    ) -> Tensor:
        tensors, key = (inputs[:-1], inputs[-1]) if self.masked else (inputs, None)
        batch = with_tensors(self.like, iter(tensors))
        found: Tensor = functional_call(self._losses, (trained, others), (batch, key))
        return found


def _within(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {MODEL + name: value for name, value in tensors.items()}


class FunctionalShare:
    """Some of the rows, which go through one copy of the model."""

    def __init__(self, rows: Rows, others: Others, losses: VmappedLoss) -> None:
        self.all, self.others, self.losses = rows, others, losses
        self.rows = slice(0, 0)
        self.parameters = rows.parameters()

    def cover(self, rows: slice) -> None:
        """Take these rows from here on."""
        self.rows = rows
        self.all.cover(self.parameters, rows)

    def backward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The losses [S] of a step on a batch's tensors [S, ...]; the gradients go to the rows."""
        losses_S = self.losses(self.parameters, self.others.of(self.rows), inputs)
        grads = torch.autograd.grad(losses_S.sum(), list(self.parameters.values()))
        by_name = dict(zip(self.parameters, grads, strict=True))
        self.all.set_gradients(by_name, self.rows, add=False)
        return losses_S.detach()


class _Losses(nn.Module):
    """The loss of a model as a module, so that the parameters of both can be replaced."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Any, key: Tensor | None) -> Tensor:
        with Folded(key):
            return _one_number(self.loss(self.model, batch))


def loss_of(model: nn.Module, loss: Loss, batch: Any, key: Tensor | None) -> Tensor:
    """A model's loss of a batch, its dropout by a key where there is one.

    Raises:
        ValueError: it is not one number.
    """
    if key is None:
        return _one_number(loss(model, batch))
    with Masks(key):
        return _one_number(loss(model, batch))


def _one_number(value: Tensor) -> Tensor:
    if value.ndim:
        raise ValueError(f"loss must return one number, not a tensor of shape {tuple(value.shape)}")
    return value


def tensors_of(batch: Any) -> list[Tensor]:
    """The tensors of a batch, however nested in tuples, lists and dictionaries."""
    if isinstance(batch, Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, tuple | list):
        return [tensor for part in batch for tensor in tensors_of(part)]
    return []


def with_tensors(batch: Any, tensors: Iterator[Tensor]) -> Any:
    """A batch of the same make with other tensors in place of its own."""
    if isinstance(batch, Tensor):
        return next(tensors)
    if isinstance(batch, Mapping):
        return {name: with_tensors(part, tensors) for name, part in batch.items()}
    if isinstance(batch, tuple | list):
        parts = [with_tensors(part, tensors) for part in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


def make_of(batch: Any) -> Any:
    """All of a batch but its values: what batches of one program share."""
    if isinstance(batch, Tensor):
        return tuple(batch.shape), batch.dtype, batch.device
    if isinstance(batch, Mapping):
        return {name: make_of(part) for name, part in batch.items()}
    if isinstance(batch, tuple | list):
        return [make_of(part) for part in batch]
    return batch


def tensors_by_name(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, each once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
