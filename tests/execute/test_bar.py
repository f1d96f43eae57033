"""The bar over a bill, with several runs at once."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from stepladder.cli.progress import Bar
from stepladder.cost import cost


def bill(recipe):
    spent = cost(recipe)
    return spent.flops_total + spent.flops_evaluation


def shown(bar):
    (task,) = bar.progress.tasks
    return task.completed, task.description


def test_runs_at_once_add_up_and_are_counted(recipe):
    first, second = recipe, replace(recipe, tokens=2 * recipe.tokens)
    bar = Bar(Console(file=io.StringIO()), bill(first) + bill(second), 10.0)
    with bar:
        a, b = bar.watch("tune", first), bar.watch("rung 1", second)
        assert shown(bar) == (0.0, "rung 1, 16x2 +1")
        a.step(first.steps // 2)
        assert shown(bar) == (pytest.approx(bill(first) / 2), "tune, 16x2 +1")
        b.step(second.steps // 4)
        assert shown(bar)[0] == pytest.approx(bill(first) / 2 + bill(second) / 4)
        a.step(first.steps)
        a.step(first.steps)  # the last step, and the executor's word that the bill is settled
        assert shown(bar)[0] == pytest.approx(bill(first) + bill(second) / 4)
        b.step(second.steps)
        assert shown(bar) == (pytest.approx(bill(first) + bill(second)), "rung 1, 16x2")


def test_without_a_terminal_each_run_says_a_line(recipe):
    out = io.StringIO()
    with Bar(Console(file=out), bill(recipe), 10.0) as bar:
        run = bar.watch("tune", recipe)
        run.row({"tokens": recipe.tokens, "loss": 3.0})
        run.row({"tokens": recipe.tokens, "validation_loss": 2.5})
    assert out.getvalue().splitlines()[0] == "  tune, 16x2: loss 2.5000"
