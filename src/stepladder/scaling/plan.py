"""A plan: the table of a parametrization, and what it does to a model and to an optimizer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from torch import nn

from stepladder.names import did_you_mean
from stepladder.scaling.initialize import check_ready, draw, rescale
from stepladder.scaling.own import OwnScale
from stepladder.scaling.records import Record
from stepladder.scaling.shapes import plain_name
from stepladder.scaling.storage import plan_text, read_plan, table_difference


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A parametrization of one model, as plain data.

    Attributes:
        table: parameter name -> `Record`.
        rule, optimizer: what it was made with.
        aliases: other names of tied parameters -> the name in the table.
        own: parameters that keep the values their module gave them -> (their scale, the factor).
        model: the model it was made for; `bind` moves the plan to a copy or a wrapped model.
    """

    table: Mapping[str, Record]
    rule: str
    optimizer: str
    decay: str = "constant"
    aliases: Mapping[str, str] = field(default_factory=dict)
    own: Mapping[str, tuple[OwnScale, float]] = field(default_factory=dict)
    model: nn.Module | None = field(default=None, repr=False, compare=False)

    def bind(self, model: nn.Module) -> Self:
        """The same plan for another build of the model: a copy, compiled, or sharded.

        Raises:
            ValueError: the model and the table have different parameters, or sizes.
        """
        bound = replace(self, model=model)
        found = dict(bound._parameters(model))
        for name, parameter in found.items():
            _check_size(name, parameter, self.table[name])
        missing = set(self.table) - set(found)
        if missing:
            raise ValueError(f"the model has no {min(missing)}, which the plan has a row for")
        return bound

    def initialize(self, model: nn.Module | None = None, seed: int = 0) -> nn.Module:
        """Give every parameter its initial values, in place, and return the model.

        With base scales (`parametrize(..., init_std=...)`) each tensor is drawn from a generator
        of its own, made from `seed` and its name: the values do not depend on the device, the
        thread count, or the order of the parameters. Without them, the values the module gave
        itself are kept and scaled by what the rule changes, so that a model of the base's shape
        keeps exactly what plain PyTorch gave it.

        Raises:
            ValueError: the values are not the ones the plan was made from (initialised twice, or
                trained), or the model is on the meta device; nothing is changed then.
        """
        model = self._model(model)
        parameters = dict(self._parameters(model))
        for name, parameter in parameters.items():
            check_ready(parameter, self.own.get(name), name)
        for name, parameter in parameters.items():
            if name in self.own:
                rescale(parameter, self.own[name])
            else:
                draw(parameter, self.table[name], name, seed)
        return model

    def param_groups(
        self,
        lr: float | Mapping[str, float],
        weight_decay: float = 0.0,
        eps: float | None = None,
        model: nn.Module | None = None,
    ) -> list[dict[str, Any]]:
        """Parameter groups for `torch.optim`: parameters with equal factors share a group.

        Frozen parameters are left out. Each group also says its `names` and its `optimizer`
        (for plans that need two, such as Muon with AdamW).

        Args:
            lr, weight_decay, eps: the base settings; `lr` may be one per optimizer. For Adam and
                AdamW, epsilon is torch's own 1e-8 unless given: it is scaled too, and what a group
                says goes before what the optimizer is given.

        Raises:
            ValueError: a setting is negative, a rate for an optimizer is missing, or a decay that
                is independent of the rate is asked for at a rate of 0.
        """
        _check_settings(lr, weight_decay, eps)
        rates = {o: _rate(lr, o) for o in {r.optimizer for r in self.table.values()}}
        groups: dict[tuple, dict[str, Any]] = {}
        for name, parameter in self._parameters(self._model(model)):
            record = self.table[name]
            if not parameter.requires_grad:
                continue
            key = (record.optimizer, record.lr, record.weight_decay, record.eps)
            if key not in groups:
                groups[key] = self._settings(record, rates[record.optimizer], weight_decay, eps)
            groups[key]["params"].append(parameter)
            groups[key]["names"].append(name)
        return list(groups.values())

    def save(self, path: str | Path) -> None:
        """Write the plan as TOML."""
        head = {"rule": self.rule, "optimizer": self.optimizer, "decay": self.decay}
        Path(path).write_text(plan_text(head, self.table, self.aliases, self.own))

    @classmethod
    def load(cls, path: str | Path, model: nn.Module | None = None) -> Self:
        """Read a saved plan, for a model or to `bind` later.

        Raises:
            ValueError: the file is not a plan, or not one for this model.
        """
        plan = cls(**read_plan(path))
        return plan if model is None else plan.bind(model)

    def difference(self, other: "Plan") -> dict[str, dict[str, tuple[Any, Any]]]:
        """What another plan changes: parameter -> field -> (here, there)."""
        return table_difference(self.table, other.table)

    def multipliers(self) -> dict[str, float]:
        """The explicit multipliers the forward pass must apply: name -> factor, only those not 1.

        A tied readout is listed under its own name (`head.weight`): the embedding is not scaled.
        """
        readouts = {name: alias for alias, name in self.aliases.items()}
        return {
            readouts.get(name, name): record.multiplier
            for name, record in self.table.items()
            if record.multiplier != 1
        }

    def _settings(
        self, record: Record, lr: float, weight_decay: float, eps: float | None
    ) -> dict[str, Any]:
        decay = weight_decay * record.weight_decay
        if decay and self.decay == "independent":
            if not lr:
                raise ValueError("a decay that is independent of the rate needs an lr above 0")
            decay /= lr
        settings: dict[str, Any] = {"params": [], "names": [], "optimizer": record.optimizer}
        settings |= {"lr": lr * record.lr, "weight_decay": decay}
        eps = _TORCH_EPS.get(record.optimizer) if eps is None else eps
        return settings if eps is None else settings | {"eps": eps * record.eps}

    def _model(self, model: nn.Module | None) -> nn.Module:
        found = self.model if model is None else model
        if found is None:
            raise ValueError("the plan was read from a file: plan.bind(model) first")
        return found

    def _parameters(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        seen: set[str] = set()
        for raw, parameter in model.named_parameters():
            own = plain_name(raw)
            name = self.aliases.get(own, own)
            if name in seen:
                raise ValueError(
                    f"{own} was tied to another parameter when the plan was made and is not any "
                    "more (Module.to_empty unties): tie them again before you use the plan"
                )
            seen.add(name)
            if name not in self.table:
                raise ValueError(
                    f"the plan has no row for {name}{did_you_mean(name, self.table)}: make a plan "
                    "for this model with parametrize"
                )
            yield name, parameter

    def __str__(self) -> str:
        from stepladder.scaling.printing import table_text

        return table_text(self)


_TORCH_EPS = {"adam": 1e-8, "adamw": 1e-8}


def _check_size(name: str, parameter: nn.Parameter, record: Record) -> None:
    if parameter.dim() and record.fan_out not in parameter.shape:
        raise ValueError(
            f"{name} has shape {list(parameter.shape)}, and the plan is for a fan-out of "
            f"{record.fan_out}: make a plan for this model with parametrize"
        )


def _check_settings(
    lr: float | Mapping[str, float], weight_decay: float, eps: float | None
) -> None:
    rates = list(lr.values()) if isinstance(lr, Mapping) else [lr]
    settings: list[tuple[str, Any]] = [("weight_decay", weight_decay)]
    settings += [("lr", rate) for rate in rates]
    for name, value in settings if eps is None else [*settings, ("eps", eps)]:
        if isinstance(value, str) or not value >= 0:
            raise ValueError(f"{name} must be a number of at least 0, not {value!r}")


def _rate(lr: float | Mapping[str, float], optimizer: str) -> float:
    if not isinstance(lr, Mapping):
        return lr
    if optimizer not in lr:
        raise ValueError(f"lr has no rate for {optimizer!r}; give lr={{{optimizer!r}: ...}} too")
    return lr[optimizer]
