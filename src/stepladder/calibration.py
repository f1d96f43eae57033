"""Measuring the device here: what it reaches on the operations that training is made of.

A few seconds, once per machine, torch version and number of threads; the figures are cached in
the cache folder. Other work on a shared machine only slows: each figure is the best of several
tries, and on a CPU the clock stands still while another process has the core.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from stepladder.allocator import keep_freed_memory
from stepladder.cost.traffic import LOSS_PASSES
from stepladder.data.workers import cpu_count, one_thread
from stepladder.devices import Curve, Device, increasing, launches
from stepladder.durable import write_whole
from stepladder.pacing import is_quiet, paced

FORMAT = 7
PATIENCE = 0.04  # seconds of tries for each figure
LEAST_TRIES = 3
CHAIN = 50  # operations in the chain that measures the cost of one
TELL = "from stepladder.calibration import tell; tell()"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured: rows of a product, its square weights (and widths of elementwise work),
    contexts, bytes of one operation, vocabularies, widths of models that take real steps."""

    rows: int
    weights: tuple[int, ...]
    vocabularies: tuple[int, ...]
    contexts: tuple[int, ...]
    head_size: int
    operation_bytes: tuple[int, ...]
    models: tuple[int, ...] = ()


CPU = Sizes(
    rows=2048,
    weights=(8, 16, 32, 64, 128, 256, 512, 1024),
    vocabularies=(256, 2048, 8192),
    contexts=(64, 256, 1024),
    head_size=32,
    operation_bytes=(1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26),
    models=(24, 48, 96, 192, 384),
)
CUDA = Sizes(
    rows=16_384,
    weights=(128, 512, 2048, 8192),
    vocabularies=(),
    contexts=(256, 1024, 4096),
    head_size=64,
    operation_bytes=(1 << 20, 1 << 24, 1 << 28, 1 << 31),
)


def measured(kind: str = "") -> Device:
    """The device here ("cuda" where there is one, else "cpu"), from the cache or measured now.

    What several threads measure while others use the CPU is not kept: it is measured again.
    """
    kind = kind or ("cuda" if torch.cuda.is_available() else "cpu")
    path = _cache_file(kind)
    cached = _read(path)
    if cached is not None:
        return cached
    device = measure(kind)
    if kind == "cuda" or is_quiet():
        _write(path, device)
    return device


def measured_beside() -> Device:
    """This machine as one of as many processes has it as it has CPUs, of one thread each, with all
    at work: they share its memory, and perhaps its cores."""
    path = _cache_file(f"cpu, {cpu_count()} side by side")
    device = _read(path)
    if device is None:
        device = _beside(cpu_count())
        _write(path, device)
    return device


def _beside(count: int) -> Device:
    """Measured in fresh processes that start together; what the first of them says."""
    with ExitStack() as stack:
        crew = [stack.enter_context(_teller()) for _ in range(count)]
        for one in crew:
            assert one.stdout is not None
            one.stdout.readline()  # it is there
        for one in crew:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        said = [one.communicate()[0] for one in crew]
    if any(one.returncode for one in crew):
        raise RuntimeError(f"{count} processes could not measure this machine side by side")
    return _device(json.loads(said[0]))


def _teller() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", TELL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=one_thread(),
    )


def tell() -> None:
    """What a process of `measured_beside` does: it waits for the others, measures, and says so."""
    torch.set_num_threads(1)
    print("here", flush=True)
    sys.stdin.readline()
    print(json.dumps(asdict(measure("cpu"))), flush=True)


def is_measured(kind: str) -> bool:
    """Whether `measured` has its answer in the cache."""
    return _read(_cache_file(kind)) is not None


def measure(kind: str, sizes: Sizes | None = None) -> Device:
    """Measure a device now.

    Args:
        kind: "cpu" or "cuda".
        sizes: what to measure; None: what suits the kind.
    """
    keep_freed_memory()  # as training does
    sizes = sizes or (CUDA if kind == "cuda" else CPU)
    bandwidth = _bandwidth_curve(kind, sizes)
    fused = bandwidth[-1:]  # a GPU's compiled kernels stream
    # On a CPU real steps tell what launching costs; on CUDA it would take minutes to compile them.
    step_launch, block_launch = launches(_launch(kind) if kind == "cuda" else 0.0)
    device = Device(
        name=_title(kind),
        memory=_memory(kind),
        matmul={p: _matmul_curve(kind, d, sizes) for p, d in DTYPES.items()},
        attention={p: _attention_curve(kind, d, sizes) for p, d in DTYPES.items()},
        bandwidth=bandwidth,
        elementwise=fused if kind == "cuda" else _elementwise_curve(kind, sizes),
        loss=fused if kind == "cuda" else _loss_curve(kind, sizes),
        step_launch=step_launch,
        block_launch=block_launch,
        asynchronous=kind == "cuda",
        compiled=kind == "cuda",
        source=f"measured here, torch {torch.__version__}",
    )
    return paced(device, sizes.models) if sizes.models else device


def _matmul_curve(kind: str, dtype: torch.dtype, sizes: Sizes) -> Curve:
    """FLOP/s of a linear layer's three products: forward, and both gradients."""
    points = []
    for size in sizes.weights:
        x_ND = torch.randn(sizes.rows, size, device=kind, dtype=dtype)
        w_DD = torch.randn(size, size, device=kind, dtype=dtype)
        seconds = _best(kind, partial(_layer, x_ND, w_DD))
        points.append((float(size), 6 * sizes.rows * size * size / seconds))
    return tuple(points)


def _attention_curve(kind: str, dtype: torch.dtype, sizes: Sizes) -> Curve:
    """FLOP/s of causal attention, forward and backward, counting the full square of scores."""
    points, heads = [], 4
    for context in sizes.contexts:
        batch = max(1, sizes.rows // context)
        shape = (batch, heads, context, sizes.head_size)
        q = torch.randn(shape, device=kind, dtype=dtype, requires_grad=True)
        seconds = _best(kind, partial(_attend, q))
        flops = 12 * batch * heads * context * context * sizes.head_size
        points.append((float(context), flops / seconds))
    return tuple(points)


def _layer(x_ND: Tensor, w_DD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x_ND @ w_DD.T, x_ND @ w_DD, x_ND.T @ x_ND


def _attend(q: Tensor) -> None:
    out = scaled_dot_product_attention(q, q, q, is_causal=True)
    torch.autograd.grad(out, q, out.detach())


def _bandwidth_curve(kind: str, sizes: Sizes) -> Curve:
    """Bytes/s of adding two arrays into a new one, over the bytes it touches."""
    points = []
    for touched in sizes.operation_bytes:
        a, b = torch.ones(2, touched // 12, device=kind)
        seconds = _best(kind, partial(torch.add, a, b))
        points.append((float(touched), touched / seconds))
    return tuple(points)


def _elementwise_curve(kind: str, sizes: Sizes) -> Curve:
    """Bytes/s of a norm, a SwiGLU activation and a sum, over the width.

    The bytes are those that the cost model counts: 13 values forward, twice that backward.
    """
    points = []
    for width in sizes.weights:
        x_ND = torch.randn(sizes.rows, width, device=kind, requires_grad=True)
        gain_D = torch.ones(width, device=kind, requires_grad=True)
        seconds = _best(kind, partial(_elementwise, x_ND, gain_D))
        points.append((float(width), 3 * 13 * 4 * x_ND.numel() / seconds))
    return tuple(points)


def _elementwise(x_ND: Tensor, gain_D: Tensor) -> None:
    normed_ND = rms_norm(x_ND, gain_D.shape, gain_D, 1e-6)
    out_ND = x_ND + silu(normed_ND) * normed_ND
    torch.autograd.grad(out_ND, (x_ND, gain_D), out_ND.detach())


def _loss_curve(kind: str, sizes: Sizes) -> Curve:
    """Bytes/s of the loss and its gradient, over the bytes of its logits."""
    points = []
    for vocabulary in sizes.vocabularies:
        logits_NV = torch.randn(sizes.rows, vocabulary, device=kind)
        seconds = _best(kind, partial(_loss_and_gradient, logits_NV))
        held = 4.0 * logits_NV.numel()
        points.append((held, LOSS_PASSES * held / seconds))
    return tuple(points)


def _loss_and_gradient(logits_NV: Tensor) -> None:
    """The passes over the logits that `models.loss` makes; they may be made again and again."""
    logits_NV.sub_(logits_NV.amax(dim=1, keepdim=True)).exp_().sum(dim=1)


def _launch(kind: str) -> float:
    """Seconds of one operation on almost nothing, in a chain run forward and backward."""
    x, w = torch.ones(8, device=kind), torch.ones(8, device=kind, requires_grad=True)

    def chain() -> None:
        y = x
        for _ in range(CHAIN):
            y = y * w
        torch.autograd.grad(y.sum(), w)

    return _best(kind, chain) / (3 * CHAIN)  # one operation forward, two backward


def _best(kind: str, run: Callable[[], object]) -> float:
    """Least seconds of one call.

    A busy virtual machine's clock of threads may not have moved at all: that is no measurement.
    """
    run()
    seen: list[float] = []
    start = time.perf_counter()
    while len(seen) < LEAST_TRIES or time.perf_counter() - start < PATIENCE:
        before = clock(kind)
        run()
        spent = clock(kind) - before
        seen += [spent] if spent > 0 else []
    return min(seen)


def clock(kind: str) -> float:
    """Seconds: on a CPU those that this thread ran, elsewhere those until the device is idle.

    A thread that waits for its helpers spins, so on a quiet machine this is the time on the wall.
    """
    if kind == "cpu":
        return time.thread_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _hardware(kind: str) -> str:
    if kind == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "CPU"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else "CPU"


def _title(kind: str) -> str:
    count = torch.get_num_threads()
    threads = f", {count} thread" + "s" * (count > 1) if kind == "cpu" else ""
    return _hardware(kind) + threads


def _memory(kind: str) -> float:
    if kind == "cuda":
        return float(torch.cuda.get_device_properties(0).total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _cache_file(kind: str) -> Path:
    from stepladder.data.cache import cache_folder

    what = f"{FORMAT}/{kind}/{_hardware(kind)}/{torch.__version__}/{torch.get_num_threads()}"
    name = hashlib.blake2b(what.encode(), digest_size=8).hexdigest()
    return cache_folder(None) / "devices" / f"{name}.json"


def _read(path: Path) -> Device | None:
    """The cached device; None where there is none or it is damaged: it is measured again."""
    try:
        return _device(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _device(content: dict[str, Any]) -> Device:
    for name in ("matmul", "attention"):
        content[name] = {p: _curve(points) for p, points in content[name].items()}
    for name in ("bandwidth", "elementwise", "loss", "pace"):
        content[name] = _curve(content[name])
    return Device(**content)


def _curve(points: list[list[float]]) -> Curve:
    curve = tuple((float(size), float(rate)) for size, rate in points)
    if not curve or not increasing(curve):
        raise ValueError("not a curve")
    return curve


def _write(path: Path, device: Device) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(asdict(device), indent=2))
