"""Runs of one shape as one program: a batched product for all trials instead of one for each.

For many runs that differ in values only (rates, decay, seeds, schedules, lengths). Runs that share
their shape with no other, and models that cannot be stacked, are made one after another.
"""

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from stepladder.closing import Closing
from stepladder.data import Dataset
from stepladder.execute.here import Named, Result, Watch, run_here
from stepladder.recipe import Recipe
from stepladder.store import Store
from stepladder.train import choose_execution
from stepladder.train.stacked import Asked, Unstackable, room_for, shape_of, train_stacked


def run_stacked(
    asked: Sequence[Named],
    store: Store,
    dataset: Dataset,
    watch: Watch,
    device: str = "auto",
    room: int | None = None,
) -> list[Result]:
    """Train recipes in stacks and return their results in the order asked; see `Stacked`."""
    with Stacked(store, dataset, watch, device, room) as stacked:
        return stacked.run(asked)


class Stacked(Closing):
    """Trains recipes of one shape at once, in this process, with all of the device.

    Args:
        watch: what to show a run with, once it starts.
        device: auto, cpu or cuda.
        room: runs of one stack at most; as many as fit the device well if None.

    Raises:
        ValueError: `room` is less than 1.
    """

    def __init__(
        self,
        store: Store,
        dataset: Dataset,
        watch: Watch,
        device: str = "auto",
        room: int | None = None,
    ) -> None:
        if room is not None and room < 1:
            raise ValueError(f"room must be 1 or more, not {room}")
        self.store, self.dataset, self.watch, self.device = store, dataset, watch, device
        self.room = room

    def run(self, asked: Sequence[Named]) -> list[Result]:
        """Train recipes, shape by shape, and return their results in the order asked.

        What is in the store, or asked twice, is not run again. Where a run fails no other is
        started, those at work finish, and then it raises. Ctrl-C saves every run at its next step.

        Raises:
            ValueError: as `stepladder.train.train`.
        """
        results: dict[str, Result] = {}
        for group in self._groups(asked):
            self._train(group, results)
        return [results[recipe.key] for _, recipe in asked]

    def _groups(self, asked: Sequence[Named]) -> list[list[Named]]:
        """Distinct recipes by what they share; those that are paid for stand alone."""
        groups: dict[object, dict[str, Named]] = {}
        for label, recipe in asked:
            paid = self.store.is_paid(recipe.key)
            group = groups.setdefault(recipe.key if paid else shape_of(recipe), {})
            group.setdefault(recipe.key, (label, recipe))
        return [list(group.values()) for group in groups.values()]

    def _train(self, group: Sequence[Named], results: dict[str, Result]) -> None:
        if self._room(group) > 1:
            try:
                self._stack(group, results)
            except Unstackable as reason:
                warnings.warn(f"{len(group)} runs are made one by one: {reason}", stacklevel=4)
        for label, recipe in group:
            if recipe.key not in results:
                with _named(label, recipe):
                    results[recipe.key] = self._here(label, recipe)

    def _stack(self, group: Sequence[Named], results: dict[str, Result]) -> None:
        """Runs a group into `results`; raises the first failure."""
        labels = {recipe.key: label for label, recipe in group}
        failures: list[tuple[Recipe, Exception]] = []
        waiting = deque(
            Asked(recipe=recipe, watch=partial(self.watch, label, recipe))
            for label, recipe in group
        )

        def tell(recipe: Recipe, came: Result | Exception) -> None:
            if isinstance(came, Exception):
                failures.append((recipe, came))
                waiting.clear()
            else:
                results[recipe.key] = came

        train_stacked(
            waiting,
            self.store,
            self.dataset,
            tell,
            execution=choose_execution(group[0][1], self.device),
            room=self._room(group),
        )
        for recipe, failure in failures:
            with _named(labels[recipe.key], recipe):
                raise failure

    def _here(self, label: str, recipe: Recipe) -> Result:
        (result,) = run_here([(label, recipe)], self.store, self.dataset, self.watch, self.device)
        return result

    def _room(self, group: Sequence[Named]) -> int:
        """How many of a group to train at a time."""
        recipe = group[0][1]
        fits = room_for(recipe, len(group), choose_execution(recipe, self.device))
        return min(fits, self.room or fits)


@contextmanager
def _named(label: str, recipe: Recipe) -> Iterator[None]:
    """An error inside says which run it came from."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in run {recipe.key} ({label})")
        raise
