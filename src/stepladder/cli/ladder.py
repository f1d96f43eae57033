"""What the verbs of a ladder share: its folder, its data, its executor."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.console import Console

from stepladder.calibration import is_measured, measured, measured_beside
from stepladder.cli.progress import Bar, data_notice
from stepladder.data import Dataset, prepare
from stepladder.data.workers import cpu_count
from stepladder.devices import Device, device_named
from stepladder.execute.choose import choose_executor
from stepladder.execute.ray import RayCluster
from stepladder.execute.stacked import Stacked
from stepladder.execute.workers import Workers
from stepladder.ladder import Folder, Plan, create, find, make_plan, parse_budget
from stepladder.ladder.folder import RUNS
from stepladder.ladder.plan import SideBySide
from stepladder.store import Store
from stepladder.train import find_device

HERE = ("auto", "cpu", "cuda")  # devices of this machine; others are planned for by name


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """A ladder with all that its runs need; `ray` is the address of a cluster for many, or ""."""

    root: Path
    folder: Folder
    plan: Plan
    store: Store
    dataset: Dataset
    device: str
    console: Console
    ray: str = ""

    def many(self, bar: Bar) -> Workers | Stacked | RayCluster:
        """What makes many small runs at once: a Ray cluster where its address was given, processes
        on a CPU of several cores, else a stack."""
        if self.ray:
            return RayCluster(self.store, self.dataset, bar.watch, self.device, self.ray)
        return choose_executor(self.store, self.dataset, bar.watch, self.device)


def open_workplace(
    root: Path, name: str, device: str, console: Console, ray: str = ""
) -> Workplace:
    """A ladder by name (or the newest) with its dataset, read from the cache where it is there."""
    folder = find(root, name)
    plan = folder.plan()
    find_device(device)  # before the text is read
    data = plan.target.data
    return Workplace(
        root=root,
        folder=folder,
        plan=plan,
        store=Store(root / RUNS),
        dataset=read_data(data.source, data.tokenizer, console, data.text_field),
        device=device,
        console=console,
        ray=ray,
    )


def read_data(source: str, tokenizer: str, console: Console, text_field: str = "text") -> Dataset:
    """Prepare a dataset, saying so where it takes time."""
    return prepare(source, tokenizer, text_field=text_field, progress=data_notice(console))


class PlanOptions(Protocol):
    """What a plan is made from, by whichever verb."""

    @property
    def budget(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def tokenizer(self) -> str: ...
    @property
    def text_field(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def ratio(self) -> float: ...
    @property
    def context(self) -> int: ...
    @property
    def precision(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def root(self) -> Path: ...


def plan_from(options: PlanOptions, console: Console) -> Plan:
    """Make a plan from a verb's options and write it to its folder.

    Raises:
        ValueError: an option out of its range, or a budget too small for a ladder.
    """
    budget = parse_budget(options.budget)
    if not (math.isfinite(options.ratio) and options.ratio >= 0):
        raise ValueError(f"ratio must be 0 or more, not {options.ratio}: Chinchilla's is 20")
    _require_device(options.device)
    dataset = read_data(options.data, options.tokenizer, console, options.text_field)
    dataset.windows(options.context)  # what is wrong with the context is said before measuring
    if _is_to_be_measured(options.device):
        console.print("  measuring what this machine can do, once ...")
    device, fast = described_device(options.device)
    if _is_to_be_measured(options.device):
        console.print("  other programs are using this machine: the plan's times are rough")
    plan = make_plan(
        budget,
        dataset,
        device,
        ratio=options.ratio,
        context=options.context,
        precision=fast if options.precision == "auto" else options.precision,
        seed=options.seed,
        beside=side_by_side(options.device),
    )
    create(options.root, plan)
    return plan


def _require_device(name: str) -> None:
    """ValueError where there is no such device."""
    if name in HERE:
        find_device(name)
    else:
        device_named(name, here=HERE)


def _is_to_be_measured(name: str) -> bool:
    """Whether a device is here and its measurement is not kept yet; a busy machine's never is."""
    return name in HERE and not is_measured(find_device(name).type)


def described_device(name: str) -> tuple[Device, str]:
    """The device to plan for, measured where it is here, and the precision that suits it."""
    if name not in HERE:
        return device_named(name), "bfloat16"
    kind = find_device(name).type
    return measured(kind), "bfloat16" if kind == "cuda" else "float32"


def side_by_side(name: str) -> SideBySide | None:
    """How small runs share this machine (`Workers`): a process a core on the CPU, else none."""
    if name not in ("auto", "cpu") or find_device(name).type != "cpu" or cpu_count() == 1:
        return None
    return SideBySide(device=measured_beside(), at_once=cpu_count())
