"""Training: one loop, its checkpoints, what is checked before it and said after it."""

from stepladder.train.execution import Execution, choose_execution, find_device
from stepladder.train.loop import train
from stepladder.train.sitting import Silent, Watcher

__all__ = ["Execution", "Silent", "Watcher", "choose_execution", "find_device", "train"]
