"""Forecast against outcome."""

import math
from typing import Any

from stepladder.ladder.folder import Folder
from stepladder.ladder.monitor import watched
from stepladder.recipe import Recipe
from stepladder.store import Store

Result = dict[str, Any]


def target_of(folder: Folder) -> Recipe:
    """The target's recipe, from the forecast.

    Raises:
        ValueError: there is no forecast yet: a target is not trained before it.
    """
    forecast = folder.read("forecast")
    if forecast is None:
        raise ValueError(
            f"ladder {folder.name} has no forecast yet, and a target is not trained before it: "
            "run stepladder climb first"
        )
    return Recipe.from_dict(forecast["target"]["recipe"])


def score(folder: Folder, store: Store) -> Result:
    """Score a ladder's forecast; written once to `score.json`.

    Raises:
        ValueError: no forecast, or its target has not finished, or the target was started before
            the forecast was written.
    """
    written = folder.read("score")
    if written is not None:
        return written
    recipe = target_of(folder)
    forecast = folder.read("forecast")
    assert forecast is not None
    run = store.get(recipe.key)
    if run is None or run.result is None:
        raise ValueError(f"the target {recipe.key} has not finished: run stepladder train")
    if run.result["started"] < forecast["created"]:
        raise ValueError(
            f"the target {recipe.key} was started before its forecast was written: not scored"
        )
    scored = compare(forecast, run.result) | {"monitor": watched(forecast, store)}
    folder.write("score", scored)
    return scored


def compare(forecast: Result, outcome: Result) -> Result:
    """The score of a forecast: relative error, and whether the outcome is in the interval."""
    low, high = forecast["interval"]
    loss = math.inf if outcome["diverged"] else outcome["loss"]
    return {
        "ladder": forecast["ladder"],
        "target": outcome["key"],
        "forecast": forecast["forecast"],
        "interval": [low, high],
        "level": forecast["level"],
        "outcome": loss,
        "relative_error": forecast["forecast"] / loss - 1,
        "inside": low <= loss <= high,
        "target_over_largest_rung": outcome["flops"] / max(p["flops"] for p in forecast["points"]),
        "flops": outcome["flops"],
        "seconds": outcome["seconds"],
        "forecast_created": forecast["created"],
        "started": outcome["started"],
    }
