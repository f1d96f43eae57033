"""Training steps as they are made here, timed: what launching costs, and how the parts add up.

The parts of a step are measured one by one, with warm caches and nothing between them. A real step
also has Python, autograd and the memory of all its parts; small models spend most of their time
there. So a few steps of `stepladder.train` itself are timed, at a few shapes.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from stepladder.cost import cost
from stepladder.data import Dataset, Split
from stepladder.devices import Device
from stepladder.recipe import Data, Model, Optimizer, Parametrization, Recipe
from stepladder.store import Store
from stepladder.train import Execution, train
from stepladder.train.sitting import Row

CONTEXT, VOCABULARY, HEADS = 64, 1024, 4
BATCH = 16  # sequences of a step that is mostly work; one makes a step that is mostly launching
DEPTHS = (1, 4)  # of models that are mostly launching
DEPTH = 2  # of the others
STEP_FLOPS = 2e9  # of steps timed at each width, about, within FEWEST and MOST
FEWEST, MOST = 4, 12
TOKENS = 1 << 14  # of the made-up text
QUARTER = 4  # of the steps timed, the fastest: the others shared the machine
ROUNDS = 3  # times each shape is timed, some seconds apart: what disturbs one seldom disturbs all
SIDE, PRODUCTS = 1024, 10  # of the products that tell whether the machine is quiet
BUSY = 1.25  # times as long on the wall as at work: others use the CPUs


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Seconds of a step, and of what a run does before its first step and after its last."""

    step: float
    around: float


def paced(device: Device, widths: Sequence[int]) -> Device:
    """A CPU that was measured part by part, with what real steps take there.

    Args:
        device: whose launching costs nothing and whose pace is even, as its parts say.
        widths: at which steps are timed.
    """
    with tempfile.TemporaryDirectory() as folder:
        dataset = made_up(Path(folder))
        launched = [_recipe(widths[0], depth, sequences=1) for depth in DEPTHS]
        working = [_recipe(width, DEPTH, sequences=BATCH) for width in widths]
        timed = _least([*launched, *working], dataset)
        rest = [max(0.0, timed[recipe].step - _expected(recipe, device)) for recipe in launched]
        block = max(0.0, (rest[1] - rest[0]) / (DEPTHS[1] - DEPTHS[0]))
        launching = replace(
            device,
            block_launch=block,
            step_launch=max(0.0, rest[0] - DEPTHS[0] * block),
            start=min(timed[recipe].around for recipe in launched),
        )
        return replace(
            launching,
            pace=tuple(
                (float(recipe.model.width), _pace(recipe, timed[recipe].step, launching))
                for recipe in working
            ),
        )


def _least(recipes: Sequence[Recipe], dataset: Dataset) -> dict[Recipe, Timed]:
    """Every recipe timed in turn, several times over; the least of each."""
    rounds = [[_timed(recipe, dataset) for recipe in recipes] for _ in range(ROUNDS)]
    return {
        recipe: Timed(step=min(t.step for t in times), around=min(t.around for t in times))
        for recipe, *times in zip(recipes, *rounds, strict=True)
    }


def made_up(folder: Path) -> Dataset:
    """Tokens without a meaning, as a dataset."""
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, TOKENS, dtype=np.uint16)
    for name in ("train.bin", "validation.bin"):
        tokens.tofile(folder / name)
    (folder / "tokenizer.json").write_text("{}")
    split = Split(tokens=TOKENS, bytes=TOKENS, documents=1, digest="")
    return Dataset(
        folder=folder,
        source="made up",
        tokenizer="none",
        vocab_size=VOCABULARY,
        end_of_document=0,
        dtype="uint16",
        train=split,
        validation_split=split,
        duplicates=0,
        skipped=0,
        fingerprint="made up",
    )


def _pace(recipe: Recipe, step: float, device: Device) -> float:
    """A step's work over what its parts say; `step` is what it took, in seconds."""
    launching = device.step_launch + recipe.model.depth * device.block_launch
    return max(0.1, (step - launching) / (_expected(recipe, device) - launching))


def _expected(recipe: Recipe, device: Device) -> float:
    """Seconds of a step by the cost model."""
    return cost(recipe).seconds(device).training / recipe.steps


def _recipe(width: int, depth: int, *, sequences: int) -> Recipe:
    model = Model(
        width=width,
        depth=depth,
        heads=HEADS,
        kv_heads=HEADS,
        head_size=width // HEADS,
        mlp_width=round(width / 3) * 8,
        context=CONTEXT,
        vocab_size=VOCABULARY,
    )
    one = Recipe(
        model=model,
        optimizer=Optimizer(lr=1e-3),
        parametrization=Parametrization(base_width=width, base_depth=depth),
        data=Data(source="made up", fingerprint="made up"),
        tokens=sequences * CONTEXT,
        batch=sequences * CONTEXT,
        validation=CONTEXT,
        evaluations=1,
    )
    steps = round(min(MOST, max(FEWEST, STEP_FLOPS / cost(one).flops_total)))
    return replace(one, tokens=steps * one.batch)


def _timed(recipe: Recipe, dataset: Dataset) -> Timed:
    """Train a recipe in a store of its own, on the CPU, and time its steps."""
    watch = _Clock()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as root:
        train(
            recipe,
            Store(root),
            dataset,
            execution=Execution(device=torch.device("cpu"), compiled=False),
            watch=watch,
        )
        whole = time.perf_counter() - begin
    steps = [b - a for a, b in zip(watch.seen, watch.seen[1:-1], strict=False)]
    fastest = median(sorted(steps)[: max(2, len(steps) // QUARTER)])
    return Timed(step=fastest, around=max(0.0, whole - watch.ran - fastest))


def is_quiet() -> bool:
    """Whether this process has its CPUs to itself, so that times on the wall are its own.

    A thread that works alone needs no quiet: its own clock stands still while others have the core.
    """
    if torch.get_num_threads() == 1:
        return True
    a = torch.ones(SIDE, SIDE)
    a @ a
    wall, own = time.perf_counter(), time.thread_time()
    for _ in range(PRODUCTS):
        a @ a
    return time.perf_counter() - wall < BUSY * (time.thread_time() - own)


class _Clock:
    """A watcher that notes when each step ends.

    Threads that wait for each other take longer than the first of them works: on a quiet machine
    the clock on the wall says so. On a busy one it says what the others do.
    """

    def __init__(self) -> None:
        waits = torch.get_num_threads() > 1 and is_quiet()
        self.now = time.perf_counter if waits else time.thread_time
        self.seen: list[float] = []
        self.wall: list[float] = []

    @property
    def ran(self) -> float:
        """Seconds on the wall from the end of the first step to that of the last."""
        return self.wall[-1] - self.wall[0]

    def step(self, step: int) -> None:
        """Notes the time."""
        self.seen.append(self.now())
        self.wall.append(time.perf_counter())

    def row(self, row: Row) -> None:
        """Nothing."""
