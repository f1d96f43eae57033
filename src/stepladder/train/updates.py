"""How an optimizer that knows nothing of processes updates a model that is spread over them.

Where every entry of a parameter is updated by itself, each process updates the share it has, as
plain tensors. Where a parameter is looked at as a whole (Muon's matrices, LAMB's norms), it belongs
to one process: that one is given the whole gradient, updates the whole parameter, and gives it back
to all, and its state is nowhere else. Optimizers that measure the whole model are refused.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from stepladder import optim
from stepladder.optim.twin import twin
from stepladder.optim.whole import WholeModelOptimizer
from stepladder.recipe import Optimizer as Settings
from stepladder.train.processes import is_first, told
from stepladder.train.sharding import local, share_of, whole_of

State = dict[str, Any]


class Updates(Protocol):
    """What an optimizer holds in place of parameters that are spread over processes."""

    own: list[nn.Parameter]

    def attach(self, optimizer: Optimizer) -> None:
        """Have each of its steps begin with gradients and end with all processes up to date."""

    def load(self, optimizer: Optimizer, state: State) -> None:
        """Take a `state_dict` of whole tensors, that every process has."""

    def state_of(self, optimizer: Optimizer) -> State:
        """A `state_dict` of whole tensors, in the memory of the first process's CPU."""


def updates_for(settings: Settings, parameters: Sequence[DTensor]) -> Updates:
    """The way that suits a recipe's optimizer."""
    return Shares(parameters) if _is_elementwise(settings) else Owners(parameters)


def check_updates(settings: Settings) -> None:
    """Raise ValueError, naming the fix, where an optimizer does not run on several processes."""
    if isinstance(_small(settings), WholeModelOptimizer):
        raise ValueError(
            f"{settings.name!r} measures the whole model at every step, which no process holds: "
            "use another optimizer, or one process"
        )


def _is_elementwise(settings: Settings) -> bool:
    return twin(_small(settings)) is not None


def _small(settings: Settings) -> Optimizer:
    """The optimizer over next to nothing, to see what it is."""
    own = dict[str, Any](settings.params)
    return optim.build(settings.name, [nn.Parameter(torch.zeros(2, 2))], lr=settings.lr, **own)


class Shares:
    """Each process updates its share of every parameter."""

    def __init__(self, parameters: Sequence[DTensor]) -> None:
        self.parameters = parameters
        self.own = [nn.Parameter(local(p)) for p in parameters]

    def attach(self, optimizer: Optimizer) -> None:
        """As said."""
        optimizer.register_step_pre_hook(lambda *_: self._refresh())

    def load(self, optimizer: Optimizer, state: State) -> None:
        """As said."""
        for index, of_one in state["state"].items():
            like = self.parameters[index]
            for name, value in of_one.items():
                if value.shape == like.shape:
                    of_one[name] = share_of(value, like)
        optimizer.load_state_dict(state)

    def state_of(self, optimizer: Optimizer) -> State:
        """As said."""
        state = optimizer.state_dict()
        state["state"] = {
            index: {
                name: kept(whole_of(value, like)) if value.shape == share.shape else value
                for name, value in state["state"][index].items()
            }
            for index, (like, share) in enumerate(zip(self.parameters, self.own, strict=True))
            if index in state["state"]
        }
        return state

    def _refresh(self) -> None:
        for parameter, share in zip(self.parameters, self.own, strict=True):
            share.data = local(parameter)  # where FSDP keeps it
            share.grad = None if parameter.grad is None else local(cast(DTensor, parameter.grad))


class Owners:
    """Each parameter is whole in one process, which updates it for all.

    The others have a tensor of its shape in its place that takes no memory and no gradient.
    """

    def __init__(self, parameters: Sequence[DTensor]) -> None:
        self.parameters = parameters
        self.owners = balanced([p.numel() for p in parameters], dist.get_world_size())
        self.own = [
            nn.Parameter(whole.clone() if self._is_mine(i) else whole.new_zeros(()).expand(p.shape))
            for i, p in enumerate(parameters)
            for whole in [whole_of(local(p), p)]
        ]

    def attach(self, optimizer: Optimizer) -> None:
        """As said."""
        optimizer.register_step_pre_hook(lambda *_: self._gather())
        optimizer.register_step_post_hook(lambda *_: self._give_back())

    def load(self, optimizer: Optimizer, state: State) -> None:
        """As said."""
        for i, parameter in enumerate(self.parameters):
            whole = whole_of(local(parameter), parameter)
            if self._is_mine(i):
                self.own[i].data.copy_(whole)
        order = self._order(optimizer)
        mine = {k: v for k, v in state["state"].items() if self._is_mine(order[k])}
        optimizer.load_state_dict({**state, "state": mine})

    def state_of(self, optimizer: Optimizer) -> State:
        """As said."""
        state = optimizer.state_dict()
        gathered = {
            k: told(_on_cpu(state["state"].get(k)), by=self.owners[i])
            for k, i in enumerate(self._order(optimizer))
        }
        state["state"] = {k: of_one for k, of_one in gathered.items() if of_one is not None}
        return state

    def _is_mine(self, index: int) -> bool:
        return self.owners[index] == dist.get_rank()

    def _order(self, optimizer: Optimizer) -> list[int]:
        """Which of our parameters each of the optimizer's is: it may have grouped them anew."""
        at = {id(p): i for i, p in enumerate(self.own)}
        return [at[id(p)] for group in optimizer.param_groups for p in group["params"]]

    def _gather(self) -> None:
        for i, (parameter, own) in enumerate(zip(self.parameters, self.own, strict=True)):
            if parameter.grad is not None:
                whole = whole_of(local(cast(DTensor, parameter.grad)), parameter)
                own.grad = whole if self._is_mine(i) else None

    @torch.no_grad()
    def _give_back(self) -> None:
        for i, (parameter, own) in enumerate(zip(self.parameters, self.own, strict=True)):
            whole = own.data if self._is_mine(i) else torch.empty_like(own.data).contiguous()
            dist.broadcast(whole, src=self.owners[i])
            local(parameter).copy_(share_of(whole, parameter))
            own.grad = None


def balanced(sizes: Sequence[int], processes: int) -> list[int]:
    """An owner for each of some sizes, the largest first to whoever has least."""
    held, owners = [0] * processes, [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owner = held.index(min(held))
        owners[index], held[owner] = owner, held[owner] + sizes[index]
    return owners


def kept(whole: Tensor) -> Tensor:
    """A gathered tensor, in the one process that writes it."""
    return whole.detach().cpu() if is_first() else torch.empty(0)


def _on_cpu(state: State | None) -> State | None:
    if state is None:
        return None
    return {k: v.detach().cpu() if isinstance(v, Tensor) else v for k, v in state.items()}
