"""Loss over rate and batch: a bowl in their logarithms around optima that move with scale."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Coefficient, Input, Law, Parameter, Values, power
from stepladder.laws.parts import FLOOR, exponent, slope
from stepladder.laws.registry import register

TYPICAL = {"params": 3e8, "tokens": 1e10, "batch": 5e5, "lr": 1e-3}  # where logarithms are zero


def _log(x: Values, name: str) -> Array:
    return np.asarray(np.log(x[name] / TYPICAL[name]))


def _misses(p: Values, x: Values) -> tuple[Array, Array]:
    """How far rate and batch lie from their optima, in logarithms."""
    size, data, batch = _log(x, "params"), _log(x, "tokens"), _log(x, "batch")
    best_rate = p["lr_0"] + p["lr_N"] * size + p["lr_D"] * data + p["lr_B"] * batch
    best_batch = p["B_0"] + p["B_N"] * size + p["B_D"] * data
    return _log(x, "lr") - best_rate, batch - best_batch


def _costs(p: Values, x: Values) -> tuple[Array, Array]:
    """What a miss of one costs, relative to the typical size and horizon."""
    return (
        power(x["params"] / TYPICAL["params"], p["width_N"]),
        power(x["tokens"] / TYPICAL["tokens"], -p["width_D"]),
    )


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    (rate, batch), (of_rate, of_batch) = _misses(p, x), _costs(p, x)
    return (
        1.0,
        power(x["params"], -p["alpha"]),
        power(x["tokens"], -p["beta"]),
        rate**2 * of_rate,
        batch**2 * of_batch,
    )


def _slopes(p: Values, x: Values, columns: Sequence[Array]) -> Mapping[str, Sequence[ArrayLike]]:
    (rate, batch), (of_rate, of_batch) = _misses(p, x), _costs(p, x)
    size, data = _log(x, "params"), _log(x, "tokens")
    by_rate, by_batch = -2.0 * rate * of_rate, -2.0 * batch * of_batch
    ones = np.ones_like(size)
    moves = {"lr_0": ones, "lr_N": size, "lr_D": data, "lr_B": _log(x, "batch")}
    return {
        "alpha": (0.0, -np.log(x["params"]) * columns[1], 0.0, 0.0, 0.0),
        "beta": (0.0, 0.0, -np.log(x["tokens"]) * columns[2], 0.0, 0.0),
        **{name: (0.0, 0.0, 0.0, by_rate * move, 0.0) for name, move in moves.items()},
        "B_0": (0.0, 0.0, 0.0, 0.0, by_batch),
        "B_N": (0.0, 0.0, 0.0, 0.0, by_batch * size),
        "B_D": (0.0, 0.0, 0.0, 0.0, by_batch * data),
        "width_N": (0.0, 0.0, 0.0, size * columns[3], 0.0),
        "width_D": (0.0, 0.0, 0.0, 0.0, -data * columns[4]),
    }


def _level(name: str, of: str) -> Parameter:
    return Parameter(name=name, meaning=f"log of the {of} at 300M and 1e10 tokens, less its "
                     "typical value", low=-12.0, high=12.0, search=(-2.0, 2.0))  # fmt: skip


TUNING_SURFACE = register(
    Law(
        name="tuning-surface",
        title="Predictable Scale: Part I -- Optimal Hyperparameter Scaling Law in Large Language "
        "Model Pretraining",
        arxiv="2503.04715",
        form="L = E + A/N^alpha + B/D^beta + H N^w (ln lr - ln lr*)^2 + G D^-v (ln b - ln b*)^2",
        inputs=(
            Input(name="params", meaning="parameters without embeddings", falls=True),
            Input(name="tokens", meaning="training tokens", falls=True),
            Input(name="lr", meaning="peak learning rate", low=1e-12),
            Input(name="batch", meaning="tokens a step", low=1.0),
        ),
        parameters=(
            exponent("alpha", "parameters", search=(0.1, 0.6)),
            exponent("beta", "tokens", search=(0.1, 0.6)),
            _level("lr_0", "best rate"),
            slope("lr_N", "parameters, of the best rate"),
            slope("lr_D", "tokens, of the best rate"),
            slope("lr_B", "batch, of the best rate", search=(0.0, 1.0)),
            _level("B_0", "best batch"),
            slope("B_N", "parameters, of the best batch"),
            slope("B_D", "tokens, of the best batch"),
            slope("width_N", "parameters, of how much a wrong rate costs"),
            slope("width_D", "tokens, of how little a wrong batch costs"),
        ),
        coefficients=(
            FLOOR,
            Coefficient(name="A", meaning="scale of the parameter term"),
            Coefficient(name="B", meaning="scale of the data term"),
            Coefficient(name="H", meaning="cost of a rate wrong by a factor of e"),
            Coefficient(name="G", meaning="cost of a batch wrong by a factor of e"),
        ),
        columns=_columns,
        slopes=_slopes,
        note="The paper shows that the bowl is convex and its optima are powers (step-law-lr, "
        "step-law-batch); this surface for all runs, not only the best, is ours. Rates far too "
        "high cost more than a bowl: drop diverged runs.",
    )
)
