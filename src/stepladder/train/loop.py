"""The training loop: one recipe on one device, from the first step or from a checkpoint.

It knows seams, not techniques: the model's loss, an optimizer's step, a schedule's factor, a
dataset's batch, a run directory's files.
"""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from stepladder import optim
from stepladder.allocator import keep_freed_memory
from stepladder.data import Dataset
from stepladder.models.fused import loss_function
from stepladder.recipe import Recipe
from stepladder.run_directory import Run
from stepladder.store import Store
from stepladder.train.checkpoint import Progress
from stepladder.train.evaluate import Evaluation, evaluate
from stepladder.train.execution import Execution, choose_execution
from stepladder.train.feedback import Batches, Hindsight, controller_of, note_noise
from stepladder.train.interrupt import interruptible
from stepladder.train.preflight import preflight
from stepladder.train.sitting import Row, Silent, Sitting, Watcher

CHECKPOINT_SECONDS = 60.0
MOVED = "moved.safetensors"  # in a checkpoint: the last step, where a controller looks back at it


def train(
    recipe: Recipe,
    store: Store,
    dataset: Dataset,
    *,
    execution: Execution | None = None,
    watch: Watcher | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> Row:
    """Train a recipe, or return the result it already has.

    A run that was stopped goes on from its newest checkpoint, with the curve it would have had (on
    the CPU to the bit, with the same threads). A run that diverges ends with a result that says so.
    Ctrl-C saves a checkpoint and then raises KeyboardInterrupt.

    Args:
        recipe: with `data.fingerprint` of the dataset.
        checkpoint_seconds: time between checkpoints.

    Returns:
        The content of `result.json` (`stepladder.train.result.describe`).

    Raises:
        ValueError: the recipe cannot run here, and nothing was spent; `Busy` where another process
            is at it; a full disk, with the checkpoint before intact.
    """
    keep_freed_memory()
    execution = execution or choose_execution(recipe)
    known = store.get(recipe.key)
    if known is None or known.result is None:  # before the claim: what cannot run is not started
        preflight(recipe, dataset, execution, store.root)
    with store.claim(recipe.key, recipe.to_toml()) as run:
        if run.result is None:
            run.keep(dataset.tokenizer_path)
            session = Session(recipe, run, dataset, execution, watch or Silent())
            session.take_every_step(checkpoint_seconds)
        result = run.result
    assert result is not None
    return result


class Session(Sitting):
    """A sitting at one run alone, with all of the device."""

    def __init__(
        self, recipe: Recipe, run: Run, dataset: Dataset, execution: Execution, watch: Watcher
    ) -> None:
        self.hindsight: Hindsight | None = None
        super().__init__(recipe, run, execution, watch)
        self.dataset = dataset
        self.loss = self._loss_function()
        self.batches = Batches(recipe, self.model.parameters())
        if self.progress.step == 0:
            self.progress.batches = self.batches.first()
        self.pending: list[tuple[Tensor, Tensor, Tensor, tuple[int, int]]] = []
        inputs, targets = dataset.validation(recipe.model.context, recipe.validation)
        self.validation = inputs.to(execution.device), targets.to(execution.device)

    def take_every_step(self, checkpoint_seconds: float) -> None:
        """Take the steps that are left and write the result."""
        saved = time.monotonic()
        with interruptible() as interrupted:
            while not self.is_over:
                stop = self._agreed(interrupted())
                if stop or self._agreed(time.monotonic() - saved > checkpoint_seconds):
                    self.save()
                    saved = time.monotonic()
                if stop:
                    raise KeyboardInterrupt
                self._advance()
            self.finish()
            if interrupted():  # in the last step: this run is done, but its caller's work is not
                raise KeyboardInterrupt

    def save(self) -> None:
        """Write a checkpoint."""
        self._settle()
        super().save()

    def keep_branch(self) -> None:
        """Keep the state at the end of the trunk."""
        self._settle()
        super().keep_branch()

    def _resumed(self) -> Progress:
        if controller_of(self.recipe):
            self.hindsight = Hindsight(self.model.parameters())
        return super()._resumed()

    def _read_checkpoint(self, folder: Path) -> Progress:
        if self.hindsight and (folder / MOVED).exists():
            moved = load_file(folder / MOVED, device=str(self.execution.device))
            self.hindsight.moved = [moved[name] for name, _ in self.model.named_parameters()]
        return super()._read_checkpoint(folder)

    def _write_checkpoint(self, folder: Path) -> None:
        super()._write_checkpoint(folder)
        if self.hindsight and self.hindsight.moved:
            names = [name for name, _ in self.model.named_parameters()]
            save_file(dict(zip(names, self.hindsight.moved, strict=True)), folder / MOVED)

    def _loss_function(self) -> Callable[[Tensor, Tensor], Tensor]:
        return loss_function(self.model, compiled=self.progress.compiled)

    def _advance(self) -> None:
        """One step, and whatever is due after it."""
        start = time.monotonic()
        progress = self.progress
        self.taken = progress.batches
        self.pending.append((*self._step(), (self._small(), self.taken * self.recipe.batch)))
        progress.step += 1
        progress.extra += self.taken - 1
        progress.batches = self.batches.next(self.taken, progress.done)
        if self.row_is_due or self.evaluation_is_due:
            self._settle()
        progress.seconds += time.monotonic() - start
        if self.row_is_due:
            self.write_row()
        if self.evaluation_is_due:
            self.write_evaluation(self._evaluate())
        if self.branch_is_due:
            self.keep_branch()
        self.watch.step(progress.done)

    def _step(self) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, and gradient norms of the whole batch and of the part that `_small` says."""
        loss, first = self._backward()
        # An infinite bound measures the norm and leaves the gradients alone.
        norm = self._clip(self.recipe.optimizer.clip or math.inf)
        if self.hindsight:
            self._control(self.hindsight)
        self.set_rates()
        self.optimizer.step(lambda: loss)  # type: ignore[arg-type, return-value]
        if self.hindsight:
            self.hindsight.after()
        self.model.zero_grad(set_to_none=True)
        return loss, norm, first

    def _control(self, hindsight: Hindsight) -> None:
        """Let the controller see how the last step fared, before the next is taken."""
        controller = controller_of(self.recipe, self.progress.rate)
        agreement = hindsight.agreement()
        if controller and agreement is not None:
            self.progress.rate = controller.update(agreement).factor
        hindsight.before()

    def _clip(self, bound: float) -> Tensor:
        """Bounds the norm of all gradients together, and gives what it was."""
        return clip_grad_norm_(self.model.parameters(), bound)

    def _norm(self) -> Tensor:
        """The norm of all gradients together, as they stand."""
        return get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])

    def _backward(self) -> tuple[Tensor, Tensor]:
        """The mean loss, and the norm of the first micro-batch's gradient (0 where it is all)."""
        total = torch.zeros((), device=self.execution.device)
        first, parts = total, self.taken * self.recipe.accumulate
        self.batches.watch(self.taken)
        for i, (x_BT, y_BT) in enumerate(self._micro_batches()):
            with autocast(self.recipe, self.execution):
                loss = self.loss(x_BT, y_BT) / parts
            loss.backward()
            total = total + loss.detach()  # of the loss's own precision
            if i == 0 and parts > 1:
                first = self._norm() * parts
            self.batches.after_backward()
        return total, first

    def _small(self) -> int:
        """Tokens of the part of a step whose gradient is measured: the first micro-batch."""
        return self.recipe.batch // self.recipe.accumulate

    def _micro_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        parts = self.recipe.accumulate
        for batch in range(self.progress.done, self.progress.done + self.taken):
            x_BT, y_BT = self._batch(batch)
            for x, y in zip(x_BT.chunk(parts), y_BT.chunk(parts), strict=True):
                x, y = self._share(x, y)
                yield placed(x, self.execution), placed(y, self.execution)

    def _batch(self, index: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets [B, T] of one of the recipe's batches."""
        context = self.recipe.model.context
        return self.dataset.batch(
            index,
            batch_sequences=self.recipe.batch // context,
            context=context,
            seed=self.recipe.seed,
        )

    def _share(self, x_BT: Tensor, y_BT: Tensor) -> tuple[Tensor, Tensor]:
        """What of a micro-batch is this process's to do."""
        return x_BT, y_BT

    def _agreed(self, wish: bool) -> bool:
        """Whether any process at this run wishes it."""
        return wish

    def _mean(self, losses: Tensor) -> Tensor:
        """Losses of this process's shares to those of the batches."""
        return losses

    def _evaluate(self) -> Evaluation:
        with optim.evaluating(self.optimizer), autocast(self.recipe, self.execution):
            return evaluate(self.model, *self.validation)

    def _settle(self) -> None:
        """Read losses and norms back from the device; waits for it, so it is done seldom."""
        if self.pending:
            losses, wholes, firsts, sizes = zip(*self.pending, strict=True)
            first, whole = torch.stack(firsts).tolist(), torch.stack(wholes).tolist()
            self.note(self._mean(torch.stack(losses)).tolist(), whole)
            note_noise(self.progress, zip(first, whole, sizes, strict=True))
            self.pending = []


def placed(tokens: Tensor, execution: Execution) -> Tensor:
    """Tokens on the device, without waiting for their transfer."""
    if execution.device.type == "cpu":
        return tokens
    return tokens.pin_memory().to(execution.device, non_blocking=True)


def autocast(recipe: Recipe, execution: Execution) -> torch.autocast:
    """The precision of a recipe's forward passes."""
    enabled = recipe.precision == "bfloat16"
    return torch.autocast(execution.device.type, torch.bfloat16, enabled=enabled)
