"""Stepladder: climb small, forecast big.

The public names below are imported on first use, so that `import stepladder` costs nothing and the
laws stay usable on a machine without torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> the module that defines it
_PUBLIC: dict[str, str] = {
    "fit": "stepladder.laws",
    "forecast": "stepladder.laws",
    "allocate": "stepladder.laws",
    "plan": "stepladder.planning",
    "compare": "stepladder.comparing",
    "Recipe": "stepladder.recipe",
    "parametrize": "stepladder.scaling",
    "coordinate_check": "stepladder.scaling",
    "transfer_check": "stepladder.scaling",
    "train_many": "stepladder.train.stacked",
    "Trial": "stepladder.train.stacked",
}

__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stepladder' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
