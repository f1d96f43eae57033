"""How fast the training loop is: against a large matrix product, and against plain PyTorch loops.

    .venv/bin/python benchmarks/bench_train.py [--threads 2] [--rounds 7] [--widths 512] [--eager]

The loop is `stepladder.train.train` itself, with its data, clipping, curve and schedule; its rivals
take one step each after every step of the loop, so that what disturbs one disturbs all, and ratios
are medians over rounds. With one thread on the CPU the clock is the process's own, which a busy
machine disturbs less. On the CPU the rivals are a float32 matrix product, the same model written
plainly, and a GPT as nanoGPT has it (LayerNorm, GELU, learned positions, one matrix for queries,
keys and values). That GPT also races the reference model in its shape: the same matrices (tied
head, two in an MLP of four times the width) and no QK-norm, with rotary positions and squared ReLU.
On CUDA they are a bfloat16 product and that GPT, compiled, at 124M parameters.
All take the same batch, clip and update by torch's fused AdamW; the plain ones hold all logits. A
compiled loop races compiled rivals, an eager one eager rivals.

Adds its rows to benchmarks/results/train.json as they are measured; a row says the load of the
machine (above the number of threads, others were at work). Shares are of model FLOPs (nothing
recomputed), with all attention scores, as PaLM counts them (arXiv 2204.02311, appendix B), and of
causal scores only.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from stepladder.cost import cost
from stepladder.data import Dataset, prepare
from stepladder.models.transformer import rotary_tables, rotate
from stepladder.recipe import Data, Model, Optimizer, Recipe
from stepladder.store import Store
from stepladder.train import Execution, train

RESULTS = Path(__file__).parent / "results" / "train.json"
WARM = 2  # rounds that are not counted: compiling, first allocations
WIDTHS = (128, 256, 512, 768, 1024)
PLAIN_WIDTHS = (128, 256, 512, 768)
Step = Callable[[], object]


# The rivals ---------------------------------------------------------------------------------------


class PlainNorm(nn.Module):
    """RMSNorm as it is usually written."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class PlainBlock(nn.Module):
    """The reference model's block: RMSNorm, rotary positions, QK-norm, SwiGLU."""

    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.heads, size = shape.heads, shape.heads * shape.head_size
        self.norm_1, self.norm_2 = PlainNorm(shape.width), PlainNorm(shape.width)
        self.norm_q, self.norm_k = PlainNorm(shape.head_size), PlainNorm(shape.head_size)
        self.qkv = nn.Linear(shape.width, 3 * size, bias=False)
        self.out = nn.Linear(size, shape.width, bias=False)
        self.gate = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.up = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.down = nn.Linear(shape.mlp_width, shape.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).chunk(3, dim=-1)
        )
        q, k = rotate(self.norm_q(q), cos, sin), rotate(self.norm_k(k), cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        h = self.norm_2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class PlainModel(nn.Module):
    """The reference model without what makes it fast."""

    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(PlainBlock(shape) for _ in range(shape.depth))
        self.norm = PlainNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocab_size, bias=False)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        x = self.embedding(tokens)
        cos, sin = rotary_tables(x.shape[1], self.shape.head_size, self.shape.rope_theta, x)
        for block in self.blocks:
            x = block(x, cos, sin)
        logits = self.head(self.norm(x)).float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class GPTBlock(nn.Module):
    """LayerNorm, attention, GELU MLP of four times the width; no biases."""

    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.heads, width = shape.heads, shape.width
        self.norm_1 = nn.LayerNorm(width, bias=False)
        self.norm_2 = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).chunk(3, dim=-1)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class GPT(nn.Module):
    """GPT-2 as nanoGPT has it, the head tied to the embedding."""

    def __init__(self, shape: Model) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.Sequential(*(GPTBlock(shape) for _ in range(shape.depth)))
        self.norm = nn.LayerNorm(shape.width, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.norm(self.blocks(self.embedding(tokens) + self.positions(places)))
        logits = F.linear(x, self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


RIVALS: dict[str, Callable[[Model], nn.Module]] = {"plain": PlainModel, "gpt": GPT}


def plain_step(model: nn.Module, recipe: Recipe, execution: Execution) -> Step:
    """One step of a minimal loop: loss, backward, clip, AdamW, on tokens that are there already."""
    device = execution.device
    model = model.to(device)
    loss_of = torch.compile(model) if execution.compiled else model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    shape = (recipe.batch // recipe.model.context // recipe.accumulate, recipe.model.context)
    tokens, targets = torch.randint(0, 256, (2, *shape), device=device)

    def step() -> None:
        for _ in range(recipe.accumulate):
            with torch.autocast(
                device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"
            ):
                loss = loss_of(tokens, targets) / recipe.accumulate
            loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


MATMUL_SIZE = {"cpu": 2048, "cuda": 8192}
MATMUL_REPEATS = {"cpu": 3, "cuda": 20}


def matmul_step(device: torch.device) -> tuple[Step, float]:
    """A large product in the device's training precision, and the FLOPs of one call."""
    size, repeats = MATMUL_SIZE[device.type], MATMUL_REPEATS[device.type]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)

    def step() -> None:
        for _ in range(repeats):
            a @ b

    return step, 2.0 * size**3 * repeats


# The clock ----------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Rounds:
    """A watcher of the loop that times its steps, and a step of every rival in between."""

    device: torch.device
    rivals: dict[str, Step]
    own: list[float] = field(default_factory=list)
    theirs: dict[str, list[float]] = field(default_factory=dict)
    began: float = 0.0

    def step(self, _step: int) -> None:
        """The loop has done a step: stop its clock, let the rivals run, start it again."""
        self.own.append(self._now() - self.began)
        for name, rival in self.rivals.items():
            start = self._now()
            rival()
            self.theirs.setdefault(name, []).append(self._now() - start)
        self.began = self._now()

    def row(self, _row: dict[str, Any]) -> None:
        """Rows are part of the loop's time."""

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if _alone(self.device) else time.perf_counter()

    def ratio(self, name: str) -> float:
        """Median over rounds of the rival's seconds over the loop's: above 1 the loop is faster."""
        pairs = zip(self.theirs[name][WARM:], self.own[WARM:], strict=True)
        return statistics.median(theirs / own for theirs, own in pairs)

    def seconds(self) -> float:
        """Median seconds of the loop's step."""
        return statistics.median(self.own[WARM:])


def _alone(device: torch.device) -> bool:
    """One thread: its own clock runs only while it does, so that a busy machine matters less."""
    return device.type == "cpu" and torch.get_num_threads() == 1


def measure(
    recipe: Recipe, dataset: Dataset, execution: Execution, rivals: tuple[str, ...]
) -> dict[str, Any]:
    """Train a recipe beside a product and the rivals named; ratios and rates as plain data."""
    torch.compiler.reset()
    product, product_flops = matmul_step(execution.device)
    steps: dict[str, Step] = {"matmul": product}
    for name in rivals:
        steps[name] = plain_step(RIVALS[name](recipe.model), recipe, execution)
    rounds = Rounds(device=execution.device, rivals=steps)
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, Store(folder), dataset, execution=execution, watch=rounds)
    flops = cost(recipe).flops * (1 / recipe.steps)
    share = rounds.ratio("matmul") / product_flops  # loop's FLOPs below turn it into a share
    matmul = product_flops / statistics.median(rounds.theirs["matmul"][WARM:])
    return {
        "width": recipe.model.width,
        "depth": recipe.model.depth,
        "gpt_shape": recipe.model.tied and not recipe.model.qk_norm,
        "parameters": cost(recipe).parameters.total,
        "batch": recipe.batch,
        "compiled": execution.compiled,
        "rounds": len(rounds.own) - WARM,
        "load": os.getloadavg()[0],
        "step_seconds": rounds.seconds(),
        "tokens_per_second": recipe.batch / rounds.seconds(),
        "matmul_flops_per_second": matmul,
        "share_of_matmul": share * flops.total,
        "share_of_matmul_causal": share * flops.total_causal,
        **{f"speed_over_{name}": rounds.ratio(name) for name in steps if name != "matmul"},
    }


# What is measured ---------------------------------------------------------------------------------


def cpu_recipe(width: int, dataset: Dataset, rounds: int) -> Recipe:
    """Four blocks (two at width 1024), 4096 tokens in the vocabulary, 8 sequences of 256 (4 from
    width 512 on).

    The SwiGLU is as wide as gives GPT's MLP its FLOPs: 8/3 of the width.
    """
    shape = Model(
        width=width,
        depth=2 if width >= 1024 else 4,
        heads=width // 64,
        kv_heads=width // 64,
        head_size=64,
        mlp_width=round(width * 8 / 3 / 32) * 32,
        context=256,
        vocab_size=4096,
    )
    batch = 256 * (4 if width >= 512 else 8)
    return _recipe(shape, dataset, rounds, batch=batch, precision="float32")


def gpt_shaped(recipe: Recipe) -> Recipe:
    """The reference model with the matrices of `GPT` and without QK-norm."""
    width = recipe.model.width
    shape = replace(recipe.model, activation="relu2", mlp_width=4 * width, qk_norm=False, tied=True)
    return replace(recipe, model=shape)


def cuda_recipe(dataset: Dataset, rounds: int, sequences: int) -> Recipe:
    """124M parameters in GPT-2's shape, context 1024, bfloat16."""
    shape = Model(
        width=768,
        depth=12,
        heads=12,
        kv_heads=12,
        head_size=64,
        mlp_width=2048,
        context=1024,
        vocab_size=50_304,
        tied=True,
    )
    return _recipe(shape, dataset, rounds, batch=sequences * 1024, precision="bfloat16")


def _recipe(shape: Model, dataset: Dataset, rounds: int, *, batch: int, precision: str) -> Recipe:
    return Recipe(
        model=shape,
        optimizer=Optimizer(lr=1e-3),
        data=Data(fingerprint=dataset.fingerprint),
        tokens=batch * (rounds + WARM),
        batch=batch,
        precision=precision,
        validation=shape.context,
        evaluations=1,
    )


def cpu_rows(
    dataset: Dataset, rounds: int, widths: list[int], compiled: tuple[bool, ...]
) -> Iterator[dict[str, Any]]:
    """Every width, eager and compiled; rivals where the issue asks for them."""
    for compile_it in compiled:
        execution = Execution(device=torch.device("cpu"), compiled=compile_it)
        for width in widths:
            recipe = cpu_recipe(width, dataset, rounds)
            if width not in PLAIN_WIDTHS:
                yield measure(recipe, dataset, execution, ())
                continue
            yield measure(recipe, dataset, execution, ("plain", "gpt"))
            yield measure(gpt_shaped(recipe), dataset, execution, ("gpt",))


def cuda_rows(dataset: Dataset, rounds: int) -> Iterator[dict[str, Any]]:
    """The 124M shape at two batches, compiled."""
    execution = Execution(device=torch.device("cuda"), compiled=True)
    for sequences in (32, 64):
        recipe = cuda_recipe(dataset, rounds, sequences)
        yield measure(recipe, dataset, execution, ("gpt",))


def keep(row: dict[str, Any], kind: str, machine: str) -> list[dict[str, Any]]:
    """Put a row into the results, in the place of an older one of its kind; all rows so far."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    older = [r for r in kept.get(kind, {}).get("rows", []) if _identity(r) != _identity(row)]
    rows = sorted([*older, row], key=_identity)
    RESULTS.parent.mkdir(exist_ok=True)
    content = {**kept, kind: {"machine": machine, "torch": torch.__version__, "rows": rows}}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")
    return rows


def _identity(row: dict[str, Any]) -> tuple[int, int, bool, bool]:
    return row["width"], row["batch"], row["gpt_shape"], row["compiled"]


def show(rows: list[dict[str, Any]], machine: str) -> None:
    """Print the table."""
    table = Table(
        "width", "shape", "", "load", "step, s", "tokens/s", "of matmul", "causal", "plain", "GPT",
        title=f"{machine}\nlast two: speed over the rival, above 1 the loop is faster",
        title_justify="left",
    )  # fmt: skip
    for row in rows:
        rivals = (row.get(f"speed_over_{name}") for name in ("plain", "gpt"))
        table.add_row(
            str(row["width"]),
            "GPT" if row["gpt_shape"] else "own",
            "compiled" if row["compiled"] else "eager",
            f"{row['load']:.1f}",
            f"{row['step_seconds']:.3f}",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['share_of_matmul']:.0%}",
            f"{row['share_of_matmul_causal']:.0%}",
            *("" if ratio is None else f"{ratio:.2f}" for ratio in rivals),
        )
    Console(width=100).print(table)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--widths", type=int, nargs="+", default=list(WIDTHS))
    parser.add_argument("--eager", action="store_true", help="do not compile on the CPU")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dataset = prepare("stdlib", "bytes")
    if torch.cuda.is_available():
        kind, machine = "cuda", torch.cuda.get_device_name()
        measured = cuda_rows(dataset, max(20, given.rounds))
    else:
        kind = f"cpu_{given.threads}_threads"
        machine = f"CPU, {given.threads} threads on {os.cpu_count()} cores"
        compiled = (False,) if given.eager else (False, True)
        measured = cpu_rows(dataset, given.rounds, given.widths, compiled)
    for row in measured:
        rows = keep(row, kind, machine)
        print(f"width {row['width']}: {row['step_seconds']:.3f} s a step", flush=True)
    show(rows, machine)


if __name__ == "__main__":
    main()
