"""How a model is spread over a grid of processes: FSDP2, tensor and sequence parallelism.

Processes stand in a grid, data x tensor. Those of one tensor group share the matrices of attention
and MLP (Shoeybi et al. 2019, *Megatron-LM*: the first product of a branch split by columns, the
last by rows) and, between branches, the tokens of each sequence (Korthikanti et al. 2022, *Reducing
Activation Recomputation*: norms and residual stream by position). Everything else (embedding,
norms, head) works on a process's own tokens alone, so that it is sharded over the whole grid and
its gradient is the mean over it; the head's fused loss sees plain tensors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from stepladder.models.transformer import Block, Transformer
from stepladder.recipe import Model


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The processes at a run, and where this one stands.

    Attributes:
        all: every process in a row. data, tensor: this process's row and column of the grid.
    """

    all: DeviceMesh
    data: DeviceMesh
    tensor: DeviceMesh

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.all.size()

    @property
    def row(self) -> int:
        """Which share of a batch's sequences is this process's."""
        return self.data.get_local_rank()

    @property
    def column(self) -> int:
        """Which share of each sequence's tokens is this process's."""
        return self.tensor.get_local_rank()


def make_grid(device: str, tensor_parallel: int) -> Grid:
    """The processes of the default group, neighbours sharing matrices."""
    size = dist.get_world_size()
    shape = (size // tensor_parallel, tensor_parallel)
    mesh = init_device_mesh(device, shape, mesh_dim_names=("data", "tensor"))
    everyone = init_device_mesh(device, (size,), mesh_dim_names=("all",))
    return Grid(all=everyone, data=mesh["data"], tensor=mesh["tensor"])


def spread(model: Transformer, grid: Grid) -> None:
    """Shard a model's parameters over a grid, before they have memory."""
    if grid.tensor.size() > 1:
        for block in model.blocks:
            parallelize_module(block, grid.tensor, _tensor_plan(model.shape))
        model.embedding.register_forward_pre_hook(partial(_own_tokens, grid))
    for block in model.blocks:
        assert isinstance(block, Block)
        for branch in (block.attention, block.mlp):
            fully_shard(branch, mesh=grid.data)
    fully_shard(model, mesh=grid.all)
    for method in ("loss", "sequence_losses"):
        register_fsdp_forward_method(model, method)
    for module in model.modules():
        if isinstance(module, FSDPModule):  # a sum, then divided: gloo knows no mean
            module.set_force_sum_reduction_for_comms(True)


def _tensor_plan(shape: Model) -> dict[str, ParallelStyle]:
    """How the modules of a block are split; between branches each process has its own tokens."""
    gathered = Shard(1), Replicate()
    split = ["attention.query", "attention.key", "attention.value", "mlp.up"]
    split += ["mlp.gate"] if shape.activation == "swiglu" else []
    norms = ["attention.query_norm", "attention.key_norm"] if shape.qk_norm else []
    rest = (None, None)  # cosines and sines
    return {
        "attention": PrepareModuleInput(
            input_layouts=(gathered[0], *rest), desired_input_layouts=(gathered[1], *rest)
        ),
        "mlp": PrepareModuleInput(input_layouts=gathered[0], desired_input_layouts=gathered[1]),
        **{name: ColwiseParallel() for name in split},
        **{n: RowwiseParallel(output_layouts=Shard(1)) for n in ("attention.output", "mlp.down")},
        # Each process normalises its own heads, by one gain for all.
        **{name: SequenceParallel(sequence_dim=1, use_local_output=True) for name in norms},
    }


def _own_tokens(grid: Grid, _module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    return (columns(args[0], grid),)


def columns(x_BT: Tensor, grid: Grid) -> Tensor:
    """The tokens of each sequence that are this process's between branches."""
    return x_BT.chunk(grid.tensor.size(), dim=1)[grid.column].contiguous()


class Listener:
    """Sums squares of the gradients that FSDP adds up over processes, before and after.

    Attributes:
        squares: [2], of this process's own gradients and of its share of their sum, since it was
            last set to zero; float64. Both in FSDP's own unit: it may divide before it adds.
    """

    def __init__(self, device: torch.device) -> None:
        self.squares = torch.zeros(2, device=device, dtype=torch.float64)

    def attach(self, model: nn.Module) -> None:
        """Listen to every FSDP module of a model."""
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.set_custom_reduce_scatter(self)  # type: ignore[arg-type]

    def allocate(
        self, size: Sequence[int | torch.SymInt], *, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Memory for what is sent, as torch's own."""
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self,
        output_tensor: Tensor,
        input_tensor: Tensor,
        group: dist.ProcessGroup,
        op: Any,
        async_op: bool = False,
    ) -> None:
        """The reduction itself; FSDP pads with zeros."""
        dist.reduce_scatter_tensor(output_tensor, input_tensor, op, group)
        for at, tensor in enumerate((input_tensor, output_tensor)):
            self.squares[at] += tensor.double().square().sum()


def local(tensor: DTensor) -> Tensor:
    """The share of this process, the same memory."""
    with torch.no_grad():
        return tensor.to_local()


def share_of(whole: Tensor, like: DTensor | Tensor) -> Tensor:
    """This process's share of a tensor that every process has whole, spread as another is."""
    assert isinstance(like, DTensor)
    placed = whole.to(like.device, like.dtype)
    mesh, placements = like.device_mesh, like.placements
    return local(distribute_tensor(placed, mesh, placements, src_data_rank=None))


def whole_of(share: Tensor, like: DTensor) -> Tensor:
    """The tensor whose shares the processes have, spread as another is."""
    spread_out = DTensor.from_local(
        share, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    )
    return spread_out.full_tensor()


def copies(parameter: DTensor) -> int:
    """How many processes hold each entry."""
    count = 1
    for axis, placement in enumerate(parameter.placements):
        if placement.is_replicate():
            count *= parameter.device_mesh.size(axis)
    return count * dist.get_world_size() // parameter.device_mesh.size()


def summands(parameter: DTensor, grid: Grid) -> int:
    """Of how many processes' losses a gradient is the sum, after FSDP, where a mean is due: those
    that share a matrix have all of each other's tokens pass through their part."""
    return grid.tensor.size() if parameter.device_mesh.ndim == 2 else 1
