"""Optimizer steps against torch's fused AdamW, and matrix optimizers against rivals, in one run.

    python benchmarks/bench_optim.py [--seconds 3] [--width 512] [--depth 6] [--record]
                                     [--only NAME ...]

Each optimizer steps in turn with AdamW on the same memory: the parameters of a transformer, their
gradients, and tensors of state; a ratio is the median over rounds of its time over AdamW's. (Of two
copies, one may be a fifth slower, for no other reason than where it lies.) There are two such
memories, so that no step finds in a cache what the last has left. On a CPU, time is processor time
on one thread, which other work on the machine hardly touches; on CUDA, wall time, synchronised.
"Bytes" is what a step must move through memory over AdamW's 28 bytes a parameter, and "reads" what
of it must be read over AdamW's 16. A core waits for what it reads; to write what it has just read
costs it next to nothing (`memory_ns`, measured in the same run), so that on a CPU "reads" is the
ratio which the arithmetic allows where nothing stays in a cache.
Muon, GaLore and Fira step in turn with pytorch-optimizer's and heavyball's of the same rank and
Newton-Schulz steps, between refreshes of a basis. Writes benchmarks/results/optim.json; `--record`
also puts the ratios into the catalogue. heavyball is left out where it is not installed
(`pip install --no-deps heavyball opt-einsum`).
"""

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytorch_optimizer
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from stepladder.card import Evidence, record
from stepladder.optim import REGISTRY, build

RESULTS = Path(__file__).parent / "results" / "optim.json"
TORCH = ("sgd", "adam", "adamw", "adafactor", "muon")
LOW_RANKED = ("galore", "fira", "adam-snsm")
LOW_RANK = {"rank": 64, "gap": 10**6}
RATES = {"lr": 1e-4, "weight_decay": 0.1}
SECOND_MOMENTS = ("v", "exp_avg_sq")
ADAMW = 28  # bytes a parameter: p, m and v are read and written, g is read
# Bytes a parameter in float32, pass by pass, with weight decay. A second pass is needed where a
# step has a factor that sums over the tensor or the model decide. Products of matrices have none.
TRAFFIC = {
    "sgd": 20,
    "adam": 28,
    "adamw": ADAMW,
    "adafactor": 4 + 8 + 12,  # means of g g; sizes of step and p; the step
    "lion": 20,
    "adam-atan2": 28,
    "laprop": 28,
    "adabound": 28,
    "innaprop": 28,
    "schedule-free-adamw": 28,
    "schedule-free-sgd": 20,
    "lars": 8 + 20,
    "lamb": 24 + 16,  # moments and the norms; the step from p and the moments
    "mars-adamw": 8 + 36,  # the norm of what g and the last g give; AdamW, and g is kept
    "mars-lion": 8 + 28,
    "adamp": 24 + 16,
    "adam-sn": 4 + 20,
    "smag": 12 + 12,
    "sania": 12 + 16,
    "d-adapt-sgd": 16 + 16,
    "d-adapt-adam": 28 + 16,
}
READ = 16  # bytes a parameter that AdamW reads: p, g, m and v
READS = {
    "sgd": 12,
    "adam": 16,
    "adamw": READ,
    "adafactor": 4 + 8 + 8,
    "lion": 12,
    "adam-atan2": 16,
    "laprop": 16,
    "adabound": 16,
    "innaprop": 16,
    "schedule-free-adamw": 16,
    "schedule-free-sgd": 12,
    "lars": 8 + 12,
    "lamb": 16 + 12,
    "mars-adamw": 8 + 20,
    "mars-lion": 8 + 16,
    "adamp": 16 + 12,
    "adam-sn": 4 + 12,
    "smag": 8 + 8,
    "sania": 8 + 12,
    "d-adapt-sgd": 12 + 12,
    "d-adapt-adam": 16 + 12,
}


def rivals() -> dict[str, dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]]]:
    """Name -> package -> the same optimizer there."""
    low = {"rank": 64, "update_proj_gap": 10**6, "scale": 1.0, "projection_type": "std"}

    def split(params: list[nn.Parameter], **options: Any) -> list[dict[str, Any]]:
        matrices = [p for p in params if p.ndim == 2]
        return [
            {"params": matrices, **options},
            {"params": [p for p in params if p.ndim != 2]},
        ]

    found: dict[str, dict[str, Any]] = {
        "galore": {
            "pytorch-optimizer": lambda ps: pytorch_optimizer.GaLore(split(ps, **low), **RATES)
        },
        "fira": {"pytorch-optimizer": lambda ps: pytorch_optimizer.Fira(split(ps, **low), **RATES)},
        "muon": {"pytorch-optimizer": _their_muon},
    }
    if find_spec("heavyball"):
        import heavyball

        found["muon"]["heavyball"] = lambda ps: heavyball.Muon(ps, **RATES)
    return found


def _their_muon(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in params if (p.ndim == 2) is use], "use_muon": use}
        for use in (True, False)
    ]
    return pytorch_optimizer.Muon(groups, ns_steps=5, **RATES)


def shapes(width: int, depth: int) -> list[tuple[int, ...]]:
    """The parameters of a transformer with a vocabulary of 8192."""
    block = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width)]
    return [(8192, width), *(block + [(width,)] * 2) * depth]


def fresh(sizes: list[tuple[int, ...]], device: str) -> list[nn.Parameter]:
    params = [nn.Parameter(torch.randn(s, device=device)) for s in sizes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def ours(name: str) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    """Compiled where it can be."""
    options = LOW_RANK if name in LOW_RANKED else {} if name in TORCH else {"mode": "compiled"}
    return lambda params: build(name, params, **RATES, **options)


class Memory:
    """Parameters, gradients and tensors of state that optimizers share. What they leave to each
    other makes no sense, and takes as long."""

    def __init__(self, sizes: list[tuple[int, ...]], device: str) -> None:
        self.device = device
        self.params = fresh(sizes, device)
        self.grads = [p.grad for p in self.params]
        self.states: list[dict[int, torch.Tensor]] = [{} for _ in self.params]

    def timed(self, optimizer: torch.optim.Optimizer) -> float:
        """Seconds of a step. Gradients are put back before: heavyball takes them away."""
        for p, g in zip(self.params, self.grads, strict=True):
            p.grad = g
        clock = time.perf_counter if self.device == "cuda" else time.process_time
        start = clock()
        optimizer.step(lambda: torch.tensor(1.0))
        if self.device == "cuda":
            torch.cuda.synchronize()
        return clock() - start

    def host(self, make: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> Any:
        """An optimizer whose state lies here: second moments in one place, all else in others."""
        optimizer = make(self.params)
        self.timed(optimizer)
        for p, places in zip(self.params, self.states, strict=True):
            state = optimizer.state[p]
            others = iter(range(1, len(state) + 1))
            for key, value in state.items():
                if isinstance(value, torch.Tensor) and value.shape == p.shape:
                    place = 0 if key in SECOND_MOMENTS else next(others)
                    state[key] = places.setdefault(place, torch.zeros_like(p)).copy_(value)
        return optimizer


class Timing(NamedTuple):
    """Of an optimizer: its least time, and the median over rounds of its ratio to AdamW."""

    seconds: float
    ratio: float


# A round of an optimizer (0) and AdamW (1), by turns on one memory and on the other. Each has both
# memories twice, and steps as often after the other.
ROUND = (0, 1, 1, 0, 1, 0, 0, 1)


def measure(
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    sizes: list[tuple[int, ...]],
    seconds: float,
    device: str,
) -> tuple[Timing, torch.optim.Optimizer]:
    """Time an optimizer in turn with AdamW."""
    memories = Memory(sizes, device), Memory(sizes, device)
    pairs = [tuple(m.host(each) for each in (make, ours("adamw"))) for m in memories]
    times: list[list[float]] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or (time.perf_counter() < until and len(times) < 100):
        found = [memories[i % 2].timed(pairs[i % 2][who]) for i, who in enumerate(ROUND)]
        times.append(found)
    theirs = [sum(t for t, who in zip(found, ROUND, strict=True) if who) for found in times]
    own = [sum(found) - their for found, their in zip(times, theirs, strict=True)]
    ratios = [a / b for a, b in zip(own[1:], theirs[1:], strict=True)]  # the first warms up
    least = min(t for found in times for t, who in zip(found, ROUND, strict=True) if not who)
    return Timing(least, median(ratios)), pairs[0][0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0, help="for each optimizer")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--only", nargs="*", default=list(REGISTRY), help="these optimizers")
    parser.add_argument("--record", action="store_true", help="put the ratios into the catalogue")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = shapes(options.width, options.depth)
    others = rivals()
    rows: dict[str, dict[str, object]] = {}
    for name in options.only:
        makers = {name: ours(name)}
        for package, make in others.get(name, {}).items():
            makers[f"{name} ({package})"] = make
        times = {}
        for each, make in makers.items():
            times[each], optimizer = measure(make, sizes, options.seconds, device)
            rows[each] = row(each, optimizer, times[each])
        if len(makers) > 1:
            best = min(t.ratio for each, t in times.items() if each != name)
            rows[name]["ratio_to_best_rival"] = round(times[name].ratio / best, 3)
        print(name, rows[name]["ratio_to_fused_adamw"], flush=True)
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device == "cuda" else "one CPU thread",
        "torch": torch.__version__,
        "parameters": sum(math.prod(s) for s in sizes),
        "memory_ns": memory(device),
        "optimizers": rows,
    }
    show(report)
    if set(options.only) >= set(REGISTRY):
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    if options.record:
        keep(report)


def memory(device: str) -> dict[str, float]:
    """Nanoseconds an entry of float32 operations on tensors that no cache holds."""
    sets = [[torch.rand(1 << 20, device=device) for _ in range(4)] for _ in range(32)]
    operations: dict[str, Callable[[list[torch.Tensor]], Any]] = {
        "reads 1, writes 0": lambda ts: torch.dot(ts[0], ts[0]),
        "reads 1, writes 1": lambda ts: ts[0].mul_(0.5),
        "reads 2, writes 0": lambda ts: torch.dot(ts[0], ts[1]),
        "reads 2, writes 1": lambda ts: ts[0].add_(ts[1]),
        "reads 3, writes 1": lambda ts: ts[0].addcmul_(ts[1], ts[2]),
    }
    return {name: round(_per_entry(run, sets, device), 3) for name, run in operations.items()}


def _per_entry(
    run: Callable[[list[torch.Tensor]], Any], sets: list[list[torch.Tensor]], device: str
) -> float:
    clock = time.perf_counter if device == "cuda" else time.process_time
    times = []
    for _ in range(6):
        start = clock()
        for tensors in sets:
            run(tensors)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return min(times) * 1e9 / (len(sets) * len(sets[0][0]))


def row(name: str, optimizer: torch.optim.Optimizer, own: Timing) -> dict[str, object]:
    own_name, _, package = name.removesuffix(")").partition(" (")
    how = "torch" if name in TORCH else "eager" if own_name in LOW_RANKED else "compiled"
    found: dict[str, object] = {
        "milliseconds": round(own.seconds * 1e3, 3),
        "ratio_to_fused_adamw": round(own.ratio, 3),
        "how": package or how,
        "state_bytes_per_parameter": round(state_bytes(optimizer), 4),
    }
    if own_name in TRAFFIC:
        found["bytes_ratio"] = round(TRAFFIC[own_name] / ADAMW, 3)
        found["reads_ratio"] = round(READS[own_name] / READ, 3)
    return found


def state_bytes(optimizer: torch.optim.Optimizer) -> float:
    """Of the tensors that an optimizer keeps after a step, a parameter."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    states = [optimizer.state[p].values() for p in params]
    return sum(_bytes(value) for state in states for value in state) / sum(
        p.numel() for p in params
    )


def _bytes(value: Any) -> int:
    """Of a tensor, or of all in a container or an object (a projector)."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(_bytes(v) for v in value.values())
    if isinstance(value, list | tuple):
        return sum(_bytes(v) for v in value)
    return _bytes(vars(value)) if hasattr(value, "__dict__") else 0


def keep(report: dict) -> None:
    """The ratios, in the catalogue."""
    size = f"{report['parameters'] / 1e6:.0f}M parameters, {report['device']}"
    for name, found in report["optimizers"].items():
        if name in REGISTRY:
            result = f"a step takes {found['ratio_to_fused_adamw']:.2f}x fused AdamW's"
            evidence = Evidence(
                result=f"{result} ({found['how']}, {size})",
                command="python benchmarks/bench_optim.py",
            )
            record("optim", name, evidence)


def show(report: dict) -> None:
    table = Table(
        title=f"One step, {report['parameters'] / 1e6:.1f}M parameters, {report['device']}"
    )
    columns = (
        "optimizer",
        "how",
        "ms",
        "x fused AdamW",
        "bytes",
        "reads",
        "x best rival",
        "state B",
    )
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:2] else "right")
    for name, r in sorted(
        report["optimizers"].items(), key=lambda item: item[1]["ratio_to_fused_adamw"]
    ):
        numbers = [r.get(key) for key in ("bytes_ratio", "reads_ratio", "ratio_to_best_rival")]
        table.add_row(
            name,
            r["how"],
            f"{r['milliseconds']:.1f}",
            f"{r['ratio_to_fused_adamw']:.2f}",
            *("" if n is None else f"{n:.2f}" for n in numbers),
            f"{r['state_bytes_per_parameter']:.3f}",
        )
    console = Console(width=120)
    console.print(table)
    console.print(f"ns an entry, where no cache helps: {report['memory_ns']}")


if __name__ == "__main__":
    main()
