"""What a run is: one frozen, typed description of everything that decides its result.

A recipe is read from TOML, checked whole before any compute is spent, and named by its key: a hash
of its content. Two recipes with one key are one run, and it is paid for once.

Rates, decay and initial scales are *base* hyperparameters: they are stated at the base shape, and
the parametrization maps them to the model's shape (`stepladder.scaling`).
"""

import hashlib
import json
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import tomli_w

from stepladder.names import did_you_mean

FORMAT = 1
KEY_LENGTH = 16

ACTIVATIONS = ("swiglu", "relu2")
PRECISIONS = ("float32", "bfloat16")

# Marks a field that joined after runs had been kept: at its default it is not written, so that the
# recipe files of old runs still say the same.
LATER = {"later": True}

Setting = bool | int | float | str


class _Section:
    """A part of a recipe: its values get their declared types when it is made.

    So `lr=1` and `lr=1.0`, or a number from numpy, make one key and one text, and what is no number
    is refused whether it comes from a file or from Python.
    """

    def __post_init__(self) -> None:
        own: Any = type(self)
        for name, kind in _kinds(own).items():
            value = _convert(kind, getattr(self, name), _section(self) + name)
            object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class Model(_Section):
    """Shape of the decoder-only transformer. All sizes are counts; context is in tokens."""

    width: int
    depth: int
    heads: int
    kv_heads: int
    head_size: int
    mlp_width: int
    context: int
    vocab_size: int
    activation: str = "swiglu"
    qk_norm: bool = True
    tied: bool = False
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "width", "depth", "heads", "kv_heads", "head_size", "mlp_width")
        _positive(self, "context", "vocab_size", "rope_theta")
        _one_of("model.activation", self.activation, ACTIVATIONS)
        if self.heads % self.kv_heads:
            raise ValueError(
                f"model.heads ({self.heads}) must be a multiple of model.kv_heads ({self.kv_heads})"
            )
        if self.head_size % 2:
            raise ValueError(
                f"model.head_size ({self.head_size}) must be even: rotary embedding turns pairs"
            )


@dataclass(frozen=True, kw_only=True)
class Parametrization(_Section):
    """How base hyperparameters map to the model's shape, and the base they are stated at.

    `base_heads` is the number of heads at the base; 0 keeps the model's head size instead.
    `hidden_gain` and `residual_gain` (for projections that end a residual branch) are initial
    standard deviations times sqrt(fan-in); the other two are plain standard deviations, but
    `embedding_std` of a tied embedding is times sqrt(base_width) too.
    `scale_like` names the optimizer whose rates the recipe's own are scaled like, where its card
    does not know: an assumption, to be checked. Empty: as the card says.
    """

    rule: str = "completep"
    base_width: int = 64
    base_depth: int = 4
    base_heads: int = 0
    embedding_std: float = 1.0
    hidden_gain: float = 1.0
    residual_gain: float = 0.5
    readout_std: float = 0.0
    scale_like: str = field(default="", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "base_width", "base_depth", "embedding_std", "hidden_gain")
        _not_negative(self, "base_heads", "residual_gain", "readout_std")


@dataclass(frozen=True, kw_only=True)
class Optimizer(_Section):
    """Optimizer and its base hyperparameters.

    `clip` bounds the global gradient norm (0: off); `params` are the optimizer's own settings.
    """

    name: str = "adamw"
    lr: float
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip: float = 1.0
    params: Mapping[str, Setting] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "lr")
        _not_negative(self, "weight_decay", "eps", "clip")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"optimizer.{name} must lie in [0, 1), not {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Schedule(_Section):
    """Learning rate over the run; `params` are the schedule's own.

    `warmup`, and what of `params` is a length, is a fraction of the run up to 1, and tokens above:
    runs of different lengths have a trunk in common where the lengths at its start are in tokens.
    """

    name: str = "linear"
    warmup: float = 0.1
    params: Mapping[str, Setting] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        _not_negative(self, "warmup")


@dataclass(frozen=True, kw_only=True)
class Batching(_Section):
    """How the batch grows over the run: `params` are the policy's own, in the recipe's batches.

    So `end = 4` is four times `batch`, at every scale. Empty: the batch stays as it is.
    """

    name: str = ""
    params: Mapping[str, Setting] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class Data(_Section):
    """What is read. `fingerprint` is the content hash of the tokens; empty means not prepared."""

    source: str = "stdlib"
    tokenizer: str = "bytes"
    text_field: str = "text"
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class Recipe(_Section):
    """Everything that decides the result of one training run.

    tokens: training tokens of the run. batch: tokens in one optimizer step, the first where
    `batching` lets it grow. accumulate: micro-batches that one batch is split into.
    validation: tokens of the fixed validation set. evaluations: evenly spaced measurements on it.
    """

    model: Model
    optimizer: Optimizer
    tokens: int
    batch: int
    parametrization: Parametrization = field(default_factory=Parametrization)
    schedule: Schedule = field(default_factory=Schedule)
    data: Data = field(default_factory=Data)
    precision: str = "float32"
    accumulate: int = 1
    validation: int = 131_072
    evaluations: int = 10
    seed: int = 0
    levers: tuple[str, ...] = ()
    batching: Batching = field(default_factory=Batching, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "tokens", "batch", "accumulate", "validation", "evaluations")
        _one_of("precision", self.precision, PRECISIONS)
        if self.batch % (self.model.context * self.accumulate):
            raise ValueError(
                f"batch ({self.batch} tokens) must be a multiple of model.context x accumulate "
                f"({self.model.context} x {self.accumulate}): {self._nearest_batch()} is nearest"
            )
        if self.tokens < self.batch:
            raise ValueError(f"tokens ({self.tokens}) must be at least one batch ({self.batch})")
        self._require_warmup()
        if self.levers:
            raise ValueError(
                f"there is no lever named {self.levers[0]!r}: optimizers and schedules are "
                "chosen by optimizer.name and schedule.name"
            )

    def _require_warmup(self) -> None:
        warmup = self.schedule.warmup
        if warmup > 1 and not self.batch <= warmup <= self.tokens:
            raise ValueError(
                f"schedule.warmup ({warmup:g}) is a fraction of the run up to 1, and tokens above: "
                f"at least a batch ({self.batch}), at most the run ({self.tokens})"
            )

    def _nearest_batch(self) -> int:
        unit = self.model.context * self.accumulate
        return max(1, round(self.batch / unit)) * unit

    @property
    def steps(self) -> int:
        """Batches of the run, and its optimizer steps where the batch does not grow; tokens are
        rounded down to whole batches."""
        return self.tokens // self.batch

    @property
    def key(self) -> str:
        """Content hash: equal recipes have equal keys, on every machine."""
        content = json.dumps(_non_default(self), sort_keys=True)
        return hashlib.sha256(f"{FORMAT}:{content}".encode()).hexdigest()[:KEY_LENGTH]

    def base_model(self) -> Model:
        """The model at the base shape: everything in proportion to the width."""
        model, given = self.model, self.parametrization
        ratio = given.base_width / model.width
        group = model.heads // model.kv_heads
        kv_heads = given.base_heads // group or max(1, round(model.kv_heads * ratio))
        inner = model.heads * model.head_size * ratio
        head_size = round(inner / given.base_heads) if given.base_heads else model.head_size
        return replace(
            model,
            width=given.base_width,
            depth=given.base_depth,
            heads=kv_heads * group,
            kv_heads=kv_heads,
            head_size=max(2, head_size + head_size % 2),
            mlp_width=max(1, round(model.mlp_width * ratio)),
        )

    def on_data(self, fingerprint: str) -> "Recipe":
        """The recipe with the fingerprint of its data filled in, where it has none."""
        if self.data.fingerprint:
            return self
        return replace(self, data=replace(self.data, fingerprint=fingerprint))

    def to_dict(self) -> dict[str, Any]:
        """The whole recipe as plain data, defaults included (but for fields that joined later)."""
        return {"format": FORMAT, **_written(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_dict`; raises ValueError naming the field at fault."""
        rest = {name: value for name, value in content.items() if name != "format"}
        version = content.get("format", FORMAT)
        if version != FORMAT:
            raise ValueError(
                f"the recipe has format {version}, this Stepladder reads {FORMAT}: upgrade it"
            )
        recipe: Recipe = _build(cls, rest, "")
        return recipe

    def to_toml(self) -> str:
        """The whole recipe as TOML, defaults included."""
        return tomli_w.dumps(self.to_dict())

    @classmethod
    def from_toml(cls, text: str) -> "Recipe":
        """Read a recipe; raises ValueError naming the field at fault."""
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"the recipe is not valid TOML: {error}") from None
        return cls.from_dict(content)

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a recipe file; raises ValueError naming the file and the field at fault."""
        try:
            return cls.from_toml(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(
                f"there is no recipe file {path}: docs/recipe.md has one to start from, and every "
                "run keeps its own (runs/<key>/recipe.toml)"
            ) from None
        except (ValueError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: {error}") from None


def _non_default(value: Any) -> dict[str, Any]:
    """Fields that differ from their default, so that a field added later leaves old keys alone.

    Defaults are therefore part of the format: they are never changed.
    """
    out: dict[str, Any] = {}
    for f in fields(value):
        item = getattr(value, f.name)
        if is_dataclass(item):
            if inner := _non_default(item):
                out[f.name] = inner
        elif item != _default(f):
            out[f.name] = item
    return out


def _written(value: Any) -> dict[str, Any]:
    """Plain data, without the fields that joined later where they are at their default."""
    out: dict[str, Any] = {}
    for f in fields(value):
        item = getattr(value, f.name)
        if f.metadata.get("later") and item == _default(f):
            continue
        if is_dataclass(item):
            out[f.name] = _written(item)
        else:
            out[f.name] = dict(item) if isinstance(item, Mapping) else item
    return out


def _default(f: Field) -> Any:
    return f.default if f.default_factory is MISSING else f.default_factory()


def _build(cls: type, content: Mapping[str, Any], path: str) -> Any:
    kinds = _kinds(cls)
    _refuse_unknown(content, kinds, path)
    required = [f.name for f in fields(cls) if f.name not in content and _is_required(f)]
    if required:
        raise ValueError(f"the recipe lacks {path}{required[0]}")
    return cls(
        **{
            name: _build(kinds[name], _as_table(value, path + name), f"{path}{name}.")
            if is_dataclass(kinds[name])
            else value
            for name, value in content.items()
        }
    )


@cache
def _kinds(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in fields(cls)}


def _is_required(f: Field) -> bool:
    return f.default is MISSING and f.default_factory is MISSING


def _refuse_unknown(content: Mapping[str, Any], known: Iterable[str], path: str) -> None:
    for name in content:
        if name not in known:
            raise ValueError(f"unknown field {path}{name}{did_you_mean(name, known)}")


def _convert(kind: Any, value: Any, path: str) -> Any:
    if get_origin(kind) is tuple:
        return tuple(_scalar(get_args(kind)[0], item, path) for item in _as_list(value, path))
    if get_origin(kind) is Mapping:
        items = sorted(_as_table(value, path).items())
        return {name: _own_setting(v, f"{path}.{name}") for name, v in items}
    return _scalar(kind, value, path)


def _own_setting(value: Any, path: str) -> Setting:
    """A value whose type only its optimizer or schedule knows: whole numbers become int, so that
    1 and 1.0 are one setting."""
    if isinstance(value, bool | str):
        return value
    number: float = _scalar(float, value, path)
    if not math.isfinite(number):
        raise ValueError(f"{path} must be finite, not {number}")
    return int(number) if number.is_integer() else number


def _as_table(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{path} must be a table, such as [{path}]")
    return value


def _as_list(value: Any, path: str) -> Iterable[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{path} must be a list")
    return value


def _scalar(kind: type, value: Any, path: str) -> Any:
    number = isinstance(value, Real) and value is not True and value is not False
    if kind is float and number:
        return float(value) + 0.0  # so that -0.0 is 0.0
    if kind is int and number and (isinstance(value, Integral) or float(value).is_integer()):
        return int(value)
    if isinstance(value, kind) and kind not in (int, float):
        return value
    raise ValueError(f"{path} must be {kind.__name__}, not {value!r}")


def _section(record: Any) -> str:
    name = type(record).__name__.lower()
    return "" if name == "recipe" else f"{name}."


def _positive(record: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{_section(record)}{name} must be positive and finite, not {value}")


def _not_negative(record: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{_section(record)}{name} must be 0 or more and finite, not {value}")


def _one_of(name: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(
            f"{name} is {value!r}{did_you_mean(value, known)}; it is one of {', '.join(known)}"
        )
