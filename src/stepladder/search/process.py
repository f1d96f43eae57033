"""A small Gaussian process, exact and deterministic: what the proposers that model losses share.

Rasmussen & Williams (2006), chapters 2 and 5: posterior and marginal likelihood by Cholesky
factors. Inputs lie in the unit cube (or near it), outputs are standardized inside.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

JITTER = 1e-6
LENGTHS = (0.02, 5.0)  # of the unit cube
NOISES = (1e-4, 1.0)  # variance, of that of the data
START_LENGTH, START_NOISE = 0.4, 1e-2
STEPS = 40  # of the descent; the likelihood is flat long before


@dataclass(frozen=True, kw_only=True)
class Process:
    """A fitted process with a Matern-5/2 kernel, one length an axis.

    Attributes:
        x: inputs (n, d); y: standardized outputs (n,).
        lengths: of the kernel (d,); noise: variance of the outputs' noise.
        factor: lower Cholesky factor (n, n) of the covariance; weights: its inverse times y (n,).
    """

    x: Array
    y: Array
    mean: float
    scale: float
    lengths: Array
    noise: float
    factor: Array
    weights: Array

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the noiseless output at points (m, d): both (m,)."""
        cross = matern(self.x, x, self.lengths)
        half = solve_triangular(self.factor, cross, lower=True)
        variance = np.maximum(1.0 - (half**2).sum(axis=0), 1e-12)
        return self.mean + self.scale * cross.T @ self.weights, self.scale * np.sqrt(variance)

    def with_pending(self, x: Array) -> "Process":
        """The process once points (m, d) have given what it expects of them: less is unknown there,
        and nothing else has changed (the kriging believer of Ginsbourger et al. 2010)."""
        if not len(x):
            return self
        expected = (self.predict(x)[0] - self.mean) / self.scale
        joint = np.concatenate([self.x, x])
        values = np.concatenate([self.y, expected])
        return _condition(replace(self, x=joint, y=values))


def fit(x: Array, y: Array, lengths: Array | None = None, noise: float | None = None) -> Process:
    """The process of inputs (n, d) and outputs (n,).

    Lengths and noise that are not given are those of the highest marginal likelihood with a weak
    prior around the start, found from one start.
    """
    mean, scale = float(y.mean()), float(y.std()) or 1.0
    start = Process(
        x=x,
        y=(y - mean) / scale,
        mean=mean,
        scale=scale,
        lengths=np.full(x.shape[1], START_LENGTH) if lengths is None else lengths,
        noise=START_NOISE if noise is None else noise,
        factor=np.empty((0, 0)),
        weights=np.empty(0),
    )
    if lengths is not None and noise is not None:
        return _condition(start)
    return _condition(_likeliest(start))


def matern(a: Array, b: Array, lengths: Array) -> Array:
    """Matern-5/2 covariance (n, m) of points (n, d) and (m, d), with unit variance."""
    r = np.sqrt(5.0 * np.maximum(_squares(a / lengths, b / lengths), 0.0))
    return (1.0 + r + r * r / 3.0) * np.exp(-r)


def _squares(a: Array, b: Array) -> Array:
    return (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2.0 * a @ b.T


def _condition(process: Process) -> Process:
    covariance = matern(process.x, process.x, process.lengths)
    covariance[np.diag_indices_from(covariance)] += process.noise + JITTER
    factor = cholesky(covariance, lower=True)
    return replace(process, factor=factor, weights=cho_solve((factor, True), process.y))


def _likeliest(process: Process) -> Process:
    first = np.log([*process.lengths, process.noise])
    bounds = [np.log(LENGTHS)] * len(process.lengths) + [np.log(NOISES)]
    found = minimize(
        _unlikely,
        first,
        args=(process.x, process.y, first),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": STEPS},
    ).x
    return replace(process, lengths=np.exp(found[:-1]), noise=float(np.exp(found[-1])))


def _unlikely(theta: Array, x: Array, y: Array, prior: Array) -> tuple[float, Array]:
    """Negative log marginal likelihood with a unit normal prior on the logarithms, and its gradient
    (Rasmussen & Williams, equations 2.30 and 5.9)."""
    lengths, noise = np.exp(theta[:-1]), np.exp(theta[-1])
    apart = (x[:, None, :] - x[None, :, :]) / lengths
    r = np.sqrt(5.0 * (apart**2).sum(axis=-1))
    decay = np.exp(-r)
    covariance = (1.0 + r + r * r / 3.0) * decay
    covariance[np.diag_indices_from(covariance)] += noise + JITTER
    factor = cholesky(covariance, lower=True)
    weights = cho_solve((factor, True), y)
    inverse = cho_solve((factor, True), np.eye(len(y)))
    value = 0.5 * y @ weights + np.log(np.diag(factor)).sum()
    outer = np.outer(weights, weights) - inverse
    # d k / d log length_j = 5/3 (1 + r) exp(-r) apart_j^2
    common = outer * (5.0 / 3.0) * (1.0 + r) * decay
    slopes = -0.5 * np.einsum("nm,nmj->j", common, apart**2)
    slope_noise = -0.5 * noise * np.trace(outer)
    off = theta - prior
    return float(value + 0.5 * off @ off), np.append(slopes, slope_noise) + off
