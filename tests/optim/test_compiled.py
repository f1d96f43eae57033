"""The compiled mode: the loop's numbers, one compilation for every shape and rate."""

import pytest
import torch
from torch._dynamo.utils import counters

from stepladder.optim import REGISTRY, build
from stepladder.optim import compiled as kernels
from stepladder.optim.adam_atan2 import angle
from stepladder.optim.foreach import dot, norm
from stepladder.optim.rule import Measured

from .reference import parameters, train

# torch warns about itself while it loads its compiler
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SHAPES = ((40, 30), (7, 5), (33,), (8, 3, 3))
IN_LINES = ((64, 48), (4096,), (32, 4, 16))  # 3, 4 and 2 lines
RULES = [n for n in REGISTRY if hasattr(build(n, parameters(((2, 2),)), lr=0.1), "rule")]
FLAT = [n for n in RULES if build(n, parameters(((2, 2),)), lr=0.1).rule.flat]


@pytest.fixture(autouse=True)
def compile_the_small_too(monkeypatch):
    """Few tensors in a call: what a call does for one of them is compiled once for each."""
    monkeypatch.setattr(kernels, "SMALL", 1)
    monkeypatch.setattr(kernels, "BATCH", 2)


def follows_the_loop(name, shapes=SHAPES):
    compiled, loop = parameters(shapes), parameters(shapes)
    one = build(name, compiled, lr=0.01, weight_decay=0.1, mode="compiled")
    other = build(name, loop, lr=0.01, weight_decay=0.1, mode="loop")
    torch._dynamo.reset()
    counters.clear()
    for step in range(4):
        for optimizer in (one, other):
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
        ours, theirs = train(one, compiled, 1, start=step), train(other, loop, 1, start=step)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    passes = 2 if isinstance(one.rule, Measured) and one.rule.by_rows else 1
    assert counters["stats"]["unique_graphs"] == passes


def test_compiled_follows_the_loop():
    follows_the_loop("lion")


def test_what_measures_a_tensor_is_compiled_in_lines():
    follows_the_loop("lars", IN_LINES)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in FLAT if n != "lion"])
def test_every_flat_rule_compiles(name):
    follows_the_loop(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lamb", "mars-adamw", "mars-lion"])
def test_every_flat_rule_that_measures_is_compiled_in_lines(name):
    follows_the_loop(name, IN_LINES)


@pytest.mark.parametrize("shape", [(1024,), (64, 48), (8, 8), (40, 30), (33,), (1025, 64)])
def test_lines_are_the_same_memory(shape):
    x = torch.randn(shape)
    viewed = kernels.lines(x)
    assert viewed.data_ptr() == x.data_ptr()
    torch.testing.assert_close(viewed.flatten(), x.flatten(), rtol=0, atol=0)
    assert viewed.ndim == 1 or kernels.SHORTEST <= viewed.shape[1] <= kernels.LINE


def test_small_and_strided_parameters_go_another_way(monkeypatch):
    """Through foreach, with the same numbers; nothing is compiled for them."""
    monkeypatch.setattr(kernels, "SMALL", 10**6)
    compiled, loop = parameters(SHAPES), parameters(SHAPES)
    for params in (compiled, loop):
        params[0] = torch.nn.Parameter(params[0].detach().t())
    one = build("lion", compiled, lr=0.01, mode="compiled")
    other = build("lion", loop, lr=0.01, mode="loop")
    counters.clear()
    for a, b in zip(train(one, compiled, 3), train(other, loop, 3), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert counters["stats"]["unique_graphs"] == 0


def test_bfloat16_parameters_are_compiled_in_float32():
    compiled, loop = parameters(SHAPES, torch.bfloat16), parameters(SHAPES, torch.bfloat16)
    one = build("lion", compiled, lr=0.01, mode="compiled")
    other = build("lion", loop, lr=0.01, mode="loop")
    for a, b in zip(train(one, compiled, 3), train(other, loop, 3), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)


QUICK = ("smag", "adam-sn")  # the others take half a minute each to compile
LONG = [
    pytest.param(n, marks=pytest.mark.slow)
    for n in ("sania", "d-adapt-sgd", "d-adapt-adam", "adamp")
]


@pytest.mark.parametrize("name", [*QUICK, *LONG])
def test_what_measures_the_model_or_its_rows_follows_the_pieces(name):
    """Groups of their own rates and decays; more parameters than one call takes."""

    def made(mode):
        params = parameters(((40, 30), (7, 50), (33,), (64, 48)) * 3)
        groups = [{"params": params[:5], "lr": 0.005}, {"params": params[5:], "weight_decay": 0.2}]
        return params, build(name, groups, lr=0.01, weight_decay=0.1, mode=mode)

    def loss(step):
        return 1.0 / (1 + step)

    (params, one), (plain, other) = made("compiled"), made("foreach")
    for a, b in zip(train(one, params, 4, loss), train(other, plain, 4, loss), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["lion", "mars-lion"])
def test_compiled_signs_show_what_is_not_finite(name):
    (p,) = parameters(((40, 30),))
    optimizer = build(name, [p], lr=0.01, mode="compiled")
    p.grad = torch.ones_like(p)
    p.grad[0, 0], p.grad[1, 1] = float("nan"), float("inf")
    optimizer.step()
    assert p[0, 0].isnan()
    assert p[1, 1].isnan()


def test_compiled_norms_are_exact_to_rounding():
    x = torch.randn(3_000_001)
    exact = x.double().norm().item()
    for measure in (norm, lambda x: dot(x, x).sqrt()):
        assert torch.compile(measure)(x).item() == pytest.approx(exact, rel=2e-6)


def test_the_compiled_arc_tangent_is_exact_to_rounding():
    generator = torch.Generator().manual_seed(int(torch.seed() % 2**31))
    y, x = 10.0 ** (30 * torch.rand(2, 100_000, generator=generator) - 15)
    y = torch.where(torch.rand(len(y), generator=generator) < 0.5, -y, y)
    inf, huge = torch.inf, 3e38
    y[:10] = torch.tensor([0.0, 1.0, -1.0, 0.0, -inf, 1.0, -huge, huge, 1e-30, 3e-30])
    x[:10] = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, inf, huge, 1.0, 1e-30, 1e-30])
    turned = torch.compile(angle)(y, x).double()
    torch.testing.assert_close(turned, torch.atan2(y.double(), x.double()), rtol=3e-7, atol=0)
    plain = angle(y, x).double()
    torch.testing.assert_close(plain, torch.atan2(y.double(), x.double()), rtol=3e-7, atol=0)
    nan, one = torch.full_like(y, torch.nan), torch.ones_like(y)
    for bad in ((nan, one), (one, nan), (one * inf, one * inf)):
        assert torch.compile(angle)(*bad).isnan().all()
