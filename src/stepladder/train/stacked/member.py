"""One trial of the user's own module: its description, what came of it, and its place at work."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stepladder.train.stacked.functional import tensors_of
from stepladder.train.stacked.masks import key_of


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training of a module.

    Attributes:
        make: gives the model and its optimizer, both fresh, when the trial's turn comes.
        batches: what the loss is given, step by step: a list or tuple is gone through again and
            again, anything else once. Tensors, or tuples, lists and dictionaries of them.
        steps: how many.
        rate: step, from 0 -> the factor of every group's rate; constant if None.
        clip: bound of the gradient's norm.
        seed: of dropout, and of whatever else is drawn at random where the trial runs alone.
        measure: what to compute of the trained model, for `Outcome.measured`.
        label: what to call the trial in errors.
    """

    make: Callable[[], tuple[nn.Module, Optimizer]]
    batches: Iterable[Any]
    steps: int
    rate: Callable[[int], float] | None = None
    clip: float = math.inf
    seed: int = 0
    measure: Callable[[nn.Module], Any] | None = None
    label: str = ""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a trial takes 1 step or more, not {self.steps}")
        if not self.clip > 0:
            raise ValueError(f"clip must be above 0, not {self.clip}: leave it out for none")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a trial.

    Attributes:
        losses: before each step, in the loss's own unit; the first that is not finite is the last.
        measured: the trial's `measure` of the trained model; None where it diverged.
        alone: why it shared no program; empty where it did.
    """

    losses: list[float]
    measured: Any
    alone: str

    @property
    def diverged(self) -> bool:
        """Whether the loss stopped being finite."""
        return not math.isfinite(self.losses[-1])


class Member:
    """A trial with its model and optimizer, made when they are first asked for."""

    model: nn.Module
    optimizer: Optimizer

    def __init__(self, trial: Trial, place: int) -> None:
        self.trial, self.place, self.steps_done = trial, place, 0
        self.losses: list[float] = []
        self.is_open = False

    def open(self) -> None:
        """Make the model and the optimizer, and look at the first batch."""
        if self.is_open:
            return
        self.model, self.optimizer = self.trial.make()
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        given = self.trial.batches
        self._batches = iter(cycle(given) if isinstance(given, list | tuple) else given)
        self.batch = self._next()
        self.is_open = True

    @property
    def clip(self) -> float:
        """The bound of the gradient's norm."""
        return self.trial.clip

    @property
    def key(self) -> int:
        """Of the dropout of the coming step."""
        return key_of(self.trial.seed, self.steps_done)

    @property
    def groups(self) -> list[list[str]]:
        """Names of parameters by the optimizer's groups.

        Raises:
            ValueError: a parameter of the optimizer is not one of the model.
        """
        names = {id(p): name for name, p in self.model.named_parameters()}
        of = [[names.get(id(p), "") for p in g["params"]] for g in self.optimizer.param_groups]
        if any("" in group for group in of):
            raise ValueError(
                "the optimizer has a parameter that is not the model's: let make return the "
                "optimizer of the model that it returns"
            )
        return of

    @property
    def is_over(self) -> bool:
        """Whether no step is left."""
        diverged = bool(self.losses) and not math.isfinite(self.losses[-1])
        return diverged or self.steps_done == self.trial.steps

    def set_rates(self) -> None:
        """Give the optimizer's groups the rates of the coming step."""
        if self.trial.rate is None:
            return
        factor = self.trial.rate(self.steps_done)
        for group, lr in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = lr * factor

    def stepped(self) -> None:
        """A step was taken: on to the next batch."""
        self.steps_done += 1
        if self.steps_done < self.trial.steps:
            self.batch = self._next()

    def note(self, losses: Sequence[float]) -> None:
        """Keep the losses of some steps, up to the first that is not finite."""
        for loss in losses:
            if not self.losses or math.isfinite(self.losses[-1]):
                self.losses.append(loss)

    def outcome(self, alone: str = "") -> Outcome:
        """What came of the trial, measured where it did not diverge."""
        found = Outcome(losses=self.losses, measured=None, alone=alone)
        measure = self.trial.measure
        if measure is None or found.diverged:
            return found
        return Outcome(losses=self.losses, measured=measure(self.model), alone=alone)

    @contextmanager
    def on_its_own(self) -> Iterator[None]:
        """An error inside says which trial it came from."""
        try:
            yield
        except Exception as error:
            error.add_note(f"in trial {self.trial.label or self.place}")
            raise

    @torch.no_grad()
    def let_go(self) -> None:
        """Give the model and the optimizer memory of their own: others take the rows."""
        for tensor in (*self.model.parameters(), *self.model.buffers()):
            tensor.data, tensor.grad = tensor.data.clone(), None
        for state in self.optimizer.state.values():
            for name, value in state.items():
                state[name] = value.clone() if isinstance(value, Tensor) else value

    def _next(self) -> Any:
        try:
            batch = next(self._batches)
        except StopIteration:
            raise ValueError(
                f"its batches ended after {self.steps_done} of {self.trial.steps} steps: give "
                "more, or a list, which is gone through again and again"
            ) from None
        if not tensors_of(batch):
            raise ValueError(
                f"a batch is a {type(batch).__name__} without tensors: give tensors, or tuples, "
                "lists or dictionaries of them"
            )
        return batch
