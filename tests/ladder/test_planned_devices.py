"""Plans for devices that are not here: they fit the memory, and their bills are sane."""

from dataclasses import replace
from pathlib import Path

import pytest

from stepladder.cost import cost
from stepladder.data import Dataset, Split, prepare
from stepladder.devices import device_named
from stepladder.ladder import Plan, make_plan, parse_budget
from stepladder.ladder.plan import MEMORY_SHARE, TooLarge, at_rate, fitted

H100 = device_named("h100")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """As much text as one likes; a plan reads none of it."""
    split = Split(tokens=10**12, bytes=4 * 10**12, documents=1, digest="")
    return Dataset(
        folder=tmp_path_factory.mktemp("web"),
        source="web",
        tokenizer="bpe:32768",
        vocab_size=32768,
        end_of_document=0,
        dtype="uint16",
        train=split,
        validation_split=split,
        duplicates=0,
        skipped=0,
        fingerprint="f",
    )


def planned(web: Dataset, budget: str) -> Plan:
    return make_plan(parse_budget(budget), web, H100, context=1024, precision="bfloat16")


@pytest.mark.parametrize("budget", ["8h", "64gpu-hours"])
def test_hours_on_an_h100_make_a_plan_that_runs_there(web: Dataset, budget: str) -> None:
    plan = planned(web, budget)
    recipes = [*(rung.recipe for rung in plan.rungs), plan.target]
    for recipe in recipes:
        assert cost(recipe).peak_memory <= MEMORY_SHARE * H100.memory
        assert recipe.batch % (recipe.accumulate * recipe.model.context) == 0
        assert recipe.precision == "bfloat16"
        # As Wang & Aitchison have it, whatever the batch was rounded to.
        memory = recipe.batch / (
            recipe.optimizer.lr * recipe.optimizer.weight_decay * recipe.tokens
        )
        first = recipes[0]
        assert memory == pytest.approx(
            first.batch / (first.optimizer.lr * first.optimizer.weight_decay * first.tokens),
            rel=0.01,
        )
    spent, asked = sum(plan.seconds.values()), parse_budget(budget).amount
    assert 0.6 * asked < spent <= asked
    assert plan.seconds["target"] > 0.75 * spent
    # Of the peak of dense bfloat16 products, 989 TFLOP/s: what good training code reaches.
    used = plan.flops["target"] / plan.seconds["target"] / 989.5e12
    assert 0.3 < used < 0.65
    assert plan.target.tokens == pytest.approx(
        20 * cost(plan.target).parameters.non_embedding_with_head, rel=1e-6
    )


def test_what_fits_is_left_as_it_is(plan: Plan) -> None:
    assert fitted(plan.target, 1e12) == plan.target
    assert plan.target.accumulate == 1


def test_micro_batches_are_as_few_as_fit(plan: Plan) -> None:
    large = replace(plan.target, tokens=64 * plan.target.tokens, batch=64 * plan.target.batch)
    whole = cost(large).peak_memory
    made = fitted(large, 0.4 * whole / MEMORY_SHARE)
    assert made.accumulate > 1
    assert cost(made).peak_memory <= 0.4 * whole
    fewer = replace(made, accumulate=made.accumulate // 2)
    assert cost(fewer).peak_memory > 0.4 * whole
    assert abs(made.batch - large.batch) <= made.accumulate * made.model.context
    assert at_rate(made, 1.0).accumulate == made.accumulate


def test_a_model_that_is_too_large_is_refused_with_the_fix(plan: Plan) -> None:
    with pytest.raises(TooLarge, match=r"for one sequence.*name a larger one"):
        fitted(plan.target, 1e6)


def test_a_target_that_takes_several_devices_is_said_to(web: Dataset) -> None:
    small = replace(H100, memory=4e9)
    plan = make_plan(parse_budget("64h"), web, small, context=1024, precision="bfloat16")
    note = plan.notes[0]
    count = int(note.rpartition("--nproc-per-node ")[2].split()[0])
    need = cost(plan.target).peak_memory
    assert count > 1
    assert need <= count * MEMORY_SHARE * small.memory
    with pytest.raises(TooLarge):
        fitted(plan.target, count / 2 * small.memory)


def test_the_field_of_the_text_is_part_of_the_plan(tmp_path: Path) -> None:
    """So that climb and train read what plan read."""
    lines = [f'{{"body": "{i} {"ladder rung " * 40}"}}' for i in range(400)]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    read = prepare(tmp_path / "d.jsonl", "bytes", cache=tmp_path / "cache", text_field="body")
    plan = make_plan(parse_budget("1e13"), read, device_named("a100"), ratio=0.2, context=32)
    data = plan.target.data
    again = prepare(
        data.source, data.tokenizer, cache=tmp_path / "cache", text_field=data.text_field
    )
    assert (data.text_field, again.fingerprint) == ("body", data.fingerprint)
