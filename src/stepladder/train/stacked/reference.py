"""The program of stacked recipes: the reference model in stacked layers."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from stepladder.models.transformer import Transformer
from stepladder.recipe import Recipe
from stepladder.train.execution import Execution
from stepladder.train.loop import autocast
from stepladder.train.stacked.layers import stack_layers
from stepladder.train.stacked.losses import training_losses
from stepladder.train.stacked.program import Program, Threads
from stepladder.train.stacked.rows import Rows
from stepladder.train.stacked.trial import Trial


def reference_program(first: Trial, room: int, threads: Threads) -> Program:
    """Steps of up to `room` trials that share the shape of the first.

    Raises:
        Unstackable: the model has a layer without a stacked form.
    """
    rows = Rows(first.model, _groups(first), alone=("embedding.weight",), room=room)
    shares = [
        _Share(rows, first.model, first.recipe, first.execution) for _ in range(threads.count)
    ]
    return Program(rows, first.optimizer, shares, threads, fixed=first.execution.compiled)


class _Share:
    """Some of the rows, with a model in stacked layers."""

    def __init__(self, rows: Rows, model: nn.Module, recipe: Recipe, execution: Execution) -> None:
        self.all, self.recipe, self.execution = rows, recipe, execution
        self.rows = slice(0, 0)
        self.parameters = rows.parameters()
        self.stack = cast(Transformer, stack_layers(model, self.parameters))
        self._losses = torch.compile(self._plain) if execution.compiled else self._plain

    def cover(self, rows: slice) -> None:
        """Take these rows from here on."""
        self.rows = rows
        self.all.cover(self.parameters, rows)

    def backward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The losses [S] of a step on tokens and targets [S, B, T]; the gradients go to the
        rows."""
        x_SBT, y_SBT = inputs
        parts = self.recipe.accumulate
        total_S = torch.zeros(len(x_SBT), device=x_SBT.device)
        chunks = zip(x_SBT.chunk(parts, dim=1), y_SBT.chunk(parts, dim=1), strict=True)
        for i, (x, y) in enumerate(chunks):
            with autocast(self.recipe, self.execution):
                losses_S = self._losses(x, y) / parts
            grads = torch.autograd.grad(losses_S.sum(), list(self.parameters.values()))
            by_name = dict(zip(self.parameters, grads, strict=True))
            self.all.set_gradients(by_name, self.rows, add=i > 0)
            total_S = total_S + losses_S.detach()
        return total_S

    def _plain(self, x_SBT: Tensor, y_SBT: Tensor) -> Tensor:
        return training_losses(self.stack, x_SBT, y_SBT)


def _groups(trial: Trial) -> list[list[str]]:
    """Names of parameters by the plan's groups, each parameter once."""
    names = {id(p): name for name, p in trial.model.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in trial.plan.param_groups(lr=1.0)]
