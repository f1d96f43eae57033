"""Initial values that depend on a seed and a parameter's name, and on nothing else."""

import sys
from hashlib import blake2b

import torch
from torch import Tensor, nn

from stepladder.scaling.own import OwnScale, values_of
from stepladder.scaling.records import Record


def generator_for(name: str, seed: int) -> torch.Generator:
    """A CPU generator of the parameter's own: order of parameters and device do not matter."""
    digest = blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


@torch.no_grad()
def draw(parameter: nn.Parameter, record: Record, name: str, seed: int) -> None:
    """Fill a parameter: normal with the record's scale, or its constant where the scale is 0."""
    if record.init_std == 0:
        parameter.fill_(record.fill)
        return
    values = torch.empty(parameter.shape, dtype=torch.float64)
    values.normal_(0.0, record.init_std, generator=generator_for(name, seed))
    parameter.copy_(_placed(values, parameter))


def _placed(values: Tensor, parameter: nn.Parameter) -> Tensor:
    """The values as a sharded parameter (FSDP2, tensor parallel) holds them: each rank draws the
    whole tensor, alike, and keeps its share."""
    if "torch.distributed.tensor" not in sys.modules:  # half a second to import, and none to place
        return values
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor):
        return values
    whole = values.to(dtype=parameter.dtype, device=parameter.device)
    placed: Tensor = distribute_tensor(
        whole, parameter.device_mesh, parameter.placements, src_data_rank=None
    )
    return placed


def check_ready(parameter: nn.Parameter, own: tuple[OwnScale, float] | None, name: str) -> None:
    """Whether a parameter can be given its values.

    Raises:
        ValueError: it is on the meta device, or its own values are not those the plan was made
            from.
    """
    if parameter.device.type == "meta":
        raise ValueError(
            f"{name} is on the meta device and can hold no values: model.to_empty(device=...) first"
        )
    if own is None:
        return
    rms, was = values_of(parameter.detach()).rms, own[0].rms
    if abs(rms - was) > 1e-6 * was:
        raise ValueError(
            f"{name} no longer has the values the plan was made from (root mean square {rms:.4g}, "
            f"was {was:.4g}): initialise a fresh model once, or give init_std= to draw anew"
        )


@torch.no_grad()
def rescale(parameter: nn.Parameter, own: tuple[OwnScale, float]) -> None:
    """Scale the values that a module gave itself."""
    if own[1] != 1:
        parameter.mul_(own[1])
