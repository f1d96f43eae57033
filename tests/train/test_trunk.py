"""Runs that share a trunk: what a longer one would have been, for what is left of it."""

import json
import math
import random
import shutil
import struct
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepladder import schedules
from stepladder.branches import TRUNKS, branch_folder
from stepladder.execute.stacked import run_stacked
from stepladder.execute.workers import run_workers
from stepladder.recipe import Batching, Model, Optimizer, Recipe, Schedule
from stepladder.run_directory import Run
from stepladder.store import Store
from stepladder.train import Silent, sitting, train
from stepladder.train.timeline import rate_factor, warmup_steps
from stepladder.train.trunk import (
    Trail,
    branches_for,
    digests,
    lengthened,
    shared_steps,
    stem_of,
    trunk_steps,
)

from .conftest import HERE, TINY, curve_file
from .test_resume import Crash, crash, ended, processes, start, wait_for_lines  # noqa: F401
from .worker import DONE, Slow

BATCH = 64
WARMUP = 5 * BATCH
WSD = Schedule(name="wsd", warmup=WARMUP, params={"decay": 0.25})


@pytest.fixture
def short(recipe) -> Recipe:
    """Forty steps that leave the trunk at the thirtieth."""
    return replace(recipe, schedule=WSD)


@pytest.fixture
def longer(short) -> Recipe:
    """Eighty, with measurements every sixteen: at steps where the short one was measured too."""
    return replace(short, tokens=80 * BATCH)


def what_counts(store: Store, recipe: Recipe) -> tuple[bytes, dict, bytes]:
    """Curve, result and weights of a run, without what depends on who paid."""
    folder = store.folder(recipe.key)
    result = json.loads((folder / "result.json").read_text())
    for name in ("seconds", "started", "trunk", "paid_steps", "paid_flops", "paid_seconds"):
        del result[name]
    weights = folder / "checkpoint" / str(result["steps"]) / "weights.safetensors"
    return curve_file(store, recipe).read_bytes(), result, weights.read_bytes()


@pytest.fixture
def from_scratch(dataset, tmp_path):
    """What a recipe comes to where nothing was paid for before."""

    def from_scratch(recipe: Recipe) -> tuple[bytes, dict, bytes]:
        store = Store(tmp_path / f"scratch-{recipe.key}")
        assert train(recipe, store, dataset, execution=HERE)["trunk"] is None
        return what_counts(store, recipe)

    return from_scratch


# What a trunk is ----------------------------------------------------------------------------------


def made(steps: int, **schedule) -> Recipe:
    shape = Model(**{**vars(TINY), "context": 4})
    return Recipe(
        model=shape,
        optimizer=Optimizer(lr=1.0),
        tokens=steps * 8,
        batch=8,
        schedule=Schedule(**schedule),
    )


TAILED = {
    "wsd": {"decay": 0.2},
    "infinite": {"cooldown": 80, "decay": 0.1},
    "power": {"peak": 0.01, "batch": 8, "tokens": 1, "decay": 0.25},
}
ENDLESS = {"constant": {}, "inverse-sqrt": {}}


def scheduled(name: str, steps: int, warmup: int) -> Recipe:
    params = {**(TAILED | ENDLESS)[name]}
    recipe = made(10**6, name=name, warmup=8 * warmup, params=params)
    return lengthened(recipe, 8 * steps)


@pytest.mark.parametrize("name", [*TAILED, *ENDLESS])
@given(
    steps=st.integers(60, 400), ratio=st.floats(1.01, 7), warmup=st.integers(1, 12), more=st.data()
)
@settings(max_examples=25)
def test_rates_of_a_trunk_do_not_depend_on_the_horizon(name, steps, ratio, warmup, more):
    """To the bit, whatever the ratio of two horizons; found without asking for the longer one."""
    short, long = (scheduled(name, n, warmup) for n in (steps, math.ceil(ratio * steps)))
    end = trunk_steps(short)
    tail = TAILED.get(name, {}).get("decay", 0.0)
    assert end == pytest.approx(steps * (1 - tail), abs=1.01)
    step = more.draw(st.integers(0, end - 1))
    assert struct.pack("<d", rate_factor(short, step)) == struct.pack("<d", rate_factor(long, step))
    assert digests(short, [end]) == digests(long, [end])


@pytest.mark.parametrize("name", ["linear", "cosine", "polynomial", "one-cycle", "range-test"])
def test_a_schedule_that_is_one_arc_has_no_trunk(name):
    alone = 0.0 if name in ("one-cycle", "range-test") else 16
    assert trunk_steps(made(50, name=name, warmup=alone)) == 0


def test_a_warmup_in_fractions_is_another_for_each_length():
    wsd = made(100, name="wsd", warmup=0.1)
    assert trunk_steps(wsd) == 0
    assert trunk_steps(replace(wsd, schedule=replace(wsd.schedule, warmup=0.0))) == 80


def test_a_warmup_in_tokens_is_that_many_steps():
    in_tokens, in_fractions = (made(100, name="wsd", warmup=w) for w in (80, 0.1))
    for step in range(100):
        assert rate_factor(in_tokens, step) == pytest.approx(rate_factor(in_fractions, step))
    assert warmup_steps(in_tokens) == warmup_steps(in_fractions) == 10


def test_a_decay_in_tokens_is_that_many_steps():
    in_tokens = made(100, name="wsd", warmup=80, params={"decay": 160, "cooldown": "linear"})
    assert rate_factor(in_tokens, 79) == 1.0
    assert rate_factor(in_tokens, 80) == pytest.approx(1 - 0.5 / 20)
    assert trunk_steps(in_tokens) == 80
    with pytest.raises(ValueError, match="must fit into 1; shorten one"):
        rate_factor(made(25, name="wsd", warmup=80, params={"decay": 160}), 0)


def test_steps_of_one_schedule_are_asked_for_within_its_horizon():
    with pytest.raises(ValueError, match="outside the horizon of 10 steps"):
        schedules.get("wsd").at(10, 10, 8, warmup=20)


def test_what_decides_a_step_decides_the_stem():
    base = made(100, name="wsd", warmup=80)
    alike = [
        lengthened(base, 1600),
        replace(base, schedule=Schedule(name="constant", warmup=80)),
        replace(base, evaluations=1),
    ]
    other = [
        replace(base, seed=1),
        replace(base, batch=16),
        replace(base, optimizer=Optimizer(lr=2.0)),
        replace(base, validation=64),
        replace(base, accumulate=2),
    ]
    assert {stem_of(one) for one in alike} == {stem_of(base)}
    assert stem_of(base) not in {stem_of(one) for one in other}


def test_what_reacts_to_training_shares_nothing():
    growing = replace(made(100, name="constant", warmup=0.0), batching=Batching(name="ramp"))
    assert stem_of(growing) is None
    assert trunk_steps(growing) == 0


def test_measurements_that_were_not_made_cannot_be_had():
    """Ten of 80 steps stand at tenths; of 40 at every fourth; of 48 where nobody measured."""
    short = made(40, name="wsd", warmup=16)
    assert shared_steps(short, lengthened(short, 80 * 8)) == 32
    assert shared_steps(short, lengthened(short, 48 * 8)) == 0
    assert shared_steps(short, replace(lengthened(short, 48 * 8), evaluations=1)) == 32
    assert shared_steps(short, lengthened(short, 24 * 8)) == 0  # ends before the trunk does
    # Its noise scale would speak of more steps than the short run's did.
    noisy = replace(short, accumulate=2)
    assert shared_steps(noisy, lengthened(noisy, 80 * 8)) == 0
    alone = replace(noisy, evaluations=1)
    assert shared_steps(alone, lengthened(alone, 80 * 8)) == 32


def test_trails_come_back_to_the_bit(tmp_path):
    rng = np.random.default_rng()
    losses, norms = rng.lognormal(size=(2, 50)).tolist()
    norms[3], losses[7] = math.inf, math.nan
    trail = Trail()
    trail.add(losses[:20], norms[:20])
    trail.add(losses[20:], norms[20:])
    trail.write(tmp_path)
    again = Trail.read(tmp_path)
    assert again is not None
    assert [struct.pack("<2d", *pair) for pair in again] == [
        struct.pack("<2d", *pair) for pair in zip(losses, norms, strict=True)
    ]
    assert Trail.read(tmp_path / "elsewhere") is None


# Runs that share one ------------------------------------------------------------------------------


def test_one_trunk_serves_many_horizons(short, longer, store, dataset, from_scratch):
    """Curves, results and weights are those from scratch; the bill is that of the rest."""
    longest = replace(short, tokens=160 * BATCH)
    results = [train(r, store, dataset, execution=HERE) for r in (short, longer, longest)]
    for recipe in (short, longer, longest):
        assert what_counts(store, recipe) == from_scratch(recipe)
    assert [r["trunk"] for r in results] == [
        None,
        {"run": short.key, "step": 30},
        {"run": longer.key, "step": 60},
    ]
    assert [r["paid_steps"] for r in results] == [40, 50, 100]
    for result in results:
        assert result["paid_flops"] / result["flops"] == result["paid_steps"] / result["steps"]
        assert 0 < result["paid_seconds"] <= result["seconds"]
    assert "goes on from step 60, paid for by run" in said(store, longest)


def said(store: Store, recipe: Recipe) -> str:
    return (store.folder(recipe.key) / "log.txt").read_text()


def test_rows_stand_where_the_longer_run_has_them(recipe, store, dataset, from_scratch):
    """450 steps have rows every second step, 150 one a step; a row may reach over the branch."""
    flat = replace(
        recipe,
        schedule=Schedule(name="wsd", warmup=WARMUP, params={"decay": 0.1}),
        tokens=150 * BATCH,
        evaluations=1,
        validation=64,
    )
    assert trunk_steps(flat) % 2 == 1
    train(flat, store, dataset, execution=HERE)
    long = replace(flat, tokens=450 * BATCH)
    assert train(long, store, dataset, execution=HERE)["paid_steps"] == 450 - trunk_steps(flat)
    assert what_counts(store, long) == from_scratch(long)


def test_another_cooldown_pays_for_the_cooldown(short, store, dataset, from_scratch):
    train(short, store, dataset, execution=HERE)
    linear = replace(short, schedule=replace(WSD, params={"decay": 0.25, "cooldown": "linear"}))
    assert train(linear, store, dataset, execution=HERE)["paid_steps"] == 10
    assert what_counts(store, linear) == from_scratch(linear)
    # The state is there already, so no second copy of it.
    assert not branch_folder(store.folder(linear.key), 30).exists()


def test_a_constant_rate_goes_on_from_its_end(short, store, dataset, from_scratch):
    flat = replace(short, schedule=Schedule(name="constant", warmup=WARMUP))
    train(flat, store, dataset, execution=HERE)
    more = lengthened(flat, 120 * BATCH)
    more = replace(more, evaluations=1)
    assert train(more, store, dataset, execution=HERE)["trunk"] == {"run": flat.key, "step": 40}
    assert what_counts(store, more) == from_scratch(more)


@pytest.mark.parametrize("name", ["schedule-free-adamw", "muon", "adafactor", "sgd"])
def test_any_optimizer(name, short, longer, store, dataset, from_scratch):
    optimizer = Optimizer(name=name, lr=0.005)
    short, longer = (replace(r, optimizer=optimizer) for r in (short, longer))
    train(short, store, dataset, execution=HERE)
    assert train(longer, store, dataset, execution=HERE)["paid_steps"] == 50
    assert what_counts(store, longer) == from_scratch(longer)


def test_noise_scales_are_those_from_scratch(short, store, dataset, from_scratch):
    """Between measurements the noise of every step is kept; the branch lies between two."""
    noisy = replace(short, accumulate=2, evaluations=1)
    train(noisy, store, dataset, execution=HERE)
    long = lengthened(noisy, 80 * BATCH)
    assert train(long, store, dataset, execution=HERE)["paid_steps"] == 50
    assert what_counts(store, long) == from_scratch(long)
    assert b"noise_scale" in curve_file(store, long).read_bytes()


def test_other_runs_start_from_scratch(short, longer, store, dataset):
    train(short, store, dataset, execution=HERE)
    others = [
        replace(longer, seed=1),
        replace(longer, optimizer=Optimizer(lr=0.021)),
        replace(longer, schedule=replace(WSD, warmup=WARMUP + BATCH)),
        replace(longer, evaluations=7),  # was not measured where it must be
        replace(longer, schedule=Schedule(name="linear", warmup=WARMUP)),
    ]
    for other in others:
        assert train(other, store, dataset, execution=HERE)["trunk"] is None


# Interruptions and damage -------------------------------------------------------------------------


def test_runs_that_crash_before_and_after_the_branch(short, longer, store, dataset, from_scratch):
    """Checkpoints are of the step before the crash; a trunk goes on over them."""
    for at in (7, 29, 31, 38):
        crash(short, store, dataset, at)
    train(short, store, dataset, execution=HERE)
    assert what_counts(store, short) == from_scratch(short)
    for at in (33, 61, 75):
        crash(longer, store, dataset, at)
    result = train(longer, store, dataset, execution=HERE)
    assert (result["trunk"]["step"], result["paid_steps"]) == (30, 50)
    assert what_counts(store, longer) == from_scratch(longer)
    assert branch_folder(store.folder(longer.key), 60).exists()


@pytest.mark.parametrize("seed", [0, 1])
def test_kill_9_at_any_moment(seed, short, longer, store, start, from_scratch):  # noqa: F811
    """The short run, then the long one on its trunk, each killed three times."""
    rng = random.Random(seed)
    for recipe in (short, longer):
        for _ in range(3):
            process = start(recipe, store, Slow(0.004))
            path = curve_file(store, recipe)
            lines = path.read_bytes().count(b"\n") if path.exists() else 0
            wait_for_lines(store, recipe, lines + 1, process)
            time.sleep(rng.uniform(0, 0.1))
            process.kill()
            ended(process)
        assert ended(start(recipe, store, Slow(0), 1e9)) == DONE
        assert what_counts(store, recipe) == from_scratch(recipe)
    assert store.get(longer.key).result["trunk"] == {"run": short.key, "step": 30}


def damage(folder: Path, how: str) -> None:
    if how == "gone":
        shutil.rmtree(folder)
    elif how == "cut":
        path = folder / "optimizer.pt"
        path.write_bytes(path.read_bytes()[:-3])
    elif how == "changed":
        path = folder / "trail.npy"
        path.write_bytes(path.read_bytes()[:-3] + b"~~~")
    elif how == "pointer":
        for path in (folder.parents[2] / TRUNKS).rglob("*-*"):
            path.write_bytes(b"\xff../../nowhere")


@pytest.mark.parametrize("how", ["gone", "cut", "changed", "pointer"])
def test_a_damaged_branch_point_is_not_used(how, short, longer, store, dataset, from_scratch):
    train(short, store, dataset, execution=HERE)
    damage(branch_folder(store.folder(short.key), 30), how)
    assert train(longer, store, dataset, execution=HERE)["trunk"] is None
    assert what_counts(store, longer) == from_scratch(longer)
    # The long run has put its own in the place of what it could not use.
    longest = replace(short, tokens=160 * BATCH)
    assert train(longest, store, dataset, execution=HERE)["trunk"]["run"] == longer.key


def test_a_branch_point_that_goes_while_it_is_read(
    short, longer, store, dataset, from_scratch, monkeypatch
):
    train(short, store, dataset, execution=HERE)
    whole = sitting.read_checkpoint

    def going(folder, model, optimizer):
        if "branch" in folder.parts:
            (folder / "optimizer.pt").unlink()
        return whole(folder, model, optimizer)

    monkeypatch.setattr(sitting, "read_checkpoint", going)
    assert train(longer, store, dataset, execution=HERE)["trunk"] is None
    assert what_counts(store, longer) == from_scratch(longer)
    assert "does not go on from run" in said(store, longer)


def test_a_branch_point_of_another_stepladder_is_not_used(short, longer, store, dataset):
    """Whole to the byte, but it says what this version does not know."""
    train(short, store, dataset, execution=HERE)
    folder = branch_folder(store.folder(short.key), 30)
    shutil.copytree(folder, store.root / "copy")
    progress = json.loads((folder / "progress.json").read_text()) | {"mood": "good"}
    (store.root / "copy" / "progress.json").write_text(json.dumps(progress))
    (store.root / "copy" / "manifest.json").unlink()
    shutil.rmtree(folder)
    with store.claim(short.key, short.to_toml()) as run:
        run.save_branch(30, lambda at: shutil.copytree(store.root / "copy", at, dirs_exist_ok=True))
    assert [branch.run for branch in branches_for(longer, store.root)] == [short.key]
    assert train(longer, store, dataset, execution=HERE)["trunk"] is None
    assert "does not go on from run" in said(store, longer)


def test_a_full_disk_costs_the_branch_point_and_not_the_run(
    short, longer, store, dataset, from_scratch, monkeypatch
):
    def full(self, step, write):
        raise ValueError("no space left in here: free some")

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save_branch", full)
        train(short, store, dataset, execution=HERE)
    assert what_counts(store, short) == from_scratch(short)
    assert "no branch point is kept: no space left" in said(store, short)
    assert train(longer, store, dataset, execution=HERE)["trunk"] is None


def test_the_owner_may_still_be_at_work(short, longer, store, start, dataset, from_scratch):  # noqa: F811
    """The long run starts when the short one has left its trunk and is in its cooldown."""
    process = start(short, store, Slow(0.15), 1e9)
    at, deadline = branch_folder(store.folder(short.key), 30), time.monotonic() + 120
    while not at.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert train(longer, store, dataset, execution=HERE)["trunk"]["run"] == short.key
    assert store.get(short.key).status == "partial"
    assert what_counts(store, longer) == from_scratch(longer)
    assert ended(process) == DONE
    assert what_counts(store, short) == from_scratch(short)


def test_a_branch_point_in_the_making_is_not_seen(short, longer, store, dataset, monkeypatch):
    """Its pointer comes first; a process that is killed in between leaves only that."""
    whole = sitting.Sitting._write_branch

    def killed(self, folder):
        whole(self, folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sitting.Sitting, "_write_branch", killed)
        with pytest.raises(KeyboardInterrupt):
            train(short, store, dataset, execution=HERE)
    assert list((store.root / TRUNKS).rglob("30-*"))
    assert list(branches_for(longer, store.root)) == []
    train(short, store, dataset, execution=HERE)
    assert [branch.run for branch in branches_for(longer, store.root)] == [short.key]


def test_a_run_that_diverges_on_its_trunk_keeps_nothing(short, longer, store, dataset):
    wild = replace(short, optimizer=Optimizer(lr=1e5, clip=0.0))
    result = train(wild, store, dataset, execution=HERE)
    assert result["diverged"]
    assert result["steps"] < 30
    assert list(branches_for(replace(longer, optimizer=wild.optimizer), store.root)) == []


# Executors ----------------------------------------------------------------------------------------


class Quiet(Silent):
    """A watcher for executors, which make one a run."""

    def __init__(self, *_: object) -> None:
        pass


def losses(result_rows: bytes) -> list[float]:
    rows = [json.loads(line) for line in result_rows.splitlines()]
    return [row.get("loss", row.get("validation_loss")) for row in rows]


def test_stacked_runs_share_trunks(short, longer, store, dataset, from_scratch):
    """Within a stack's own rounding of a run alone; one trunk a trial."""
    rates = (0.01, 0.02, 0.03)
    arms = [
        (f"{lr}", replace(r, optimizer=Optimizer(lr=lr))) for r in (short, longer) for lr in rates
    ]
    first = run_stacked(arms[:3], store, dataset, Quiet, "cpu")
    second = run_stacked(arms[3:], store, dataset, Quiet, "cpu")
    assert [r["paid_steps"] for r in first + second] == [40] * 3 + [50] * 3
    assert [r["trunk"]["run"] for r in second] == [recipe.key for _, recipe in arms[:3]]
    for _, recipe in arms[3:]:
        found, expected = (
            losses(rows)
            for rows in (curve_file(store, recipe).read_bytes(), from_scratch(recipe)[0])
        )
        assert found == pytest.approx(expected, rel=2e-3)


def test_worker_processes_share_trunks(short, longer, store, dataset, from_scratch):
    for recipe in (short, longer):
        (result,) = run_workers([("run", recipe)], store, dataset, Quiet, "cpu", 1)
    assert (result["trunk"]["step"], result["paid_steps"]) == (30, 50)
    assert losses(curve_file(store, longer).read_bytes()) == losses(from_scratch(longer)[0])
