"""Runs that are killed, interrupted, raced for or damaged end as if nothing had happened."""

import errno
import json
import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from stepladder import optim
from stepladder.data import Dataset
from stepladder.recipe import Optimizer, Recipe
from stepladder.run_directory import Row
from stepladder.store import Busy, Store
from stepladder.train import Silent, sitting, train
from stepladder.train.checkpoint import load_weights
from stepladder.train.evaluate import evaluate

from .conftest import HERE, curve_file
from .worker import BUSY, DONE, INTERRUPTED, Slow, work

Start = Callable[..., BaseProcess]


@pytest.fixture(scope="module")
def processes():
    """Processes that are forked from one which has torch imported: real ones, and quick."""
    context = multiprocessing.get_context("forkserver")
    # The second is what the first step of an optimizer imports.
    context.set_forkserver_preload(["stepladder.train.loop", "torch._dynamo"])
    return context


@pytest.fixture
def start(processes, dataset):
    """Starts a process at a recipe's run; what is left of them is ended with the test."""
    started: list[BaseProcess] = []

    def start(recipe: Recipe, store: Store, watch: Slow, seconds: float = 0.0) -> BaseProcess:
        arguments = (recipe.to_toml(), store.root, dataset, watch, seconds)
        process = processes.Process(target=work, args=arguments)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def ended(process: BaseProcess) -> int | None:
    process.join(120)
    return process.exitcode


def lines(store: Store, recipe: Recipe) -> int:
    path = curve_file(store, recipe)
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for_lines(store: Store, recipe: Recipe, count: int, process: BaseProcess) -> None:
    deadline = time.monotonic() + 120
    while lines(store, recipe) < count and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)


def what_remains(store: Store, recipe: Recipe) -> tuple[bytes, Row, bytes]:
    """Everything that must not depend on how the run came about."""
    folder = store.folder(recipe.key)
    result = json.loads((folder / "result.json").read_text())
    for name in ("seconds", "paid_seconds", "started"):
        del result[name]
    weights = folder / "checkpoint" / str(result["steps"]) / "weights.safetensors"
    return curve_file(store, recipe).read_bytes(), result, weights.read_bytes()


@pytest.fixture
def undisturbed(dataset, tmp_path):
    """What a recipe comes to when nothing happens to it."""

    def undisturbed(recipe: Recipe) -> tuple[bytes, Row, bytes]:
        store = Store(tmp_path / "undisturbed")
        train(recipe, store, dataset, execution=HERE)
        return what_remains(store, recipe)

    return undisturbed


# Processes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_kill_9_at_any_moment_leaves_the_run_it_would_have_been(
    seed, recipe, store, start, undisturbed
):
    """Checkpoints are written after every step, so that kills hit steps, rows and checkpoints."""
    rng, made = random.Random(seed), replace(recipe, tokens=100 * 64, evaluations=20, seed=seed)
    kills = 0
    while kills < 4:
        process = start(made, store, Slow(0.002))
        wait_for_lines(store, made, lines(store, made) + 1, process)
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        assert ended(process) == -9, "the run ended before it could be killed"
        kills += 1
    assert store.get(made.key).status == "partial"
    assert ended(start(made, store, Slow(0), 1e9)) == DONE
    assert what_remains(store, made) == undisturbed(made)
    said = (store.folder(made.key) / "log.txt").read_text()
    assert said.count("from step") == 5
    assert said.count("from step 0 ") < 5


@pytest.mark.parametrize("at", [1, 17, 39])
def test_ctrl_c_saves_stops_and_goes_on(at, recipe, store, start, undisturbed):
    """No checkpoint is due by time: the one that is found is the interrupt's."""
    assert ended(start(recipe, store, Slow(0, interrupt_at=at), 1e9)) == INTERRUPTED
    assert [p.name for p in (store.folder(recipe.key) / "checkpoint").iterdir()] == [str(at)]
    assert store.get(recipe.key).result is None
    assert ended(start(recipe, store, Slow(0), 1e9)) == DONE
    assert f"from step {at} of 40" in (store.folder(recipe.key) / "log.txt").read_text()
    assert what_remains(store, recipe) == undisturbed(recipe)


def test_ctrl_c_in_the_last_step_keeps_the_result_and_still_stops(recipe, store, start):
    assert ended(start(recipe, store, Slow(0, interrupt_at=40), 1e9)) == INTERRUPTED
    assert store.get(recipe.key).status == "done"


def test_a_second_process_is_refused_while_the_first_runs(recipe, store, start, dataset):
    first = start(recipe, store, Slow(0.1), 1e9)
    wait_for_lines(store, recipe, 1, first)
    with pytest.raises(Busy, match=f"run {recipe.key} is being run by process {first.pid}"):
        train(recipe, store, dataset, execution=HERE)
    assert ended(start(recipe, store, Slow(0), 1e9)) == BUSY
    first.kill()
    assert ended(first) == -9
    assert train(recipe, store, dataset, execution=HERE)["steps"] == 40


def test_of_two_that_start_together_one_pays(recipe, store, start, undisturbed):
    both = [start(recipe, store, Slow(0.01), 1e9) for _ in range(2)]
    codes = sorted(ended(process) for process in both)
    assert codes in ([DONE, BUSY], [DONE, DONE])  # the second may have come when all was over
    assert (store.folder(recipe.key) / "log.txt").read_text().count("from step") == 1
    assert what_remains(store, recipe) == undisturbed(recipe)


# Within a process ---------------------------------------------------------------------------------


class Crash(Silent):
    """Ends the process's work with an error after a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, step: int) -> None:
        """Fail at the step."""
        if step == self.at:
            raise RuntimeError("crash")


def crash(recipe: Recipe, store: Store, dataset: Dataset, at: int) -> None:
    """Train until an error after step `at`; the checkpoint before is of step at - 1."""
    with pytest.raises(RuntimeError, match="crash"):
        train(recipe, store, dataset, execution=HERE, watch=Crash(at), checkpoint_seconds=0.0)


KNOWN = [name for name in optim.REGISTRY if optim.card(name).scaling != "unknown"]


@pytest.mark.parametrize("name", KNOWN)
def test_every_optimizer_goes_on_as_if_nothing_had_happened(
    name, recipe, store, dataset, undisturbed
):
    made = replace(recipe, optimizer=Optimizer(name=name, lr=0.005), tokens=12 * 64, evaluations=3)
    for at in (5, 9):
        crash(made, store, dataset, at)
    train(made, store, dataset, execution=HERE)
    assert what_remains(store, made) == undisturbed(made)


@pytest.mark.parametrize("name", ["schedule-free-adamw", "adamw"])
def test_the_last_checkpoint_holds_the_weights_that_were_measured(name, recipe, store, dataset):
    """Schedule-Free's answer is an average; a checkpoint due at the end must not hide it."""
    made = replace(recipe, optimizer=Optimizer(name=name, lr=0.01), tokens=12 * 64)
    result = train(made, store, dataset, execution=HERE, checkpoint_seconds=0.0)
    model, _ = sitting.build(made)
    folder = store.folder(made.key) / "checkpoint" / "12"
    load_weights(folder, model)
    measured = evaluate(model, *dataset.validation(16, made.validation))
    assert measured.loss == result["loss"]


def test_accumulation_and_bfloat16_go_on_alike(recipe, store, dataset, undisturbed):
    made = replace(recipe, tokens=12 * 64, accumulate=2, precision="bfloat16")
    crash(made, store, dataset, 7)
    train(made, store, dataset, execution=HERE)
    assert what_remains(store, made) == undisturbed(made)


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.pt", "progress.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_checkpoint_is_not_used(name, damage, recipe, store, dataset, undisturbed):
    made = replace(recipe, tokens=12 * 64)
    crash(made, store, dataset, 9)
    path = store.folder(made.key) / "checkpoint" / "8" / name
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-3] + (b"" if damage == "cut" else b"~~~"))
    train(made, store, dataset, execution=HERE)
    starts = (store.folder(made.key) / "log.txt").read_text().count("from step 0 of 12")
    assert starts == 2
    assert what_remains(store, made) == undisturbed(made)


def test_a_damaged_checkpoint_falls_back_on_the_one_before(
    recipe, store, dataset, undisturbed, tmp_path
):
    """Two are there where a process was killed before it removed the older."""
    made = replace(recipe, tokens=12 * 64)
    crash(made, store, dataset, 5)
    at = store.folder(made.key) / "checkpoint"
    shutil.copytree(at / "4", tmp_path / "older")
    crash(made, store, dataset, 9)
    shutil.copytree(tmp_path / "older", at / "4")
    (at / "8" / "optimizer.pt").write_bytes(b"")
    train(made, store, dataset, execution=HERE)
    assert (store.folder(made.key) / "log.txt").read_text().count("from step 4 of 12") == 2
    assert what_remains(store, made) == undisturbed(made)


def take_checkpoint(store: Store, giver: Recipe, taker: Recipe) -> Path:
    folder = store.folder(taker.key)
    with store.claim(taker.key, taker.to_toml()):
        shutil.copytree(store.folder(giver.key) / "checkpoint", folder / "checkpoint")
    return folder


def test_the_state_of_another_optimizer_is_refused(recipe, store, dataset):
    crash(recipe, store, dataset, 3)
    other = replace(recipe, optimizer=Optimizer(name="lion", lr=0.02))
    folder = take_checkpoint(store, recipe, other)
    with pytest.raises(ValueError, match="cannot resume lion from the state of adamw"):
        train(other, store, dataset, execution=HERE)
    assert not (folder / "curve.jsonl").exists()


def test_the_weights_of_another_model_are_refused(recipe, store, dataset):
    crash(recipe, store, dataset, 3)
    other = replace(recipe, model=replace(recipe.model, mlp_width=48))
    take_checkpoint(store, recipe, other)
    with pytest.raises(ValueError, match="holds the weights of another model"):
        train(other, store, dataset, execution=HERE)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_in_a_checkpoint_leaves_the_one_before(
    after, recipe, store, dataset, undisturbed, monkeypatch
):
    """The disk is full after none, one or two of the checkpoint's three files."""
    made, whole = replace(recipe, tokens=12 * 64), sitting.write_checkpoint

    def full(folder: Path, model, optimizer, progress) -> None:
        whole(folder, model, optimizer, progress)
        if progress.step == 7:
            for path in sorted(folder.iterdir())[after:]:
                path.unlink()
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sitting, "write_checkpoint", full)
        with pytest.raises(ValueError, match=r"no space left in .*: the checkpoint before is int"):
            train(made, store, dataset, execution=HERE, checkpoint_seconds=0.0)
    at = store.folder(made.key) / "checkpoint"
    assert [path.name for path in at.iterdir()] == ["6"]
    train(made, store, dataset, execution=HERE)
    assert what_remains(store, made) == undisturbed(made)


def test_what_is_paid_for_is_returned_at_once(recipe, store, dataset, monkeypatch):
    result = train(recipe, store, dataset, execution=HERE)
    files = {p: p.stat().st_mtime_ns for p in store.folder(recipe.key).rglob("*") if p.is_file()}
    monkeypatch.setattr(sitting, "build", lambda *_: pytest.fail("a model was built"))
    assert train(recipe, store, None, execution=HERE) == result
    assert {
        p: p.stat().st_mtime_ns for p in store.folder(recipe.key).rglob("*") if p.is_file()
    } == files
