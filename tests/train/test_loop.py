"""What the loop computes: against a plain float64 loop, closed forms and itself."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from stepladder.models.build import build
from stepladder.recipe import Model, Optimizer, Recipe, Schedule
from stepladder.store import Store
from stepladder.train import Execution, train
from stepladder.train.evaluate import evaluate
from stepladder.train.timeline import ROWS, evaluation_steps, rate_factor

from . import reference
from .conftest import HERE, TINY, curve

UNIFORM = math.log(257)


def batches(recipe: Recipe, dataset) -> list[tuple[torch.Tensor, torch.Tensor]]:
    rows, context = recipe.batch // recipe.model.context, recipe.model.context
    return [
        dataset.batch(step, batch_sequences=rows, context=context, seed=recipe.seed)
        for step in range(recipe.steps)
    ]


def trained(rows, name: str = "loss") -> list[float]:
    return [row[name] for row in rows if name in row]


def final_weights(store: Store, recipe: Recipe) -> dict[str, torch.Tensor]:
    return load_file(
        store.folder(recipe.key) / "checkpoint" / str(recipe.steps) / "weights.safetensors"
    )


def test_every_step_is_that_of_a_plain_loop_in_float64(run, recipe, dataset, store):
    """Losses, gradient norms, validation loss and final weights, to float32's rounding."""
    start = dict(build(recipe)[0].named_parameters())
    losses, norms, weights = reference.train(recipe, start, batches(recipe, dataset))
    result, rows = run()
    assert trained(rows) == pytest.approx(losses, rel=2e-5)
    assert trained(rows, "gradient_norm") == pytest.approx(norms, rel=2e-4)
    assert any(norm > recipe.optimizer.clip for norm in norms)
    found = final_weights(store, recipe)
    assert found.keys() == weights.keys()
    for name, value in weights.items():
        # Adam turns a gradient near zero into a step of the rate's size, whatever its rounding.
        torch.testing.assert_close(found[name].double(), value.detach(), rtol=0, atol=2e-3)
    x, y = dataset.validation(recipe.model.context, recipe.validation)
    per_sequence = [
        reference.loss_of(weights, x[n : n + 1], y[n : n + 1], recipe.model).item()
        for n in range(len(x))
    ]
    assert result["loss"] == pytest.approx(np.mean(per_sequence), rel=2e-5)
    assert result["standard_error"] == pytest.approx(
        reference.standard_error(per_sequence), rel=1e-3
    )


def test_what_can_be_learned_is_learned(run):
    result, rows = run()
    measured = trained(rows, "validation_loss")
    assert measured == sorted(measured, reverse=True)
    assert trained(rows)[0] == pytest.approx(UNIFORM, abs=0.3)
    assert result["loss"] < 3.6


def test_the_result_says_what_was_run(run, recipe):
    result, rows = run()
    last = [row for row in rows if "validation_loss" in row][-1]
    assert (result["key"], result["diverged"]) == (recipe.key, False)
    assert (result["steps"], result["tokens"]) == (40, 2560)
    assert (result["loss"], last["step"]) == (last["validation_loss"], 40)
    assert result["train_loss"] == trained(rows)[-1]
    assert result["params"] == sum(p.numel() for p in build(recipe)[0].parameters())
    assert result["where"]["device"] == "cpu"
    assert result["seconds"] > 0


def test_a_step_in_parts_is_the_whole_step(run):
    _, whole = run(tokens=10 * 64)
    _, parts = run(tokens=10 * 64, accumulate=4)
    assert trained(parts) == pytest.approx(trained(whole), rel=1e-5)
    assert trained(parts, "validation_loss") == pytest.approx(
        trained(whole, "validation_loss"), rel=1e-5
    )


def test_seeds_differ_and_repeat(run, tmp_path):
    _, first = run(tokens=5 * 64)
    _, again = run(tokens=5 * 64, into=Store(tmp_path / "again"))
    _, other = run(tokens=5 * 64, seed=1)
    assert first == again
    assert trained(first) != trained(other)


def test_rates_follow_the_schedule(run):
    """Cosine to a tenth after a quarter of linear warmup, by its formula."""
    _, rows = run(schedule=Schedule(name="cosine", warmup=0.25, params={"final": 0.1}))
    progress = (np.arange(40) + 0.5) / 40
    cosine = 0.1 + 0.9 * (1 + np.cos(np.pi * (progress - 0.25) / 0.75)) / 2
    expected = 0.02 * np.where(progress < 0.25, progress / 0.25, cosine)
    assert trained(rows, "lr") == pytest.approx(expected, rel=1e-12)


def test_the_schedule_reaches_the_weights(run, recipe, store):
    """The middle of a run of one step: the linear schedule is at a half there."""
    for name in ("constant", "linear"):
        run(schedule=Schedule(name=name, warmup=0.0), tokens=64)
    first = build(recipe)[0].state_dict()["head.weight"]
    moved = {}
    for name in ("constant", "linear"):
        made = replace(recipe, schedule=Schedule(name=name, warmup=0.0), tokens=64)
        moved[name] = (final_weights(store, made)["head.weight"] - first).norm().item()
        assert rate_factor(made, 0) == {"constant": 1.0, "linear": 0.5}[name]
    # One step of Adam moves by the rate (decay is a thousandth of it).
    assert moved["linear"] / moved["constant"] == pytest.approx(0.5, rel=1e-3)


def test_long_runs_write_means_of_stretches(run, recipe):
    _, rows = run(tokens=450 * 64, evaluations=1, validation=64)
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == [*range(2, 451, 2)]
    assert len(steps) <= 1.5 * ROWS
    _, every = run(tokens=199 * 64, evaluations=1, validation=64)
    assert len(trained(every)) == 199


@given(steps=st.integers(1, 500), evaluations=st.integers(1, 600))
def test_measurements_are_evenly_spaced_and_end_with_the_run(steps, evaluations):
    shape = Model(**{**vars(TINY), "context": 1})
    made = Recipe(
        model=shape, optimizer=Optimizer(lr=1.0), tokens=steps, batch=1, evaluations=evaluations
    )
    found = sorted(evaluation_steps(made))
    assert found[-1] == steps
    assert found[0] >= 1
    assert len(found) == min(steps, evaluations)
    gaps = np.diff([0, *found])
    assert gaps.max() <= math.ceil(steps / evaluations) + 1


def test_standard_error_is_that_of_numpy():
    losses = torch.from_numpy(np.random.default_rng(0).lognormal(size=5000)).float()

    class Known:
        def sequence_losses(self, x, _y):
            return losses[x[:, 0]]

    x = torch.arange(5000)[:, None].expand(-1, 8)
    found = evaluate(Known(), x, x)  # several batches, the last one short
    assert found.loss == pytest.approx(float(losses.double().mean()), rel=1e-12)
    assert found.standard_error == pytest.approx(
        reference.standard_error(losses.double().tolist()), rel=1e-12
    )
    assert math.isnan(evaluate(Known(), x[:1], x[:1]).standard_error)


# Divergence ---------------------------------------------------------------------------------------


def test_divergence_is_a_result_and_is_not_run_again(run, recipe, store):
    hot = replace(recipe, optimizer=Optimizer(lr=1e6))
    result, rows = run(hot)
    assert result["diverged"]
    assert (result["loss"], result["standard_error"]) == (None, None)
    assert 0 < result["steps"] < hot.steps
    assert rows[-1]["step"] == result["steps"]
    assert store.get(hot.key).status == "diverged"
    assert train(hot, store, None) == result  # there is no dataset to train on


def test_divergence_in_the_last_step_is_seen(run):
    """The loss of a step is measured before its update: only the validation shows this one."""
    result, rows = run(
        optimizer=Optimizer(lr=10.0), tokens=64, schedule=Schedule(name="constant", warmup=0.0)
    )
    assert trained(rows)[0] < UNIFORM + 1
    assert (result["steps"], result["diverged"], result["loss"]) == (1, True, None)


def test_a_killed_end_of_a_diverged_run_comes_to_the_same_end(run, recipe, store):
    hot = replace(recipe, optimizer=Optimizer(lr=1e6))
    result, rows = run(hot)
    (store.folder(hot.key) / "result.json").unlink()  # killed before its last write
    again, same = run(hot)
    timing = {"seconds", "started"}
    assert {k: v for k, v in again.items() if k not in timing} == {
        k: v for k, v in result.items() if k not in timing
    }
    assert str(same) == str(rows)  # NaN is not equal to itself


def test_a_high_loss_within_the_warmup_is_no_divergence(run):
    """Rates may overshoot while they rise; what counts is where the run goes."""
    _, rows = run(optimizer=Optimizer(lr=3.0), schedule=Schedule(name="constant", warmup=1.0))
    assert max(trained(rows)) > UNIFORM + 1
    assert rows[-1]["step"] == 40


# Precision and compilation ------------------------------------------------------------------------


def test_bfloat16_runs_and_stays_near_float32(run):
    exact, _ = run()
    rough, _ = run(precision="bfloat16")
    assert rough["loss"] != exact["loss"]
    assert rough["loss"] == pytest.approx(exact["loss"], rel=0.02)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
@pytest.mark.filterwarnings("default")  # the compiler's own
@pytest.mark.parametrize("vocab_size", [257, 1 << 20])
def test_the_compiled_program_computes_the_same(run, recipe, dataset, tmp_path, vocab_size):
    """The second vocabulary takes the loss in chunks."""
    made = replace(recipe, model=replace(TINY, vocab_size=vocab_size), tokens=5 * 64)
    _, eager = run(made)
    store = Store(tmp_path / "compiled")
    result = train(made, store, dataset, execution=Execution(device=HERE.device, compiled=True))
    assert result["where"]["compiled"]
    assert trained(curve(store, made)) == pytest.approx(trained(eager), rel=1e-4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_cuda_computes_the_same(run, recipe, dataset, tmp_path, precision):
    made = replace(recipe, precision=precision, tokens=5 * 64)
    _, expected = run(made)
    for compiled in (False, True):
        there = Store(tmp_path / f"cuda-{compiled}")
        execution = Execution(device=torch.device("cuda"), compiled=compiled)
        train(made, there, dataset, execution=execution)
        assert trained(curve(there, made)) == pytest.approx(trained(expected), rel=1e-2)
