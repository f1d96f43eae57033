"""The loop of a stack: trials enter, step together, are written up each for itself, and leave."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stepladder import optim
from stepladder.data import Dataset
from stepladder.recipe import Recipe
from stepladder.store import Store
from stepladder.train.evaluate import Evaluation, evaluate
from stepladder.train.execution import Execution
from stepladder.train.interrupt import interruptible
from stepladder.train.loop import CHECKPOINT_SECONDS, autocast, placed
from stepladder.train.sitting import Row, Watcher
from stepladder.train.stacked.program import Program, Threads
from stepladder.train.stacked.reference import reference_program
from stepladder.train.stacked.trial import Trial, open_trial

Tell = Callable[[Recipe, Row | Exception], None]  # what came of a run


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A recipe to train, and who watches it once it starts."""

    recipe: Recipe
    watch: Callable[[], Watcher]


def train_stacked(
    waiting: deque[Asked],
    store: Store,
    dataset: Dataset,
    tell: Tell,
    *,
    execution: Execution,
    room: int,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> None:
    """Train recipes of one shape (`planning.shape_of`) as one program, up to `room` at a time.

    Each has its run directory, claim, curve, checkpoints and result as if `train` had made it, and
    goes on from its newest checkpoint, whoever wrote it. Runs that end make room for those waiting.

    Args:
        waiting: taken from the left; the caller may empty it to let no more enter.
        tell: told of each run's result, or of the error that ended it; the others go on.

    Raises:
        KeyboardInterrupt: after Ctrl-C, with a checkpoint of every run at work.
        Unstackable: the model cannot be stacked; nothing was spent.
    """
    with Threads(execution) as threads, interruptible() as interrupted:
        stack = _Stack(store, dataset, execution, room, tell, threads)
        try:
            saved = time.monotonic()
            while stack.fill(waiting):
                stop = interrupted()
                if stop or time.monotonic() - saved > checkpoint_seconds:
                    stack.save()
                    saved = time.monotonic()
                if stop:
                    raise KeyboardInterrupt
                stack.advance()
            if interrupted():  # in the last step: these runs are done, their caller's work is not
                raise KeyboardInterrupt
        finally:
            stack.release()


class _Stack:
    """The trials at work: trial i has row i of the program."""

    def __init__(
        self,
        store: Store,
        dataset: Dataset,
        execution: Execution,
        room: int,
        tell: Tell,
        threads: Threads,
    ) -> None:
        self.store, self.dataset, self.execution = store, dataset, execution
        self.room, self.tell, self.threads = room, tell, threads
        self.trials: list[Trial] = []
        self.program: Program | None = None
        self.pending: list[tuple[Tensor, Tensor]] = []  # losses and norms, [S] each, by step

    def fill(self, waiting: deque[Asked]) -> bool:
        """Let trials that ended leave and others enter; whether any is at work."""
        self._let_leave()
        while waiting and len(self.trials) < self.room:
            self._enter(waiting.popleft())
            self._let_leave()  # a run may come from its last checkpoint with nothing left to do
        return bool(self.trials)

    def advance(self) -> None:
        """One step of all trials, and whatever is due after it."""
        assert self.program is not None
        start = time.monotonic()
        for trial in self.trials:
            trial.set_rates()
        self.pending.append(self.program.step(self.trials, self._batches()))
        for trial in self.trials:
            trial.progress.step += 1
        if any(trial.row_is_due for trial in self.trials):
            self._settle()
        share = (time.monotonic() - start) / len(self.trials)
        for trial in self.trials:
            trial.progress.seconds += share
            if trial.row_is_due:
                with trial.on_its_own():
                    trial.write_row()
        self._measure()
        self._keep_branches()
        for trial in self.trials:
            with trial.on_its_own():
                trial.watch.step(trial.progress.step)

    def save(self) -> None:
        """A checkpoint of every trial."""
        self._settle()
        for trial in self.trials:
            with trial.on_its_own():
                self._save(trial)

    def release(self) -> None:
        """Give up the claims."""
        for trial in self.trials:
            trial.claim.close()

    def _enter(self, asked: Asked) -> None:
        recipe, watch = asked.recipe, asked.watch()
        try:
            opened = open_trial(recipe, self.store, self.dataset, self.execution, watch)
        except Exception as error:
            self.tell(recipe, error)
            return
        if not isinstance(opened, Trial):
            watch.step(recipe.steps)
            self.tell(recipe, opened)
            return
        self._settle()
        self.trials.append(opened)
        if self.program is None:
            self.program = reference_program(opened, self.room, self.threads)
        self.program.adopt(len(self.trials) - 1, opened)
        self.program.shrink_to(len(self.trials))

    def _let_leave(self) -> None:
        for trial in [trial for trial in self.trials if trial.is_over or trial.error]:
            self._leave(trial)

    def _leave(self, trial: Trial) -> None:
        """Finish a trial; the last one takes its row."""
        assert self.program is not None
        self._settle()
        if trial.error is None:
            with trial.on_its_own():
                self.program.updates.settle(trial)
                trial.finish()
        row = self.trials.index(trial)
        last = self.trials.pop()
        if last is not trial:
            self.trials[row] = last
            self.program.adopt(row, last)
        self.program.shrink_to(max(1, len(self.trials)))
        trial.claim.close()
        self._tell_of(trial)

    def _tell_of(self, trial: Trial) -> None:
        if trial.error is not None:
            self.tell(trial.recipe, trial.error)
            return
        assert trial.run.result is not None
        trial.watch.step(trial.recipe.steps)  # its bill is settled, also where it diverged
        self.tell(trial.recipe, trial.run.result)

    def _save(self, trial: Trial) -> None:
        assert self.program is not None
        self.program.updates.settle(trial)
        trial.save()

    def _measure(self) -> None:
        """Measure the trials that are due on the validation set, each as if alone."""
        due = [trial for trial in self.trials if trial.evaluation_is_due and trial.error is None]
        for trial, measured in zip(due, self.threads.map(self._evaluate, due), strict=True):
            with trial.on_its_own():
                trial.write_evaluation(measured)

    def _keep_branches(self) -> None:
        """Keep the states of trials that are at the end of their trunk, for longer runs."""
        for trial in [trial for trial in self.trials if trial.branch_is_due]:
            self._settle()
            with trial.on_its_own():
                assert self.program is not None
                self.program.updates.settle(trial)
                trial.keep_branch()

    def _evaluate(self, trial: Trial) -> Evaluation:
        x_NT, y_NT = self.dataset.validation(trial.recipe.model.context, trial.recipe.validation)
        device = self.execution.device
        with optim.evaluating(trial.optimizer), autocast(trial.recipe, self.execution):
            return evaluate(trial.model, x_NT.to(device), y_NT.to(device))

    def _batches(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets [S, B, T], each trial's in its own order."""
        x, y = zip(*(trial.batch(self.dataset) for trial in self.trials), strict=True)
        return self._placed(x), self._placed(y)

    def _placed(self, batches: Sequence[Tensor]) -> Tensor:
        return placed(torch.stack(tuple(batches)), self.execution)

    def _settle(self) -> None:
        """Read losses and norms back from the device; waits for it, so it is done seldom."""
        if not self.pending:
            return
        losses, norms = map(torch.stack, zip(*self.pending, strict=True))
        for trial, own_losses, own_norms in zip(
            self.trials, losses.T.tolist(), norms.T.tolist(), strict=True
        ):
            trial.note(own_losses, own_norms)
        self.pending = []
