"""The low-rank space of GaLore and its kin: top singular directions of a gradient."""

import torch
from torch import Tensor

from stepladder.optim.rule import State


class Subspace:
    """How a matrix of one shape is projected: on its smaller side, to `rank` dimensions.

    The basis is kept in `state["basis"]`: shape (rank, columns) where rows >= columns (the
    projection is g @ basis.T), else (rows, rank) (basis.T @ g), as in GaLore's code. Tensors that
    are not matrices, or whose smaller side is at most `rank`, are not projected.
    """

    def __init__(self, p: Tensor, rank: int) -> None:
        self.active = p.ndim == 2 and min(p.shape) > rank
        self.right = self.active and p.shape[0] >= p.shape[1]
        self.rank = rank

    def zeros(self, p: Tensor) -> Tensor:
        """A zero of the projected shape."""
        if not self.active:
            return p.new_zeros(p.shape)
        return p.new_zeros((p.shape[0], self.rank) if self.right else (self.rank, p.shape[1]))

    def init(self, p: Tensor) -> State:
        """The state the space keeps: the basis, where it projects at all."""
        if not self.active:
            return {}
        return {
            "basis": p.new_zeros((self.rank, p.shape[1]) if self.right else (p.shape[0], self.rank))
        }

    def refresh(self, g: Tensor, state: State, step: int, gap: int) -> bool:
        """Take a new basis from the gradient at steps 1, 1 + gap, 1 + 2 gap, ...; whether it did.

        A gradient with NaN has no singular vectors: the basis is then made from its finite part,
        and NaN reaches the parameter through the projected gradient.
        """
        due = self.active and (step - 1) % gap == 0
        if due:
            u, _, vh = torch.linalg.svd(torch.nan_to_num(g), full_matrices=False)
            state["basis"].copy_(vh[: self.rank] if self.right else u[:, : self.rank])
        return due

    def project(self, g: Tensor, state: State) -> Tensor:
        """Full to low rank."""
        if not self.active:
            return g
        return g @ state["basis"].mT if self.right else state["basis"].mT @ g

    def subtract(self, low: Tensor, state: State, p: Tensor) -> None:
        """p <- p - back(low), without the full-size matrix in between."""
        if not self.active:
            p.sub_(low)
        elif self.right:
            p.addmm_(low, state["basis"], alpha=-1)
        else:
            p.addmm_(state["basis"], low, alpha=-1)

    def back(self, low: Tensor, state: State) -> Tensor:
        """Low rank to full."""
        if not self.active:
            return low
        return low @ state["basis"] if self.right else state["basis"] @ low
