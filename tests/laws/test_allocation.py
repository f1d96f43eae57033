"""Budgets: closed forms, constraints, choices, and what cannot be allocated."""

import numpy as np
import pytest
from surfaces import TRUTH, chinchilla_table

from stepladder.laws import Coefficient, Input, Law, fit, get
from stepladder.laws.allocation import Budget, allocate

EPOCH = get("chinchilla").published("epoch").values


def optimum(flops: float) -> float:
    """Equation 4 of arXiv:2203.15556."""
    v = EPOCH
    total = v["alpha"] + v["beta"]
    scale = (v["alpha"] * v["A"] / (v["beta"] * v["B"])) ** (1 / total)
    return scale * (flops / 6) ** (v["beta"] / total)


@pytest.mark.parametrize("flops", [1e18, 1e21, 1e24])
def test_chinchilla_optimum_is_the_closed_form(flops):
    best = allocate(get("chinchilla"), Budget(flops=flops), values=EPOCH)
    assert best.inputs["params"] == pytest.approx(optimum(flops), rel=1e-4)
    assert 6 * best.inputs["params"] * best.inputs["tokens"] == pytest.approx(flops)
    assert best.binding == "flops"


def test_every_choice_within_the_region_is_nearly_as_good():
    law = get("chinchilla")
    best = allocate(law, Budget(flops=1e22), values=EPOCH, tolerance=0.001)
    for end in best.near["params"]:
        value = law.predict(EPOCH, {"params": end, "tokens": 1e22 / 6 / end})
        assert value == pytest.approx(best.value * 1.001, rel=1e-4)


def test_served_tokens_come_out_of_the_budget():
    budget = Budget(flops=1e22, served_tokens=1e12)
    best = allocate(get("chinchilla"), budget, values=EPOCH)
    params, tokens = best.inputs["params"], best.inputs["tokens"]
    assert 6 * params * tokens + 2 * params * 1e12 == pytest.approx(1e22)
    assert params < optimum(1e22)


def test_time_is_compute():
    timed = allocate(get("chinchilla"), Budget(seconds=1e5, flops_per_second=1e16), values=EPOCH)
    assert timed == allocate(get("chinchilla"), Budget(flops=1e21), values=EPOCH)


def test_unique_tokens_limit_a_law_that_knows_no_repetition():
    best = allocate(get("chinchilla"), Budget(flops=1e22, unique_tokens=5e10), values=EPOCH)
    assert best.inputs["tokens"] <= 5e10
    repeated = get("data-constrained")
    more = allocate(repeated, Budget(flops=1e22, unique_tokens=5e10))
    assert more.inputs["tokens"] > 5e10
    assert more.inputs["unique_tokens"] == 5e10


def test_memory_is_used_to_its_last_byte():
    best = allocate(get("chinchilla"), Budget(flops=1e24, memory=16e9), values=EPOCH)
    assert best.binding == "memory"
    assert 2 * best.inputs["params"] == pytest.approx(16e9, rel=1e-4)


def test_choices_of_further_inputs_are_searched():
    law = Law(
        name="with-bits", title="", arxiv="", form="L = 100 (N b)^-0.3 + 100 D^-0.3 + b / 200",
        inputs=(
            Input(name="params", meaning="", falls=True),
            Input(name="tokens", meaning="", falls=True),
            Input(name="bits", meaning="bits of a weight", choices=(4.0, 8.0, 16.0)),
        ),
        coefficients=(Coefficient(name="k", meaning=""),),
        columns=lambda p, x: (
            (x["params"] * x["bits"]) ** -0.3 + x["tokens"] ** -0.3 + x["bits"] / 2e4,
        ),
    )  # fmt: skip
    one = {"values": {"k": 100.0}}
    best = allocate(law, Budget(flops=1e20), **one)
    each = [allocate(law, Budget(flops=1e20), given={"bits": b}, **one).value for b in (4, 8, 16)]
    assert best.value == min(each)
    assert best.inputs["bits"] == (4.0, 8.0, 16.0)[int(np.argmin(each))]


def test_best_choice_moves_between_refits():
    found = fit("chinchilla", chinchilla_table(TRUTH, 0.005), starts=30, bootstrap=0)
    best = allocate(found, Budget(flops=1e22))
    low, high = best.intervals["params"]
    assert low < best.inputs["params"] < high


@pytest.mark.parametrize(
    ("law", "budget", "match"),
    [
        ("power", Budget(flops=1e20), "no params and tokens"),
        ("data-constrained", Budget(flops=1e20), "needs unique_tokens"),
        ("chinchilla", Budget(), "give flops, or seconds"),
        ("chinchilla", Budget(flops=-1.0), "buys nothing"),
        ("chinchilla", Budget(flops=1e20, memory=10.0), "allows no choice"),
    ],
)
def test_what_cannot_be_allocated(law, budget, match):
    values = None if law != "power" else {"E": 1.0, "A": 1.0, "alpha": 0.1}
    with pytest.raises(ValueError, match=match):
        allocate(get(law), budget, values=values)
