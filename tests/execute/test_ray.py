"""Runs on a Ray cluster that loses workers and nodes, and clusters that are not there."""

import builtins
import os
import signal
import socket
from contextlib import suppress
from dataclasses import replace

import pytest

from stepladder.execute import ray as ours
from stepladder.execute.here import run_here
from stepladder.execute.ray import ATTEMPTS, RayCluster
from stepladder.store import Store

from .conftest import RAY
from .helpers import Seen, holder, named, signalled, silent, steps
from .test_contract import last_line

needs_ray = pytest.mark.skipif(not RAY, reason="ray is not installed")


@pytest.fixture
def place(ray_cluster, dataset, store):
    """An executor that kills the worker of a run, at its first row, as often as it is told to."""
    seen, kills = Seen(), {}

    def kill(recipe):
        if kills.get(recipe.key, 0) > 0:
            kills[recipe.key] -= 1
            with suppress(ProcessLookupError):  # one kill ago
                os.kill(holder(store, recipe), signal.SIGKILL)

    seen.at_step = kill
    with RayCluster(store, dataset, seen.watch, "cpu", ray_cluster.address) as executor:
        yield executor, seen, kills


@needs_ray
def test_a_killed_worker_loses_no_run(place, dataset, recipe, store, tmp_path):
    executor, seen, kills = place
    doomed, other = steps(recipe, 600, seed=60), steps(recipe, 30, seed=61)
    kills[doomed.key] = 1
    results = executor.run(named(doomed, other))
    whole = Store(tmp_path / "whole")
    expected = run_here(named(doomed, other), whole, dataset, silent, "cpu")
    assert [r["loss"] for r in results] == pytest.approx([r["loss"] for r in expected], rel=1e-3)
    log = (store.folder(doomed.key) / "log.txt").read_text()
    assert log.count("from step") == 2
    assert seen.steps[doomed.key] == sorted(seen.steps[doomed.key])
    assert seen.steps[doomed.key][-1] == 600


@pytest.mark.slow
@needs_ray
def test_a_run_that_is_lost_again_and_again_is_named_and_the_rest_kept(place, recipe, store):
    executor, _, kills = place
    doomed, other = steps(recipe, 3000, seed=62), steps(recipe, 20, seed=63)
    kills[doomed.key] = 10**9
    with pytest.raises(ValueError, match=rf"{doomed.key} \(run 0\) was lost {ATTEMPTS} times"):
        executor.run(named(doomed, other))
    assert store.get(doomed.key).status == "partial"
    assert store.get(other.key).status == "done"
    kills.clear()
    assert executor.run(named(doomed))[0]["steps"] == 3000


@needs_ray
def test_a_lost_node_loses_no_run(ray_cluster, place, dataset, recipe, store):
    """Three runs fill three CPUs; the node of one of them goes."""
    executor, seen, _ = place
    node = ray_cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    recipes = [steps(recipe, 600, seed=70 + i) for i in range(3)]

    def lose(at):
        if len(seen.steps) == 3 and all(seen.steps.values()) and not lost:
            lost.append(node)
            ray_cluster.remove_node(node)

    lost = []
    seen.at_step = lose
    results = executor.run(named(*recipes))
    assert lost
    assert [r["steps"] for r in results] == [600] * 3
    logs = [(store.folder(made.key) / "log.txt").read_text() for made in recipes]
    assert sorted(log.count("from step") for log in logs) == [1, 1, 2]


@needs_ray
def test_ctrl_c_saves_what_is_at_work(ray_cluster, dataset, recipe, store, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster.address)
    recipes = [steps(recipe, 1500, seed=seed) for seed in (40, 41)]
    status, said = signalled(signal.SIGINT, "ray", dataset, store, recipes, tmp_path)
    assert status in (1, -signal.SIGINT), said
    assert said.splitlines()[-1] == "KeyboardInterrupt", said
    assert not any((store.folder(made.key) / "result.json").exists() for made in recipes)
    saved = [made for made in recipes if (store.folder(made.key) / "checkpoint").exists()]
    assert saved
    with RayCluster(store, dataset, silent, "cpu", ray_cluster.address) as executor:
        assert [r["steps"] for r in executor.run(named(*recipes))] == [1500, 1500]
    assert all("from step 0 " not in last_line(store, made) for made in saved)


@needs_ray
def test_no_cluster_is_said_at_once(dataset, store):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "127.0.0.1:none"):
        with pytest.raises(ValueError, match=r"no Ray cluster answers at .*ray start --head"):
            RayCluster(store, dataset, silent, "cpu", address)


@needs_ray
def test_a_device_that_no_node_has_is_refused(ray_cluster, dataset, recipe, store):
    with (
        RayCluster(store, dataset, silent, "cuda", ray_cluster.address) as executor,
        pytest.raises(ValueError, match="has no GPU now"),
    ):
        executor.run(named(steps(recipe, 5)))


def test_without_ray_the_extra_is_named(dataset, store, monkeypatch):
    imported = builtins.__import__

    def without(name, *rest):
        if name == "ray":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"pip install 'stepladder\[ray\]'"):
        RayCluster(store, dataset, silent)


def test_a_node_that_does_not_see_the_files_says_so(dataset, recipe, store, tmp_path):
    """The task as a node runs it, without a cluster."""
    gone = replace(dataset, folder=tmp_path / "elsewhere")
    job = ours.Job(recipe=recipe, store=store, dataset=gone)
    for root in (tmp_path / "unseen", tmp_path):
        kind, error = ours._work(ours.pickle.dumps(job), str(root), "cpu", 0.0)
        assert kind == "error"
        assert isinstance(error, ValueError)
        assert "does not see" in str(error)
        assert "every node mounts" in str(error)
