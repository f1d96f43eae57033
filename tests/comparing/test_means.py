"""Means of paired seeds and of further seeds of the baseline, against other ways to the same."""

import numpy as np
import pytest
from scipy.optimize import minimize

from stepladder.comparing.means import means_of, seed_noise
from stepladder.comparing.multiplier import estimate

from .surfaces import BOTH, coverage, paired


def noisy(multiplier, *, shared, base, lever, seeds, more, rng):
    """Losses of the pairs and of the baseline's further seeds; arms with noise of their own."""
    losses = paired(multiplier, shared=shared, seeds=seeds + more, rng=rng)
    own = np.array([base, lever])[:, None, None] * rng.normal(size=losses.shape)
    losses = losses * np.exp(own)
    return losses[:, :, :seeds], losses[0, :, seeds:]


def test_without_further_seeds_they_are_plain_means():
    losses = paired(1.2, shared=0.01, own=0.01, seeds=4)
    plain = np.log(losses).mean(axis=2)
    assert means_of(losses).value == pytest.approx(plain)
    assert means_of(losses, np.empty((3, 0))).value == pytest.approx(plain)


def test_they_are_the_means_of_greatest_likelihood():
    """Against a search over means and covariance, one rung, pairs and lone losses of the base."""
    rng = np.random.default_rng(2)
    losses, more = noisy(1.3, shared=0.02, base=0.02, lever=0.01, seeds=6, more=9, rng=rng)
    losses, more = losses[:, :1], more[:1]
    pairs, lone = np.log(losses[:, 0]).T, np.log(more[0])

    def minus_log_likelihood(parameters):
        mean, (a, b, c) = parameters[:2], parameters[2:]
        root = np.array([[np.exp(a), 0.0], [b, np.exp(c)]]) / 50
        away = np.linalg.solve(root, (pairs - mean).T)
        first = (lone - mean[0]) / root[0, 0]
        lost = len(pairs) * np.log(np.diag(root)).sum() + len(lone) * np.log(root[0, 0])
        return lost + 0.5 * (away**2).sum() + 0.5 * (first**2).sum()

    start = [*pairs.mean(axis=0), 0.0, 0.0, 0.0]
    found = minimize(minus_log_likelihood, start, method="Nelder-Mead",
                     options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 20_000})  # fmt: skip
    assert means_of(losses, more).value[:, 0] == pytest.approx(found.x[:2], abs=1e-6)


def test_luck_that_the_lever_shares_is_taken_off_it_and_no_other():
    rng = np.random.default_rng(5)
    alike, more = noisy(1.0, shared=0.02, base=0.0, lever=0.0, seeds=3, more=20, rng=rng)
    found = means_of(alike, more)
    assert found.value[1] == pytest.approx(found.value[0])
    every = np.concatenate([alike[0], more], axis=1)
    assert found.value[0] == pytest.approx(np.log(every).mean(axis=1))
    apart, more = noisy(1.0, shared=0.0, base=0.02, lever=0.0, seeds=3, more=20, rng=rng)
    assert means_of(apart, more).value[1] == pytest.approx(np.log(apart[1]).mean(axis=1))


def test_draws_have_students_tails():
    """Their spread is that of t with rungs x (seeds - 1) degrees of freedom."""
    losses = paired(1.0, own=0.01, seeds=3, rng=np.random.default_rng(1))
    drawn = means_of(losses, count=200_000).drawn
    freedom = 6
    scale = np.sqrt(freedom / (freedom - 2) / 3)
    for arm, noise in enumerate(seed_noise(losses).deviation):
        assert drawn[:, arm].std(axis=0) == pytest.approx([noise * scale] * 3, rel=0.02)


def test_seed_noise_is_the_pooled_standard_deviation():
    rng = np.random.default_rng(0)
    losses, more = noisy(1.0, shared=0.0, base=0.01, lever=0.02, seeds=3000, more=3000, rng=rng)
    found = seed_noise(losses, more)
    assert found.deviation == pytest.approx([0.01, 0.02], rel=0.03)
    assert abs(found.pairing) < 0.05
    assert found.own == pytest.approx(0.02**2, rel=0.05)


def test_no_noise_is_no_error():
    drawn = means_of(paired(1.1), np.exp(np.log(paired(1.1)[0])), count=20).drawn
    assert np.ptp(drawn, axis=0) == pytest.approx(np.zeros((2, 3)), abs=1e-12)


WORLDS = [
    # shared, the baseline's own and the lever's own noise, seeds, further seeds
    (0.0, 0.004, 0.004, 3, 3),
    (0.002, 0.009, 0.004, 3, 9),
    (0.003, 0.006, 0.003, 2, 6),
]


@pytest.mark.parametrize(("shared", "base", "lever", "seeds", "more"), WORLDS)
def test_intervals_cover_with_further_seeds(shared, base, lever, seeds, more):
    """90% intervals of a known multiplier, 120 tables, binomial tails."""
    noise = {"shared": shared, "base": base, "lever": lever, "seeds": seeds, "more": more}
    rng = np.random.default_rng(7)
    held = coverage((noisy(1.15, **noise, rng=rng) for _ in range(100)), 1.15)
    assert np.all(held > 0.82), held
    assert np.all(held < 0.985), held


def test_further_seeds_of_a_noisy_baseline_bring_the_multiplier_nearer():
    rng = np.random.default_rng(11)
    errors, widths = [], []
    for seed in range(40):
        losses, more = noisy(1.15, shared=0.002, base=0.009, lever=0.004, seeds=3, more=9, rng=rng)
        made = [
            estimate(BOTH, means_of(losses, m, count=100, seed=seed), level=0.9).mean
            for m in (None, more)
        ]
        errors.append([abs(np.log(one.value / 1.15)) for one in made])
        widths.append([np.log(one.high / one.low) for one in made])
    for with_pairs_alone, with_more in (np.mean(errors, axis=0), np.median(widths, axis=0)):
        assert with_more < 0.85 * with_pairs_alone
