"""Where a budget goes: the best parameters and tokens, and the choices that are nearly as good."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from stepladder.laws.bootstrap import percentile, resample
from stepladder.laws.law import Array, Law
from stepladder.laws.result import Fit

GRID = 1201
SMALLEST, LARGEST = 1e4, 1e15  # parameters that are searched, first in steps of 2%
REFITS = 300
NEARLY = 0.002  # part of the loss that "nearly as good" gives away


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent.

    Args:
        flops: training compute; or `seconds` and `flops_per_second` (at the utilisation reached).
        served_tokens: tokens the model will generate or read in use; two FLOP for each parameter
            and token come out of the same `flops` (arXiv:2401.00448 counts so).
        memory: bytes for parameters, at `bytes_per_param` each.
        unique_tokens: tokens there are; a law without repetition may not use more.
    """

    flops: float | None = None
    seconds: float | None = None
    flops_per_second: float | None = None
    served_tokens: float = 0.0
    memory: float | None = None
    bytes_per_param: float = 2.0
    unique_tokens: float | None = None

    @property
    def compute(self) -> float:
        """FLOP to spend.

        Raises:
            ValueError: neither flops nor seconds with flops_per_second, or not positive.
        """
        total = self.flops
        if total is None and self.seconds is not None and self.flops_per_second is not None:
            total = self.seconds * self.flops_per_second
        if total is None:
            raise ValueError("give flops, or seconds and flops-per-second (what is really reached)")
        if not (np.isfinite(total) and total > 0):
            raise ValueError(f"a budget of {total:g} FLOP buys nothing")
        return float(total)


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The best use of a budget.

    Args:
        inputs: the best value of each input.
        value: what the law promises there.
        near: of each input, the range over which the law gives away at most `tolerance` of it.
        intervals: of params and tokens, how far the best choice itself moves between refits to
            resampled runs; empty where the law was not fitted here.
        binding: what limits the choice: flops, memory or unique tokens.
        tokens_per_param: ratio at the best.
    """

    law: str
    inputs: Mapping[str, float]
    value: float
    near: Mapping[str, tuple[float, float]]
    tolerance: float
    intervals: Mapping[str, tuple[float, float]]
    binding: str
    tokens_per_param: float

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)


def allocate(
    law: Fit | Law,
    budget: Budget,
    *,
    values: Mapping[str, float] | None = None,
    given: Mapping[str, float] | None = None,
    choices: Mapping[str, Sequence[float]] | None = None,
    tolerance: float = NEARLY,
    level: float = 0.9,
) -> Allocation:
    """The inputs with the lowest target that a budget allows.

    Args:
        law: a fit, or a law with `values` (its first published constants where none are given).
        given: inputs that are settled (unique tokens, bits, ...).
        choices: values to choose from, instead of the law's own.
        tolerance: part of the target that the region of nearly best choices may give away.
        level: of the intervals.

    Raises:
        ValueError: the law has no params and tokens to trade off, an input is neither given nor to
            be chosen, or the budget allows nothing.
    """
    form = law.law if isinstance(law, Fit) else law
    best_values = law.values if isinstance(law, Fit) else (values or form.published().values)
    given = dict(given or {})
    if budget.unique_tokens is not None and "unique_tokens" in {i.name for i in form.inputs}:
        given.setdefault("unique_tokens", budget.unique_tokens)
    options = _options(form, given, choices or {})
    wide, _ = _combined(form, budget, _searched(given), options)
    first = int(np.argmin(_evaluate(form, best_values, wide)))
    fine, binding = _combined(form, budget, _around(wide["params"][first], given), options)
    grid = {name: np.append(x, wide[name]) for name, x in fine.items()}
    value = _evaluate(form, best_values, grid)
    best = int(np.argmin(value[: len(binding)]))
    near = value <= value[best] * (1 + tolerance)
    samples = _refits(law) if isinstance(law, Fit) else None
    return Allocation(
        law=form.name,
        inputs={name: float(x[best]) for name, x in grid.items()},
        value=float(value[best]),
        near={name: (float(x[near].min()), float(x[near].max())) for name, x in grid.items()},
        tolerance=tolerance,
        intervals=_intervals(form, samples, grid, level) if samples else {},
        binding=binding[best],
        tokens_per_param=float(grid["tokens"][best] / grid["params"][best]),
    )


def _searched(given: Mapping[str, float]) -> Array:
    """Parameters that are tried, everywhere."""
    if "params" in given:
        return np.array([given["params"]])
    return np.geomspace(SMALLEST, LARGEST, GRID)


def _around(best: float, given: Mapping[str, float]) -> Array:
    """Likewise within a step of the best: a limit lies between two of the wide steps."""
    if "params" in given:
        return np.array([given["params"]])
    step = (LARGEST / SMALLEST) ** (1 / (GRID - 1))
    return np.geomspace(best / step, best * step, GRID)


def _options(
    law: Law, given: Mapping[str, float], choices: Mapping[str, Sequence[float]]
) -> dict[str, tuple[float, ...]]:
    """The values that every input but params and tokens may take."""
    names = [i.name for i in law.inputs]
    if not {"params", "tokens"} <= set(names):
        raise ValueError(f"law {law.name} has no params and tokens to trade off")
    options = {}
    for i in law.inputs:
        if i.name in ("params", "tokens"):
            continue
        values = choices.get(i.name, (given[i.name],) if i.name in given else i.choices)
        if not values:
            raise ValueError(f"law {law.name} needs {i.name} ({i.meaning}): give it")
        options[i.name] = tuple(values)
    return options


def _combined(
    law: Law, budget: Budget, params: Array, options: Mapping[str, tuple[float, ...]]
) -> tuple[dict[str, Array], list[str]]:
    """Every allowed combination of inputs, each (combinations,), and what limits each."""
    rows = list(product(params, *options.values()))
    grid = dict(zip(("params", *options), np.array(rows, dtype=np.float64).T, strict=True))
    return _affordable(law, budget, grid)


def _affordable(
    law: Law, budget: Budget, grid: dict[str, Array]
) -> tuple[dict[str, Array], list[str]]:
    """Add the tokens that the budget buys, and leave out what it does not."""
    per_token = law.compute({**grid, "tokens": np.ones_like(grid["params"])})
    # forward only: a third of a training token
    tokens = (budget.compute - budget.served_tokens * per_token / 3.0) / per_token
    binding = np.full(len(tokens), "flops", dtype=object)
    if budget.unique_tokens is not None and "unique_tokens" not in grid:
        binding[tokens > budget.unique_tokens] = "unique tokens"
        tokens = np.minimum(tokens, budget.unique_tokens)
    allowed = tokens >= 1.0
    if budget.memory is not None:
        size = law.stored({**grid, "tokens": tokens}) * budget.bytes_per_param
        allowed &= size <= budget.memory
        binding[size * 1.05 > budget.memory] = "memory"
    if not allowed.any():
        raise ValueError("the budget allows no choice: more memory or compute is needed")
    result = {name: x[allowed] for name, x in {**grid, "tokens": tokens}.items()}
    return {i.name: result[i.name] for i in law.inputs}, binding[allowed].tolist()


def _evaluate(law: Law, values: Mapping[str, Any], grid: Mapping[str, Array]) -> Array:
    with np.errstate(all="ignore"):
        value = law.predict(values, grid)
    return np.where(np.isfinite(value), value, np.inf)


def _refits(fit: Fit) -> dict[str, Array]:
    coordinates = resample(fit.problem, fit.coordinates, REFITS, fit.settings.seed)
    return fit.problem.values(coordinates)


def _intervals(
    law: Law, samples: Mapping[str, Array], grid: Mapping[str, Array], level: float
) -> Mapping[str, tuple[float, float]]:
    best = np.argmin(_evaluate(law, samples, grid), axis=1)
    return {name: percentile(grid[name][best], level) for name in ("params", "tokens")}
