"""What is searched: base hyperparameters of a recipe, each with its range.

    Space.parse(["optimizer.lr=log:1e-3..1e-1", "optimizer.weight_decay=0..0.3"])

A dimension is written as

    FIELD=LOW..HIGH           evenly; whole numbers where the recipe's field is one
    FIELD=log:LOW..HIGH       evenly in the logarithm
    FIELD=int:LOW..HIGH       whole numbers, where the recipe does not say (optimizer.params.*)
    FIELD=a,b,c               one of these
    "FIELD=... if OTHER=V"    searched only where another searched field has the value V
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from stepladder.comparing.differences import flat
from stepladder.names import did_you_mean
from stepladder.recipe import Recipe, Setting

Values = Mapping[str, Setting]

EXAMPLE = "optimizer.lr=log:1e-3..1e-1"
OPEN_TABLES = ("optimizer.params.", "schedule.params.")
# The ladder sets these at every scale: a search that set them too would contradict it.
OF_THE_LADDER = ("tokens", "batch", "seed", "validation", "evaluations", "precision", "accumulate")
OF_THE_LADDER_TABLES = ("data.", "model.")
SEARCHABLE_MODEL = ("model.activation", "model.qk_norm", "model.tied", "model.rope_theta")


@dataclass(frozen=True, kw_only=True)
class Dim:
    """One searched field: a range (`low`, `high`) or `choices`, perhaps only `where` another has
    a value.

    Raises:
        ValueError: an empty or contradictory range.
    """

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    integer: bool = False
    choices: tuple[Setting, ...] = ()
    where: tuple[str, Setting] | None = None

    def __post_init__(self) -> None:
        if self.choices:
            if len(set(self.choices)) < 2:
                raise ValueError(f"{self.name}: a choice needs two values or more: a,b")
            return
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"{self.name}: {self.low:g}..{self.high:g} is empty: write the lower bound first, "
                "and a higher one after it"
            )
        if self.log and self.low <= 0:
            raise ValueError(
                f"{self.name}: a logarithmic range starts above 0, not at {self.low:g}: raise it, "
                "or leave out log:"
            )

    @property
    def distribution(self) -> BaseDistribution:
        """The range as Optuna has it."""
        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.integer:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)

    @property
    def ends(self) -> tuple[Setting, ...]:
        """The values that a check should try: both bounds, or every choice."""
        if self.choices:
            return self.choices
        return (int(self.low), int(self.high)) if self.integer else (self.low, self.high)

    def is_active(self, values: Values) -> bool:
        """Whether it is searched beside these values."""
        return self.where is None or values.get(self.where[0]) == self.where[1]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Dimensions in an order in which each stands after the one it depends on.

    Raises:
        ValueError: none at all, one twice, or a condition that can never hold.
    """

    dims: tuple[Dim, ...]

    def __post_init__(self) -> None:
        if not self.dims:
            raise ValueError(f"the search space is empty: name what to search, as in {EXAMPLE}")
        seen: dict[str, Dim] = {}
        for dim in self.dims:
            if dim.name in seen:
                raise ValueError(f"{dim.name} is searched twice: give it one range")
            _require_possible(dim, seen)
            seen[dim.name] = dim

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "Space":
        """Read dimensions as the command line writes them (see the top of the module).

        Raises:
            ValueError: a text that is none, or as above.
        """
        dims = [_parse(text) for text in texts]
        return cls(dims=tuple(sorted(dims, key=lambda dim: dim.where is not None)))

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """All dimensions as Optuna has them, conditional ones included."""
        return {dim.name: dim.distribution for dim in self.dims}

    def of(self, base: Recipe) -> "Space":
        """The space with the types of a recipe's fields, checked against it.

        Raises:
            ValueError: a field that the recipe does not have (with the nearest), that the ladder
                sets, or whose bounds the recipe refuses.
        """
        known = flat(asdict(base))
        typed = replace(self, dims=tuple(_typed(dim, known) for dim in self.dims))
        for dim in typed.dims:
            for end in dim.ends:
                given = {dim.where[0]: dim.where[1]} if dim.where else {}
                apply(base, {**given, dim.name: end})
        return typed

    def to_json(self) -> list[dict[str, Any]]:
        """Plain data, by which a study knows its space again."""
        return [
            asdict(dim)
            | {"where": list(dim.where) if dim.where else None}
            | {"choices": list(dim.choices)}
            for dim in self.dims
        ]


def apply(base: Recipe, values: Values) -> Recipe:
    """The base recipe with values at dotted fields.

    Raises:
        ValueError: naming the field at fault.
    """
    content = base.to_dict()
    for name, value in values.items():
        *tables, last = name.split(".")
        table = content
        for part in tables:
            table = table.setdefault(part, {})
        table[last] = value
    return Recipe.from_dict(content)


def require_stackable(space: Space, base: Recipe) -> None:
    """ValueError where a dimension changes the shape that stacked trials must share."""
    from stepladder.train.stacked.planning import shape_of

    for dim in space.dims:
        given = {dim.where[0]: dim.where[1]} if dim.where else {}
        shapes = {shape_of(apply(base, {**given, dim.name: end})) for end in dim.ends}
        if len(shapes) > 1:
            raise ValueError(
                f"{dim.name} changes the shape of the program, which all trials of a stacked study "
                "share: leave it out of the space, or run with --executor workers"
            )


def _require_possible(dim: Dim, before: Mapping[str, Dim]) -> None:
    if dim.where is None:
        return
    name, value = dim.where
    if name not in before:
        near = did_you_mean(name, before)
        raise ValueError(f"{dim.name} is searched if {name}={value}, which is not searched{near}")
    if value not in before[name].choices:
        known = ", ".join(map(str, before[name].choices)) or "no choices"
        raise ValueError(
            f"{dim.name} is searched if {name}={value}, which it never is: it has {known}"
        )


def _typed(dim: Dim, known: Mapping[str, Any]) -> Dim:
    _require_field(dim.name, known)
    own = known.get(dim.name)
    if isinstance(own, bool | str) and not dim.choices:
        raise ValueError(f"{dim.name} is {own!r}, not a number: give choices, {dim.name}=a,b")
    if type(own) is not int or dim.choices:
        return dim
    if not (dim.low.is_integer() and dim.high.is_integer()):
        raise ValueError(f"{dim.name} takes whole numbers, not {dim.low:g}..{dim.high:g}")
    return replace(dim, integer=True)


def _require_field(name: str, known: Iterable[str]) -> None:
    if name.startswith(OPEN_TABLES):
        return
    if name not in known:
        known = list(known)
        inside = [field for field in known if field.endswith(f".{name}")]  # lr: optimizer.lr
        raise ValueError(f"a recipe has no field {name!r}{did_you_mean(name, known, inside)}")
    tables = name.startswith(OF_THE_LADDER_TABLES) and name not in SEARCHABLE_MODEL
    if tables or name in OF_THE_LADDER or name.startswith("parametrization.base_"):
        raise ValueError(
            f"{name} is not searched: the ladder sets it at every scale; search base "
            "hyperparameters (optimizer.*, parametrization.*, schedule.*), and choose scales with "
            "--scales"
        )


def _parse(text: str) -> Dim:
    spec, _, condition = text.partition(" if ")
    name, equals, written = spec.strip().partition("=")
    if not (equals and name and written):
        raise ValueError(f"cannot read {text!r}: write a field and its range, as in {EXAMPLE}")
    where = _condition(condition, text) if condition else None
    if ".." not in written:
        return Dim(name=name, choices=tuple(map(_value, written.split(","))), where=where)
    *kinds, bounds = written.split(":")
    if set(kinds) - {"log", "int"}:
        raise ValueError(f"{text!r}: a range starts with log: or int:, not {':'.join(kinds)}:")
    low, high = _bounds(bounds, text)
    return Dim(
        name=name, low=low, high=high, log="log" in kinds, integer="int" in kinds, where=where
    )


def _condition(text: str, whole: str) -> tuple[str, Setting]:
    name, equals, value = text.strip().partition("=")
    if not (equals and value):
        raise ValueError(f"{whole!r}: after `if` comes a field and its value, optimizer.name=muon")
    return name, _value(value)


def _bounds(text: str, whole: str) -> tuple[float, float]:
    low, _, high = text.partition("..")
    try:
        return float(low), float(high)
    except ValueError:
        raise ValueError(f"cannot read the bounds of {whole!r}: as in {EXAMPLE}") from None


def _value(text: str) -> Setting:
    if text in ("true", "false"):
        return text == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number
