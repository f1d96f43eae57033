"""What a run needs to go on as if it had never stopped: weights, optimizer state, position.

weights.safetensors     the model's parameters
optimizer.pt            the optimizer's state
progress.json           where the run stands
"""

import copy
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.optim import Optimizer

WEIGHTS = "weights.safetensors"
OPTIMIZER = "optimizer.pt"
PROGRESS = "progress.json"


@dataclass(kw_only=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: optimizer steps done.
        losses, norms: training loss and gradient norm of the steps since the last row.
        seconds: time spent on training steps, over all sittings.
        started: when the first sitting began, ISO 8601 in UTC.
        compiled: whether the run uses torch.compile; kept on resuming, for the same bits.
        diverged: whether the run is over for good, at this step.
        extra: batches of the recipe's size beyond one a step, taken where the batch grew.
        batches: of that size in the coming step.
        rate: what a controller multiplies the rate by.
        noise: of the steps since the last measurement, (trace, squared norm) of the noise scale.
        trunk: the run that paid for the first `trunk_step` steps, in `trunk_seconds`; empty where
            this one did.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    seconds: float = 0.0
    started: str = ""
    compiled: bool = False
    diverged: bool = False
    extra: int = 0
    batches: int = 1
    rate: float = 1.0
    noise: list[tuple[float, float]] = field(default_factory=list)
    trunk: str = ""
    trunk_step: int = 0
    trunk_seconds: float = 0.0

    @property
    def done(self) -> int:
        """Batches of the recipe's size that were trained on: the position in the data."""
        return self.step + self.extra


def write_checkpoint(
    folder: Path, model: nn.Module, optimizer: Optimizer, progress: Progress
) -> None:
    """Fill a folder with the state of a run; its tensors may be views into larger ones."""
    state = optimizer.state_dict()
    state["state"] = {
        index: {name: _own(value) for name, value in of_one.items()}
        for index, of_one in state["state"].items()
    }
    write_state(folder, _on_its_own(model), state, progress)


def write_state(
    folder: Path, model: nn.Module, optimizer_state: dict[str, Any], progress: Progress
) -> None:
    """As `write_checkpoint`, of an optimizer's `state_dict` whose tensors are whole."""
    save_model(model, str(folder / WEIGHTS))
    torch.save(optimizer_state, folder / OPTIMIZER)
    (folder / PROGRESS).write_text(json.dumps(asdict(progress)))


def _on_its_own(model: nn.Module) -> nn.Module:
    """The model, copied where its parameters lie in memory that others share."""
    return copy.deepcopy(model) if any(map(_is_partial, model.parameters())) else model


def _own(value: Any) -> Any:
    """A tensor with memory of its own: a view would be written with all that it views."""
    return value.clone() if isinstance(value, Tensor) and _is_partial(value) else value


def _is_partial(tensor: Tensor) -> bool:
    return tensor.untyped_storage().nbytes() > tensor.nbytes


def read_checkpoint(folder: Path, model: nn.Module, optimizer: Optimizer) -> Progress:
    """Load weights and optimizer state from a folder, in place, and return where the run stood.

    Raises:
        ValueError: the checkpoint is of another model or optimizer.
    """
    device = next(model.parameters()).device
    load_weights(folder, model)
    optimizer.load_state_dict(read_optimizer_state(folder, device))
    return read_progress(folder)


def read_optimizer_state(folder: Path, device: torch.device | str) -> dict[str, Any]:
    """The optimizer's `state_dict` in a folder, its tensors whole and on a device."""
    state: dict[str, Any] = torch.load(folder / OPTIMIZER, map_location=device, weights_only=True)
    return state


def read_progress(folder: Path) -> Progress:
    """Where the run of a folder stood."""
    return Progress(**json.loads((folder / PROGRESS).read_text()))


def load_weights(folder: Path, model: nn.Module) -> None:
    """Load only the weights of a checkpoint, in place; ValueError where the model is another."""
    try:
        load_model(model, str(folder / WEIGHTS))
    except RuntimeError as error:
        raise ValueError(f"{folder} holds the weights of another model: {error}") from None
