"""The loop over an executor: what is run, kept, and said when it goes wrong."""

import math

import pytest

from stepladder.search.levels import Levels
from stepladder.search.running import PATIENCE, loss_of, rehearse, run
from stepladder.search.space import Space
from stepladder.search.study import Study

from .test_space import BASE

SPACE = Space.parse(["optimizer.lr=log:1e-4..1", "optimizer.weight_decay=0..0.3"]).of(BASE)
LEVELS = Levels.of(BASE, (1.0, 1.5, 2.0))


class Trainer:
    """An executor whose losses are a parabola in the base rate, lower at larger widths."""

    def __init__(self, lose=lambda recipe: False):
        self.recipes, self.lose = [], lose

    def __call__(self, asked):
        return [self.result(recipe) for _, recipe in asked]

    def result(self, recipe):
        self.recipes.append(recipe)
        off = math.log10(recipe.optimizer.lr / 0.01)
        loss = 3 + off**2 + 10 / recipe.model.width
        lost = self.lose(recipe)
        return {"key": recipe.key, "diverged": lost, "loss": None if lost else loss}


def opened(path=None, scheduler="hyperband"):
    return Study.open(SPACE, LEVELS.costs, proposer="bohb", scheduler=scheduler, path=path)


def test_finds_the_rate_within_the_budget():
    trainer, budget = Trainer(), 20 * LEVELS.costs[-1]
    with opened() as study:
        found = run(study, BASE, LEVELS, trainer, budget, at_once=4)
    assert found.spent <= budget
    assert found.spent == pytest.approx(
        sum(n * cost for n, cost in zip(found.runs, LEVELS.costs, strict=True))
    )
    assert sum(found.runs) == len(trainer.recipes)
    assert found.base.model == BASE.model
    assert found.base.optimizer.lr == pytest.approx(0.01, rel=0.5)
    assert found.grown.model.width == 64
    assert found.grown.optimizer.lr == found.base.optimizer.lr


def test_rehearsal_tells_what_will_be_run():
    budget = 12 * LEVELS.costs[-1]
    outline = rehearse(SPACE, LEVELS, "hyperband", budget, at_once=1)
    with opened() as study:
        found = run(study, BASE, LEVELS, Trainer(), budget)
    assert outline.runs == found.runs
    assert outline.cost == pytest.approx(found.spent)


def test_interrupted_it_goes_on(tmp_path):
    path, budget = tmp_path / "journal.log", 6 * LEVELS.costs[-1]

    class Stopped(Trainer):
        def __call__(self, asked):
            if len(self.recipes) >= 6:
                raise KeyboardInterrupt
            return super().__call__(asked)

    first, second = Stopped(), Trainer()
    with pytest.raises(KeyboardInterrupt), opened(path) as study:
        run(study, BASE, LEVELS, first, budget, at_once=2)
    with opened(path) as study:
        found = run(study, BASE, LEVELS, second, budget, at_once=2)
    whole = Trainer()
    with opened() as study:
        assert run(study, BASE, LEVELS, whole, budget, at_once=2) == found
    assert [r.key for r in first.recipes + second.recipes] == [r.key for r in whole.recipes]


def test_a_metric_that_is_never_reported():
    def silent(asked):
        return [{"key": recipe.key, "diverged": False} for _, recipe in asked]

    with opened() as study, pytest.raises(ValueError, match="without a `loss`"):
        run(study, BASE, LEVELS, silent, 1e18)
    assert loss_of({"diverged": True, "loss": None}) == math.inf


def test_all_trials_diverge():
    trainer = Trainer(lose=lambda recipe: True)
    with opened() as study, pytest.raises(ValueError, match=r"all 8 trials diverged: .*lr 0.0001"):
        run(study, BASE, LEVELS, trainer, 1e18)
    assert len(trainer.recipes) == PATIENCE


def test_some_diverge():
    trainer = Trainer(lose=lambda recipe: recipe.optimizer.lr > 0.05)
    with opened(scheduler="halving") as study:
        found = run(study, BASE, LEVELS, trainer, 15 * LEVELS.costs[-1])
    assert found.diverged == sum(r.optimizer.lr > 0.05 for r in trainer.recipes) > 0
    assert found.best.loss < 3.5


def test_a_budget_too_small_for_anything():
    with opened() as study, pytest.raises(ValueError, match="raise --runs"):
        run(study, BASE, LEVELS, Trainer(), LEVELS.costs[0] / 2)
