"""One run on two and four gloo processes against the same run on one, in float64."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from stepladder import optim
from stepladder.batching.noise_scale import NoiseScaleMeter
from stepladder.optim import REGISTRY
from stepladder.optim.whole import WholeModelOptimizer
from stepladder.recipe import Batching, Optimizer, Parametrization, Schedule
from stepladder.store import Store
from stepladder.train import sitting, train
from stepladder.train.checkpoint import load_weights
from stepladder.train.distributed import check_divides
from stepladder.train.updates import balanced

from .conftest import HERE, curve

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch has no distributed here")
EXACT = 1e-9
assumed = Parametrization(base_width=16, base_depth=2, readout_std=0.05, scale_like="adamw")


def type_of(name):
    return type(optim.build(name, [torch.nn.Parameter(torch.zeros(2, 2))], lr=0.1))


@pytest.fixture(autouse=True)
def wide():
    """One process computes in float64 too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def made(recipe):
    """Eight steps of eight sequences, in two micro-batches, whose gradients are clipped; 33
    validation sequences, which no number of processes divides."""
    return replace(
        recipe,
        model=replace(recipe.model, kv_heads=2),
        optimizer=Optimizer(lr=0.02, clip=0.3),
        tokens=8 * 128,
        batch=128,
        accumulate=2,
        validation=33 * 16,
        evaluations=3,
    )


class Crew:
    """Some processes as torchrun would start them, for all tests of this file.

    They meet in a file: a free port may be taken by the time they listen on it.
    """

    def __init__(self, count: int, meeting: Path) -> None:
        self.processes = [
            subprocess.Popen(
                [sys.executable, Path(__file__).with_name("sharded.py"), meeting],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ
                | {"WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(count)
        ]

    def make(self, jobs: list[dict]) -> list[list[str]]:
        """What every process said of each job."""
        for process in self.processes:
            process.stdin.write(json.dumps(jobs) + "\n")
            process.stdin.flush()
        said = [self.answer(process) for process in self.processes]
        return list(map(list, zip(*said, strict=True)))

    def answer(self, process: subprocess.Popen) -> list[str]:
        """The next of a process; one that has ended would leave the others waiting for it."""
        line = process.stdout.readline()
        if not line:
            self.kill()
            pytest.fail("a process ended by itself; it printed why")
        return json.loads(line)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def end(self) -> None:
        """Let them go, and see that each went well."""
        try:
            for process in self.processes:
                process.stdin.close()
            assert not any(process.wait(timeout=60) for process in self.processes)
        finally:
            self.kill()
            for process in self.processes:
                process.stdout.close()


@pytest.fixture(scope="module")
def crews(tmp_path_factory):
    """Crews by their number of processes, each started when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def crew(count: int) -> Crew:
            made = Crew(count, tmp_path_factory.mktemp("crew") / "meeting")
            stack.callback(made.end)
            return made

        yield crew


@pytest.fixture
def together(dataset, crews):
    """Has a crew make runs, and gives what each process said of each run."""

    def together(count, *jobs):
        return crews(count).make(
            [
                {"data": str(dataset.folder), "source": dataset.source, "stop": 0, "tensor": 1}
                | {"recipe": recipe.to_toml(), "store": str(store.root)}
                | more
                for recipe, store, more in jobs
            ]
        )

    return together


def assert_same(store, other, recipe):
    rows, expected = curve(store, recipe), curve(other, recipe)
    assert [row.keys() for row in rows] == [row.keys() for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        assert row == pytest.approx(wanted, rel=EXACT)
    ours, theirs = (weights(s, recipe) for s in (store, other))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-7, atol=1e-9)


def weights(store, recipe):
    model, _ = sitting.build(recipe)
    load_weights(store.folder(recipe.key) / "checkpoint" / str(recipe.steps), model)
    return model.state_dict()


def stopped(store, recipe, dataset, at):
    """A run of one process, interrupted after a step."""

    class Crash(sitting.Silent):
        def step(self, step):
            if step == at + 1:
                raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        train(recipe, store, dataset, execution=HERE, watch=Crash(), checkpoint_seconds=0.0)


def last_start(store, recipe):
    lines = (store.folder(recipe.key) / "log.txt").read_text().splitlines()
    return [line for line in lines if "from step" in line][-1]


@pytest.fixture
def stores(tmp_path):
    """Stores by name."""
    return lambda name: Store(tmp_path / name)


@pytest.mark.parametrize(("count", "tensor"), [(2, (1, 2)), (4, (1, 2))])
def test_the_curve_the_clipping_and_the_weights_of_one_process(
    count, tensor, made, together, stores, dataset
):
    """FSDP2 alone, and with tensor and sequence parallelism; and each goes on where one stopped."""
    one = stores("one")
    train(made, one, dataset, execution=HERE)
    jobs = [(made, stores(f"by-{t}"), {"tensor": t}) for t in reversed(tensor)]
    begun = stores("begun")
    stopped(begun, made, dataset, 3)
    said = together(count, *jobs, (made, begun, {"tensor": tensor[-1]}))
    assert said == [[""] * count] * 3
    for _, store, _ in jobs:
        assert_same(store, one, made)
    assert_same(begun, one, made)
    assert "from step 3 of 8" in last_start(begun, made)


def test_the_noise_scale_of_the_processes_own_gradients(made, together, stores, dataset):
    """Without accumulation the small batch is a process's share; its gradients by autograd."""
    still = replace(made, optimizer=Optimizer(name="sgd", lr=1e-30), accumulate=1, tokens=8 * 128)
    store, meter = stores("two"), NoiseScaleMeter()
    together(2, (replace(still, evaluations=1), store, {}))
    model, _ = sitting.build(still)
    model.double()
    for step in range(8):
        x, y = dataset.batch(step, batch_sequences=8, context=16, seed=0)
        parts = [slice(0, 4), slice(4, 8), slice(0, 8)]
        grads = [
            torch.autograd.grad(model.loss(x[p], y[p]), list(model.parameters())) for p in parts
        ]
        first, second, whole = (sum(float(g.square().sum()) for g in part) for part in grads)
        meter.add(small_square=(first + second) / 2, big_square=whole, small=64, big=128)
    expected = meter.estimate()
    (found,) = [row for row in curve(store, replace(still, evaluations=1)) if "noise_scale" in row]
    assert found["noise_scale"] == pytest.approx(expected.scale, rel=1e-6)
    assert found["noise_scale_low"] == pytest.approx(expected.low, rel=1e-6)


def test_one_process_goes_on_where_several_stopped(made, together, stores, dataset):
    """Ctrl-C reached one of them only: all save, and all stop."""
    one, begun = stores("one"), stores("begun")
    train(made, one, dataset, execution=HERE)
    (said,) = together(2, (made, begun, {"tensor": 2, "stop": 5}))
    assert said == ["KeyboardInterrupt: "] * 2
    assert begun.get(made.key).result is None
    train(made, begun, dataset, execution=HERE)
    assert "from step 5 of 8" in last_start(begun, made)
    assert_same(begun, one, made)


WHOLE = [name for name in REGISTRY if issubclass(type_of(name), WholeModelOptimizer)]
SPREAD = [name for name in REGISTRY if name not in WHOLE]


@pytest.mark.parametrize(
    ("count", "tensor", "names"),
    [
        pytest.param(2, 1, SPREAD, marks=pytest.mark.slow),
        (4, 2, ["muon", "lion", "lamb", "adafactor", "schedule-free-adamw"]),
    ],
)
def test_every_optimizer_that_sees_no_whole_model(
    count, tensor, names, made, together, stores, dataset
):
    """Entry by entry in every process, or matrix by matrix in one; and from one's checkpoint."""
    short = replace(made, tokens=4 * made.batch, evaluations=1, validation=4 * 16)
    recipes = [
        replace(short, optimizer=Optimizer(name=name, lr=0.005, clip=0.3), parametrization=assumed)
        for name in names
    ]
    one, store, begun = stores("one"), stores("many"), stores("begun")
    for recipe in recipes:
        train(recipe, one, dataset, execution=HERE)
    stopped(begun, recipes[0], dataset, 2)
    jobs = [(recipe, store, {"tensor": tensor}) for recipe in recipes]
    said = together(count, *jobs, (recipes[0], begun, {"tensor": tensor}))
    assert said == [[""] * count] * (len(recipes) + 1)
    for recipe in recipes:
        assert_same(store, one, recipe)
    assert_same(begun, one, recipes[0])
    # What they leave goes on alone.
    for recipe in recipes[:1]:
        longer = store.folder(recipe.key) / "checkpoint" / str(recipe.steps) / "optimizer.pt"
        theirs = one.folder(recipe.key) / "checkpoint" / str(recipe.steps) / "optimizer.pt"
        ours, expected = (torch.load(f, weights_only=True)["state"] for f in (longer, theirs))
        assert ours.keys() == expected.keys()
        for index, state in expected.items():
            for name, value in state.items():
                torch.testing.assert_close(ours[index][name], value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", WHOLE)
def test_what_measures_the_whole_model_is_refused(name, made):
    recipe = replace(made, optimizer=Optimizer(name=name, lr=0.01))
    with pytest.raises(ValueError, match=f"'{name}' measures the whole model"):
        check_divides(recipe, 2, 1)
    check_divides(recipe, 1, 1)


def test_owners_share_the_work_evenly():
    sizes = torch.randint(1, 1000, (50,)).tolist()
    owners = balanced(sizes, 4)
    held = [sum(s for s, o in zip(sizes, owners, strict=True) if o == n) for n in range(4)]
    assert sum(held) == sum(sizes)
    assert max(held) - min(held) <= max(sizes)


def test_what_refuses_a_run_refuses_it_in_every_process(made, together, stores):
    odd = replace(made, data=replace(made.data, fingerprint="of another text"))
    store = stores("refused")
    with store.claim(made.key, made.to_toml()):
        unknown, busy = together(2, (odd, store, {}), (made, store, {}))
    assert [s.split(":")[0] for s in unknown] == ["ValueError"] * 2
    assert all("fingerprint is of another text" in s for s in unknown)
    assert all("is being run by" in s for s in busy)


def test_what_does_not_divide_is_refused(made):
    tested = Batching(name="norm-test", params={"largest": 4})
    tied = replace(made, model=replace(made.model, tied=True))
    for recipe, processes, tensor, said in [
        (tied, 2, 1, "set tied = false"),
        (replace(made, schedule=Schedule(name="fedhyper")), 2, 1, "'fedhyper' reacts to whole"),
        (replace(made, batching=tested), 2, 1, "'norm-test' reacts to whole gradients"),
        (made, 4, 3, "groups of 3"),
        (made, 4, 4, r"model.kv_heads \(2\) does not divide among 4"),
        (made, 3, 1, "4 sequences of a micro-batch do not divide among 3"),
    ]:
        with pytest.raises(ValueError, match=said):
            check_divides(recipe, processes, tensor)
    check_divides(made, 4, 2)
    check_divides(replace(made, batching=Batching(name="doubling", params={"end": 4})), 4, 2)
