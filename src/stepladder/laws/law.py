"""What a scaling law is: a declarative object, evaluated by one function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Values = Mapping[str, Array]  # by name; each (starts, 1) for parameters, (points, ...) for inputs
Columns = Callable[[Values, Values], Sequence[ArrayLike]]
# (parameters, inputs, columns) -> for each parameter, the derivative of each column
Slopes = Callable[[Values, Values, Sequence[Array]], Mapping[str, Sequence[ArrayLike]]]
Link = Literal["identity", "exp", "logistic"]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter that enters nonlinearly, and is searched.

    Args:
        low, high: hard bounds.
        search: where starts are drawn; the bounds where not given.
        log: search its logarithm (scales); exponents are searched as they are.
    """

    name: str
    meaning: str
    low: float
    high: float
    search: tuple[float, float] | None = None
    log: bool = False

    def __post_init__(self) -> None:
        low, high = self.search or (self.low, self.high)
        assert self.low <= low < high <= self.high, f"{self.name}: search lies outside the bounds"
        assert self.low > 0 or not self.log, f"{self.name}: a logarithm needs a positive bound"


@dataclass(frozen=True, kw_only=True)
class Coefficient:
    """A parameter that enters linearly, and is solved: at least zero unless `free`."""

    name: str
    meaning: str
    free: bool = False


@dataclass(frozen=True, kw_only=True)
class Input:
    """A quantity the law is evaluated at; `meaning` states its convention, `unit` its unit.

    `falls` says that the target falls as the input grows (it is used to notice bad data and to
    name the direction of extrapolation). `low` and `high` bound what can be meant at all.
    `choices` are values that allocation may choose from (numbers of experts, bits, ...); an input
    without choices has to be given, except params and tokens, which allocation trades off.
    """

    name: str
    meaning: str
    unit: str = "count"
    falls: bool = False
    low: float = 0.0
    high: float = np.inf
    choices: tuple[float, ...] = ()

    def check(self, x: ArrayLike) -> None:
        """Refuse what the input cannot be.

        Raises:
            ValueError: a value that is not finite or lies outside the bounds.
        """
        every = np.asarray(x, dtype=np.float64)
        inside = np.isfinite(every) & (every >= self.low) & (every <= self.high)
        if self.falls:
            inside &= every > 0
        if not inside.all():
            low = "above 0" if self.falls and self.low <= 0 else f"at least {self.low:g}"
            high = "" if np.isinf(self.high) else f" and at most {self.high:g}"
            raise ValueError(
                f"{self.name} cannot be {every[~inside].flat[0]:g}: it must be {low}{high}"
            )


def dense_compute(x: Mapping[str, ArrayLike]) -> Array:
    """Training compute in FLOP, six for each parameter and token (arXiv:2001.08361, table 1)."""
    return np.asarray(6.0 * np.asarray(x["params"]) * np.asarray(x["tokens"]))


def dense_stored(x: Mapping[str, ArrayLike]) -> Array:
    """Parameters held in memory: all that are counted."""
    return np.asarray(x["params"], dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Constants:
    """Published values of every parameter of a law.

    Args:
        label: short name, unique within the law.
        source: paper and table (or file) the values stand in.
        convention: how the source counts its inputs, where it matters.
        valid: the range of each input that the values were fitted on.
    """

    label: str
    values: Mapping[str, float]
    source: str
    convention: str = ""
    valid: Mapping[str, tuple[float, float]] = field(default_factory=dict)


class Derived(NamedTuple):
    """A quantity that follows from a law's values; of numbers, or of arrays of many candidates."""

    meaning: str
    of: Callable[[Values], ArrayLike]


@dataclass(frozen=True, kw_only=True)
class Law:
    """A functional form: `target = link(sum_j coefficient_j * column_j(parameters, inputs))`.

    Args:
        name: what it is called here and on the command line.
        title: exact title of the paper; `arxiv` its id.
        form: the formula, as text.
        target: name of what it predicts.
        derived: quantities that follow from the values, such as allocation exponents.
        compute: training FLOP of inputs (linear in tokens), where it is not 6 params tokens.
        stored: parameters in memory, where they are not `params` (experts, sparsity).
        signed: the target may be negative, so that residuals are plain unless asked otherwise.
        rivals: names of laws plausible on the same columns, worth weighing in forecasts.
        note: limits and traps, for the reader of `stepladder laws`.
    """

    name: str
    title: str
    arxiv: str
    form: str
    inputs: tuple[Input, ...]
    columns: Columns
    parameters: tuple[Parameter, ...] = ()
    coefficients: tuple[Coefficient, ...] = ()
    target: str = "loss"
    link: Link = "identity"
    slopes: Slopes | None = None
    derived: Mapping[str, Derived] = field(default_factory=dict)
    constants: tuple[Constants, ...] = ()
    compute: Callable[[Mapping[str, ArrayLike]], Array] = dense_compute
    stored: Callable[[Mapping[str, ArrayLike]], Array] = dense_stored
    signed: bool = False
    rivals: tuple[str, ...] = ()
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The name of every member."""
        return tuple(member.name for member in self.members)

    @property
    def members(self) -> tuple[Parameter | Coefficient, ...]:
        """What is fitted: the searched parameters, then the coefficients."""
        return (*self.parameters, *self.coefficients)

    def derive(self, values: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Every derived quantity, of the shape of the values; infinite or NaN where an exponent of
        zero leaves it none."""
        arrays = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
        with np.errstate(all="ignore"):
            return {name: np.asarray(one.of(arrays), float) for name, one in self.derived.items()}

    def predict(self, values: Mapping[str, ArrayLike], inputs: Mapping[str, ArrayLike]) -> Array:
        """The target at `inputs` (each (points, ...) or a number) for one set of values.

        A value may also have shape (starts,): the result is then (starts, points).
        """
        p = {name: np.asarray(values[name], dtype=np.float64)[..., None] for name in self.names}
        x = {i.name: np.asarray(inputs[i.name], dtype=np.float64) for i in self.inputs}
        total = sum(
            (np.asarray(column) * weight for column, weight in self._terms(p, x)), np.float64(0.0)
        )
        scalar = all(np.ndim(inputs[i.name]) == 0 for i in self.inputs)
        result = apply_link(self.link, np.asarray(total, dtype=np.float64))
        return result[..., 0] if scalar and result.ndim else result

    def published(self, label: str = "") -> Constants:
        """The published constants called `label`; the first where no label is given."""
        for constants in self.constants:
            if label in ("", constants.label):
                return constants
        from stepladder.names import did_you_mean

        if not self.constants:
            raise ValueError(
                f"law {self.name} has no published constants here: fit it to runs of your own, as "
                f"in stepladder fit RUNS.csv --law {self.name} --out FIT.json"
            )
        known = [c.label for c in self.constants]
        raise ValueError(
            f"law {self.name} has no constants {label!r}{did_you_mean(label, known)}; "
            f"it has {', '.join(known)}"
        )

    def _terms(self, p: Values, x: Values) -> list[tuple[ArrayLike, ArrayLike]]:
        columns = self.columns(p, x)
        weights: list[ArrayLike] = [p[c.name] for c in self.coefficients]
        return list(zip(columns, [*weights, 1.0], strict=False))


def apply_link(link: Link, total: Array) -> Array:
    """The target for the linear sum."""
    if link == "exp":
        return np.exp(total)
    return 1.0 / (1.0 + np.exp(-total)) if link == "logistic" else total


def link_slope(link: Link, target: Array) -> Array:
    """The derivative of the target by the linear sum, from the target."""
    if link == "exp":
        return target
    return target * (1.0 - target) if link == "logistic" else np.ones_like(target)


def power(x: ArrayLike, exponent: ArrayLike) -> Array:
    """`x ** exponent` for positive x, by one exponential (complex exponents are fine)."""
    return np.exp(np.asarray(exponent) * np.log(x))
