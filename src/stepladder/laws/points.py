"""The points of a fit, checked: what is wrong is named with its rows, nothing is dropped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Law, Mask
from stepladder.laws.scale import effective
from stepladder.names import did_you_mean

FEW_COUNTS = 1e4  # parameters and tokens below this are no counts
FAR_FLOPS = 30.0  # times six params tokens, either way
NARROW = 1.5  # an input that spans a smaller factor supports no exponent
BILLION = 1e6  # tokens below this beside parameters above it cannot be in the same unit
SHOWN = 6  # rows named in a message
STEEPEST, LEAST_LEFT, LEAST_EFFECTIVE = 1.0, 0.33, 12.0


@dataclass(frozen=True, kw_only=True)
class Points:
    """Inputs by name (points first), target (points,), weights (points,) and remarks.

    `weights` are inverse squares of noise; `lean` is how much a point counts besides, whatever its
    noise (`leaning_to_dear`), ones where it is None. Both have a mean of one.
    """

    inputs: Mapping[str, Array]
    target: Array
    weights: Array
    cost: Array
    rows: tuple[int, ...]  # 1-based rows of the table they came from
    notes: tuple[str, ...] = field(default=())
    lean: Array | None = None

    def __len__(self) -> int:
        return len(self.target)

    def take(self, mask: Mask) -> "Points":
        """The points where the mask holds."""
        return Points(
            inputs={name: x[mask] for name, x in self.inputs.items()},
            target=self.target[mask],
            weights=self.weights[mask],
            cost=self.cost[mask],
            rows=tuple(np.array(self.rows)[mask].tolist()),
            notes=self.notes,
            lean=None if self.lean is None else self.lean[mask] / self.lean[mask].mean(),
        )


def leaning_to_dear(points: Points) -> Points:
    """The same points, which count by their cost: a law that is only nearly right is then right
    where forecasts start from.

    Weights go as a power of cost, the steepest up to `STEEPEST` that leaves a part `LEAST_LEFT` of
    the points, and `LEAST_EFFECTIVE` of them, with a say (their effective number, Kish 1965).
    """
    relative = np.log(points.cost / points.cost.max())
    for steepness in np.linspace(STEEPEST, 0.0, 31):
        lean = np.exp(steepness * relative)
        if effective(lean) >= max(LEAST_LEFT * len(points), min(LEAST_EFFECTIVE, len(points))):
            break
    return replace(points, lean=lean / lean.mean())


def points(
    law: Law,
    columns: Mapping[str, ArrayLike],
    *,
    weights: ArrayLike | None = None,
    positive: bool = True,
    rows: Sequence[int] | None = None,
) -> Points:
    """Check columns against a law.

    Args:
        weights: one positive number a row; normalised to a mean of one.
        positive: whether the target must be above zero (residuals are of its logarithm).
        rows: the number of each row in its table, for messages; counted from one where not given.

    Raises:
        ValueError: a column is missing, empty or of another length; a value is not a positive
            number; units cannot be right; the target is constant.
    """
    inputs = {i.name: _column(law, columns, i.name, rows) for i in law.inputs}
    target = _column(law, columns, law.target, rows)
    _check_lengths({**inputs, law.target: target})
    names = tuple(rows or range(1, len(target) + 1))
    _check_inputs(law, inputs, names)
    _check_target(law, target, positive, names)
    _check_units(inputs, names)
    weight = np.ones(len(target)) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != target.shape or not np.all(weight > 0):
        raise ValueError("weights (or noise) must be one positive number a row")
    return Points(
        inputs=inputs,
        target=target,
        weights=weight / weight.mean(),
        cost=_cost(law, columns, inputs),
        rows=names,
        notes=(*_duplicates(inputs, target, names), *_odd_units(columns, inputs)),
    )


def without_worst(points: Points, count: int) -> Points:
    """Without the `count` highest targets (the outlier rule of arXiv:2404.10102, five points)."""
    if not 0 <= count < len(points):
        raise ValueError(f"cannot drop {count} of {len(points)} points")
    order = np.argsort(points.target, kind="stable")
    keep = np.zeros(len(points), dtype=bool)
    keep[order[: len(points) - count]] = True
    kept = points.take(keep)
    return replace(
        kept, notes=(*kept.notes, f"{rows_text(~keep, points.rows)} left out as the worst")
    )


def rows_text(mask: Mask, rows: Sequence[int] | None = None) -> str:
    """`row 3` or `rows 3, 5, 8, ...`: the rows where the mask holds, counted from one or named."""
    at = np.flatnonzero(mask)
    named = [int(k) + 1 if rows is None else rows[k] for k in at[:SHOWN]]
    more = f", ... ({len(at)} in all)" if len(at) > SHOWN else ""
    return f"row{'s' if len(at) > 1 else ''} {', '.join(map(str, named))}{more}"


def _column(
    law: Law, columns: Mapping[str, ArrayLike], name: str, rows: Sequence[int] | None
) -> Array:
    if name not in columns:
        raise ValueError(
            f"law {law.name} needs a column {name!r}{did_you_mean(name, columns)}; "
            f"there are {', '.join(columns)}"
        )
    try:
        return np.array(columns[name], dtype=np.float64)
    except (TypeError, ValueError):
        cells = np.asarray(columns[name], dtype=object).reshape(-1)
        text = np.array([not _is_number(cell) for cell in cells])
        raise ValueError(
            f"column {name!r} holds something that is not a number, such as "
            f"{str(cells[text][0])!r}: see {rows_text(text, rows)}"
        ) from None


def _is_number(cell: object) -> bool:
    try:
        float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def _check_lengths(columns: Mapping[str, Array]) -> None:
    lengths = {name: len(x) if x.ndim else 0 for name, x in columns.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(f"columns must be of one length, and not empty: {lengths}")


def _check_inputs(law: Law, inputs: Mapping[str, Array], rows: Sequence[int]) -> None:
    for i in law.inputs:
        x = inputs[i.name].reshape(len(rows), -1)
        bad = ~np.isfinite(x) | (x < i.low) | (x > i.high) | ((x == 0) & (i.low == 0) & i.falls)
        if bad.any():
            raise ValueError(
                f"column {i.name!r} must hold numbers "
                f"{'above 0' if i.falls else f'from {i.low:g} to {i.high:g}'}: "
                f"see {rows_text(bad.any(axis=1), rows)}{_leaving_out(i.name, i.falls)}"
            )


def _check_target(law: Law, target: Array, positive: bool, rows: Sequence[int]) -> None:
    bad = ~np.isfinite(target) | (positive & (target <= 0))
    if bad.any():
        kind = "positive numbers" if positive else "numbers"
        raise ValueError(
            f"column {law.target!r} must hold {kind}: see {rows_text(bad, rows)}"
            f"{_leaving_out(law.target, positive and not bad.all())}"
        )
    if np.ptp(target) <= 1e-9 * np.abs(target).max():
        raise ValueError(
            f"column {law.target!r} is constant ({target[0]:g} in all {len(target)} rows): "
            "there is nothing to fit"
        )


def _leaving_out(name: str, positive: bool) -> str:
    """How to go on without the rows that were named."""
    return f"; --where '{name} > 0' leaves such rows out" if positive else ""


def _check_units(inputs: Mapping[str, Array], rows: Sequence[int]) -> None:
    """Counts beside billions: no run has so few tokens or parameters beside the other."""
    if "params" not in inputs or "tokens" not in inputs:
        return
    for name, other in (("tokens", "params"), ("params", "tokens")):
        small, large = inputs[name], inputs[other]
        odd = (small < BILLION) & (large >= BILLION) & (small * 1e4 < large)
        if odd.mean() < 0.5:  # a few rows may be extreme by intent, but not by a unit
            odd &= small * 1e6 < large
        if odd.any():
            unit, word = _likely_unit(float(np.median(large[odd] / small[odd])))
            raise ValueError(
                f"{name} of {np.median(small[odd]):g} beside {other} of {np.median(large[odd]):g} "
                f"cannot be counts: see {rows_text(odd, rows)}; if {name} are in {word}, use "
                f"--map {name}='{unit}*{name}'"
            )


def _likely_unit(ratio: float) -> tuple[str, str]:
    """The unit that brings a ratio of counts closest to one."""
    units = (("1e6", "millions"), ("1e9", "billions"), ("1e12", "trillions"))
    return min(units, key=lambda unit: abs(float(np.log(ratio / float(unit[0])))))


def check_support(law: Law, points: Points) -> None:
    """Refuse points that cannot support the law, whatever the fit: too few, too narrow, rising."""
    unknowns = len(law.names)
    if len(points) < unknowns:
        raise ValueError(
            f"law {law.name} has {unknowns} unknowns and there are {len(points)} runs: "
            f"at least {unknowns} are needed, and more to say how sure the fit is"
        )
    for i in law.inputs:
        if i.falls:
            _check_range(law, i.name, points.inputs[i.name])
    distinct = len(np.unique(np.column_stack([_flat(x) for x in points.inputs.values()]), axis=0))
    if distinct < unknowns:
        raise ValueError(
            f"law {law.name} has {unknowns} unknowns and the runs are at {distinct} distinct "
            "settings: repeats measure noise, they do not support more parameters"
        )
    check_direction(law, points)


def _check_range(law: Law, name: str, x: Array) -> None:
    if np.unique(x).size == 1:
        raise ValueError(
            f"all runs have the same {name} ({x.flat[0]:g}): law {law.name} cannot separate its "
            f"effect; add runs at other {name}, or fit a law without it"
        )
    if x.max() < NARROW * x.min():
        raise ValueError(
            f"the range of {name} is too narrow: {x.min():g} to {x.max():g} is a factor of "
            f"{x.max() / x.min():.3g}, and an exponent needs at least {NARROW:g}"
        )


def check_direction(law: Law, points: Points) -> None:
    """Refuse a target that rises with cost over the table: a mistake in the table."""
    if not any(i.falls for i in law.inputs):
        return
    cost, target = _ranks(points.cost), _ranks(points.target)
    correlation = float(np.corrcoef(cost, target)[0, 1])
    if correlation > 0.3:
        order = np.argsort(points.cost)
        ends = f"rows {points.rows[order[0]]} (cheapest) and {points.rows[order[-1]]} (dearest)"
        raise ValueError(
            f"{law.target} rises with compute (rank correlation {correlation:.2f}): "
            f"see {ends}; is the column right, or its sign?"
        )


def _duplicates(inputs: Mapping[str, Array], target: Array, rows: Sequence[int]) -> list[str]:
    table = np.column_stack([*(_flat(x) for x in inputs.values()), target])
    _, first, count = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    repeated = count[first.reshape(-1)] > 1
    if not repeated.any():
        return []
    return [f"{rows_text(repeated, rows)} are duplicates, target included; each is counted"]


def look_like_billions(inputs: Mapping[str, Array]) -> bool:
    """Whether params and tokens are too few to be counts: costs are then not in FLOP."""
    return all(bool(np.median(inputs[name]) < FEW_COUNTS) for name in ("params", "tokens"))


def _odd_units(columns: Mapping[str, ArrayLike], inputs: Mapping[str, Array]) -> list[str]:
    """Remarks on units that can be meant, but rarely are."""
    notes: list[str] = []
    if "params" not in inputs or "tokens" not in inputs:
        return notes
    n, d = inputs["params"], inputs["tokens"]
    if look_like_billions(inputs):
        notes.append(
            f"params of {np.median(n):.3g} and tokens of {np.median(d):.3g} look like billions; "
            "forecasts then take the same unit, and costs are not in FLOP"
        )
    elif "flops" in columns:
        ratio = float(np.median(np.asarray(columns["flops"], dtype=np.float64) / (6.0 * n * d)))
        if not 1 / FAR_FLOPS < ratio < FAR_FLOPS:
            notes.append(
                f"flops are {ratio:.2g} times 6 params tokens: is one of them in another unit? "
                "Here flops only order the runs"
            )
    return notes


def _cost(law: Law, columns: Mapping[str, ArrayLike], inputs: Mapping[str, Array]) -> Array:
    """What orders the runs from cheap to dear: compute where it is known."""
    if "flops" in columns:
        return np.array(columns["flops"], dtype=np.float64)
    return spent(law, inputs)


def spent(law: Law, inputs: Mapping[str, Array]) -> Array:
    """What runs at these inputs (points, ...) cost, as far as the inputs say it: FLOP where they
    are params and tokens, else the product of what the target falls with."""
    names = [i.name for i in law.inputs if i.falls] or [i.name for i in law.inputs]
    product = np.prod([_flat(inputs[name]).max(axis=1) for name in names], axis=0)
    return np.asarray(6.0 * product if {"params", "tokens"} <= set(names) else product)


def _flat(x: Array) -> Array:
    return x.reshape(len(x), -1)


def _ranks(x: Array) -> Array:
    return np.argsort(np.argsort(x, kind="stable"), kind="stable").astype(np.float64)
