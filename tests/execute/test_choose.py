"""The executor for many small runs, by device."""

import pytest
import torch

from stepladder.execute import choose
from stepladder.execute.choose import choose_executor
from stepladder.execute.stacked import Stacked, run_stacked
from stepladder.execute.workers import Workers

from .helpers import named, silent, steps


@pytest.mark.parametrize(
    ("device", "cores", "expected"),
    [("cpu", 2, Workers), ("cpu", 1, Stacked), ("cuda", 2, Stacked)],
)
def test_by_device_and_cores(device, cores, expected, store, dataset, monkeypatch):
    monkeypatch.setattr(choose, "cpu_count", lambda: cores)
    monkeypatch.setattr(choose, "find_device", torch.device)
    with choose_executor(store, dataset, silent, device) as executor:
        assert type(executor) is expected


def test_room_is_at_least_one(store, dataset):
    with pytest.raises(ValueError, match="room must be 1 or more, not 0"):
        Stacked(store, dataset, silent, room=0)


def test_what_cannot_be_stacked_is_said_and_runs_alone(store, dataset, recipe, monkeypatch):
    monkeypatch.setattr("stepladder.train.stacked.layers.LAYERS", {})
    asked = named(steps(recipe, 3, seed=1), steps(recipe, 3, seed=2))
    with pytest.warns(UserWarning, match="2 runs are made one by one: embedding is a Embedding"):
        results = run_stacked(asked, store, dataset, silent, "cpu")
    assert [r["steps"] for r in results] == [3, 3]


def test_one_room_is_one_after_another(store, dataset, recipe):
    """What does not fit beside others is trained as it is alone, to the bit."""
    asked = named(steps(recipe, 3, seed=1), steps(recipe, 3, seed=2))
    results = run_stacked(asked, store, dataset, silent, "cpu", room=1)
    assert [r["key"] for r in results] == [made.key for _, made in asked]
