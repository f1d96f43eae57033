"""Cost against torch's own counters, published sizes, and memory measured tensor by tensor."""

import subprocess
import sys
import weakref
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from stepladder.cost import Cost, Seconds, cost, forward_flops, parameters
from stepladder.cost.memory import CHUNK_ELEMENTS
from stepladder.cost.optimizer import ADAMW, Price, price, price_in
from stepladder.devices import NAMED, device_named
from stepladder.models import loss
from stepladder.models.fused import training_loss
from stepladder.models.transformer import Transformer
from stepladder.optim import REGISTRY
from stepladder.recipe import Model, Optimizer, Recipe

SMALL = Model(
    width=64, depth=3, heads=4, kv_heads=4, head_size=16, mlp_width=192, context=32, vocab_size=256
)
SHAPES = [
    SMALL,
    replace(SMALL, kv_heads=2, qk_norm=False, tied=True),
    replace(SMALL, kv_heads=1, activation="relu2", mlp_width=256),
    replace(SMALL, width=48, heads=6, kv_heads=3, vocab_size=1000, depth=2),
    replace(SMALL, activation="relu2", qk_norm=False, tied=True, context=8),
]


def recipe(model: Model = SMALL, sequences: int = 8, **changes: object) -> Recipe:
    batch = sequences * model.context
    return Recipe(
        **{"model": model, "optimizer": Optimizer(lr=0.01), "tokens": batch}
        | {"batch": batch, **changes}
    )


@pytest.mark.parametrize("model", SHAPES)
def test_parameters_are_those_of_the_model(model: Model) -> None:
    count, network = parameters(model), Transformer(model)
    sizes = {name: p.numel() for name, p in network.named_parameters()}

    def having(*words: str) -> int:
        return sum(size for name, size in sizes.items() if any(word in name for word in words))

    assert count.total == sum(sizes.values())
    assert count.embedding == having("embedding")
    assert count.mlp == having(".mlp.")
    assert count.norms == having("norm")
    assert count.attention == having("query.", "key.", "value.", "output.")
    assert count.non_embedding == count.total - having("embedding", "head.")
    assert count.non_embedding_with_head == count.non_embedding + network.head.weight.numel()


def test_published_sizes() -> None:
    llama2_7b = Model(
        width=4096,
        depth=32,
        heads=32,
        kv_heads=32,
        head_size=128,
        mlp_width=11_008,
        context=4096,
        vocab_size=32_000,
        qk_norm=False,
    )
    llama3_8b = replace(llama2_7b, kv_heads=8, mlp_width=14_336, vocab_size=128_256)
    assert parameters(llama2_7b).total == 6_738_415_616
    assert parameters(llama3_8b).total == 8_030_261_248


@pytest.mark.parametrize("model", SHAPES)
def test_flops_are_those_that_torch_counts(model: Model) -> None:
    c = cost(recipe(model, sequences=2))
    network = Transformer(model)
    tokens = torch.randint(0, model.vocab_size, (2, model.context))
    with sdpa_kernel(SDPBackend.MATH):  # fused kernels recompute scores in the backward pass
        with FlopCounterMode(display=False) as forward:
            network(tokens)
        with FlopCounterMode(display=False) as both:
            network.loss(tokens, tokens).backward()
    assert forward.get_total_flops() == forward_flops(model).total * tokens.numel()
    assert both.get_total_flops() == c.flops_total


def test_flops_by_part_are_those_that_torch_counts() -> None:
    model, tokens = SMALL, torch.zeros(1, SMALL.context, dtype=torch.long)
    network = Transformer(model)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(tokens)
    found = counter.get_flop_counts()
    forward = forward_flops(model) * tokens.numel()
    mlp = sum(sum(found[f"Transformer.blocks.{i}.mlp"].values()) for i in range(model.depth))
    attention = [found[f"Transformer.blocks.{i}.attention"] for i in range(model.depth)]
    assert forward.mlp == mlp
    assert forward.projections + forward.attention == sum(sum(f.values()) for f in attention)


def test_causal_attention_counts_each_visible_pair_once() -> None:
    model = replace(SMALL, depth=1)
    pairs = sum(position + 1 for position in range(model.context))
    per_pair = 4 * model.heads * model.head_size
    assert forward_flops(model).attention_causal * model.context == per_pair * pairs
    alone = forward_flops(replace(model, context=1))
    assert alone.attention_causal == alone.attention


def test_flops_per_token_are_those_of_palm() -> None:
    # Chowdhery et al. 2022, appendix B: 6N + 12LHQT, N without lookups; here also without gains.
    model = replace(SMALL, depth=5, context=128)
    count = parameters(model)
    products = count.non_embedding_with_head - count.norms
    palm = 6 * products + 12 * model.depth * model.heads * model.head_size * model.context
    assert cost(recipe(model)).flops_per_token == palm


def test_whole_run() -> None:
    c = cost(recipe(tokens=10 * 256 + 5, validation=512, evaluations=3))
    assert c.tokens == 2560
    assert c.flops_total == pytest.approx(2560 * c.flops_per_token)
    assert c.flops_evaluation == 3 * 512 * forward_flops(SMALL).total
    few = cost(recipe(tokens=2 * 256, validation=600, evaluations=3))
    assert few.flops_evaluation == 2 * 576 * forward_flops(SMALL).total
    assert c.flops_optimizer == 10 * 15 * c.parameters.total
    assert c.flops_6nd == 6 * c.parameters.total * 2560
    assert c.flops_6nd_non_embedding == 6 * c.parameters.non_embedding * 2560


def test_prices_are_on_the_cards() -> None:
    for name in REGISTRY:
        card = REGISTRY.card(name)
        assert (price(name).state_bytes, price(name).flops) == (card.state_bytes, card.flops)


def newton_schulz(rows: int, columns: int, steps: int = 5) -> int:
    """FLOPs of X <- aX + (bA + cA^2)X with A = XX^T, on the smaller side: three products a step."""
    short, long = sorted((rows, columns))
    return steps * (4 * short * short * long + 2 * short**3)


@pytest.mark.parametrize("width", [16, 512])
def test_muon_costs_what_its_matrices_are(width: int) -> None:
    model = replace(SMALL, width=width, heads=2, kv_heads=2, head_size=width // 2, mlp_width=width)
    given = recipe(model, optimizer=Optimizer(name="muon", lr=0.1))
    count = parameters(model)
    hidden = count.attention + count.mlp  # square matrices only
    exact = newton_schulz(width, width) / width**2 * hidden + 15 * (count.total - hidden)
    assert price_in(given).flops * count.total == pytest.approx(exact, rel=0.01)
    held = 4 * hidden + 8 * (count.total - hidden)  # one buffer for matrices, two for the rest
    assert cost(given).memory.optimizer == pytest.approx(held)


def test_low_rank_methods_cost_as_their_rank() -> None:
    def priced(rank: int) -> Price:
        chosen = Optimizer(name="galore", lr=0.1, params={"rank": rank})
        return price_in(recipe(replace(SMALL, width=64), optimizer=chosen))

    # Two moments of rank x n, and the m x rank basis: 12 bytes x rank / side (GaLore, table 1).
    assert [priced(rank).state_bytes for rank in (4, 16)] == [12 * 4 / 64, 12 * 16 / 64]
    assert priced(16).flops == pytest.approx(4 * priced(4).flops)
    assert price_in(recipe()) == ADAMW


def test_unknown_optimizer_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="adamw"):
        cost(recipe(optimizer=Optimizer(name="adanw", lr=0.1)))


def test_cost_does_not_import_torch() -> None:
    program = (
        "import sys; from stepladder.cost import cost; from stepladder.recipe import *;"
        "from stepladder.devices import device_named;"
        "m = Model(width=64, depth=2, heads=2, kv_heads=2, head_size=32, mlp_width=64,"
        " context=32, vocab_size=256);"
        "c = cost(Recipe(model=m, optimizer=Optimizer(lr=1.0), tokens=64, batch=64));"
        "c.seconds(device_named('h100')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


class Held(TorchDispatchMode):
    """The peak of the bytes of all storages alive, beside those that are tracked beforehand."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.track(leaf)
        return out

    def track(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.sizes:
            self.sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, storage._cdata)

    def _free(self, storage: int) -> None:
        self.now -= self.sizes.pop(storage)


def train_step(network: Transformer, optimizer: torch.optim.Optimizer, r: Recipe) -> None:
    device = next(network.parameters()).device
    rows = r.batch // r.accumulate // r.model.context
    tokens = torch.zeros(rows, r.model.context, dtype=torch.long, device=device)
    optimizer.zero_grad(set_to_none=True)
    for _ in range(r.accumulate):
        with torch.autocast(device.type, torch.bfloat16, enabled=r.precision == "bfloat16"):
            loss = training_loss(network, tokens, tokens)
        loss.backward()
        del loss
    optimizer.step()


def measured_peak(r: Recipe) -> int:
    network = Transformer(r.model)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    train_step(network, optimizer, r)
    held = Held()
    with held:
        for parameter in network.parameters():
            held.track(parameter.detach())
            for state in optimizer.state[parameter].values():
                held.track(state)
        train_step(network, optimizer, r)
    return held.peak


MEMORY_SHAPES = [
    (replace(SMALL, depth=4), 1),
    (replace(SMALL, depth=4), 2),
    (replace(SMALL, activation="relu2", qk_norm=False, depth=8), 1),
    (replace(SMALL, vocab_size=8000, depth=2), 1),
    (replace(SMALL, kv_heads=1, mlp_width=512), 1),
    (replace(SMALL, width=512, mlp_width=1024, tied=True), 1),
]


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # autocast leaves the norms' gains wide
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("model", "accumulate"), MEMORY_SHAPES)
def test_peak_memory_is_what_is_held(model: Model, accumulate: int, precision: str) -> None:
    r = recipe(model, 16 * accumulate, accumulate=accumulate, precision=precision)
    assert cost(r).peak_memory == pytest.approx(measured_peak(r), rel=0.05)


def test_chunks_are_those_of_the_loss() -> None:
    assert CHUNK_ELEMENTS == loss.CHUNK_ELEMENTS


def test_peak_memory_where_the_loss_is_chunked() -> None:
    r = recipe(replace(SMALL, vocab_size=50_000, depth=2, context=64), sequences=16)
    assert r.batch * r.model.vocab_size > 1 << 24
    assert cost(r).peak_memory == pytest.approx(measured_peak(r), rel=0.05)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_peak_memory_on_cuda() -> None:
    # One norm kernel there keeps less than the eager program that is counted.
    model = replace(SMALL, width=512, mlp_width=1536, heads=8, kv_heads=8, head_size=64)
    r = recipe(replace(model, depth=8, context=512), sequences=32, precision="bfloat16")
    with torch.device("cuda"):
        network = Transformer(r.model)
        optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    train_step(network, optimizer, r)
    torch.cuda.reset_peak_memory_stats()
    train_step(network, optimizer, r)
    assert 0.7 < torch.cuda.max_memory_allocated() / cost(r).peak_memory < 1.1


sizes = st.integers(1, 8)
GROWTH = ("width", "depth", "mlp_width", "heads", "context", "vocab_size")


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    kv_heads = draw(sizes)
    model = Model(
        width=8 * draw(sizes),
        depth=draw(sizes),
        kv_heads=kv_heads,
        heads=kv_heads * draw(sizes),
        head_size=2 * draw(sizes),
        mlp_width=8 * draw(sizes),
        context=8 * draw(sizes),
        vocab_size=64 * draw(sizes),
        activation=draw(st.sampled_from(["swiglu", "relu2"])),
        qk_norm=draw(st.booleans()),
        tied=draw(st.booleans()),
    )
    return recipe(model, draw(sizes), precision=draw(st.sampled_from(["float32", "bfloat16"])))


@settings(max_examples=60, deadline=None)
@given(recipes(), st.sampled_from(GROWTH))
def test_everything_grows_with_the_shape(small: Recipe, name: str) -> None:
    model = replace(small.model, **{name: 2 * getattr(small.model, name)})
    batch = small.batch * model.context // small.model.context
    big = replace(small, model=model, tokens=batch, batch=batch)
    low, high = summary(cost(small)), summary(cost(big))
    assert all(low[key] <= high[key] * (1 + 1e-9) for key in low)
    assert low["flops"] < high["flops"]


@settings(max_examples=60, deadline=None)
@given(recipes(), st.integers(2, 9))
def test_a_longer_run_costs_in_proportion(short: Recipe, times: int) -> None:
    low, high = cost(short), cost(replace(short, tokens=short.tokens * times))
    assert high.flops_total == pytest.approx(times * low.flops_total)
    assert high.peak_memory == low.peak_memory
    device = device_named("l4")
    assert high.seconds(device).training == pytest.approx(times * low.seconds(device).training)


def summary(c: Cost) -> dict[str, float]:
    return {
        "parameters": c.parameters.total,
        "flops": c.flops_total,
        "memory": c.peak_memory,
        "traffic": c.traffic.total,
        "seconds": c.seconds(NAMED["h100-sxm"]).training,
    }


def test_seconds_follow_the_slower_of_arithmetic_and_memory() -> None:
    c, device = cost(recipe(replace(SMALL, width=512, mlp_width=2048))), NAMED["l4"]
    free = replace(device, step_launch=0.0, block_launch=0.0)
    no_memory = replace(free, bandwidth=((1.0, 1e30),))
    no_arithmetic = replace(free, matmul={"float32": ((1.0, 1e30),)})
    both = c.seconds(free)
    for part in ("projections", "mlp", "head"):
        times = [getattr(c.seconds(d), part) for d in (no_memory, no_arithmetic)]
        assert getattr(both, part) == pytest.approx(max(times))
    compute = c.flops.mlp / device.matmul_rate("float32", 1.0)
    assert c.seconds(no_memory).mlp == pytest.approx(compute)


def test_launches_hide_behind_a_gpu_and_add_on_a_cpu() -> None:
    c = cost(recipe())
    gpu = replace(NAMED["l4"], step_launch=0.1, block_launch=0.2)
    idle = c.seconds(replace(gpu, step_launch=0.0, block_launch=0.0)).training
    queued = c.seconds(gpu)
    added = c.seconds(replace(gpu, asynchronous=False))
    assert queued.training == pytest.approx(added.overhead)
    assert added.training == pytest.approx(added.overhead + idle)
    assert added.overhead == pytest.approx(c.recipe.steps * (0.1 + c.recipe.model.depth * 0.2))


def test_seconds_name_the_precision_that_is_missing() -> None:
    device = replace(NAMED["l4"], matmul={"float32": ((1.0, 1.0),)})
    with pytest.raises(ValueError, match="no rate for bfloat16: use one of float32"):
        cost(recipe(precision="bfloat16")).seconds(device)


def test_nanogpt_on_one_h200() -> None:
    # nanoGPT's 124M model, compiled, bfloat16, context 1024, ran at 532 thousand tokens a second.
    model = Model(
        width=768,
        depth=12,
        heads=12,
        kv_heads=12,
        head_size=64,
        mlp_width=3072,
        context=1024,
        vocab_size=50_304,
        activation="relu2",
        qk_norm=False,
        tied=True,
    )
    c = cost(recipe(model, 512, accumulate=16, precision="bfloat16"))
    seconds: Seconds = c.seconds(device_named("h200"))
    assert c.tokens / seconds.training == pytest.approx(532e3, rel=0.15)
