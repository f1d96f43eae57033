"""docs/recipe.md shows every field of a recipe, with the default that it has."""

import re
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from stepladder.data.tokenizers import byte_tokenizer_json, load_tokenizer
from stepladder.recipe import Recipe

PAGE = Path(__file__).parents[1] / "docs" / "recipe.md"
SHORT, WHOLE = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("text", [SHORT, WHOLE], ids=["short", "whole"])
def test_a_recipe_of_the_page_is_one(text: str) -> None:
    assert Recipe.from_toml(text).steps == 2_000_000 // 1024


def test_its_model_has_a_place_for_every_token() -> None:
    recipe = Recipe.from_toml(SHORT)
    tokenizer = load_tokenizer(recipe.data.tokenizer, byte_tokenizer_json())
    assert recipe.model.vocab_size == tokenizer.vocab_size


def test_both_are_the_same_run() -> None:
    assert Recipe.from_toml(SHORT).key == Recipe.from_toml(WHOLE).key


def test_the_whole_one_names_every_field() -> None:
    assert _names(tomllib.loads(WHOLE)) == _fields(Recipe)


def _names(table: dict[str, Any], path: str = "") -> set[str]:
    out: set[str] = set()
    for name, value in table.items():
        if isinstance(value, dict) and name != "params":
            out |= _names(value, f"{path}{name}.")
        else:
            out.add(path + name)
    return out


def _fields(cls: type, path: str = "") -> set[str]:
    kinds = get_type_hints(cls)
    out: set[str] = set()
    for f in fields(cls):  # type: ignore[arg-type]
        if is_dataclass(kinds[f.name]):
            out |= _fields(kinds[f.name], f"{path}{f.name}.")
        else:
            out.add(path + f.name)
    return out
