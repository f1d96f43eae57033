"""How deep a network may be for its width: fluctuations between draws grow as depth over width.

Roberts, Yaida & Hanin 2022, *The Principles of Deep Learning Theory* (arXiv 2106.10165). Networks
of width n and depth L at criticality differ between initial draws: the connected four-point
function V of preactivations, over their variance K squared, grows as nu L / n. A little of it lets
outputs inform each other, and too much is noise: their mutual information, to third order,

    n1 n2 (x^2 / 8 - (20 + 3 n_out) x^3 / 48),   x = nu L / n,

is largest at x = 4 / (20 + 3 n_out).
"""

from math import isnan, sqrt

import numpy as np

from stepladder.scaling.criticality import Activation, critical_initialization, mean_of


def fluctuation_rate(activation: Activation, *, skip: float = 0.0) -> float:
    """nu: by how much V / (n K^2) grows a layer, times the width, at critical initial variances.

    A layer adds C_W^2 (<phi^4> - <phi^2>^2) / K^2. Where the variance itself falls to 0 with depth,
    as for tanh, earlier fluctuations fade, and a third is left: 2 / 3.

    With a skip connection of weight `skip` (z' = skip z + W phi(z) + b), critical weights have
    1 - skip^2 of their variance, and 4 skip^2 (1 - skip^2) is added. For linear and odd activations
    that is all. Others also remember: a neuron that raised the variance of a layer is likely to do
    so in the next. (Derived here; sampled networks agree, and rates without this last part, such as
    2.3 instead of 5.5 for ReLU at 0.7, are too small.)

    Raises:
        ValueError: the skip is not within [0, 1), or the activation has no critical point.
    """
    if not 0 <= skip < 1:
        raise ValueError(f"the weight of a skip connection is at least 0 and below 1, not {skip}")
    found = critical_initialization(activation)
    if found.kernel == 0:  # phi(z) is near its slope times z, and <z^4> - <z^2>^2 = 2 K^2
        return 2 / 3 * (1 - skip**4)
    kernel = 1.0 if isnan(found.kernel) else found.kernel
    fourth = mean_of(lambda z: activation(z) ** 4, kernel)
    second = mean_of(lambda z: activation(z) ** 2, kernel)
    mixed = 1 - skip**2
    spread = fourth - second**2 + 2 * _memory(activation, kernel, skip)
    return (mixed * found.weights / kernel) ** 2 * spread + 4 * skip**2 * mixed


def _memory(activation: Activation, kernel: float, skip: float) -> float:
    """What phi^2 of a neuron shares with its own later values: the sum of its squared Hermite
    coefficients p times skip^p / (1 - skip^p). The second is the variance, counted elsewhere."""
    orders = [p for p in range(1, _ORDERS) if p != 2]
    shares = [skip**p / (1 - skip**p) for p in orders]
    return sum(
        share * _hermite_coefficient(activation, kernel, p) ** 2
        for share, p in zip(shares, orders, strict=True)
        if share
    )


_ORDERS = 24  # of a kinked phi^2, coefficients beyond add less than a thousandth


def _hermite_coefficient(activation: Activation, kernel: float, order: int) -> float:
    """<phi(z)^2 h(z / sqrt(K))>, with h the normalised Hermite polynomial."""
    basis = np.polynomial.hermite_e.HermiteE.basis(order)
    factorial = float(np.prod(np.arange(1.0, order + 1)))
    return mean_of(lambda z: activation(z) ** 2 * basis(z / sqrt(kernel)), kernel) / sqrt(factorial)


def optimal_aspect_ratio(activation: Activation, *, outputs: int, skip: float = 0.0) -> float:
    """Depth over width at which a network's outputs inform each other most: a scale, not a law.

    Args:
        activation: elementwise, on float64 arrays.
        outputs: how many outputs the network has.
        skip: weight of skip connections; near 1 they allow networks of any depth.

    Raises:
        ValueError: there are no outputs, or `fluctuation_rate` refuses.
    """
    if outputs < 1:
        raise ValueError(f"a network has at least one output, not {outputs}")
    return 4 / (20 + 3 * outputs) / fluctuation_rate(activation, skip=skip)
