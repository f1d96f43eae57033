"""Where a comparison runs: its recipes with their data, the store, and who trains."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepladder.comparing.plan import Plan
from stepladder.data import Dataset, prepare
from stepladder.execute.choose import choose_executor
from stepladder.ladder.folder import RUNS
from stepladder.recipe import Data, Recipe
from stepladder.store import Store
from stepladder.train import Silent, Watcher, choose_execution
from stepladder.train.preflight import preflight

Executor = Callable[..., AbstractContextManager[Any]]


def _silent(label: str, recipe: Recipe) -> Watcher:
    return Silent()


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the runs of a comparison need."""

    base: Recipe
    lever: Recipe
    dataset: Dataset
    store: Store
    device: str

    @classmethod
    def open(
        cls,
        base: Recipe | Path | str,
        lever: Recipe | Path | str,
        *,
        root: Path | str = ".",
        device: str = "auto",
        read: Callable[[Data], Dataset] | None = None,
    ) -> "Place":
        """Read the recipes and the baseline's data; its fingerprint goes where there is none.

        Args:
            read: prepares data, if it should say how it goes.
        """
        first, second = _recipe(base), _recipe(lever)
        dataset = (read or _prepared)(first.data)
        return cls(
            base=first.on_data(dataset.fingerprint),
            lever=second.on_data(dataset.fingerprint)
            if second.data.source == first.data.source
            else second,
            dataset=dataset,
            store=Store(Path(root) / RUNS),
            device=device,
        )

    def executor(
        self,
        made: Executor | None = None,
        watch: Callable[[str, Recipe], Watcher] = _silent,
    ) -> AbstractContextManager[Any]:
        """Who trains: a context manager with `run`."""
        return (made or choose_executor)(self.store, self.dataset, watch, self.device)

    def require_room(self, plan: Plan) -> None:
        """ValueError where a rung could not run here: too little memory or disk, other data."""
        for recipe in (recipe for pair in plan.rungs() for recipe in pair):
            preflight(recipe, self.dataset, choose_execution(recipe, self.device), self.store.root)


def _recipe(given: Recipe | Path | str) -> Recipe:
    return given if isinstance(given, Recipe) else Recipe.load(given)


def _prepared(data: Data) -> Dataset:
    return prepare(data.source, data.tokenizer, text_field=data.text_field)
