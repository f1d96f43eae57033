"""Plans as TOML: to keep beside a checkpoint, to read, to compare."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from stepladder.scaling.own import OwnScale
from stepladder.scaling.records import Record
from stepladder.scaling.roles import Role


def plan_text(
    head: Mapping[str, str],
    table: Mapping[str, Record],
    aliases: Mapping[str, str],
    own: Mapping[str, tuple[OwnScale, float]],
) -> str:
    """The plan as a TOML document; floats are written so that they read back exactly."""
    lines = [f"{key} = {_text(value)}" for key, value in head.items()]
    lines += ["", "[aliases]", *(f"{_text(k)} = {_text(v)}" for k, v in aliases.items())]
    for name, record in table.items():
        lines += ["", f"[table.{_text(name)}]", *_pairs(asdict(record))]
        if name in own:
            scale, factor = own[name]
            lines += [f"[own.{_text(name)}]", *_pairs({**asdict(scale), "factor": factor})]
    return "\n".join(lines) + "\n"


def read_plan(path: str | Path) -> dict[str, Any]:
    """The fields of a saved plan.

    Raises:
        ValueError: there is no such file, or it is not a saved plan.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}: write one with plan.save")
    try:
        document = tomllib.loads(Path(path).read_text())
        return {
            "rule": document["rule"],
            "optimizer": document["optimizer"],
            "decay": document["decay"],
            "aliases": document["aliases"],
            "table": {name: _record(row) for name, row in document["table"].items()},
            "own": {name: _own(dict(row)) for name, row in document.get("own", {}).items()},
        }
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a plan written by plan.save: {error}") from None


def table_difference(
    ours: Mapping[str, Record], theirs: Mapping[str, Record]
) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Parameter -> field -> (ours, theirs), where they differ; a missing row differs in all."""
    found = {}
    for name in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(name), theirs.get(name)
        pairs = {f.name: (getattr(a, f.name, None), getattr(b, f.name, None)) for f in _FIELDS}
        changed = {field: pair for field, pair in pairs.items() if pair[0] != pair[1]}
        if changed:
            found[name] = changed
    return found


_FIELDS = fields(Record)


def _pairs(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_text(value)}" for key, value in values.items()]


def _text(value: Any) -> str:
    return json.dumps(value)  # strings, numbers and booleans are written alike in TOML


def _record(row: Mapping[str, Any]) -> Record:
    return Record(**{**row, "role": Role(row["role"])})


def _own(row: dict[str, Any]) -> tuple[OwnScale, float]:
    factor = row.pop("factor")
    return OwnScale(**row), factor
