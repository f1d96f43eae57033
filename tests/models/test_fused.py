"""The loss written out against the plain composition: value, every gradient, every shape."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_transformer import random_network
from torch import Tensor

from stepladder.models import fused
from stepladder.models.transformer import Transformer
from stepladder.recipe import ACTIVATIONS, Model

SHAPE = Model(
    width=16, depth=2, heads=4, kv_heads=2, head_size=8, mlp_width=24, context=12, vocab_size=31
)
shapes = st.builds(
    lambda groups, size, **rest: replace(
        SHAPE, heads=2 * groups, kv_heads=2, head_size=2 * size, **rest
    ),
    groups=st.integers(1, 3),
    size=st.integers(1, 5),
    width=st.sampled_from([4, 10, 16]),
    depth=st.integers(1, 3),
    mlp_width=st.integers(1, 20),
    activation=st.sampled_from(ACTIVATIONS),
    qk_norm=st.booleans(),
    tied=st.booleans(),
    rope_theta=st.sampled_from([100.0, 10_000.0]),
)


def batch(shape: Model, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Tokens and targets [rows, length]."""
    tokens = torch.randint(0, shape.vocab_size, (2, rows, length))
    return tokens[0], tokens[1]


def with_gradients(loss: Tensor, network: Transformer) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, list(network.parameters()))]


@settings(max_examples=40, deadline=None)
@given(shape=shapes, rows=st.integers(1, 3), length=st.integers(1, 12), seed=st.integers(0, 99))
def test_value_and_every_gradient_are_those_of_the_plain_composition(shape, rows, length, seed):
    network = random_network(shape, seed)
    network.readout_multiplier = 0.5
    x, y = batch(shape, rows, length)
    ours = with_gradients(fused.training_loss(network, x, y), network)
    plain = with_gradients(network.loss(x, y), network)
    for mine, right in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-10, atol=1e-12)


def test_gradients_agree_with_finite_differences():
    network = random_network(replace(SHAPE, depth=1))
    x, y = batch(SHAPE, 2, 5)
    names, values = zip(*network.named_parameters(), strict=True)

    def loss(*given: Tensor) -> Tensor:
        with torch.no_grad():
            for parameter, value in zip(values, given, strict=True):
                parameter.copy_(value)
        return fused.training_loss(network, x, y)

    _, *gradients = with_gradients(loss(*values), network)
    start = [value.detach().clone() for value in values]
    for index, (name, gradient) in enumerate(zip(names, gradients, strict=True)):
        along = torch.randn_like(start[index])
        ends = [
            loss(*(s + sign * along if i == index else s for i, s in enumerate(start)))
            for sign in (1e-5, -1e-5)
        ]
        slope = float((ends[0] - ends[1]).detach()) / 2e-5
        assert float((gradient * along).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-9), name


@pytest.mark.parametrize("qk_norm", [True, False])
def test_under_bfloat16_autocast_it_is_as_near_to_float64_as_the_plain_composition(qk_norm):
    network = random_network(replace(SHAPE, width=64, mlp_width=96, qk_norm=qk_norm))
    x, y = batch(SHAPE, 4, 12)
    exact = with_gradients(network.loss(x, y), network)
    narrow = network.float()
    with torch.autocast("cpu", torch.bfloat16):
        ours, plain = fused.training_loss(narrow, x, y), narrow.loss(x, y)
    mine, right = with_gradients(ours, narrow), with_gradients(plain, narrow)
    assert all(value.dtype == torch.float32 for value in mine)

    def error(found: list[Tensor]) -> float:
        pairs = zip(found, exact, strict=True)
        return max(float((f.double() - e).norm() / e.norm()) for f, e in pairs)

    assert error(mine) < max(0.01, 1.2 * error(right))


def test_gradients_add_up_over_micro_batches():
    network = random_network(SHAPE)
    x, y = batch(SHAPE, 4, 12)
    whole = with_gradients(fused.training_loss(network, x, y), network)[1:]
    for part in range(2):
        (fused.training_loss(network, x[part::2], y[part::2]) / 2).backward()
    for parameter, gradient in zip(network.parameters(), whole, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-12)


def test_a_graph_that_is_kept_gives_the_same_gradients_twice():
    network = random_network(SHAPE)
    loss = fused.training_loss(network, *batch(SHAPE, 2, 12))
    first = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
    again = torch.autograd.grad(loss, list(network.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_it_keeps_less_for_the_backward_pass_than_the_plain_composition():
    network = random_network(replace(SHAPE, width=64, mlp_width=160, depth=4))
    x, y = batch(SHAPE, 8, 12)

    def kept(loss_of) -> int:
        held: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            held[storage.data_ptr()] = storage.nbytes()
            return tensor

        weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = loss_of(x, y)
        assert loss.requires_grad  # the graph is alive, and with it all that it holds
        return sum(size for place, size in held.items() if place not in weights)

    ours, plain = kept(lambda x, y: fused.training_loss(network, x, y)), kept(network.loss)
    assert ours < 0.75 * plain
