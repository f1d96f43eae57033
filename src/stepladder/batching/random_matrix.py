"""The largest stable rate, from a random-matrix model of the batch Hessian."""

import math
from collections.abc import Sequence

from stepladder.batching import Settings, register_conversion, require_positive
from stepladder.card import Card

CARD = Card(
    name="random-matrix",
    family="batching",
    title="Learning Rates as a Function of Batch Size: A Random Matrix Theory Approach to Neural "
    "Network Training",
    arxiv="2006.09092",
    claim="the largest stable rate grows linearly in the batch for SGD, as its root for Adam, "
    "until sampling noise no longer inflates the top eigenvalue",
)


def top_eigenvalue(curvature: float, noise: float, batch: float) -> float:
    """Expected top eigenvalue of the Hessian of a batch (a spiked Wigner matrix).

    Args:
        curvature: lambda, the top eigenvalue of the full-data Hessian.
        noise: P sigma^2, the parameters times the variance of an entry of one sample's Hessian.
        batch: samples in the batch.

    Returns:
        lambda + noise / (batch lambda) where the spike stands out, else the bulk's edge
        2 sqrt(noise / batch).

    Raises:
        ValueError: a batch that is not positive.
    """
    require_positive("random-matrix", batch=batch)
    radius = math.sqrt(noise / batch)
    return curvature + radius**2 / curvature if curvature > radius else 2.0 * radius


def fitted_noise(curvature: float, batches: Sequence[float], eigenvalues: Sequence[float]) -> float:
    """The noise at which `top_eigenvalue` is nearest to those measured, in logarithms.

    Args:
        curvature: lambda, the top eigenvalue of the full-data Hessian.
        batches, eigenvalues: sizes of batches, and the top eigenvalue of a batch's Hessian at each.

    Raises:
        ValueError: no batches, or values that are not positive.
    """
    from scipy.optimize import minimize_scalar

    pairs = list(zip(batches, eigenvalues, strict=True))
    if not pairs or not min(curvature, *batches, *eigenvalues) > 0:
        raise ValueError(
            "random-matrix: give the top eigenvalue of all the data, and of batches of one or more "
            "sizes, all positive"
        )

    def missed(log_noise: float) -> float:
        noise = math.exp(log_noise)
        return math.fsum(math.log(top_eigenvalue(curvature, noise, b) / y) ** 2 for b, y in pairs)

    scale = math.log(curvature**2 * min(batches))  # where the smallest batch's bulk hides the spike
    found = minimize_scalar(missed, bounds=(scale - 10, scale + 10), method="bounded")
    return math.exp(float(found.x))


@register_conversion(CARD)
def random_matrix(
    settings: Settings, k: float, /, *, curvature: float, noise: float, adaptive: bool = True
) -> dict[str, float]:
    """lr times the ratio of top eigenvalues (SGD), or its square root (adaptive optimizers).

    Args:
        curvature, noise: as `top_eigenvalue` takes them; `fitted_noise` gives the noise.

    Raises:
        ValueError: curvature or noise not positive.
    """
    require_positive("random-matrix, from measurements", curvature=curvature, noise=noise)
    now = top_eigenvalue(curvature, noise, settings.batch)
    ratio = now / top_eigenvalue(curvature, noise, settings.batch * k)
    return {"lr": settings.lr * (math.sqrt(ratio) if adaptive else ratio)}
