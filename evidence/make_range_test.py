"""How near does one range test come to a tuned rate? And one-cycle at the rate it suggests?

    python evidence/make_range_test.py [--root DIR] [--record]

Every optimizer of `make_compare.py` at its smallest width: the rate that `stepladder range`
suggests (200 steps, from 128 times below to 128 times above the middle of its rates, two seeds)
over the rate tuned there by five runs. Then AdamW with one-cycle at the suggestion, at three widths
and three seeds, against the baseline of `make_compare.py`: what Smith's recipe gives without a
search. Reads evidence/compare/*.json, writes evidence/compare/range-test.json and range-test.svg.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_compare import LEVERS, SCALES, SEEDS, TOKENIZER, Lever, baseline, path_of

from stepladder.card import Evidence, record
from stepladder.comparing.growth import grown_model, rungs, tuned_to
from stepladder.comparing.means import means_of
from stepladder.comparing.multiplier import estimate
from stepladder.comparing.verdict import verdict
from stepladder.cost import cost
from stepladder.data import Dataset, prepare
from stepladder.durable import write_whole
from stepladder.execute.here import run_here
from stepladder.recipe import Recipe, Schedule
from stepladder.report import style
from stepladder.search.rate_range import range_recipe, rate_range
from stepladder.store import Store
from stepladder.train import Silent

OUT = Path(__file__).parent / "compare"
COMMAND = "python evidence/make_range_test.py"
FIGURE = "evidence/compare/range-test.svg"
FIRST_SEED, TESTS = 2000, 2
LEVEL = 0.9


class Place:
    """Where the runs are made, each once."""

    def __init__(self, root: Path, dataset: Dataset) -> None:
        self.store, self.dataset = Store(root / "runs"), dataset

    def run(self, recipe: Recipe) -> dict[str, Any]:
        """One run's result."""
        (result,) = run_here(
            [("", recipe)], self.store, self.dataset, lambda _, __: Silent(), "cpu"
        )
        return result

    def suggested(self, recipe: Recipe, seed: int) -> float:
        """The rate that one range test suggests."""
        made = replace(range_recipe(recipe), seed=seed)
        self.run(made)
        stored = self.store.get(made.key)
        assert stored is not None
        return rate_range(stored.curve).suggested


def ratios(lever: Lever, base: Recipe, place: Place) -> dict[str, Any]:
    """An optimizer's suggested rates over its tuned one."""
    tuned = json.loads(path_of(lever.name).read_text())["tuning"]["lever"]["lr"]
    recipe = lever.recipe(base)
    found = [place.suggested(recipe, FIRST_SEED + k) for k in range(TESTS)]
    return {"name": lever.name, "tuned": tuned, "suggested": found}


def one_cycle(base: Recipe, place: Place) -> dict[str, Any]:
    """One-cycle at the suggested rate against the tuned baseline, on the same rungs."""
    cycle = replace(base, schedule=Schedule(name="one-cycle", warmup=0.0))
    known = json.loads(path_of("schedules/one-cycle").read_text())
    rate = place.suggested(base, FIRST_SEED)
    pairs = rungs(base, cycle, SCALES)
    arms = [[tuned_to(b, known["tuning"]["base"]["lr"]) for b, _ in pairs]]
    arms += [[tuned_to(c, rate) for _, c in pairs]]
    losses = np.array([[_losses(one, place) for one in arm] for arm in arms])
    x = np.array([[cost(one).flops_total + cost(one).flops_optimizer for one in a] for a in arms])
    made = estimate(x, means_of(losses), level=LEVEL)
    return {
        "rate": rate,
        "tuned": known["tuning"]["lever"]["lr"],
        "widths": [grown_model(base, scale).width for scale in SCALES],
        "losses": losses.tolist(),
        "verdict": verdict(made, float(x[0, -1] / x[0, 0])),
        "multiplier": asdict(made.mean),
    }


def _losses(one: Recipe, place: Place) -> list[float]:
    return [float(place.run(replace(one, seed=seed))["loss"]) for seed in range(SEEDS)]


def said(found: Sequence[dict[str, Any]]) -> str:
    """How far suggestions lie from the tuned rates."""
    octaves = octaves_of(found)
    near = sum(abs(o) <= 1 for o in octaves)
    return (
        f"suggests {2 ** float(np.median(octaves)):.2g} times the tuned rate in the middle of "
        f"{len(found)} optimizers, within a factor of 2 in {near} of {len(octaves)} tests, "
        f"{2 ** min(octaves):.2g} to {2 ** max(octaves):.2g} times in all"
    )


def octaves_of(found: Sequence[dict[str, Any]]) -> list[float]:
    """Logarithms to base 2 of suggested over tuned."""
    return [float(np.log2(rate / one["tuned"])) for one in found for rate in one["suggested"]]


def figure(found: Sequence[dict[str, Any]]) -> Any:
    """Suggested over tuned, an optimizer a line."""
    made, (axes,) = style.figure("The rate that one range test suggests, over the tuned one")
    ordered = sorted(found, key=lambda one: sum(octaves_of([one])))
    axes.axvspan(0.5, 2.0, color=style.LIGHT["band"], lw=0)
    axes.axvline(1.0, color=style.LIGHT["muted"], lw=1.2)
    for y, one in enumerate(ordered):
        values = [rate / one["tuned"] for rate in one["suggested"]]
        axes.scatter(values, [y] * len(values), s=22, color=style.LIGHT["run"], lw=0, zorder=3)
    axes.set_xscale("log", base=2)
    ticks = [2.0**k for k in range(-5, 6) if axes.get_xlim()[0] < 2.0**k < axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    names = [one["name"].partition("/")[2] for one in ordered]
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_xlabel("suggested / tuned (band: a factor of 2)")
    return made


def keep(content: dict[str, Any]) -> None:
    """Figure and catalogue."""
    write_whole(OUT / "range-test.svg", style.svg(figure(content["ratios"]), "range-test"))
    cycle = content["one_cycle"]
    widths = f"stdlib, widths {cycle['widths'][0]} to {cycle['widths'][-1]}, {SEEDS} seeds"
    ratios_said = f"{said(content['ratios'])} (stdlib, width {cycle['widths'][0]})"
    evidence = Evidence(result=ratios_said, command=COMMAND, figure=FIGURE)
    record("schedules", "range-test", evidence)
    result = (
        f"at the rate of one range test, no search: {cycle['verdict']} (against AdamW with linear "
        f"decay tuned in five runs; {widths})"
    )
    record("schedules", "one-cycle", Evidence(result=result, command=COMMAND))


def main() -> None:
    """Measure, or record what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("/tmp/stepladder-compare"))
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    file = OUT / "range-test.json"
    if given.record:
        return keep(json.loads(file.read_text()))
    torch.set_num_threads(1)
    dataset = prepare("stdlib", TOKENIZER)
    base, place = baseline(dataset), Place(given.root, dataset)
    content: dict[str, Any] = {"one_cycle": one_cycle(base, place)}
    print(content["one_cycle"]["verdict"], flush=True)
    rated = [lv for lv in LEVERS if lv.name.startswith("optim/") and _is_tuned(lv)]
    content["ratios"] = [ratios(lever, base, place) for lever in rated]
    print(said(content["ratios"]), flush=True)
    write_whole(file, json.dumps(content, indent=1) + "\n")
    return None


def _is_tuned(lever: Lever) -> bool:
    return path_of(lever.name).exists() and "tuning" in json.loads(path_of(lever.name).read_text())


if __name__ == "__main__":
    main()
