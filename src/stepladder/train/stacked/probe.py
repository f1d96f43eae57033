"""A look at one trial before its kind is stacked: whether it can be, and how many fit."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from stepladder.train.stacked.alike import difference, optimizers_differ
from stepladder.train.stacked.functional import (
    Loss,
    VmappedLoss,
    loss_of,
    make_of,
    tensors_by_name,
    tensors_of,
)
from stepladder.train.stacked.layers import Unstackable
from stepladder.train.stacked.masks import Masks
from stepladder.train.stacked.member import Member

# How far a loss may be from itself in another order of sums, by dtype.
AGREEMENT = {torch.float64: 1e-9, torch.float32: 1e-3}
LOW_AGREEMENT = 0.05


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """What trials that share a program have in common.

    Attributes:
        first: one of them.
        groups: names of trained parameters by the optimizer's groups.
        masked: whether it has dropout.
        bytes: of memory that one more trial takes.
    """

    first: Member
    loss: Loss
    groups: list[list[str]]
    masked: bool
    bytes: int

    def vmapped(self) -> VmappedLoss:
        """A program of its own over the first trial's model."""
        return VmappedLoss(self.first.model, self.loss, self.first.batch, masked=self.masked)

    def difference(self, member: Member) -> str:
        """How another trial differs, so that it is not of this pattern; empty where it is."""
        ours = self.first
        return (
            difference(ours.model, member.model)
            or optimizers_differ(ours.optimizer, ours.groups, member.optimizer, member.groups)
            or ("" if make_of(member.batch) == make_of(ours.batch) else "its batches differ")
        )


def drops(member: Member, loss: Loss) -> bool:
    """Whether dropout is at work in a trial's model."""
    watching = Masks(None)
    with watching, _untouched(member):
        loss(copy.deepcopy(member.model), member.batch)
    return watching.calls > 0


def probe(member: Member, loss: Loss, *, masked: bool) -> Pattern:
    """The pattern of a trial, from its first batch; the trial is left as it was.

    Raises:
        Unstackable: and why.
    """
    model = copy.deepcopy(member.model)
    before, saved = dict(model.named_buffers()), _Saved()
    with _untouched(member), saved_tensors_hooks(saved.add, lambda kept: kept):
        loss_of(model, loss, member.batch, _key(member, masked)).backward()
    for name, buffer in model.named_buffers():
        if before.get(name) is not buffer:
            raise Unstackable(f"its forward pass replaces the buffer {name}: copy into it instead")
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    groups = [[name for name in group if name in trained] for group in member.groups]
    if not any(groups):
        raise Unstackable("its loss depends on no parameter that its optimizer has")
    held = sum(t.nbytes for t in tensors_by_name(model).values())
    pattern = Pattern(
        first=member, loss=loss, groups=groups, masked=masked, bytes=4 * held + saved.bytes
    )
    check_agreement(pattern.vmapped(), member, loss)
    return pattern


def check_agreement(vmapped: VmappedLoss, member: Member, loss: Loss) -> None:
    """See that the program gives a trial the loss that it has alone.

    What a module keeps besides tensors may differ from trial to trial, and the program has that of
    one of them.

    Raises:
        Unstackable: it does not, or it cannot run.
    """
    key = _key(member, vmapped.masked)
    keys = [] if key is None else [key]
    with torch.no_grad(), _untouched(member):
        rows = {n: t[None].clone() for n, t in tensors_by_name(member.model).items()}
        inputs = [t[None] for t in (*tensors_of(member.batch), *keys)]
        alone = loss_of(copy.deepcopy(member.model), loss, member.batch, key)
        try:
            (stacked,) = vmapped(rows, {}, inputs)
        except Exception as error:
            said = str(error).partition(". ")[0]
            raise Unstackable(f"torch.func.vmap refuses it ({said})") from error
    rel = AGREEMENT.get(alone.dtype, LOW_AGREEMENT)
    if not torch.allclose(stacked, alone, rtol=rel, atol=rel, equal_nan=True):
        raise Unstackable(
            f"its loss is {float(alone):.6g} alone and {float(stacked):.6g} in a stack: its "
            "forward pass depends on more than parameters, buffers and plain settings"
        )


def _key(member: Member, masked: bool) -> Tensor | None:
    return torch.tensor(member.key, device=_device(member)) if masked else None


def _device(member: Member) -> torch.device:
    return next(member.model.parameters()).device


@contextmanager
def _untouched(member: Member) -> Iterator[None]:
    """torch's generators are afterwards as they were."""
    device = _device(member)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


class _Saved:
    """Bytes that a forward pass keeps for the backward pass, each block of memory once."""

    def __init__(self) -> None:
        self._blocks: dict[int, int] = {}

    @property
    def bytes(self) -> int:
        return sum(self._blocks.values())

    def add(self, tensor: Tensor) -> Tensor:
        """Count a tensor's memory."""
        storage = tensor.untyped_storage()
        self._blocks[storage.data_ptr()] = storage.nbytes()
        return tensor
