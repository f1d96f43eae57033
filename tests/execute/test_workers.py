"""Runs in worker processes against the same runs here, with one thread."""

import os
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from stepladder.execute.here import run_here
from stepladder.execute.workers import Workers, run_workers
from stepladder.store import Store
from train.conftest import curve

from .helpers import Seen, holder, is_alive, named, signalled, silent, steps, timeless


@pytest.fixture(scope="module")
def place(dataset, tmp_path_factory):
    """Two workers for all tests of this file, their store, and who watches."""
    store, seen = Store(tmp_path_factory.mktemp("workers") / "runs"), Seen()
    with Workers(store, dataset, seen.watch, workers=2) as pool:
        yield pool, store, seen


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_same_bits_order_and_notices(place, dataset, recipe, store):
    pool, there, seen = place
    sizes = (40, 80, 20, 60)
    recipes = [steps(recipe, size, seed=10 + i) for i, size in enumerate(sizes)]
    asked = named(*recipes, recipes[2])
    results = pool.run(asked)
    expected = run_here(asked, store, dataset, silent, "cpu")
    assert timeless(results) == timeless(expected)
    assert results[0]["where"]["threads"] == 1
    for made in recipes:
        assert curve(there, made) == curve(store, made)
        told = seen.steps[made.key]
        assert told[0] == 1
        assert told[-1] == made.steps
        assert told == sorted(told)
        measured = [row for row in curve(there, made) if "validation_loss" in row]
        assert [row for row in seen.rows[made.key] if "validation_loss" in row] == measured
    largest_first = sorted(recipes, key=lambda r: -r.tokens)
    assert seen.order == [r.key for r in largest_first]  # once each, the duplicate too
    assert seen.threads == {threading.current_thread()}


def test_paid_runs_start_nothing(dataset, recipe, store, monkeypatch):
    asked = named(steps(recipe, 5), steps(recipe, 5, seed=1))
    paid = run_here(asked, store, dataset, silent, "cpu")
    monkeypatch.setattr(sys, "executable", "/there/is/no/python")
    seen = Seen()
    assert run_workers(asked[::-1], store, dataset, seen.watch, workers=2) == paid[::-1]
    assert [seen.steps[r.key] for _, r in asked] == [[5], [5]]  # each is shown as paid
    with pytest.raises(FileNotFoundError, match="no/python"):
        run_workers(named(steps(recipe, 5, seed=2)), store, dataset, silent, workers=2)


def test_a_failure_keeps_the_others_and_the_pool(place, recipe):
    pool, store, _ = place
    bad = replace(steps(recipe, 90), data=replace(recipe.data, fingerprint="of another text"))
    good, later = steps(recipe, 80, seed=20), steps(recipe, 5, seed=21)
    with pytest.raises(ValueError, match=r"data\.fingerprint is of another text") as caught:
        pool.run(named(bad, good, later))
    assert caught.value.__notes__ == [f"in run {bad.key} (run 0)"]
    assert store.get(good.key).status == "done"  # it was at work
    assert store.get(later.key) is None  # it was not
    assert [r["key"] for r in pool.run(named(later, good))] == [later.key, good.key]


def test_an_error_of_any_make_comes_back(place, recipe):
    pool, store, _ = place
    made = steps(recipe, 5, seed=30)
    pool.run(named(made))
    result = store.folder(made.key) / "result.json"
    result.write_text("{")
    with pytest.raises(ValueError, match=str(result)):  # Damaged has a constructor of its own
        pool.run(named(made))


def test_a_killed_worker_is_named_and_the_rest_kept(place, dataset, recipe, store):
    pool, there, seen = place
    doomed, other = steps(recipe, 200, seed=40), steps(recipe, 100, seed=41)

    def kill(at):
        if at.key == doomed.key and seen.steps[at.key] == [1]:
            os.kill(holder(there, doomed), signal.SIGKILL)

    seen.at_step = kill
    try:
        with pytest.raises(ValueError, match=rf"{doomed.key} \(run 0\) ended .*SIGKILL") as caught:
            pool.run(named(doomed, other))
    finally:
        seen.at_step = lambda recipe: None
    assert "run again" in str(caught.value)
    assert there.get(other.key).status == "done"
    assert timeless(pool.run(named(doomed))) == timeless(
        run_here(named(doomed), store, dataset, silent, "cpu")
    )


def test_ctrl_c_saves_what_is_at_work(place, dataset, recipe, store, tmp_path):
    recipes = [steps(recipe, 300, seed=seed) for seed in (50, 51)]
    status, said = signalled(signal.SIGINT, "workers", dataset, store, recipes, tmp_path)
    assert status == -signal.SIGINT, said
    assert said.count("KeyboardInterrupt") == 1, said  # the parent's own, none of the workers'
    assert not any((store.folder(made.key) / "result.json").exists() for made in recipes)
    saved = [made for made in recipes if (store.folder(made.key) / "checkpoint").exists()]
    assert saved  # that of a worker which was still importing torch has nothing to save
    pool, whole, _ = place
    resumed = run_here(named(*recipes), store, dataset, silent, "cpu")
    assert timeless(resumed) == timeless(pool.run(named(*recipes)))
    assert curve(store, saved[0]) == curve(whole, saved[0])


def test_workers_outlive_no_killed_parent(dataset, recipe, store, tmp_path):
    made = steps(recipe, 1_000_000)
    status, said = signalled(signal.SIGKILL, "workers", dataset, store, [made], tmp_path)
    assert status == -signal.SIGKILL, said
    worker = holder(store, made)
    deadline = time.monotonic() + 60
    while is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(worker)
    assert list((store.folder(made.key) / "checkpoint").iterdir())


def test_no_workers_are_refused(dataset, store):
    with pytest.raises(ValueError, match="workers must be 1 or more, not 0"):
        Workers(store, dataset, silent, workers=0)
