"""The program of a stack: one forward and backward pass, one clipping, one update for all trials.

Its shapes and its memory stay as they are while trials come and go and hyperparameters change, so
that it is compiled once.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor

from stepladder.models.transformer import Transformer
from stepladder.train.loop import autocast
from stepladder.train.stacked.layers import stack_layers
from stepladder.train.stacked.losses import training_losses
from stepladder.train.stacked.rows import Rows
from stepladder.train.stacked.trial import Trial
from stepladder.train.stacked.updates import choose_updates

CLIP_EPS = 1e-6  # as in torch's clip_grad_norm_


class Program:
    """Steps of up to `room` trials that share the shape of the first.

    Raises:
        Unstackable: the model has a layer without a stacked form.
    """

    def __init__(self, first: Trial, room: int) -> None:
        self.recipe, self.execution = first.recipe, first.execution
        self.rows = Rows(first.model, _groups(first), alone=("embedding.weight",), room=room)
        self.stack = cast(Transformer, stack_layers(first.model, self.rows.parameters))
        self.updates = choose_updates(self.rows, first.optimizer)
        self._losses = self._loss_function(first)
        self._clips = torch.full((room,), torch.inf, device=self.execution.device)

    def adopt(self, row: int, trial: Trial) -> None:
        """Give a trial, new or from another row, its place."""
        self.rows.adopt(row, trial.model)
        self.updates.adopt(row, trial)
        self._clips[row] = trial.recipe.optimizer.clip or torch.inf

    def shrink_to(self, count: int) -> None:
        """Leave empty rows at the end out of the work, unless the program is compiled."""
        if not self.execution.compiled:
            self.rows.resize(count)

    def step(self, trials: Sequence[Trial], x_SBT: Tensor, y_SBT: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step of the trials, which have the first rows.

        Returns:
            Losses and gradient norms before clipping, [S] each, of the trials.
        """
        count, total = self.rows.count, len(trials)
        losses_S = self._backward(_padded(x_SBT, count), _padded(y_SBT, count))
        norms_S = self.rows.norms()
        # torch clips by the same expression; an infinite bound leaves the gradients alone.
        self.rows.scale_gradients((self._clips[:count] / (norms_S + CLIP_EPS)).clamp_(max=1.0))
        self.updates.step(trials, losses_S[:total])
        return losses_S[:total], norms_S[:total]

    def _backward(self, x_SBT: Tensor, y_SBT: Tensor) -> Tensor:
        parts = self.recipe.accumulate
        total_S = torch.zeros(len(x_SBT), device=x_SBT.device)
        chunks = zip(x_SBT.chunk(parts, dim=1), y_SBT.chunk(parts, dim=1), strict=True)
        for i, (x, y) in enumerate(chunks):
            with autocast(self.recipe, self.execution):
                losses_S = self._losses(x, y) / parts
            grads = torch.autograd.grad(losses_S.sum(), list(self.rows.parameters.values()))
            self.rows.set_gradients(grads, add=i > 0)
            total_S = total_S + losses_S.detach()
        return total_S

    def _loss_function(self, first: Trial) -> Callable[[Tensor, Tensor], Tensor]:
        def losses(x_SBT: Tensor, y_SBT: Tensor) -> Tensor:
            return training_losses(self.stack, x_SBT, y_SBT)

        if not self.execution.compiled:
            return losses
        compiled: Callable[[Tensor, Tensor], Tensor] = torch.compile(losses)
        return compiled


def _groups(trial: Trial) -> list[list[str]]:
    """Names of parameters by the plan's groups, each parameter once."""
    names = {id(p): name for name, p in trial.model.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in trial.plan.param_groups(lr=1.0)]


def _padded(tokens_SBT: Tensor, count: int) -> Tensor:
    """Tokens for rows without a trial, which a compiled program takes along."""
    missing = count - len(tokens_SBT)
    if not missing:
        return tokens_SBT
    return torch.cat((tokens_SBT, tokens_SBT.new_zeros(missing, *tokens_SBT.shape[1:])))
