"""One sitting at a run: what lives in memory between two checkpoints, and what is written of it.

It knows nothing of how a step is made: the loop makes one for a run alone, a stack for many at
once, and both keep the same books here.
"""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from torch.optim import Optimizer

from stepladder import optim, schedules
from stepladder.models.build import build
from stepladder.models.transformer import Transformer
from stepladder.recipe import Recipe
from stepladder.run_directory import Run
from stepladder.scaling import Plan
from stepladder.train.checkpoint import Progress, read_checkpoint, write_checkpoint
from stepladder.train.evaluate import Evaluation
from stepladder.train.execution import Execution
from stepladder.train.result import describe

ROWS = 200  # training rows of a curve, at most

# A training loss so far above a uniform guess will not come back within a run.
DIVERGED_ABOVE_UNIFORM = 1.0

Row = dict[str, Any]


class Watcher(Protocol):
    """Who wants to see a run as it goes."""

    def step(self, step: int) -> None:
        """An optimizer step is done."""

    def row(self, row: Row) -> None:
        """A row was added to the curve."""


class Silent:
    """A watcher that shows nothing."""

    def step(self, step: int) -> None:
        """Nothing."""

    def row(self, row: Row) -> None:
        """Nothing."""


class Sitting:
    """A claimed run with its model and optimizer, from its first step or its newest checkpoint."""

    def __init__(self, recipe: Recipe, run: Run, execution: Execution, watch: Watcher) -> None:
        self.recipe, self.run, self.execution, self.watch = recipe, run, execution, watch
        self.model, self.plan, self.optimizer = self._built()
        self.progress = self._resumed()

    @property
    def is_over(self) -> bool:
        """Whether no step is left."""
        return self.progress.diverged or self.progress.step == self.recipe.steps

    @property
    def row_is_due(self) -> bool:
        """Whether the step just done ends a stretch of the curve."""
        step, steps = self.progress.step, self.recipe.steps
        return step % max(1, steps // ROWS) == 0 or step == steps

    @property
    def evaluation_is_due(self) -> bool:
        """Whether the validation set is to be measured after the step just done."""
        return self.progress.step in self._evaluations and not self.progress.diverged

    def set_rates(self) -> None:
        """Give the optimizer's groups the rates of the coming step."""
        factor = rate_factor(self.recipe, self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def note(self, losses: Iterable[float], norms: Iterable[float]) -> None:
        """Take the training losses and gradient norms of the steps since the last call."""
        self.progress.losses += losses
        self.progress.norms += norms

    def write_row(self) -> None:
        """Write the means since the last training row, and see whether the run diverged."""
        done = self.progress
        row = self._row_head() | {
            "loss": math.fsum(done.losses) / len(done.losses),
            "gradient_norm": math.fsum(done.norms) / len(done.norms),
            "lr": self.recipe.optimizer.lr * rate_factor(self.recipe, done.step - 1),
        }
        done.losses, done.norms = [], []
        self._add(row)
        self._judge(row["loss"])

    def write_evaluation(self, measured: Evaluation) -> None:
        """Write a measurement on the validation set, and see whether the run diverged."""
        row = self._row_head() | {
            "validation_loss": measured.loss,
            "standard_error": measured.standard_error,
        }
        self._add(row)
        self._judge(row["validation_loss"])

    def save(self) -> None:
        """Write a checkpoint; what was not noted yet must be noted before."""
        self.run.save_checkpoint(self.progress.step, self._write_checkpoint)

    def finish(self) -> None:
        """Save the final weights and write the result."""
        with optim.evaluating(self.optimizer):  # the final weights are those to use
            self.save()
        rows = self.run.curve_rows()
        self.run.finish(describe(self.recipe, self.progress, rows, self.execution))

    def _built(self) -> tuple[Transformer, Plan, Optimizer]:
        model, plan = build(self.recipe, self.execution.device)
        return model, plan, build_optimizer(self.recipe, plan)

    def _resumed(self) -> Progress:
        latest = self.run.latest_checkpoint()
        if latest is None:
            progress = Progress(
                compiled=self.execution.compiled, started=datetime.now(UTC).isoformat()
            )
        else:
            progress = self._read_checkpoint(latest[1])
        self.run.truncate_curve(progress.step)
        where = f"{self.execution.device}, {self.execution.threads} threads"
        self.run.log(f"from step {progress.step} of {self.recipe.steps} on {where}")
        return progress

    def _read_checkpoint(self, folder: Path) -> Progress:
        return read_checkpoint(folder, self.model, self.optimizer)

    def _write_checkpoint(self, folder: Path) -> None:
        write_checkpoint(folder, self.model, self.optimizer, self.progress)

    @cached_property
    def _evaluations(self) -> set[int]:
        return evaluation_steps(self.recipe)

    def _row_head(self) -> Row:
        step = self.progress.step
        return {"step": step, "tokens": step * self.recipe.batch}

    def _add(self, row: Row) -> None:
        self.run.append(row)
        self.watch.row(row)

    def _judge(self, loss: float) -> None:
        worst = math.log(self.recipe.model.vocab_size) + DIVERGED_ABOVE_UNIFORM
        warm = self.progress.step > self.recipe.steps * self.recipe.schedule.warmup
        self.progress.diverged = not math.isfinite(loss) or (warm and loss > worst)


def build_optimizer(recipe: Recipe, plan: Plan) -> Optimizer:
    """The recipe's optimizer over a plan's parameter groups."""
    return optimizer_over(recipe, parameter_groups(recipe, plan))


def parameter_groups(recipe: Recipe, plan: Plan) -> list[dict[str, Any]]:
    """A plan's parameters in groups of equal rates, those that the recipe gives them."""
    given = recipe.optimizer
    return plan.param_groups(lr=given.lr, weight_decay=given.weight_decay, eps=given.eps)


def optimizer_over(recipe: Recipe, groups: list[dict[str, Any]]) -> Optimizer:
    """The recipe's optimizer over groups of parameters."""
    given, own = recipe.optimizer, dict[str, Any](recipe.optimizer.params)
    return optim.build(
        given.name,
        groups,
        lr=given.lr,
        betas=(given.beta1, given.beta2),
        eps=given.eps,
        weight_decay=given.weight_decay,
        **own,
    )


def rate_factor(recipe: Recipe, step: int) -> float:
    """The schedule's multiplier of every rate at a step, from 0."""
    schedule = schedules.get(recipe.schedule.name)
    progress = schedules.midpoint(step, recipe.steps)
    own: dict[str, Any] = dict(recipe.schedule.params)
    return schedule.factor(progress, warmup=recipe.schedule.warmup, **own)


def evaluation_steps(recipe: Recipe) -> set[int]:
    """The steps after which the validation set is measured; the last is always one."""
    count = recipe.evaluations
    return {max(1, round(i * recipe.steps / count)) for i in range(1, count + 1)}
