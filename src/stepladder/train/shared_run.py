"""One run directory for several processes: the first one's, and a face of it for the others."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import torch.distributed as dist

from stepladder.data import Dataset
from stepladder.recipe import Recipe
from stepladder.run_directory import Run
from stepladder.store import Store
from stepladder.train.execution import Execution
from stepladder.train.preflight import preflight
from stepladder.train.processes import is_first, told
from stepladder.train.sitting import Row


class _Follower:
    """The face of a run for processes that write nothing."""

    def __init__(self, result: Row | None, latest: tuple[int, Path] | None) -> None:
        self.result, self._latest = result, latest

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        return self._latest

    def curve_rows(self) -> list[Row]:
        return []

    def log(self, text: str) -> None:
        """Nothing, as all below."""

    def append(self, row: Row) -> None: ...
    def truncate_curve(self, step: int) -> None: ...
    def save_checkpoint(self, step: int, write: Callable[[Path], None]) -> None: ...
    def finish(self, result: Row) -> None: ...


@contextmanager
def claimed(recipe: Recipe, store: Store, dataset: Dataset, execution: Execution) -> Iterator[Run]:
    """The run in the first process, which claims it for all; what refuses it refuses all."""
    if not is_first():
        problem, result, latest = told(None)
        if problem:
            raise ValueError(problem)
        yield cast(Run, _Follower(result, latest))
        return
    with ExitStack() as held:
        try:
            known = store.get(recipe.key)
            if known is None or known.result is None:
                preflight(recipe, dataset, execution, store.root, dist.get_world_size())
            run = held.enter_context(store.claim(recipe.key, recipe.to_toml()))
            run.keep(dataset.tokenizer_path)
        except (ValueError, OSError) as error:  # the others wait to be told
            told((str(error), None, None))
            raise
        told(("", run.result, run.latest_checkpoint()))
        yield run
