"""Runs one after another, in this process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stepladder.data import Dataset
from stepladder.recipe import Recipe
from stepladder.store import Store
from stepladder.train import Watcher, choose_execution, train

Watch = Callable[[str, Recipe], Watcher]  # what to show a run with, from its label
Result = dict[str, Any]
Named = tuple[str, Recipe]


@dataclass(kw_only=True)
class AtWork:
    """A run at work somewhere, and who watches it."""

    label: str
    recipe: Recipe
    watcher: Watcher

    @property
    def name(self) -> str:
        """What to call it in errors."""
        return f"run {self.recipe.key} ({self.label})"

    def settle(self) -> None:
        """Its bill is settled, also where it diverged."""
        self.watcher.step(self.recipe.steps)

    def noted(self, error: Exception) -> Exception:
        """An error that says which run it came from."""
        error.add_note(f"in {self.name}")
        return error


def take_paid(
    asked: Sequence[Named], store: Store, dataset: Dataset, watch: Watch
) -> tuple[dict[str, Result], list[Named]]:
    """Results by key of what is in the store; and the rest, each recipe once, as first asked."""
    paid = [(label, recipe) for label, recipe in asked if store.is_paid(recipe.key)]
    results = {r["key"]: r for r in run_here(paid, store, dataset, watch, "cpu")}
    fresh = {recipe.key: (label, recipe) for label, recipe in reversed(asked)}
    return results, [named for key, named in fresh.items() if key not in results]


def run_here(
    asked: Sequence[tuple[str, Recipe]],
    store: Store,
    dataset: Dataset,
    watch: Watch,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """Train recipes in order and return their results; what is in the store is not run again."""
    return [_run(label, recipe, store, dataset, watch, device) for label, recipe in asked]


def _run(
    label: str, recipe: Recipe, store: Store, dataset: Dataset, watch: Watch, device: str
) -> dict[str, Any]:
    watcher = watch(label, recipe)
    execution = choose_execution(recipe, device)
    result = train(recipe, store, dataset, execution=execution, watch=watcher)
    watcher.step(recipe.steps)  # its bill is settled, also where it diverged or was paid before
    return result
