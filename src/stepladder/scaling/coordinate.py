"""Does every layer start and learn alike at every size? The coordinate check, with a verdict.

Yang et al. 2022 (arXiv 2203.03466, appendix D.1) plot activations against width and look. Here the
gain of each parameter is measured apart from what the others do (`gains.py`), its slope with size
is fitted, and what is off is named: the layer, and the factor.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

from stepladder.scaling.audit import Fault, audit
from stepladder.scaling.depth import BRANCH_OUTPUTS, kind_name
from stepladder.scaling.gains import Gains, move_gains, snapshot, start_gains
from stepladder.scaling.slopes import TOLERANCE, Finding, Slope, fit_slope, judge
from stepladder.scaling.trials import (
    Batch,
    Build,
    Loss,
    Recipe,
    Size,
    as_batches,
    default_loss,
    inputs_of,
    prepare,
    require_growth,
    train,
)
from stepladder.scaling.wanted import ends_branch, wanted_by_depth, wanted_by_width


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of parameter along one axis (`width` or `depth`).

    `quantity` is `start` (gain at the initial values) or `move` (gain of what was learned);
    `wanted` the slopes that transfer needs; `points` the (size, seed, gain) behind the slope.
    """

    parameter: str
    axis: str
    quantity: str
    slope: Slope
    wanted: tuple[float, float]
    finding: Finding
    points: tuple[tuple[int, int, float], ...]

    def __str__(self) -> str:
        low, high = self.wanted
        wanted = f"{low:.2g}" if low == high else f"{low:.2g} to {high:.2g}"
        factor = "initial scale" if self.quantity == "start" else "learning rate"
        off = self.slope.value - min(max(self.slope.value, low), high)
        return (
            f"{self.parameter}: its {factor} is too {'large' if off > 0 else 'small'} by about "
            f"{self.axis}^{abs(off):.2f} (slope {self.slope.value:+.2f} "
            f"[{self.slope.low:+.2f}, {self.slope.high:+.2f}], wanted {wanted})"
        )


@dataclass(frozen=True, kw_only=True)
class CoordinateReport:
    """What the check found: rows of slopes, and settings that are not the rule's."""

    rule: str | None
    rows: tuple[Row, ...]
    faults: tuple[Fault, ...]

    @property
    def passed(self) -> bool:
        """Nothing fails."""
        return not self.failures

    @property
    def failures(self) -> list[Row | Fault]:
        """What is wrong, settings first."""
        return [*self.faults, *(row for row in self.rows if row.finding == "fails")]

    def __str__(self) -> str:
        unclear = [row for row in self.rows if row.finding == "unclear"]
        head = f"coordinate check of {self.rule or 'your own parametrization'}: "
        head += "passed" if self.passed else f"failed, {_findings(len(self.failures))}"
        lines = [f"  {found}" for found in self.failures]
        if self.passed:
            lines = [f"  {self._kinds} kinds of parameters start and move alike over {self._spans}"]
        return "\n".join([head, *lines, *(f"  unclear: {row}" for row in unclear)])

    @property
    def _kinds(self) -> int:
        return len({row.parameter for row in self.rows})

    @property
    def _spans(self) -> str:
        spans: dict[str, list[int]] = defaultdict(list)
        for row in self.rows:
            spans[row.axis] += [size for size, _, _ in row.points]
        return " and ".join(f"{axis} {min(at)} to {max(at)}" for axis, at in spans.items())

    def figure(self, path: str | Path) -> Path:
        """Draw gains against size, a panel per axis and quantity; the suffix chooses the format."""
        from stepladder.report.checks import coordinate_figure

        return coordinate_figure(self, Path(path))


def _findings(count: int) -> str:
    return f"{count} finding" + "s" * (count != 1)


def coordinate_check(
    build: Build,
    *,
    rule: str | None = None,
    widths: Sequence[int],
    depths: Sequence[int] = (),
    batches: Iterable[Batch] | None = None,
    loss: Loss = default_loss,
    optimizer: str = "adamw",
    lr: float = 0.01,
    steps: int = 4,
    seeds: int = 3,
    base: Size | None = None,
    **options: Any,
) -> CoordinateReport:
    """Train builds of several sizes for a few steps and compare how their layers start and move.

    Args:
        build: `(width)`, `(width, depth)` or with `lr` -> model, scaled here by `rule`; or
            -> (model, optimizer) of your own parametrization, which is then checked as it is, and
            against the settings of `rule` where one is given.
        widths, depths: sizes to compare, at least three of an axis; the other axis stays at the
            base. `depths` may be left out.
        batches: what `loss(model, batch)` takes; (inputs, targets) or token tensors by default.
            Random tokens, uneven as words are, where the model has an embedding and there are none.
        base: where hyperparameters are stated; the smallest sizes by default.
        options: for `parametrize` (`init_std`, `branches`, ...).

    Raises:
        ValueError: too few sizes, no steps or rate to move by, training that diverges, or a build
            or batches that do not fit.
    """
    if not (lr > 0 and steps > 0 and seeds > 0):
        raise ValueError(
            f"nothing moves with lr {lr}, {steps} steps and {seeds} seeds: all must be above 0"
        )
    start = base or Size(width=min(widths), depth=min(depths, default=None))
    study = _Study(
        build=build,
        base=start,
        recipe=Recipe(rule=rule, optimizer=optimizer, weight_decay=0.0, options=options),
        batches=None if batches is None else list(batches),
        loss=loss,
        lr=lr,
        steps=steps,
        seeds=seeds,
    )
    axes = {"width": [Size(width=w, depth=start.depth) for w in widths]}
    axes |= {"depth": [Size(width=start.width, depth=d) for d in depths]} if depths else {}
    rows = [row for axis, sizes in axes.items() for row in _axis_rows(study, axis, sizes)]
    sizes = [size for sizes in axes.values() for size in sizes]
    return CoordinateReport(rule=rule, rows=tuple(rows), faults=tuple(_faults(study, sizes)))


@dataclass(frozen=True, kw_only=True)
class _Study:
    """The settings that every trial of a check shares."""

    build: Build
    base: Size
    recipe: Recipe
    batches: list[Batch] | None
    loss: Loss
    lr: float
    steps: int
    seeds: int


_Points = dict[tuple[str, str], list[tuple[int, int, float]]]


def _axis_rows(study: _Study, axis: str, sizes: Sequence[Size]) -> Iterator[Row]:
    if len({_along(axis, size) for size in sizes}) < MIN_SIZES:
        raise ValueError(f"a slope needs at least {MIN_SIZES} {axis}s")
    require_growth(study.build, sizes, study.lr)
    points: _Points = defaultdict(list)
    for size in sizes:
        for seed in range(study.seeds):
            for parameter, gains in _measure(study, size, seed).items():
                at = _along(axis, size)
                points[parameter, "start"].append((at, seed, gains.start))
                points[parameter, "move"].append((at, seed, gains.move))
    outputs = study.recipe.options.get("branches") or BRANCH_OUTPUTS
    return _judged(axis, points, outputs)


MIN_SIZES = 3


def _along(axis: str, size: Size) -> int:
    return size.width if axis == "width" else size.depth or 0


def _measure(study: _Study, size: Size, seed: int) -> dict[str, Gains]:
    """Gains after a few steps, of each kind of parameter: over the blocks of a stack."""
    trial = prepare(study.build, size, study.base, study.recipe, lr=study.lr, seed=seed)
    batches = as_batches(study.batches, trial.model)

    def probe() -> object:
        return trial.model(inputs_of(batches[0]))

    initial = snapshot(trial.model)
    started = start_gains(trial.model, probe)
    losses = list(train(trial, batches, study.loss, study.steps))
    if not all(map(isfinite, losses)):
        depth = "" if size.depth is None else f", depth {size.depth}"
        raise ValueError(f"training diverged at width {size.width}{depth}: give a smaller lr")
    moved = move_gains(trial.model, initial, probe)
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in moved:
        kinds[kind_name(name)].append(name)
    return {
        kind: Gains(
            start=_over_blocks([started[n] for n in names]),
            move=_over_blocks([moved[n] for n in names]),
        )
        for kind, names in kinds.items()
    }


def _over_blocks(gains: list[float]) -> float:
    """One gain for a stack. Its first block sees what the stem makes, which may be unlike anything
    later: it counts as much as all others together, at any depth."""
    first, *others = gains
    return sqrt(first * fmean(others)) if others else first


def _judged(axis: str, points: _Points, outputs: Collection[str]) -> Iterator[Row]:
    slopes = {key: _slope(found) for key, found in points.items()}
    largest = sorted({size for found in points.values() for size, _, _ in found})[-2:]
    late = {
        key: _slope([point for point in found if point[0] in largest])
        for key, found in points.items()
    }
    ends = [
        slopes[parameter, "start"].value
        for parameter, quantity in slopes
        if quantity == "start" and ends_branch(parameter, outputs)
    ]
    start_of_ends = fmean(finite) if (finite := [v for v in ends if isfinite(v)]) else -1.0
    readout = _last_matrix(points)
    for (parameter, quantity), slope in slopes.items():
        if axis == "width":
            wanted = wanted_by_width(quantity, parameter == readout)
        else:
            wanted = wanted_by_depth(
                quantity, parameter, ends_branch(parameter, outputs), start_of_ends
            )
        yield Row(
            parameter=parameter,
            axis=axis,
            quantity=quantity,
            slope=slope,
            wanted=wanted,
            finding=judge(slope, late[parameter, quantity], *wanted, TOLERANCE[quantity]),
            points=tuple(points[parameter, quantity]),
        )


def _slope(points: list[tuple[int, int, float]]) -> Slope:
    return fit_slope([size for size, _, _ in points], [gain for _, _, gain in points])


def _last_matrix(points: _Points) -> str:
    """The readout: the last parameter that has a gain at its start."""
    started = [p for (p, q), found in points.items() if q == "start" and isfinite(found[0][2])]
    return started[-1] if started else ""


def _faults(study: _Study, sizes: Iterable[Size]) -> Iterator[Fault]:
    """Settings that are not the rule's, each named once, at the size where it is furthest off."""
    found: dict[tuple[str, str], Fault] = {}
    for size in sizes:
        for fault in audit(study.build, size, study.base, study.recipe, study.lr):
            known = found.get((fault.parameter, fault.setting))
            if known is None or fault.distance > known.distance:
                found[fault.parameter, fault.setting] = fault
    return iter(found.values())
