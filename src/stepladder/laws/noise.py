"""Whether noise is what a fit takes it for: on both sides of the law, and even along cost."""

from collections.abc import Sequence

import numpy as np
from scipy.special import chdtrc, fdtrc

from stepladder.laws.law import Array
from stepladder.laws.result import OneSided

SIGNIFICANT = 0.01
SURELY = 1e-3
LEAST, MOST = 3, 12  # points of a label, and labels
SHIFTS = np.linspace(-2.0, 2.0, 161)  # of the mode, in standard deviations


def one_sided(excess: Array) -> OneSided:
    """Test `excess` (points,), target over law: with a two-piece normal each side has its spread.

    For a given mode the spreads have a closed form (Wallis 2014, section 2), so that the likelihood
    is maximised over the mode alone.
    """
    n = len(excess)
    size = max(float(np.std(excess)), 1e-300)
    gap = excess[:, None] / size - (np.mean(excess) / size + SHIFTS)
    above = np.sum(np.where(gap > 0, gap, 0.0) ** 2, axis=0)
    below = np.sum(np.where(gap < 0, gap, 0.0) ** 2, axis=0)
    # maximised over both spreads: -2 log L = n log((above^(1/3) + below^(1/3))^3 / (4 n)) + ...
    cube = np.cbrt(above) + np.cbrt(below)
    two_piece = n * np.log(np.maximum(cube**3 / (4.0 * n), 1e-300))  # zero: points on the law
    best = int(np.argmin(two_piece))
    ratio = float(max(0.0 - two_piece[best], 0.0))  # the normal's: n log 1
    p_value = float(chdtrc(1.0, ratio))
    spread = np.cbrt(above[best] / max(below[best], 1e-300))
    return OneSided(
        ratio=ratio,
        p_value=p_value,
        above=float(spread),
        needed=bool(p_value < SIGNIFICANT and spread > 1.0),
    )


def explained(residual: Array, labels: Sequence[str]) -> float:
    """Share of the variance of residuals (points,) between groups of the same label.

    Zero where chance would give as much in one of a thousand tables (one-way analysis of
    variance), or where fewer than `LEAST` points share a label.
    """
    _, group, count = np.unique(labels, return_inverse=True, return_counts=True)
    groups, n = len(count), len(residual)
    if groups < 2 or groups > MOST or count.min() < LEAST:
        return 0.0
    centre = residual - residual.mean()
    between = float(np.sum(np.bincount(group, centre) ** 2 / count))
    total = float(np.sum(centre**2))
    within = max(total - between, 1e-300)
    ratio = between / (groups - 1) / (within / (n - groups))
    return between / total if fdtrc(groups - 1, n - groups, ratio) < SURELY else 0.0


def uneven(residual: Array, cost: Array) -> bool:
    """Whether noise grows or shrinks along cost (Koenker 1981: studentised Breusch and Pagan).

    The regression is of absolute residuals, which no single outlier decides, on log cost.
    """
    size, place = np.abs(residual), np.log(cost)
    if np.ptp(place) == 0 or np.ptp(size) == 0:
        return False
    correlation = float(np.corrcoef(size, place)[0, 1])
    return bool(chdtrc(1.0, len(size) * correlation**2) < SIGNIFICANT)
