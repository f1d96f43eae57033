"""One sitting at a run: what lives in memory between two checkpoints, and what is written of it.

It knows nothing of how a step is made: the loop makes one for a run alone, a stack for many at
once, and both keep the same books here.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from torch.optim import Optimizer

from stepladder import optim
from stepladder.branches import Branch, find_branch, point_at_branch
from stepladder.models.build import build
from stepladder.models.transformer import Transformer
from stepladder.recipe import Recipe
from stepladder.run_directory import Run
from stepladder.scaling import Plan
from stepladder.train.checkpoint import Progress, read_checkpoint, write_checkpoint
from stepladder.train.evaluate import Evaluation
from stepladder.train.execution import Execution
from stepladder.train.feedback import noise_scale
from stepladder.train.result import describe
from stepladder.train.timeline import ROWS, evaluation_steps, rate_factor, warmup_steps
from stepladder.train.trunk import (
    MEASURED,
    Trail,
    branches_for,
    digests,
    measured_at,
    stem_of,
    trunk_steps,
)

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


class _Unfit(ValueError):  # noqa: N818 (a state, said as one)
    """A branch point that this run cannot start from."""


class Sitting:
    """A claimed run with its model and optimizer, from its first step or its newest checkpoint."""

    def __init__(self, recipe: Recipe, run: Run, execution: Execution, watch: Watcher) -> None:
        self.recipe, self.run, self.execution, self.watch = recipe, run, execution, watch
        self.taken = 1  # batches of the recipe's size in the step at hand, or just done
        self.trunk = trunk_steps(recipe)
        self.trail: Trail | None = None
        self.model, self.plan, self.optimizer = self._built()
        self.progress = self._resumed()

    @property
    def is_over(self) -> bool:
        """Whether no step is left."""
        return self.progress.diverged or self.progress.done == self.recipe.steps

    @property
    def row_is_due(self) -> bool:
        """Whether the step just done ends a stretch of the curve."""
        steps = self.recipe.steps
        return self.progress.step % max(1, steps // ROWS) == 0 or self.progress.done == steps

    @property
    def evaluation_is_due(self) -> bool:
        """Whether the validation set is to be measured after the step just done."""
        done = self.progress.done
        just = range(done - self.taken + 1, done + 1)
        return not self._evaluations.isdisjoint(just) and not self.progress.diverged

    @property
    def branch_is_due(self) -> bool:
        """Whether the step just done was the last that longer runs begin with alike."""
        on_trunk = self.trail is not None and not self.progress.diverged
        return on_trunk and self.progress.step == self.trunk

    def set_rates(self) -> None:
        """Give the optimizer's groups the rates of the step at hand."""
        self.factor = self.progress.rate * rate_factor(self.recipe, self.progress.done, self.taken)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.factor

    def note(self, losses: Iterable[float], norms: Iterable[float]) -> None:
        """Take the training losses and gradient norms of the steps since the last call."""
        losses, norms = list(losses), list(norms)
        self.progress.losses += losses
        self.progress.norms += norms
        if self.trail is not None:
            self.trail.add(losses, norms)

    def write_row(self) -> None:
        """Write the means since the last training row, and see whether the run diverged."""
        done = self.progress
        row = self._row_head() | {
            "loss": math.fsum(done.losses) / len(done.losses),
            "gradient_norm": math.fsum(done.norms) / len(done.norms),
            "lr": self.recipe.optimizer.lr * self.factor,
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
        self._add(row | noise_scale(self.progress))
        self._judge(row["validation_loss"])

    def save(self) -> None:
        """Write a checkpoint; what was not noted yet must be noted before."""
        self.run.save_checkpoint(self.progress.step, self._write_checkpoint)

    def keep_branch(self) -> None:
        """Keep the state for longer runs to start from; what was not noted yet must be noted
        before. Where the disk is full, the run goes on without."""
        stem, step = stem_of(self.recipe), self.progress.step
        assert stem is not None
        branch = Branch(
            run=self.recipe.key,
            step=step,
            digest=digests(self.recipe, [step])[step],
            folder=self.run.folder,
        )
        root = self.run.folder.parent
        try:
            if find_branch(root, stem, step, branch.digest) is None:
                point_at_branch(root, stem, branch)
                self.run.save_branch(step, self._write_branch)
        except ValueError as error:
            self.run.log(f"no branch point is kept: {error}")
        self.trail = None

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
            progress = self._begun()
        else:
            progress = self._read_checkpoint(latest[1])
            self.trail = Trail.read(latest[1]) if progress.step < self.trunk else None
        self.run.truncate_curve(progress.step)
        where = f"{self.execution.device}, {self.execution.threads} threads"
        self.run.log(f"from step {progress.step} of {self.recipe.steps} on {where}")
        return progress

    def _begun(self) -> Progress:
        """The state that a run starts from: its first step, or the trunk of another run."""
        for branch in self._branches():
            try:
                return self._continued(branch)
            except (OSError, ValueError, TypeError) as reason:  # gone, or of another Stepladder
                self.run.log(f"does not go on from run {branch.run}: {reason}")
                self.model, self.plan, self.optimizer = self._built()
        return self._fresh(self.execution.compiled)

    def _fresh(self, compiled: bool) -> Progress:
        self.run.truncate_curve(0)
        self.trail = Trail() if self.trunk else None
        return Progress(compiled=compiled, started=datetime.now(UTC).isoformat())

    def _branches(self) -> Iterable[Branch]:
        return branches_for(self.recipe, self.run.folder.parent)

    def _continued(self, branch: Branch) -> Progress:
        """The state of another run at the end of its trunk; the curve up to there is written as
        this run would have, its rows from the losses of every step."""
        reached, trail = self._read_checkpoint(branch.folder), Trail.read(branch.folder)
        measured = measured_at(branch, self.recipe)
        if trail is None or measured is None or len(trail) != branch.step:
            raise _Unfit("its curve is not whole")
        self.progress = self._fresh(reached.compiled)
        for loss, norm in trail:
            self.set_rates()
            self.note([loss], [norm])
            self.progress.step += 1
            if self.row_is_due:
                self.write_row()
            if self.evaluation_is_due:
                self._add(measured[self.progress.step])
                self._judge(measured[self.progress.step]["validation_loss"])
            if self.progress.diverged:
                raise _Unfit(f"this run would have ended at step {self.progress.step}")
        if self.progress.step >= self.trunk:
            self.trail = None
        self.run.log(f"goes on from step {branch.step}, paid for by run {branch.run}")
        return replace(
            self.progress,
            seconds=reached.seconds,
            noise=reached.noise,
            trunk=branch.run,
            trunk_step=branch.step,
            trunk_seconds=reached.seconds,
        )

    def _write_branch(self, folder: Path) -> None:
        self._write_checkpoint(folder)
        rows = [row for row in self.run.curve_rows() if "validation_loss" in row]
        (folder / MEASURED).write_text(json.dumps(rows), encoding="utf-8")

    def _read_checkpoint(self, folder: Path) -> Progress:
        return read_checkpoint(folder, self.model, self.optimizer)

    def _write_checkpoint(self, folder: Path) -> None:
        write_checkpoint(folder, self.model, self.optimizer, self.progress)
        if self.trail is not None:
            self.trail.write(folder)

    @cached_property
    def _evaluations(self) -> set[int]:
        return evaluation_steps(self.recipe)

    def _row_head(self) -> Row:
        done, batch = self.progress, self.recipe.batch
        row = {"step": done.step, "tokens": done.done * batch}
        return row | {"batch": self.taken * batch} if self.recipe.batching.name else row

    def _add(self, row: Row) -> None:
        self.run.append(row)
        self.watch.row(row)

    def _judge(self, loss: float) -> None:
        worst = math.log(self.recipe.model.vocab_size) + DIVERGED_ABOVE_UNIFORM
        warm = self.progress.done > warmup_steps(self.recipe)
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
