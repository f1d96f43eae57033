"""The statistics against surfaces whose multiplier is known in closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from stepladder.comparing.curve import fit_curves
from stepladder.comparing.means import means_of, seed_noise
from stepladder.comparing.multiplier import estimate, loss_difference

from .surfaces import BOTH, COMPUTE, EXPONENT, FLOOR, SCALE, coverage, law, paired


def estimated(losses, more=None, x=BOTH, count=1000, seed=0, level=0.9):
    return estimate(x, means_of(losses, more, count=count, seed=seed), level=level)


@given(st.floats(0.2, 5.0))
def test_a_lever_worth_m_has_multiplier_m_at_every_rung(multiplier):
    made = estimated(paired(multiplier), count=10)
    assert [rung.value for rung in made.rungs] == pytest.approx([multiplier] * 3, rel=1e-6)
    assert made.mean.value == pytest.approx(multiplier, rel=1e-6)
    assert made.trend.value == pytest.approx(1.0, rel=1e-6)


@given(st.floats(0.5, 2.0), st.floats(0.5, 2.0))
def test_what_the_lever_itself_costs_counts(multiplier, dearer):
    """The same losses at other costs: the multiplier falls by the cost's ratio."""
    made = estimated(paired(multiplier), x=np.stack([COMPUTE, COMPUTE * dearer]), count=10)
    assert made.mean.value == pytest.approx(multiplier / dearer, rel=1e-6)


def test_a_multiplier_that_changes_with_scale_has_its_trend():
    per_decade = 0.7
    worth = 1.3 * per_decade ** np.log10(COMPUTE / COMPUTE[0])
    made = estimated(paired(worth), count=10)
    assert [rung.value for rung in made.rungs] == pytest.approx(worth.tolist(), rel=1e-6)
    assert made.trend.value == pytest.approx(per_decade, rel=1e-6)


def test_a_lever_equal_to_the_baseline_has_multiplier_one_whatever_the_curve():
    """Also where no power law goes through the rungs: the form's error cancels."""
    bent = np.array([[4.0, 3.9, 3.2]] * 2)[:, :, None].repeat(2, axis=2)
    made = estimated(bent, count=10)
    assert [rung.value for rung in made.rungs] == pytest.approx([1.0] * 3, abs=1e-9)


def test_reach_says_how_far_beyond_the_baseline_it_is_read():
    made = estimated(paired(1.5), count=10)
    assert made.reach == pytest.approx((1.5 * COMPUTE / COMPUTE[-1]).tolist(), rel=1e-6)


@pytest.mark.parametrize(("shared", "own"), [(0.004, 0.002), (0.0, 0.004), (0.004, 0.0005)])
def test_intervals_cover(shared, own):
    """90% intervals hold the truth in about 90% of draws: 120 tables, binomial tails."""
    rng = np.random.default_rng(7)
    tables = ((paired(1.15, shared=shared, own=own, rng=rng), None) for _ in range(120))
    held = coverage(tables, 1.15)
    assert np.all(held > 0.82), held
    assert np.all(held < 0.975), held


def test_paired_seeds_reduce_the_interval():
    """Noise that a seed brings to both arms cancels; unpaired, by a shuffle, it does not."""
    rng = np.random.default_rng(3)
    losses = paired(1.1, shared=0.006, own=0.0006, seeds=6, rng=rng)
    unpaired = losses.copy()
    unpaired[1] = unpaired[1][:, [1, 2, 3, 4, 5, 0]]
    with_pairs, without = (estimated(table).mean for table in (losses, unpaired))
    width = np.log(with_pairs.high / with_pairs.low)
    assert width < 0.4 * np.log(without.high / without.low)
    assert with_pairs.value == pytest.approx(without.value)
    assert seed_noise(losses).pairing > 0.95


def test_credit_for_imperfect_tuning_moves_the_arm_that_lost():
    means = means_of(paired(1.0), count=50, lost=(np.zeros(50), np.full(50, 0.01)))
    made = estimate(BOTH, means, level=0.9)
    assert made.mean.low == pytest.approx(1.0)
    assert made.mean.high > 1.05


def test_a_lever_below_the_baselines_floor_is_worth_any_compute():
    losses = paired(1.0)
    losses[1] *= 0.5
    made = estimated(losses, count=10)
    assert made.rungs[-1].value == np.inf


def test_a_baseline_that_does_not_improve_is_refused():
    losses = paired(1.0)[:, ::-1]
    with pytest.raises(ValueError, match="does not fall from its smallest rung"):
        estimated(losses, count=10)


def test_loss_difference_is_in_nats():
    losses = paired(1.2, own=0.001, rng=np.random.default_rng(0))
    found = loss_difference(means_of(losses), level=0.9)
    truth = law(COMPUTE * 1.2) - law(COMPUTE)
    assert all(t in one for t, one in zip(truth, found, strict=True))
    base, lever = np.exp(np.log(losses).mean(axis=2))
    assert [one.value for one in found] == pytest.approx((lever - base).tolist())


def test_curves_recover_their_law():
    x = np.geomspace(1e10, 1e12, 6)
    curves = fit_curves(x, law(x)[None])
    assert curves.floor[0] == pytest.approx(FLOOR, rel=1e-5)
    assert curves.exponent[0] == pytest.approx(EXPONENT, rel=1e-5)
    assert curves.scale[0] * curves.unit**EXPONENT == pytest.approx(SCALE, rel=1e-4)
    assert curves.cost(curves.loss(x))[0] == pytest.approx(x.tolist(), rel=1e-9)


def test_noisy_curves_agree_with_scipys_least_squares():
    x = np.geomspace(1e10, 1e13, 8)
    losses = law(x) * np.exp(0.003 * np.random.default_rng(5).normal(size=8))
    curves = fit_curves(x, losses[None])

    def form(x, floor, scale, exponent):
        return floor + scale * (x / curves.unit) ** -exponent

    found, _ = curve_fit(form, x, losses, p0=(1.5, 1.5, 0.3), sigma=losses, xtol=1e-14, ftol=1e-14)
    assert [curves.floor[0], curves.scale[0], curves.exponent[0]] == pytest.approx(
        found.tolist(), rel=1e-4
    )


def test_losses_that_bend_up_have_no_floor_below_zero():
    x = np.geomspace(1e10, 1e12, 4)
    curves = fit_curves(x, np.array([[4.0, 3.9, 3.7, 3.3]]))
    assert curves.floor[0] == 0
    assert np.all(np.diff(curves.loss(x)[0]) < 0)


def test_two_rungs_are_too_few():
    with pytest.raises(ValueError, match="three distinct costs"):
        fit_curves([1e9, 1e9, 2e9], [[3.0, 3.0, 2.5]])
