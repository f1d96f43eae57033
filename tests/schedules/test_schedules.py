"""Closed forms, properties of every schedule, and what they refuse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepladder.schedules import CONTROLLERS, REGISTRY, controller, get, midpoint
from stepladder.schedules.one_cycle import momentum
from stepladder.schedules.range_test import read
from stepladder.schedules.step import gradual
from stepladder.schedules.wsd import COOLDOWNS, branch

SHAPES = [name for name in REGISTRY if name not in CONTROLLERS]
NO_WARMUP = {"one-cycle", "range-test"}
REQUIRED = {"power": {"peak": 0.01, "batch": 64, "tokens": 1e9}}
fractions = st.floats(0, 1)


def factor(name, progress, warmup=0.1, **params):
    warmup = 0.0 if name in NO_WARMUP else warmup
    return get(name).factor(progress, warmup=warmup, **REQUIRED.get(name, {}), **params)


@pytest.mark.parametrize("name", SHAPES)
@given(progress=fractions, warmup=st.floats(0.01, 0.5))
def test_factors_lie_between_0_and_1(name, progress, warmup):
    assert 0.0 <= factor(name, progress, warmup) <= 1.0 + 1e-12


@pytest.mark.parametrize("name", [n for n in SHAPES if n != "step"])
@given(progress=st.floats(0, 0.9999))
def test_schedules_do_not_jump(name, progress):
    """1e-4 of the run moves the factor by little (1-sqrt is the steepest, at its start)."""
    before, after = factor(name, progress), factor(name, progress + 1e-4)
    assert abs(after - before) < 0.03


@pytest.mark.parametrize("name", [n for n in SHAPES if n not in NO_WARMUP])
@given(share=fractions, start=fractions)
def test_warmup_is_linear(name, share, start):
    top = factor(name, 0.1)
    got = factor(name, 0.1 * share, warmup_from=start)
    assert got == pytest.approx(top * (start + (1 - start) * share), abs=1e-9)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("progress", [-0.001, 1.001, float("nan")])
def test_beyond_the_horizon(name, progress):
    with pytest.raises(ValueError, match="beyond its horizon"):
        factor(name, progress)


@pytest.mark.parametrize("name", SHAPES)
@given(
    progress=fractions, value=st.one_of(st.floats(), st.text(max_size=3), st.none(), st.just(()))
)
def test_odd_parameters_give_a_rate_or_are_refused(name, progress, value):
    """Never a rate that is negative or not finite, and no other error."""
    for key in get(name).parameters:
        given = {**REQUIRED.get(name, {}), key: value}
        try:
            found = get(name).factor(progress, warmup=0.0 if name in NO_WARMUP else 0.1, **given)
        except ValueError:
            continue
        assert 0.0 <= found < math.inf


@pytest.mark.parametrize("name", SHAPES)
def test_unknown_parameters_are_named(name):
    with pytest.raises(ValueError, match="has no parameter 'finnal'"):
        factor(name, 0.5, finnal=0.1)


@pytest.mark.parametrize("name", ["linear", "cosine", "polynomial", "wsd", "power", "infinite"])
def test_final_is_the_last_factor(name):
    plateau = factor(name, 0.9, decay=0.1) if name == "power" else 1.0
    assert factor(name, 1.0, final=0.07) == pytest.approx(0.07 * plateau)


@pytest.mark.parametrize("kind", [k for k in COOLDOWNS if k != "none"])
def test_cooldowns_fall_from_1_to_0(kind):
    shares = np.linspace(0, 1, 50)
    values = [COOLDOWNS[kind](t) for t in shares]
    assert values[0] == 1.0
    assert values[-1] == pytest.approx(0.0, abs=1e-12)
    assert values == sorted(values, reverse=True)


def test_mirror_cosine_mirrors_the_cosine_in_the_line():
    for t in np.linspace(0, 1, 20):
        cosine, mirror = COOLDOWNS["cosine"](t), COOLDOWNS["mirror-cosine"](t)
        assert (cosine + mirror) / 2 == pytest.approx(1 - t)


@given(trunk=st.floats(0.05, 1), decay=st.floats(0.05, 0.5), share=fractions)
def test_a_branch_is_a_shorter_wsd_run(trunk, decay, share):
    """Up to where it leaves the trunk at rate 1, then the cooldown over its own decay."""
    horizon = trunk / (1 - decay)
    clock = share * horizon
    got = get("wsd").factor(branch(clock, trunk, decay=decay), decay=decay, cooldown="linear")
    expected = 1.0 if clock <= trunk else 1 - (clock - trunk) / (horizon - trunk)
    assert got == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="the branch that leaves"):
        branch(horizon * 1.01, trunk, decay=decay)


def test_power_follows_the_law_and_not_the_horizon():
    """At equal tokens seen the rate is the same for any horizon, and proportional to the batch."""
    law = {"peak": 0.02, "decay": 0.0}
    short = get("power").factor(1.0, batch=32, tokens=1e10, **law)
    long = get("power").factor(0.25, batch=32, tokens=4e10, **law)
    double = get("power").factor(0.25, batch=64, tokens=4e10, **law)
    assert short == pytest.approx(long, rel=1e-12)
    assert double == pytest.approx(2 * long, rel=1e-12)
    assert short * 0.02 == pytest.approx(32 * 4.6 * 1e10**-0.51, rel=1e-12)


def test_infinite_has_its_four_phases():
    phases = {"cooldown": 0.2, "constant": 0.4, "decay": 0.3, "final": 0.1}
    expected = {0.05: 0.5, 0.1: 1.0, 0.2: 0.7, 0.3: 0.4, 0.6: 0.4, 0.85: math.sqrt(0.04), 1.0: 0.1}
    for progress, value in expected.items():
        got = get("infinite").factor(progress, warmup=0.1, **phases)
        assert got == pytest.approx(value, rel=1e-9)
    assert get("infinite").factor(1.0, warmup=0.1, **{**phases, "decay": 0.0}) == 0.4


def test_momentum_cycles_against_the_rate():
    assert [momentum(p, rise=0.4) for p in (0.0, 0.4, 0.8, 1.0)] == [0.95, 0.85, 0.95, 0.95]


@pytest.mark.parametrize("curvature", [0.5, 4.0, 20.0])
def test_range_test_reads_the_stability_limit_of_a_quadratic(curvature):
    """Gradient descent on c x^2 / 2 is stable below 2 / c: the limit read lies above, near it."""
    top, steps, x = 100.0, 400, 1.0
    rates = [top * factor("range-test", midpoint(i, steps), start=1e-6) for i in range(steps)]
    losses = []
    for rate in rates:
        losses.append(0.5 * curvature * x * x + 1.0)
        x = x - rate * curvature * x + 1e-3
    found = read(rates, losses)
    assert 1.0 < found.limit / (2 / curvature) < 5.0
    assert found.steepest < found.limit


def test_range_test_names_what_is_wrong():
    with pytest.raises(ValueError, match="at least ten"):
        read([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="never fell"):
        read(list(range(20)), [float(i) for i in range(20)])
    with pytest.raises(ValueError, match="at least ten"):
        read(list(range(20)), [1.0] * 5 + [float("nan")] * 15)


def test_hypergradient_raises_the_rate_while_directions_agree():
    """Descent on x^2/2 from a rate far too small: the factor climbs until steps overshoot."""
    x, last, state = 1.0, 0.0, controller("fedhyper", gamma=1000.0, sensitivity=2.0)
    for _ in range(60):
        x -= 0.01 * state.factor * (gradient := x)
        state, last = state.update(gradient * last), gradient
    assert abs(x) < 0.1 < 0.99**60
    assert state.factor > 2.0


@given(inner=st.floats(-1e6, 1e6), gamma=st.floats(1.01, 100))
def test_hypergradient_stays_in_its_bounds(inner, gamma):
    moved = controller("fedhyper", gamma=gamma).update(inner)
    assert 1 / gamma <= moved.factor <= gamma
    assert (moved.factor - 1) * inner >= 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: get("cosin"), "did you mean 'cosine'"),
        (lambda: get("fedhyper"), "schedules.controller"),
        (lambda: controller("cosine"), "schedules.get"),
        (lambda: controller("fedhyper", gamma=0.5), "gamma must be above 1"),
        (lambda: get("linear").factor(0.5, warmup=1.5), "warmup is a fraction"),
        (lambda: get("wsd").factor(0.5, warmup=0.5, decay=0.6), "must fit into 1"),
        (lambda: get("wsd").factor(0.5, cooldown="1-sqr"), "did you mean '1-sqrt'"),
        (lambda: get("power").factor(0.5), "needs the parameter 'peak'"),
        (lambda: get("power").factor(0.5, peak=0.0, batch=1, tokens=1), "must be positive"),
        (lambda: get("power").factor(0.5, peak=1, batch=1, tokens=1, decay=2), "must fit into 1"),
        (lambda: get("inverse-sqrt").factor(0.5), "give a warmup above 0"),
        (lambda: get("polynomial").factor(0.5, power=0.0), "power must be positive"),
        (lambda: get("infinite").factor(0.5, cooldown=1.0), "must fit into 1"),
        (lambda: get("infinite").factor(0.5, final=0.5, constant=0.2), "final 0.5 <= constant"),
        (lambda: get("one-cycle").factor(0.5, warmup=0.1), "set warmup to 0"),
        (lambda: get("one-cycle").factor(0.5, rise=0.7), "rise is a fraction"),
        (lambda: momentum(1.5), "outside"),
        (lambda: get("range-test").factor(0.5, warmup=0.1), "set warmup to 0"),
        (lambda: get("range-test").factor(0.5, start=2.0), "factor in"),
        (lambda: get("step").factor(0.5, milestones=(3.0,)), "fractions of the run"),
        (lambda: gradual(0.5), "k >= 1"),
        (lambda: midpoint(10, 10), "outside the horizon"),
        (lambda: controller("fedhyper", sensitivity=math.inf), "positive and finite"),
        (lambda: controller("fedhyper", factor=math.nan), "factor must lie in"),
        (lambda: get("linear").factor(1.0, final=-0.5), "factor would be -0.5"),
        (lambda: get("cosine").factor(0.5, final=math.nan), "factor would be nan"),
        (lambda: get("step").factor(1.0, drop=1e300), "factor would be inf"),
        (lambda: get("linear").factor(0.5, final="low"), "final is a number: 'low'"),
        (lambda: get("wsd").factor(0.5, cooldown=2.0), "cooldown is a name, as '1-sqrt': 2.0"),
        (lambda: get("step").factor(0.5, milestones=0.5), "milestones is a list of numbers"),
        (lambda: get("power").factor(0.5, peak="a", batch=1, tokens=1), "peak is a number"),
        (lambda: get("wsd").at(0, 10, 0, warmup=100.0), "a batch is positive"),
        (lambda: momentum(0.5, rise=0.0), "rise is a fraction"),
        (lambda: branch(0.5, 0.5, decay=1.0), "decay is a fraction"),
        (lambda: read([1.0] * 9, [1.0] * 20), "9 rates, 20 losses"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_planning_stays_light():
    """Schedules load without torch."""
    import subprocess
    import sys

    code = "import sys, stepladder.schedules as s; list(s.REGISTRY); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_gradual_warmup_starts_at_the_small_batchs_rate():
    assert get("step").factor(0.0, warmup=5 / 90, warmup_from=gradual(32)) == pytest.approx(1 / 32)
    assert get("step").factor(5 / 90, warmup=5 / 90, warmup_from=gradual(32)) == 1.0
