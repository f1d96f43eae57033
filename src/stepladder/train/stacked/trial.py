"""One trial of a stack: a sitting whose tensors are rows, and whose failure is its own."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor

from stepladder.data import Dataset
from stepladder.recipe import Recipe
from stepladder.run_directory import Run
from stepladder.store import Store
from stepladder.train.execution import Execution
from stepladder.train.preflight import preflight
from stepladder.train.sitting import Row, Sitting, Watcher


class Trial(Sitting):
    """A claimed run that trains among others; it holds its claim until it is released."""

    def __init__(
        self, recipe: Recipe, run: Run, execution: Execution, watch: Watcher, claim: ExitStack
    ) -> None:
        super().__init__(recipe, run, execution, watch)
        self.claim = claim
        self.error: Exception | None = None

    @property
    def steps_done(self) -> int:
        """Optimizer steps taken, over all sittings."""
        return self.progress.step

    @property
    def clip(self) -> float:
        """The bound of the gradient's norm; infinite where there is none."""
        return self.recipe.optimizer.clip or math.inf

    @contextmanager
    def on_its_own(self) -> Iterator[None]:
        """What goes wrong inside is the failure of this trial and stops no other."""
        try:
            yield
        except Exception as error:
            self.error = error

    def batch(self, dataset: Dataset) -> tuple[Tensor, Tensor]:
        """Inputs and targets [B, T] of the coming step."""
        context = self.recipe.model.context
        return dataset.batch(
            self.progress.step,
            batch_sequences=self.recipe.batch // context,
            context=context,
            seed=self.recipe.seed,
        )


def open_trial(
    recipe: Recipe, store: Store, dataset: Dataset, execution: Execution, watch: Watcher
) -> Trial | Row:
    """A claimed trial; or the result, where another process has paid for the run meanwhile.

    Raises:
        ValueError: as `stepladder.train.train`.
    """
    preflight(recipe, dataset, execution, store.root)
    with ExitStack() as claim:
        run = claim.enter_context(store.claim(recipe.key, recipe.to_toml()))
        if run.result is not None:
            return run.result
        run.keep(dataset.tokenizer_path)
        return Trial(recipe, run, execution, watch, claim.pop_all())
    raise AssertionError("a claim swallows no error")
