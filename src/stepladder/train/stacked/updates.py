"""Optimizer steps of stacked trials: by one rule for all rows, or one trial after another."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stepladder.optim.engine import hyper
from stepladder.optim.rule import Hyper
from stepladder.optim.twin import Twin, twin
from stepladder.train.stacked.rows import Rows, Segment


class Member(Protocol):
    """A trial as the program of a stack sees it: its own model and optimizer, over its row."""

    optimizer: Optimizer

    @property
    def model(self) -> nn.Module:
        """Its parameters are views of the row."""

    @property
    def steps_done(self) -> int:
        """Optimizer steps taken."""

    @property
    def clip(self) -> float:
        """The bound of its gradient's norm; infinite where there is none."""

    def on_its_own(self) -> AbstractContextManager[None]:
        """What goes wrong inside is its failure alone."""


class Updates(Protocol):
    """How the trials in the rows of a stack take their steps; their gradients stand there."""

    def adopt(self, row: int, trial: Member) -> None:
        """Take over the optimizer state of a trial that entered."""

    def step(self, trials: Sequence[Member], losses_S: Tensor, rows: slice) -> None:
        """Update some rows, which these trials have, at the rates they are set to."""

    def settle(self, trial: Member) -> None:
        """Bring a trial's own optimizer up to date, before it is saved."""


def choose_updates(rows: Rows, optimizer: Optimizer) -> Updates:
    """One rule for all rows where the optimizer has a twin, else a step a trial."""
    found = twin(optimizer)
    one_kind = len({segment.values.dtype for segment in rows.segments}) == 1
    if found and one_kind and all(_whole(found, segment) for segment in rows.segments):
        return Shared(rows, found)
    return Separate()


class Separate:
    """Every trial's own optimizer, over its row."""

    def adopt(self, row: int, trial: Member) -> None:
        """Nothing: the optimizer updates views of the row, with a state of its own."""

    def step(self, trials: Sequence[Member], losses_S: Tensor, rows: slice) -> None:
        """As alone, one after another."""
        for trial, loss in zip(trials, losses_S, strict=True):
            with trial.on_its_own():
                trial.optimizer.step(lambda loss=loss: loss)  # type: ignore[misc]

    def settle(self, trial: Member) -> None:
        """Nothing."""


class Shared:
    """One rule over each segment, with a hyperparameter a row; states are rows as well."""

    def __init__(self, rows: Rows, twin: Twin) -> None:
        self.rows, self.twin = rows, twin
        self.states = [
            {key: torch.zeros_like(segment.values) for key in twin.rule.init(segment.values)}
            for segment in rows.segments
        ]

    @torch.no_grad()
    def adopt(self, row: int, trial: Member) -> None:
        """Copy the state, or its initial value, into the row; the optimizer's own is a view."""
        parameters = dict(trial.model.named_parameters())
        for segment, matrices in zip(self.rows.segments, self.states, strict=True):
            for name in segment.columns:
                own = trial.optimizer.state[parameters[name]]
                fresh = self.twin.rule.init(parameters[name])
                if not own and self.twin.counts:
                    own["step"] = torch.zeros(())
                for key, matrix_SC in matrices.items():
                    place = segment.stacked(matrix_SC, name)[row]
                    theirs = self.twin.names.get(key, key)
                    place.copy_(own.get(theirs, fresh[key]))
                    own[theirs] = place

    @torch.no_grad()
    def step(self, trials: Sequence[Member], losses_S: Tensor, rows: slice) -> None:
        """A few kernels for all trials."""
        like = self.rows.segments[0].values
        by_group = _by_group([self._hypers(trial) for trial in trials], like)
        for segment, matrices in zip(self.rows.segments, self.states, strict=True):
            state = {key: matrix_SC[rows] for key, matrix_SC in matrices.items()}
            values, grads = segment.values[rows], segment.grads[rows]
            self.twin.rule.update(values, grads, state, by_group[segment.group])

    def settle(self, trial: Member) -> None:
        """The stack counts the steps; here they are written into the optimizer's own counters."""
        for state in trial.optimizer.state.values():
            if "step" in state:
                state["step"].fill_(trial.steps_done)

    def _hypers(self, trial: Member) -> list[Hyper]:
        """What the rule is told of each group of a trial; its counters live in the groups."""
        rule, step = self.twin.rule, trial.steps_done + 1
        return [
            hyper(rule, self.twin.settings(group), step, rule.scalars(group))
            for group in trial.optimizer.param_groups
        ]


def _by_group(by_trial: Sequence[Sequence[Hyper]], like: Tensor) -> list[Hyper]:
    """Hyperparameters of each group with one value a trial, [S, 1], in one transfer."""
    numbers = [[[float(v) for v in _values(h)] for h in groups] for groups in by_trial]
    told_GHS = sent(torch.tensor(numbers, dtype=torch.float64), like.device).to(like.dtype)
    return [
        _filled(h, told_HS[..., None].unbind())
        for h, told_HS in zip(by_trial[0], told_GHS.permute(1, 2, 0), strict=True)
    ]


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Numbers on a device that is not waited for: from other memory than pinned it would be."""
    if device.type == "cpu":
        return numbers
    return numbers.pin_memory().to(device, non_blocking=True)


def _values(h: Hyper) -> list[float]:
    return [*h[:-1], *h.extra.values()]


def _filled(h: Hyper, values: Sequence[Tensor]) -> Hyper:
    """The same record with other values; its last field is a table of the rest."""
    shared, own = values[: len(h) - 1], values[len(h) - 1 :]
    fields = dict(zip(h._fields, shared, strict=False))
    return Hyper(**fields, extra=dict(zip(h.extra, own, strict=True)))


def _whole(twin: Twin, segment: Segment) -> bool:
    """Whether every state has the shape of its parameter, so that it can be a row."""
    row = segment.values[0]
    return all(state.shape == row.shape for state in twin.rule.init(row).values())
