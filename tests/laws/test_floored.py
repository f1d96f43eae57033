"""The law of a ladder: against ordinary regression, simulated ladders, and its own promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stepladder.laws.floored import Floor, fit_floored, text_floor

RUNGS = np.repeat(np.geomspace(1.6e11, 1.2e12, 4), (3, 3, 2, 2))
TARGET = 1.06e13
FLOOR = Floor(mean=0.7, sd=0.35, source="test")


def ladder(rng: np.random.Generator, floor: float, alpha: float, noise: float) -> tuple:
    """Losses of the rungs and of a target, 3.5 nats in the middle of the ladder."""
    middle = np.exp(np.log(RUNGS).mean())

    def loss(c: np.ndarray | float) -> np.ndarray | float:
        return floor + (3.5 - floor) * (c / middle) ** -alpha

    shifts = np.exp(rng.normal(0, noise, len(RUNGS) + 1))
    return loss(RUNGS) * shifts[:-1], loss(TARGET) * shifts[-1]


def test_without_a_floor_it_is_ordinary_regression() -> None:
    losses, _ = ladder(np.random.default_rng(1), 0.0, 0.08, 0.003)
    fit = fit_floored(RUNGS, losses, Floor(mean=0.0, sd=1e-9, source="none"))
    x, y = np.log(RUNGS), np.log(losses)
    line = stats.linregress(x, y)
    at, freedom = np.log(TARGET), len(x) - 2
    s2 = ((y - line.intercept - line.slope * x) ** 2).sum() / freedom
    spread = np.sqrt(s2 * (1 + 1 / len(x) + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()))
    centre, reach = line.intercept + line.slope * at, stats.t.ppf(0.95, freedom)
    said = fit.forecast(TARGET, level=0.9)
    assert said.value == pytest.approx(np.exp(centre), rel=1e-9)
    assert said.interval == pytest.approx(
        (np.exp(centre - reach * spread), np.exp(centre + reach * spread)), rel=1e-6
    )
    assert fit.parameters["alpha"] == pytest.approx(-line.slope, rel=1e-6)
    assert fit.parameters["A"] == pytest.approx(np.exp(line.intercept), rel=1e-6)


@pytest.mark.slow
def test_ninety_percent_intervals_hold_ninety_percent() -> None:
    rng, draws, inside, errors = np.random.default_rng(7), 400, 0, []
    for _ in range(draws):
        floor = -1.0
        while not 0 <= floor <= 2.0:
            floor = FLOOR.mean + FLOOR.sd * rng.standard_t(3)
        losses, outcome = ladder(rng, floor, rng.uniform(0.06, 0.15), 0.003)
        said = fit_floored(RUNGS, losses, FLOOR).forecast(TARGET, level=0.9)
        inside += said.low <= outcome <= said.high
        errors.append(said.value / outcome - 1)
    assert 0.86 <= inside / draws <= 0.95
    assert abs(np.mean(errors)) < 0.003


def test_runs_that_show_their_floor_overrule_what_was_thought() -> None:
    flops = np.repeat(np.geomspace(1e13, 1e19, 8), 2)
    losses = 2.6 + 4e3 * flops**-0.25 * np.exp(np.random.default_rng(3).normal(0, 1e-3, 16))
    fit = fit_floored(flops, losses, FLOOR)
    assert fit.parameters["E"] == pytest.approx(2.6, abs=0.03)
    assert fit.forecast(1e20).value == pytest.approx(2.6 + 4e3 * 1e20**-0.25, rel=2e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), unit=st.floats(1e-9, 1e9), level=st.floats(0.5, 0.99))
def test_units_of_compute_and_order_of_runs_do_not_matter(
    seed: int, unit: float, level: float
) -> None:
    rng = np.random.default_rng(seed)
    losses, _ = ladder(rng, 0.7, 0.1, 0.004)
    order = rng.permutation(len(losses))
    one = fit_floored(RUNGS, losses, FLOOR).forecast(TARGET, level)
    other = fit_floored(unit * RUNGS[order], losses[order], FLOOR).forecast(unit * TARGET, level)
    assert (other.value, *other.interval) == pytest.approx((one.value, *one.interval), rel=1e-7)
    assert one.low <= one.law_low < one.value < one.law_high <= one.high


def test_further_is_less_certain() -> None:
    losses, _ = ladder(np.random.default_rng(5), 0.7, 0.1, 0.003)
    fit = fit_floored(RUNGS, losses, FLOOR)
    widths = [np.log(f.high / f.low) for f in (fit.forecast(c) for c in (1e12, 1e13, 1e14, 1e15))]
    assert widths == sorted(widths)


def test_runs_without_noise_are_followed_exactly() -> None:
    losses, outcome = ladder(np.random.default_rng(0), 0.5, 0.1, 0.0)
    assert fit_floored(RUNGS, losses, FLOOR).forecast(TARGET).value == pytest.approx(outcome, 1e-3)


def test_the_floor_of_text_is_that_of_published_fits() -> None:
    massive_text = text_floor(10.5e12 / 2.34e12)
    for published in (1.69, 1.82):
        assert abs(published - massive_text.mean) < 1.5 * massive_text.sd


@pytest.mark.parametrize(
    ("flops", "loss", "floor", "said"),
    [
        ([1e12, 2e12, 3e12], [3.0, 2.9, 2.8], FLOOR, "takes 4 at 2"),
        ([1e12] * 5, [3.0] * 5, FLOOR, "1 scales"),
        ([1e12, 2e12, 3e12, 4e12], [3.0, 2.9, float("nan"), 2.7], FLOOR, "diverged"),
        ([1e12, 2e12, 3e12, 0], [3.0, 2.9, 2.8, 2.7], FLOOR, "positive"),
        ([1e12, 2e12], [3.0, 2.9, 2.8, 2.7], FLOOR, "one of each"),
        ([1, 2, 3, 4], [3, 2.9, 2.8, 2.7], Floor(mean=1.0, sd=0.0, source=""), "spread"),
    ],
)
def test_what_cannot_hold_a_law_is_refused(flops, loss, floor, said) -> None:
    with pytest.raises(ValueError, match=said):
        fit_floored(flops, loss, floor)


@pytest.mark.parametrize("flops", [0, -1.0, float("nan"), float("inf")])
def test_a_forecast_needs_a_compute(flops: float) -> None:
    fit = fit_floored(RUNGS, ladder(np.random.default_rng(0), 0.5, 0.1, 0.003)[0], FLOOR)
    with pytest.raises(ValueError, match="positive number of FLOP"):
        fit.forecast(flops)
