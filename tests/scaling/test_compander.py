"""Weights behind a curve: kept at the start, bounded, and moved most where they are small."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scaling_networks import MLP
from torch import nn

from stepladder.scaling.compander import WeightCompander, compand

SIZES = st.floats(0.01, 100)


@given(bound=SIZES, knee=SIZES, share=st.floats(-0.999, 0.999))
def test_the_curve_and_its_inverse(bound, knee, share):
    curve = WeightCompander(bound, knee)
    weight = torch.tensor([share * bound], dtype=torch.float64)
    torch.testing.assert_close(curve(curve.right_inverse(weight)), weight, rtol=1e-9, atol=1e-12)
    far = curve(torch.tensor([1e9 * knee, -1e9 * knee], dtype=torch.float64))
    assert far.tolist() == pytest.approx([bound, -bound])
    assert curve(torch.tensor([knee], dtype=torch.float64)).item() == pytest.approx(bound / 2)


def test_a_companded_network_starts_as_it_was_and_stays_bounded():
    torch.manual_seed(0)
    plain = MLP(16).double()
    net = compand(copy.deepcopy(plain), bound=1.5, knee=1.0)
    x, y = torch.randn(32, 6).double(), torch.randint(3, (32,))
    torch.testing.assert_close(net(x), plain(x), rtol=1e-9, atol=1e-12)
    bounds = [1.5 * float(plain[i].weight.detach().abs().max()) for i in (0, 2, 4)]
    optimizer = torch.optim.SGD(net.parameters(), lr=300.0)  # far too fast
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    peaks = [float(net[i].weight.detach().abs().max()) for i in (0, 2, 4)]
    assert all(peak <= bound for peak, bound in zip(peaks, bounds, strict=True))
    assert max(p / b for p, b in zip(peaks, bounds, strict=True)) > 0.99
    assert {n for n, _ in net.named_parameters() if "bias" in n} == {"0.bias", "2.bias", "4.bias"}


def test_equal_gradients_move_small_weights_more():
    """A step of SGD on v moves w by (dw/dv)^2: the square of 1 / (1 + (v / knee)^2)."""
    curve = WeightCompander(1.0, 0.5)
    stored = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    before = curve(stored)
    before.sum().backward()
    moved = (curve(stored.detach() - 1e-6 * stored.grad) - before.detach()).abs()
    shares = moved / moved[0]
    assert shares.tolist() == pytest.approx([1, 1 / 4, (1 / 17) ** 2], rel=1e-4)


def test_sizes_can_be_learned():
    torch.manual_seed(1)
    fixed, learned = (compand(MLP(8), bound=2.0, knee=1.0, learn=flag) for flag in (False, True))
    x = torch.randn(4, 6)
    learned(x).sum().backward()
    sizes = [p for n, p in learned.named_parameters() if n.endswith("log_sizes")]
    assert len(sizes) == 3
    assert all(p.grad.abs().sum() > 0 for p in sizes)
    assert len(list(fixed.parameters())) == len(list(MLP(8).parameters()))


def test_bad_sizes_are_refused():
    for bound, knee in ((0.0, 1.0), (1.0, -1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="above 0"):
            WeightCompander(bound, knee)
    with pytest.raises(ValueError, match="give a larger bound"):
        compand(MLP(8), bound=0.9, knee=1.0)
    with pytest.raises(ValueError, match="no weight matrices"):
        compand(nn.LayerNorm(4), bound=2.0, knee=1.0)
