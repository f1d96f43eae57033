"""What every executor keeps: the same results, the same store, one payment, whatever happens."""

import signal
from dataclasses import replace

import pytest
import torch

from stepladder.execute.here import run_here
from stepladder.execute.ray import RayCluster
from stepladder.execute.stacked import Stacked
from stepladder.execute.workers import Workers
from stepladder.recipe import Optimizer
from stepladder.store import Busy, Store
from train.conftest import curve

from .helpers import Seen, named, signalled, silent, steps, timeless

NOISE = 1e-4  # of float32 summed in another order, over tens of steps


class Here:
    """`run_here` with the face of the other executors."""

    def __init__(self, *given):
        self.given = given

    def run(self, asked):
        return run_here(asked, *self.given)


EXECUTORS = {"here": Here, "workers": Workers, "stacked": Stacked, "ray": RayCluster}
LOCAL = [name for name in EXECUTORS if name != "ray"]  # test_ray.py has the others' Ctrl-C


@pytest.fixture(scope="module", params=EXECUTORS)
def place(request, dataset, tmp_path_factory):
    """An executor for all tests of this file, its store, and who watches."""
    store, seen = Store(tmp_path_factory.mktemp(request.param) / "runs"), Seen()
    given = [store, dataset, seen.watch, "cpu"]
    if request.param == "ray":
        given.append(request.getfixturevalue("ray_cluster").address)
    executor = EXECUTORS[request.param](*given)
    yield executor, store, seen
    if not isinstance(executor, Here):
        executor.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def assert_same(store, other, recipe):
    rows, expected = curve(store, recipe), curve(other, recipe)
    assert [row.keys() for row in rows] == [row.keys() for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        assert row == pytest.approx(wanted, rel=NOISE, nan_ok=True)


def test_results_in_the_order_asked_and_the_same_store(place, dataset, recipe, store):
    """Several shapes and lengths, one that diverges, and one asked for twice."""
    executor, there, seen = place
    wide = replace(recipe, model=replace(recipe.model, mlp_width=40))
    recipes = [
        steps(recipe, 20, seed=1),
        steps(wide, 12, seed=2),
        replace(steps(recipe, 30, seed=3), optimizer=Optimizer(lr=1e6)),
        steps(recipe, 9, seed=4),
        replace(steps(recipe, 9, seed=4), optimizer=Optimizer(lr=0.01, name="lion")),
    ]
    asked = named(*recipes, recipes[0])
    results = executor.run(asked)
    expected = run_here(asked, store, dataset, silent, "cpu")
    for result, wanted in zip(timeless(results), timeless(expected), strict=True):
        assert result.keys() == wanted.keys()
        for name in ("loss", "standard_error", "train_loss"):
            found, value = result.pop(name), wanted.pop(name)
            assert found == (value if value is None else pytest.approx(value, rel=NOISE))
        assert result == wanted
    assert results[2]["diverged"]
    for made in recipes:
        assert_same(there, store, made)
        ours, theirs = there.folder(made.key), store.folder(made.key)
        assert sorted(p.name for p in ours.rglob("*")) == sorted(p.name for p in theirs.rglob("*"))
        kept = (ours / "tokenizer.json").read_text()
        assert kept == dataset.tokenizer_path.read_text()
    for made in recipes[1:]:  # the first was asked for twice
        told = seen.steps[made.key]
        assert told[0] == 1
        assert told[-1] == made.steps
        assert told == sorted(told)
        shown = [row for row in seen.rows[made.key] if "validation_loss" in row]
        measured = [row for row in curve(there, made) if "validation_loss" in row]
        assert shown == [pytest.approx(row, nan_ok=True) for row in measured]


def test_what_is_paid_for_is_not_run_again(place, recipe):
    executor, store, _ = place
    asked = named(*(steps(recipe, 4, seed=seed) for seed in (10, 11, 12)))
    first = executor.run(asked[:2])
    folders = [store.folder(recipe.key) for _, recipe in asked[:2]]
    files = {p: p.stat().st_mtime_ns for f in folders for p in f.rglob("*") if p.is_file()}
    again = executor.run(asked)
    assert again[:2] == first
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_one_failure_among_many_is_named_and_loses_nothing(place, recipe):
    executor, store, _ = place
    good = [steps(recipe, 6, seed=seed) for seed in (20, 21, 22)]
    bad = replace(steps(recipe, 7), data=replace(recipe.data, fingerprint="of another text"))
    with pytest.raises(ValueError, match=r"data\.fingerprint is of another text"):
        executor.run(named(good[0], bad, *good[1:]))
    assert store.get(bad.key) is None
    assert [r["steps"] for r in executor.run(named(*good))] == [6, 6, 6]


def test_a_run_that_another_process_holds_is_left_to_it(place, recipe):
    executor, store, _ = place
    held, free = steps(recipe, 5, seed=30), steps(recipe, 5, seed=31)
    with (
        store.claim(held.key, held.to_toml()),
        pytest.raises((Busy, ValueError), match="is being run by"),
    ):
        executor.run(named(free, held))
    assert [r["key"] for r in executor.run(named(free, held))] == [free.key, held.key]


def test_a_hundred_tiny_runs(place, recipe):
    executor, store, seen = place
    tiny = replace(steps(recipe, 2), evaluations=1, validation=64)
    recipes = [replace(tiny, seed=100 + i) for i in range(100)]
    results = executor.run(named(*recipes))
    assert [r["key"] for r in results] == [r.key for r in recipes]
    assert len({r["loss"] for r in results}) == len(recipes)
    assert all(store.get(r.key).status == "done" for r in recipes)
    assert all(seen.steps[r.key][-1] == 2 for r in recipes)


@pytest.mark.parametrize("executor", LOCAL)
def test_ctrl_c_saves_what_is_at_work(executor, dataset, recipe, store, tmp_path):
    recipes = [steps(recipe, 300, seed=seed) for seed in (40, 41)]
    status, said = signalled(signal.SIGINT, executor, dataset, store, recipes, tmp_path)
    assert status in (1, -signal.SIGINT), said  # 1: code that torch runs at exit hides the signal
    assert said.splitlines()[-1] == "KeyboardInterrupt", said
    assert not any((store.folder(made.key) / "result.json").exists() for made in recipes)
    saved = [made for made in recipes if (store.folder(made.key) / "checkpoint").exists()]
    assert saved
    whole = Store(tmp_path / "whole")
    short = [steps(made, 300, seed=made.seed) for made in saved]
    run_here(named(*short), whole, dataset, silent, "cpu")
    run_here(named(*short), store, dataset, silent, "cpu")  # by another executor, from there
    for made in short:
        assert "from step 0" not in last_line(store, made)
        losses, expected = (
            [row["loss"] for row in curve(s, made) if "loss" in row] for s in (store, whole)
        )
        assert losses == pytest.approx(expected, rel=0.02)  # noise grows over 300 steps


@pytest.mark.parametrize("executor", ["here", "stacked"])
def test_a_killed_process_holds_no_run(executor, dataset, recipe, store, tmp_path):
    recipes = [steps(recipe, 50, seed=seed) for seed in (50, 51)]
    status, said = signalled(signal.SIGKILL, executor, dataset, store, recipes, tmp_path)
    assert status == -signal.SIGKILL, said
    assert store.get(recipes[0].key).status == "partial"
    with Stacked(store, dataset, silent, "cpu") as stacked:
        assert [r["steps"] for r in stacked.run(named(*recipes))] == [50, 50]
    whole = Store(tmp_path / "whole")
    run_here(named(*recipes), whole, dataset, silent, "cpu")
    for made in recipes:
        assert_same(store, whole, made)


def last_line(store, recipe):
    lines = (store.folder(recipe.key) / "log.txt").read_text().splitlines()
    return [line for line in lines if "from step" in line][-1]
