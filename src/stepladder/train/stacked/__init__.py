"""Many trials of one shape as one program: batched matrix products, one update, a row a trial."""

from stepladder.train.stacked.layers import Unstackable
from stepladder.train.stacked.member import Outcome, Trial
from stepladder.train.stacked.own import train_many
from stepladder.train.stacked.planning import room_for, shape_of
from stepladder.train.stacked.stack import Asked, train_stacked

__all__ = [
    "Asked",
    "Outcome",
    "Trial",
    "Unstackable",
    "room_for",
    "shape_of",
    "train_many",
    "train_stacked",
]
