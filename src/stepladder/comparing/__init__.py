"""Comparing: what a lever saves over a baseline, and whether it holds as scale grows.

    sl.compare("adamw.toml", "muon.toml").verdict

Both recipes get the same search, are grown by the same rule to the same scales, and run on the same
seeds; the answer is the compute multiplier at each rung, its trend, and a verdict, with intervals.
`curve`, `means`, `multiplier` and `verdict` are pure statistics: numpy alone.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepladder.comparing.running import Comparison
    from stepladder.recipe import Recipe

__all__ = ["compare"]


def compare(
    base: "Recipe | Path | str",
    lever: "Recipe | Path | str",
    *,
    scales: Sequence[float] = (1.0, 1.5, 2.0),
    seeds: int = 3,
    baseline_seeds: int | None = None,
    rates: int = 5,
    tuning_seeds: int = 1,
    tune: Mapping[str, Sequence[Any]] | None = None,
    lever_as_given: bool = False,
    level: float = 0.9,
    root: Path | str = ".",
    device: str = "auto",
    executor: Callable[..., AbstractContextManager[Any]] | None = None,
) -> "Comparison":
    """The compute multiplier of a lever over a baseline.

    Args:
        base, lever: recipes, or files of them, on the same data.
        scales: widths of the rungs in widths of the recipes: at least three, rising from 1.
        seeds: runs of each arm at each rung, at least two.
        baseline_seeds: runs of the baseline at each rung, if more: worth it where one baseline
            serves several levers, or is noisier than they are.
        rates: learning rates tried for each arm, around its own; more where the best is at an end.
        tuning_seeds: runs at each of them.
        tune: further fields to tune with the values to try: {"optimizer.weight_decay": (0, 0.1)}.
        lever_as_given: the lever keeps the rate of its recipe, and only the baseline is tuned: the
            cost of taking a rate from a rule, a paper or another batch, instead of a search.
        level: of the intervals.
        root: folder of the runs, `root/runs`; what is there is not run again.
        executor: where runs run: `executor(store, dataset, watch, device)` is a context manager
            whose `run` trains (label, recipe) pairs. If None: a process a core on the CPU, and on
            CUDA all seeds and rates of a shape in one program.

    Raises:
        ValueError: recipes that cannot be compared, or an arm that diverges.
    """
    from stepladder.comparing.place import Place
    from stepladder.comparing.plan import make_plan
    from stepladder.comparing.running import run
    from stepladder.comparing.search import Search

    place = Place.open(base, lever, root=root, device=device)
    fields = {name: tuple(values) for name, values in (tune or {}).items()}
    search = Search(rates=rates, seeds=tuning_seeds, fields=fields)
    plan = make_plan(
        place.base,
        place.lever,
        scales=scales,
        seeds=seeds,
        baseline_seeds=baseline_seeds,
        search=search,
        lever_as_given=lever_as_given,
    )
    place.require_room(plan)
    with place.executor(executor) as pool:
        return run(plan, pool.run, level=level)
