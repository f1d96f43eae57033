"""How fluctuations grow with depth: closed forms, sampled networks, and what outputs share."""

import numpy as np
import pytest
from scipy.special import erf, gammaln

from stepladder.scaling.aspect_ratio import fluctuation_rate, optimal_aspect_ratio
from stepladder.scaling.criticality import critical_initialization


def relu(z):
    return np.maximum(z, 0)


def gelu(z):
    return z * (1 + erf(z / np.sqrt(2))) / 2


GELU_KERNEL = (3 + 17**0.5) / 2


def test_growth_is_the_books():
    """PDLT, chapter 5: 3 A4 / A2^2 - 1 for leaky ReLUs (A: mean powers of their slopes), and 2/3
    for odd activations; appendix B: with skips of weight g, (1 - g^2)(2 (1 - g^2) + 4 g^2) and
    2/3 (1 - g^4)."""
    for slope in (0.0, 0.3, 1.0):
        a2, a4 = (1 + slope**2) / 2, (1 + slope**4) / 2
        found = fluctuation_rate(lambda z, a=slope: np.where(z > 0, z, a * z))
        assert found == pytest.approx(3 * a4 / a2**2 - 1, rel=1e-8)
    for skip in (0.0, 0.5, 0.9):
        mixed = 1 - skip**2
        linear = fluctuation_rate(lambda z: z, skip=skip)
        assert linear == pytest.approx(mixed * (2 * mixed + 4 * skip**2), rel=1e-8)
        for odd in (np.tanh, np.sin):
            assert fluctuation_rate(odd, skip=skip) == pytest.approx(2 / 3 * (1 - skip**4))


@pytest.mark.parametrize(
    ("activation", "skip", "start", "layers"),
    [
        (relu, 0.0, 1.0, (0, 8)),
        (relu, 0.7, 1.0, (8, 20)),
        (gelu, 0.0, GELU_KERNEL, (0, 6)),
        (gelu, 0.4, GELU_KERNEL, (3, 8)),
        (np.tanh, 0.0, 1.0, (0, 60)),
        (abs, 0.6, 1.0, (0, 12)),
    ],
)
def test_sampled_networks_fluctuate_as_much(activation, skip, start, layers):
    """Over networks, the variance of log(mean of z^2) grows by nu / width a layer, within 12%.

    Layers of independent normal weights are sampled exactly by their outputs alone: given the
    activations, outputs are normal. The two halves of the width see the same fluctuation, and
    their covariance leaves out what is merely the luck of a few neurons. Memories build up over
    some layers, which are left out.
    """
    found = critical_initialization(activation)
    draw = np.random.default_rng(0)
    width, networks = 200, 5000
    first, last = layers
    z = draw.normal(0, start**0.5, (networks, width))
    seen = {0: 0.0}
    for layer in range(1, last + 1):
        signal = found.weights * (activation(z) ** 2).mean(1) + found.biases
        fresh = draw.normal(0, 1, z.shape) * ((1 - skip**2) * signal[:, None]) ** 0.5
        z = skip * z + fresh
        if layer in (first, last):
            halves = np.log([(z[:, ::2] ** 2).mean(1), (z[:, 1::2] ** 2).mean(1)])
            seen[layer] = np.cov(halves)[0, 1]
    grown = (seen[last] - seen[first]) / (last - first)
    assert grown == pytest.approx(fluctuation_rate(activation, skip=skip) / width, rel=0.12)


def test_the_best_ratio_is_where_outputs_inform_each_other_most():
    """The expansion behind 4 / (20 + 3 n_out): outputs are normal with a common random variance,
    log-normal as of many layers, of relative variance x; their exact mutual information, divided by
    n1 n2 x^2, is 1/8 - (20 + 3 (n1 + n2)) x / 48 + O(x^2)."""
    for first, second in ((2, 2), (3, 1), (4, 4)):
        sizes = np.array([0.004, 0.006, 0.008, 0.011, 0.015])
        information = [_information(first, second, x) for x in sizes]
        scaled = np.array(information) / (first * second * sizes**2)
        _, slope, start = np.polyfit(sizes, scaled, 2)
        assert start == pytest.approx(1 / 8, rel=0.01)
        assert slope == pytest.approx(-(20 + 3 * (first + second)) / 48, rel=0.05)
    assert optimal_aspect_ratio(relu, outputs=10) == pytest.approx(4 / 50 / 5)
    x = np.linspace(0, 1, 100_001)
    best = x[np.argmax(x**2 / 8 - (20 + 3 * 10) * x**3 / 48)]
    assert best / 5 == pytest.approx(optimal_aspect_ratio(relu, outputs=10), rel=1e-3)


def _information(first, second, relative_variance):
    return (
        _entropy(first, relative_variance)
        + _entropy(second, relative_variance)
        - _entropy(first + second, relative_variance)
    )


def _entropy(n, relative_variance):
    """Of z in n dimensions, normal with a log-normal variance of mean 1; by quadrature."""
    spread = np.log1p(relative_variance) ** 0.5
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    logs = spread * nodes - spread**2 / 2
    t = np.linspace(-60, 8, 60_001)  # log |z|^2
    density = sum(
        w * np.exp(n / 2 * (t - g) - np.exp(t - g) / 2) for w, g in zip(weights, logs, strict=True)
    ) / (weights.sum() * np.exp(n / 2 * np.log(2) + gammaln(n / 2)))
    shell = n / 2 * np.log(np.pi) - gammaln(n / 2) + n * t / 2  # log(volume of the shell / dt)
    log_density = np.log(np.maximum(density, 1e-300)) - shell
    return -np.trapezoid(density * log_density, t)


def test_nearly_pure_skips_allow_any_depth():
    ratios = [optimal_aspect_ratio(relu, outputs=1, skip=g) for g in (0.5, 0.9, 0.99, 0.999)]
    assert ratios == sorted(ratios)
    assert ratios[-1] > 50 * ratios[0]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="at least one output"):
        optimal_aspect_ratio(relu, outputs=0)
    for skip in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="skip connection"):
            fluctuation_rate(relu, skip=skip)
