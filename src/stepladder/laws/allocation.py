"""Where a budget goes: the best parameters, tokens and what else a law may choose, with the choices
that are nearly as good."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from stepladder.laws.bootstrap import percentile, resample
from stepladder.laws.law import Array, Constants, Law, Mask
from stepladder.laws.result import Fit

GRID, FEWEST = 1201, 61  # sizes that are tried, and how few where many other choices multiply them
MOST = 100_000  # combinations
SMALLEST, LARGEST = 1e4, 1e15  # parameters that are searched, first in steps of 2%
REFITS = 300
AT_ONCE = 4_000_000  # values of refits by combinations that are computed at a time
NEARLY = 0.002  # part of the loss that "nearly as good" gives away


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent.

    Args:
        flops: training compute; or `seconds` and `flops_per_second` (at the utilisation reached).
        served_tokens: tokens the model will generate or read in use; two FLOP for each parameter
            and token come out of the same `flops` (arXiv:2401.00448 counts so).
        memory: bytes for parameters, at `bytes_per_param` each (of 16 bits, where a law chooses
            how many).
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
class Choice:
    """One value of an input that may be chosen, with the best of everything else."""

    value: float
    target: float
    params: float
    tokens: float


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The best use of a budget.

    Args:
        inputs: the best value of each input, and the tokens.
        value: what the law promises there.
        near: of each input, the range over which the law gives away at most `tolerance` of it.
        intervals: of what is chosen, how far the best choice itself moves between refits to
            resampled runs; empty where the law was not fitted here.
        choices: of each input that has several values to choose from, what every one would give.
        binding: what limits the choice: flops, memory or unique tokens.
        tokens_per_param: ratio at the best.
        compute: training FLOP.
        stored: parameters in memory.
        outside: of each input beyond it, the range that the law was fitted on.
        at_end: of each input whose best value is the first or last of the law's own choices, the
            choices.
    """

    law: str
    inputs: Mapping[str, float]
    value: float
    near: Mapping[str, tuple[float, float]]
    tolerance: float
    intervals: Mapping[str, tuple[float, float]]
    choices: Mapping[str, tuple[Choice, ...]]
    binding: str
    tokens_per_param: float
    compute: float
    stored: float
    outside: Mapping[str, tuple[float, float]]
    at_end: Mapping[str, tuple[float, ...]]

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        return asdict(self)


def allocate(
    law: Fit | Law,
    budget: Budget,
    *,
    values: Mapping[str, float] | Constants | None = None,
    given: Mapping[str, float] | None = None,
    choices: Mapping[str, Sequence[float]] | None = None,
    tolerance: float = NEARLY,
    level: float = 0.9,
) -> Allocation:
    """The inputs with the lowest target that a budget allows.

    Args:
        law: a fit, or a law with `values` (its first published constants where none are given).
        given: inputs that are settled (unique tokens, bits, ...), params and tokens among them.
        choices: values to choose from, instead of the law's own.
        tolerance: part of the target that the region of nearly best choices may give away.
        level: of the intervals.

    Raises:
        ValueError: the law has no params, or no tokens and none are given, or is not one of a
            loss; an input is neither given nor to be chosen, or cannot be; or the budget allows
            nothing.
    """
    form = law.law if isinstance(law, Fit) else law
    numbers, ranges = _known(law, values)
    given = dict(given or {})
    if budget.unique_tokens is not None and "unique_tokens" in {i.name for i in form.inputs}:
        given.setdefault("unique_tokens", budget.unique_tokens)
    options = _options(form, given, choices or {})
    count = _sizes(options)
    wide, _ = _combined(form, budget, _searched(given, count), options, given)
    tried = _evaluate(form, numbers, wide)
    kept = _basin(wide["params"], tried)
    wide, tried = {name: x[kept] for name, x in wide.items()}, tried[kept]
    first = int(np.argmin(tried))
    around = _around(wide["params"][first], given, count)
    fine, binding = _combined(form, budget, around, options, given)
    grid = {name: np.append(x, wide[name]) for name, x in fine.items()}
    value = _evaluate(form, numbers, grid)
    best = int(np.argmin(value[: len(binding)]))
    near = value <= value[best] * (1 + tolerance)
    samples = _refits(law) if isinstance(law, Fit) else None
    chosen = {name: float(x[best]) for name, x in grid.items()}
    return Allocation(
        law=form.name,
        inputs=chosen,
        value=float(value[best]),
        near={name: (float(x[near].min()), float(x[near].max())) for name, x in grid.items()},
        tolerance=tolerance,
        intervals=_intervals(form, samples, grid, level) if samples else {},
        choices={n: _compared(n, x, grid, value) for n, x in options.items() if len(x) > 1},
        binding=binding[best],
        tokens_per_param=chosen["tokens"] / chosen["params"],
        compute=float(form.compute(chosen)),
        stored=float(form.stored(chosen)),
        outside=_outside(chosen, ranges),
        at_end=_at_ends(chosen, {n: x for n, x in options.items() if n not in (choices or {})}),
    )


def _known(
    law: Fit | Law, values: Mapping[str, float] | Constants | None
) -> tuple[Mapping[str, float], Mapping[str, tuple[float, float]]]:
    """The law's values, and the range of each input that they were fitted on."""
    if isinstance(law, Fit):
        scalars = {name: x for name, x in law.points.inputs.items() if x.ndim == 1}
        return law.values, {n: (float(x.min()), float(x.max())) for n, x in scalars.items()}
    values = values or law.published()
    return (values.values, values.valid) if isinstance(values, Constants) else (values, {})


def _sizes(options: Mapping[str, Sequence[float]]) -> int:
    """How many sizes are tried beside so many other choices."""
    return int(np.clip(MOST // prod(len(x) for x in options.values()), FEWEST, GRID))


def _searched(given: Mapping[str, float], count: int) -> Array:
    """Parameters that are tried, everywhere."""
    if "params" in given:
        return np.array([given["params"]])
    return np.geomspace(SMALLEST, LARGEST, count)


def _around(best: float, given: Mapping[str, float], count: int) -> Array:
    """Likewise within a step of the best: a limit lies between two of the wide steps."""
    if "params" in given:
        return np.array([given["params"]])
    step = (LARGEST / SMALLEST) ** (1 / (count - 1))
    return np.geomspace(best / step, best * step, count)


def _basin(params: Array, value: Array) -> Mask:
    """Which combinations to keep: all, unless the lowest lies at an end of the sizes searched.

    Far from its runs a law may fall without end; a best size that lies between rises is meant.
    """
    sizes, which = np.unique(params, return_inverse=True)
    lowest = np.full(len(sizes), np.inf)
    np.minimum.at(lowest, which, value)
    everything = np.ones(len(params), dtype=bool)
    if len(sizes) < 3 or SMALLEST < sizes[np.argmin(lowest)] < LARGEST * (1 - 1e-9):
        return everything
    falls = np.diff(lowest) < 0
    bottoms = 1 + np.flatnonzero(falls[:-1] & ~falls[1:])
    if not len(bottoms):
        return everything
    best = bottoms[np.argmin(lowest[bottoms])]
    rises_before, falls_after = np.flatnonzero(~falls[:best]), np.flatnonzero(falls[best:])
    left = 1 + rises_before[-1] if len(rises_before) else 0
    right = best + falls_after[0] if len(falls_after) else len(sizes) - 1
    return np.asarray((params >= sizes[left]) & (params <= sizes[right]))


def _options(
    law: Law, given: Mapping[str, float], choices: Mapping[str, Sequence[float]]
) -> dict[str, tuple[float, ...]]:
    """The values that every input but params and tokens may take."""
    names = [i.name for i in law.inputs]
    if "params" not in names:
        raise ValueError(f"law {law.name} has no params: there is nothing to allocate")
    if not any(i.falls for i in law.inputs if i.name == "params"):
        raise ValueError(
            f"law {law.name} gives {law.target}, which is not a loss to be made small: allocate by "
            "a law of the loss, such as chinchilla"
        )
    if "tokens" not in names and "tokens" not in given:
        raise ValueError(
            f"law {law.name} holds at one number of tokens and does not say which is best: give "
            "tokens"
        )
    if {"params", "tokens"} & set(choices):
        raise ValueError("params and tokens are searched, or settled by one number, not chosen")
    options = {}
    for i in law.inputs:
        values = choices.get(i.name, (given[i.name],) if i.name in given else i.choices)
        i.check(values)
        if i.name in ("params", "tokens"):
            continue
        if not values:
            raise ValueError(f"law {law.name} needs {i.name} ({i.meaning}): give it")
        options[i.name] = tuple(values)
    return options


def _combined(
    law: Law,
    budget: Budget,
    params: Array,
    options: Mapping[str, tuple[float, ...]],
    given: Mapping[str, float],
) -> tuple[dict[str, Array], list[str]]:
    """Every allowed combination of inputs, each (combinations,), and what limits each."""
    axes = np.meshgrid(params, *(np.array(x, dtype=float) for x in options.values()))
    grid = {n: x.reshape(-1) for n, x in zip(("params", *options), axes, strict=True)}
    per_token = law.compute({**grid, "tokens": np.ones_like(grid["params"])})
    # forward only: a third of a training token
    afforded = budget.compute / per_token - budget.served_tokens / 3.0
    tokens = np.full_like(afforded, given["tokens"]) if "tokens" in given else afforded
    binding = np.full(len(tokens), "flops", dtype=object)
    if budget.unique_tokens is not None and "unique_tokens" not in grid:
        binding[tokens > budget.unique_tokens] = "unique tokens"
        tokens = np.minimum(tokens, budget.unique_tokens)
    allowed = (tokens >= 1.0) & (tokens <= afforded * (1 + 1e-12))
    if budget.memory is not None:
        size = law.stored({**grid, "tokens": tokens}) * budget.bytes_per_param
        allowed &= size <= budget.memory
        binding[size * 1.05 > budget.memory] = "memory"
    if not allowed.any():
        raise ValueError("the budget allows no choice: more memory or compute is needed")
    result = {name: x[allowed] for name, x in {**grid, "tokens": tokens}.items()}
    named = dict.fromkeys([*(i.name for i in law.inputs), "tokens"])
    return {name: result[name] for name in named}, binding[allowed].tolist()


def _evaluate(law: Law, values: Mapping[str, Any], grid: Mapping[str, Array]) -> Array:
    with np.errstate(all="ignore"):
        value = law.predict(values, grid)
    return np.where(np.isfinite(value), value, np.inf)


def _compared(
    name: str, options: Sequence[float], grid: Mapping[str, Array], value: Array
) -> tuple[Choice, ...]:
    """What each option of an input gives at best; those that the budget forbids are left out."""
    found = []
    for option in options:
        rows = np.flatnonzero(grid[name] == option)
        if len(rows):
            best = rows[np.argmin(value[rows])]
            at = {n: float(grid[n][best]) for n in ("params", "tokens")}
            found.append(Choice(value=float(option), target=float(value[best]), **at))
    return tuple(found)


def _outside(
    chosen: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    return {
        name: (low, high)
        for name, (low, high) in ranges.items()
        if name in chosen and not low * (1 - 1e-9) <= chosen[name] <= high * (1 + 1e-9)
    }


def _at_ends(
    chosen: Mapping[str, float], options: Mapping[str, Sequence[float]]
) -> dict[str, tuple[float, ...]]:
    return {
        name: tuple(x)
        for name, x in options.items()
        if len(x) > 1 and chosen[name] in (min(x), max(x))
    }


def _refits(fit: Fit) -> dict[str, Array]:
    coordinates = resample(fit.problem, fit.coordinates, REFITS, fit.settings.seed)
    return fit.problem.values(coordinates)


def _intervals(
    law: Law, samples: Mapping[str, Array], grid: Mapping[str, Array], level: float
) -> Mapping[str, tuple[float, float]]:
    combinations, refits = len(grid["params"]), len(next(iter(samples.values())))
    parts = np.array_split(np.arange(refits), max(1, combinations * refits // AT_ONCE))
    best = np.concatenate(
        [
            np.argmin(_evaluate(law, {n: x[part] for n, x in samples.items()}, grid), axis=1)
            for part in parts
        ]
    )
    return {name: percentile(x[best], level) for name, x in grid.items() if len(set(x)) > 1}
