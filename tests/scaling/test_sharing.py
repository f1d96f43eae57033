"""Shared weights: the model itself at full size, projected steps below it, whatever the scale."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scaling_networks import MLP, Decoder
from torch import nn

from stepladder.scaling.sharing import SharedWeights, fold_places


def _loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _batches(count):
    return [(torch.randn(16, 6).double(), torch.randint(3, (16,))) for _ in range(count)]


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    ],
)
def test_an_array_as_long_as_the_weights_is_the_model_itself(optimizer):
    """Ten steps in float64 agree to 1e-10 (the paper's continuity at no compression)."""
    torch.manual_seed(0)
    plain = MLP(8).double()
    matrices = [p for p in plain.parameters() if p.dim() > 1]
    shared = SharedWeights(copy.deepcopy(plain), sum(p.numel() for p in matrices))
    flat = torch.cat([p.detach().flatten() for p in matrices])
    assert sorted(shared.places.tolist()) == list(range(len(flat)))
    shared.shared.data[shared.places] = flat / shared.scales
    pairs = [(net, optimizer(net.parameters())) for net in (plain, shared)]
    for batch in _batches(10):
        losses = []
        for net, opt in pairs:
            opt.zero_grad()
            losses.append(_loss(net, batch))
            losses[-1].backward()
            opt.step()
        torch.testing.assert_close(*losses, rtol=1e-10, atol=1e-12)
    assert losses[0] != _loss(MLP(8).double(), batch)


def test_a_step_is_the_plain_step_projected_on_what_sharing_allows():
    """ROAST as the paper has it, W = S M with entries sign * std / sigma: whatever the sigma, a
    step of M with its gradient divided by the sum of squares is ours, and the least-squares fit of
    the plain step. Undivided, a step goes as 1 / sigma^2."""
    torch.manual_seed(1)
    model, batch = MLP(16).double(), _batches(1)[0]
    plain = copy.deepcopy(model)
    stds = torch.cat(
        [p.detach().square().mean().sqrt().expand(p.numel()) for p in _matrices(model)]
    )
    net = SharedWeights(model, 60, seed=3)
    before = net.weights()
    _loss(net, batch).backward()
    with torch.no_grad():
        net.shared -= 0.1 * net.shared.grad
    moved = _flat(net.weights()) - _flat(before)

    for name, weight in before.items():
        plain.get_parameter(name).data.copy_(weight)
    _loss(plain, batch).backward()
    step = -0.1 * torch.cat([p.grad.flatten() for p in _matrices(plain)]).numpy()
    undivided = []
    for sigma in (0.01, 1.0):
        mapping = np.zeros((len(step), 60))
        mapping[np.arange(len(step)), net.places] = (net.scales.sign() * stds / sigma).numpy()
        numbers = mapping.T @ step
        np.testing.assert_allclose(moved, mapping @ (numbers / (mapping**2).sum(0)), atol=1e-14)
        np.testing.assert_allclose(moved, mapping @ np.linalg.lstsq(mapping, step)[0], atol=1e-12)
        undivided.append(np.linalg.norm(mapping @ numbers))
    assert undivided[0] == pytest.approx(1e4 * undivided[1])


def _matrices(model):
    return [p for p in model.parameters() if p.dim() > 1]


def _flat(weights):
    return torch.cat([weight.detach().flatten() for weight in weights.values()]).numpy()


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 300), size=st.integers(1, 300), seed=st.integers(0, 9))
def test_every_number_is_used_equally_often(count, size, seed):
    """Within one, and as often as it can be; pieces lie whole."""
    places = fold_places(count, size, torch.Generator().manual_seed(seed))
    uses = np.bincount(places.numpy(), minlength=size)
    assert len(uses) == size
    assert uses.max() - uses.min() <= 1
    steps = np.diff(places.numpy()) % size
    assert all(step == 1 % size or at % size == size - 1 for at, step in enumerate(steps))


def test_layers_keep_their_initial_scale():
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(400, 300), nn.Linear(300, 10))
    nn.init.normal_(model[0].weight, std=0.3)
    wanted = {n: float(p.detach().std()) for n, p in model.named_parameters() if p.dim() > 1}
    net = SharedWeights(model, 20_000)
    for name, weight in net.weights().items():
        assert float(weight.detach().std()) == pytest.approx(wanted[name], rel=0.05)


def test_the_state_is_the_numbers_and_what_is_not_shared(tmp_path):
    torch.manual_seed(3)
    net = SharedWeights(Decoder(16, tied=True), 500, seed=4)
    held = sum(value.numel() for value in net.state_dict().values())
    rest = [p.numel() for p in Decoder(16).parameters() if p.dim() == 1]
    assert held == 500 + sum(rest) + len(net.layer_scales)
    tokens = torch.randint(23, (2, 7))
    torch.save(net.state_dict(), tmp_path / "net.pt")
    again = SharedWeights(Decoder(16, tied=True), 500, seed=4)
    again.load_state_dict(torch.load(tmp_path / "net.pt"))
    logits = net(tokens)
    assert torch.equal(logits, again(tokens))
    assert not torch.equal(logits, SharedWeights(Decoder(16, tied=True), 500, seed=5)(tokens))
    logits.sum().backward()
    assert net.shared.grad.abs().sum() > 0
    assert net.model.head.weight is net.model.embedding.weight


def test_a_network_learns_through_a_tenth_of_its_weights():
    torch.manual_seed(4)
    x = torch.randn(256, 6)
    batch = (x, nn.Linear(6, 3)(x).argmax(1))
    net = SharedWeights(MLP(64), sum(p.numel() for p in _matrices(MLP(64))) // 10)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
    before = float(_loss(net, batch).detach())
    for _ in range(60):
        optimizer.zero_grad()
        loss = _loss(net, batch)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < before / 4


def test_what_cannot_be_shared_is_refused():
    for size in (0, 10**6):
        with pytest.raises(ValueError, match="from 1 to the"):
            SharedWeights(MLP(8), size)
    silent = MLP(8)
    nn.init.zeros_(silent[4].weight)
    with pytest.raises(ValueError, match=r"4\.weight starts at 0"):
        SharedWeights(silent, 10)
