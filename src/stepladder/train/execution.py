"""Where and how a run executes: choices that change its speed and not its recipe."""

import os
import platform
import shutil
from dataclasses import dataclass

import torch

from stepladder.cost import cost
from stepladder.recipe import Recipe

# Compiling takes half a minute on two cores. Twice measured (benchmarks/bench_train.py) it gained
# 14 and 7% of a step at width 128, 8 and -2% at 256, 5 and 2% at 512, 1 and -3% at 768: it pays for
# narrow models from some ten minutes of work on.
CPU_COMPILE_WIDTH = 256
CPU_COMPILE_FLOPS = 1e14


@dataclass(frozen=True, kw_only=True)
class Execution:
    """A device, and whether the model is compiled for it."""

    device: torch.device
    compiled: bool

    @property
    def threads(self) -> int:
        """CPU threads in use; the bits of a run on the CPU depend on them."""
        return torch.get_num_threads()

    @property
    def memory(self) -> float:
        """Bytes of memory that the device has."""
        if self.device.type == "cuda":
            return float(torch.cuda.get_device_properties(self.device).total_memory)
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))

    @property
    def hardware(self) -> str:
        """What the device is called."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{platform.machine()}, {os.cpu_count()} cores"


def choose_execution(recipe: Recipe, device: str = "auto") -> Execution:
    """The device asked for (or the best one here), and whether compiling pays on it.

    Raises:
        ValueError: the device is not there, or does not know the recipe's precision.
    """
    chosen = find_device(device)
    return Execution(device=chosen, compiled=_compiling_pays(recipe, chosen))


def find_device(name: str = "auto") -> torch.device:
    """A torch device by name; "auto" is CUDA where there is one, else the CPU.

    Raises:
        ValueError: there is no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"there is no device {name!r}: use auto, cpu or cuda") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"Stepladder trains on cpu and cuda, not on {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no CUDA device here: use --device cpu, or install its driver")
    return device


def _compiling_pays(recipe: Recipe, device: torch.device) -> bool:
    if device.type == "cuda":
        return True
    long = cost(recipe).flops_total >= CPU_COMPILE_FLOPS
    return long and recipe.model.width <= CPU_COMPILE_WIDTH and shutil.which("g++") is not None
