"""The ladder from a plan to a score, against a law that is known."""

import copy
import itertools
import math
from pathlib import Path

import pytest

from stepladder.cost import cost
from stepladder.data import Dataset
from stepladder.devices import device_named
from stepladder.ladder import Folder, Plan, climb, find, make_plan, parse_budget, score, target_of
from stepladder.ladder.budget import said_time
from stepladder.ladder.climb import make_forecast
from stepladder.ladder.plan import SideBySide
from stepladder.ladder.score import compare
from stepladder.store import Store

from .conftest import BEST_RATE, NOISE, executor, fake_result, noisy, true_loss


def test_plan_round_trips(plan: Plan) -> None:
    assert Plan.from_dict(plan.to_dict()) == plan


def test_plan_keeps_to_its_budget_and_uses_it(dataset: Dataset, plan: Plan) -> None:
    assert sum(plan.flops.values()) <= 2e13
    wider = make_plan(parse_budget("9e13"), dataset, device_named("a100"), ratio=0.5, context=64)
    assert wider.target.model.width > plan.target.model.width


def test_target_has_eight_times_the_compute_of_its_largest_rung(plan: Plan) -> None:
    rungs = [cost(rung.recipe).flops_total for rung in plan.rungs]
    assert rungs == sorted(rungs)
    assert cost(plan.target).flops_total >= 8 * rungs[-1]
    assert all(b >= 1.5 * a for a, b in itertools.pairwise(rungs))


class Endless:
    """A corpus that never ends."""

    source, tokenizer, fingerprint, vocab_size = "all", "bpe:32000", "0" * 32, 32_000
    bytes_per_token, text_field = 4.2, "text"

    def epochs(self, tokens: float) -> float:
        return 0.0

    def epochs_sentence(self, tokens: float) -> str:
        return ""


@pytest.mark.parametrize("budget", ["1e20", "1e22", "1e24"])
def test_a_large_budget_spends_a_few_percent_on_small_runs(budget: str) -> None:
    device = device_named("h100")
    plan = make_plan(parse_budget(budget), Endless(), device, context=1024, precision="bfloat16")
    total = sum(plan.flops.values())
    assert 0.3 * float(budget) < total <= float(budget)
    assert plan.flops["target"] >= 0.9 * total
    rungs = [cost(rung.recipe).flops_total for rung in plan.rungs]
    assert rungs[-1] >= 16 * rungs[0]  # it reaches far, so it spans much
    assert not [note for note in plan.notes if "does not fit one" not in note]


def test_a_budget_beyond_the_text_says_so(dataset: Dataset) -> None:
    plan = make_plan(parse_budget("1e20"), dataset, device_named("a100"), ratio=0.5, context=64)
    assert "The text is the limit" in plan.notes[-1]
    assert sum(plan.flops.values()) < 1e18


def test_bill_adds_up_to_the_runs_that_are_made(plan: Plan, folder: Folder, tmp_path: Path) -> None:
    paid = []

    def counting(asked):
        paid.extend(r for _, r in asked)
        return executor()(asked)

    climb(folder, Store(tmp_path / "runs"), counting)
    spent = sum(cost(r).flops_total + cost(r).flops_evaluation for r in set_of(paid))
    planned = sum(plan.flops[part] for part in ("tuning", "check", "rungs"))
    assert spent == pytest.approx(planned, rel=1e-9)


def set_of(recipes):
    return {recipe.key: recipe for recipe in recipes}.values()


def test_too_small_a_budget_names_the_smallest_that_would_do(dataset: Dataset) -> None:
    device = device_named("a100")
    with pytest.raises(ValueError, match=r"too small .* takes ([0-9.e+]+) FLOP") as error:
        make_plan(parse_budget("1e6"), dataset, device, ratio=0.5, context=64)
    named = float(str(error.value).split(" takes ")[1].split(" ")[0])
    assert make_plan(parse_budget(f"{1.05 * named}"), dataset, device, ratio=0.5, context=64)


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "ten", "5 parsecs", "1e18 flip", "1.2.3"])
def test_unreadable_budgets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot read the budget"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("text", "kind", "amount"),
    [("1e18", "flops", 1e18), ("20 min", "seconds", 1200), ("64gpu-hours", "seconds", 230_400)],
)
def test_budgets_are_read(text: str, kind: str, amount: float) -> None:
    budget = parse_budget(text)
    assert (budget.kind, budget.amount) == (kind, amount)


def test_climb_finds_the_rate_and_forecasts_the_law(folder: Folder, tmp_path: Path) -> None:
    forecast = climb(folder, Store(tmp_path / "runs"), executor())
    tuning = folder.read("tuning")
    assert tuning is not None
    assert abs(math.log2(tuning["lr"] / BEST_RATE)) < 0.5
    assert tuning["check"]["holds"]
    truth = true_loss(target_of(folder))
    assert forecast["forecast"] == pytest.approx(truth, rel=0.02)
    assert forecast["interval"][0] < truth < forecast["interval"][1]
    assert forecast["seed_noise"] == pytest.approx(NOISE, rel=0.8)


def test_an_optimum_outside_the_grid_is_followed(folder: Folder, tmp_path: Path) -> None:
    best = 2.0**-0.5
    climb(folder, Store(tmp_path / "runs"), executor(lambda r: noisy(r, best)))
    tuning = folder.read("tuning")
    assert tuning is not None
    assert abs(math.log2(tuning["lr"] / best)) < 0.5


def test_a_moved_optimum_is_said(folder: Folder, plan: Plan, tmp_path: Path) -> None:
    wider = plan.rungs[plan.wider].recipe.model.width

    def loss(recipe):
        far = recipe.model.width >= wider
        return noisy(recipe, BEST_RATE / 8 if far else BEST_RATE)

    climb(folder, Store(tmp_path / "runs"), executor(loss))
    tuning = folder.read("tuning")
    assert tuning is not None
    assert not tuning["check"]["holds"]
    assert tuning["check"]["moved_octaves"] < -0.5


def test_diverged_rungs_are_left_out_and_named(plan: Plan) -> None:
    lr = BEST_RATE
    recipes = [recipe for rung in plan.rungs for recipe in rung.recipes(lr)]
    results = [fake_result(r, noisy(r)) for r in recipes]
    lost = fake_result(recipes[3], math.inf)
    forecast = make_forecast(plan, {"lr": lr}, [*results[:3], lost, *results[4:]])
    assert forecast["diverged"] == [lost["key"]]
    assert lost["key"] not in forecast["runs"]


def test_the_outcome_cannot_change_the_forecast(folder: Folder, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    climb(folder, store, executor())
    before = (folder.path / "forecast.json").read_bytes()
    recipe = target_of(folder)
    with store.claim(recipe.key, recipe.to_toml()) as run:
        run.finish(fake_result(recipe, 99.0))
    again = climb(folder, store, executor(lambda r: 1.0))
    scored = score(folder, store)
    assert (folder.path / "forecast.json").read_bytes() == before
    assert scored["forecast"] == again["forecast"]
    assert scored["outcome"] == 99.0
    assert not scored["inside"]


def test_a_forecast_after_the_start_is_refused(folder: Folder, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    first = climb(folder, store, executor())
    recipe = target_of(folder)
    with store.claim(recipe.key, recipe.to_toml()):
        pass  # started, and stopped at once
    (folder.path / "forecast.json").unlink()
    with pytest.raises(ValueError, match="has been started"):
        climb(folder, store, executor())
    assert folder.read("forecast") is None
    assert first["target"]["key"] == recipe.key


def test_a_target_started_before_its_forecast_is_not_scored(folder: Folder, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    climb(folder, store, executor())
    recipe = target_of(folder)
    with store.claim(recipe.key, recipe.to_toml()) as run:
        run.finish(fake_result(recipe, 2.0) | {"started": "2001-01-01T00:00:00+00:00"})
    with pytest.raises(ValueError, match="before its forecast"):
        score(folder, store)


def test_no_target_before_its_forecast(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run stepladder climb first"):
        target_of(folder)
    with pytest.raises(ValueError, match="run stepladder climb first"):
        score(folder, Store(tmp_path / "runs"))


def test_files_are_written_once(folder: Folder, plan: Plan) -> None:
    with pytest.raises(ValueError, match="never written again"):
        folder.write("plan", plan.to_dict())


def test_a_damaged_file_is_named(folder: Folder) -> None:
    (folder.path / "plan.json").write_text("{")
    with pytest.raises(ValueError, match=r"plan\.json is damaged"):
        folder.plan()


def test_unknown_ladders_are_refused_with_the_nearest(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"did you mean {folder.name!r}"):
        find(tmp_path, folder.name[:-1] + "x")
    with pytest.raises(ValueError, match="there is no ladder"):
        find(tmp_path / "elsewhere")


def test_score_arithmetic() -> None:
    forecast = {
        "forecast": 3.0,
        "interval": [2.9, 3.1],
        "level": 0.9,
        "ladder": "a",
        "created": "2026-01-01T00:00:00+00:00",
        "points": [{"flops": 2.0}, {"flops": 5.0}],
    }
    outcome = {"key": "k", "diverged": False, "loss": 3.2, "flops": 50.0, "seconds": 1.0}
    scored = compare(forecast, outcome | {"started": "2026-01-02T00:00:00+00:00"})
    assert scored["relative_error"] == pytest.approx(3.0 / 3.2 - 1)
    assert not scored["inside"]
    assert scored["target_over_largest_rung"] == 10.0
    diverged = compare(copy.deepcopy(forecast), outcome | {"diverged": True, "started": ""})
    assert diverged["outcome"] == math.inf
    assert not diverged["inside"]


def test_small_runs_side_by_side_share_the_time(dataset: Dataset) -> None:
    device, budget = device_named("a100"), parse_budget("2e13")
    alone = make_plan(budget, dataset, device, ratio=0.5, context=64)
    beside = SideBySide(device=device, at_once=4)
    shared = make_plan(budget, dataset, device, ratio=0.5, context=64, beside=beside)
    assert shared.seconds["target"] == alone.seconds["target"]
    for part in ("tuning", "check", "rungs"):
        assert shared.seconds[part] == pytest.approx(alone.seconds[part] / 4)
    assert shared.at_once == 4


def test_times_are_said_as_people_say_them() -> None:
    times = {1: "1 s", 89: "89 s", 90: "1.5 min", 2e4: "5.6 h", 1e6: "11.6 d", 3.6e33: "4.2e+28 d"}
    assert {x: said_time(x) for x in times} == times
