"""The models inside of proposers, against scikit-learn, statistics and closed forms."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import check_grad
from scipy.stats import gaussian_kde, kstest, norm, truncnorm
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern

from stepladder.search import process
from stepladder.search.boosting import boost, conformal_shift
from stepladder.search.cube import Seen, milestone
from stepladder.search.proposers.bohb import Density, _draw_range, split_at
from stepladder.search.proposers.carbs import Near, improvement, normal_scores, pareto
from stepladder.search.proposers.cqr import QUANTILES, last_of
from stepladder.search.proposers.dehb import crossed, survivors
from stepladder.search.proposers.mobster import level_to_improve


def sample(count, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((count, 3))
    return x, np.sin(5 * x[:, 0]) + x[:, 1] ** 2 + 0.1 * rng.normal(size=count)


def test_process_is_scikit_learns():
    x, y = sample(30)
    lengths = np.array([0.3, 0.5, 0.9])
    own = process.fit(x, y, lengths, 0.05)
    scaled = (y - y.mean()) / y.std()
    alpha = 0.05 + process.JITTER
    other = GaussianProcessRegressor(Matern(lengths, nu=2.5), alpha=alpha, optimizer=None)
    other.fit(x, scaled)
    points = np.random.default_rng(1).random((20, 3))
    mean, deviation = other.predict(points, return_std=True)
    own_mean, own_deviation = own.predict(points)
    assert own_mean == pytest.approx(y.mean() + y.std() * mean, rel=1e-9)
    assert own_deviation == pytest.approx(y.std() * deviation, rel=1e-6)


def test_gradient_of_the_likelihood():
    x, y = sample(25)
    theta = np.log([0.2, 0.7, 1.5, 0.02])
    args = (x, y, np.zeros(4))
    wrong = check_grad(
        lambda t: process._unlikely(t, *args)[0], lambda t: process._unlikely(t, *args)[1], theta
    )
    assert wrong < 1e-4 * np.linalg.norm(process._unlikely(theta, *args)[1])


def test_fit_finds_what_matters():
    x, y = sample(60)
    found = process.fit(x, y)
    assert found.lengths[2] > 2 * max(found.lengths[:2])  # the third input does nothing
    points, truth = np.random.default_rng(2).random((200, 3)), None
    truth = np.sin(5 * points[:, 0]) + points[:, 1] ** 2
    assert np.sqrt(np.mean((found.predict(points)[0] - truth) ** 2)) < 0.1


def test_believed_points_move_no_mean_and_narrow_the_unknown():
    x, y = sample(20)
    own = process.fit(x, y)
    new = np.array([[0.1, 0.9, 0.5]])
    later = own.with_pending(new)
    points = np.random.default_rng(3).random((50, 3))
    assert later.predict(points)[0] == pytest.approx(own.predict(points)[0], abs=1e-9)
    assert later.predict(new)[1] < own.predict(new)[1]
    assert np.all(later.predict(points)[1] <= own.predict(points)[1] + 1e-9)


def test_quantiles_are_as_good_as_scikit_learns():
    """Pinball loss on fresh data, heteroscedastic noise."""
    rng = np.random.default_rng(0)

    def draw(count):
        x = rng.random((count, 3))
        return x, np.sin(5 * x[:, 0]) + (0.1 + x[:, 1]) * rng.normal(size=count)

    (x, y), (points, truth) = draw(300), draw(2000)
    own = boost(x, y, QUANTILES).predict(points)
    for i, alpha in enumerate(QUANTILES):
        other = GradientBoostingRegressor(loss="quantile", alpha=alpha, random_state=0).fit(x, y)
        left = truth[:, None] - np.column_stack([own[:, i], other.predict(points)])
        lost = np.maximum(alpha * left, (alpha - 1) * left).mean(axis=0)
        assert lost[0] < 1.05 * lost[1]


def test_one_quantile_of_each_point():
    x, y = sample(80)
    forest = boost(x, y, QUANTILES)
    which = np.random.default_rng(1).integers(len(QUANTILES), size=len(x))
    expected = forest.predict(x)[np.arange(len(x)), which]
    assert forest.predict_each(x, which) == pytest.approx(expected, rel=1e-12)


def test_conformal_quantiles_cover():
    """Coverage of the outer pair on fresh points, over draws of what is held out."""
    rng = np.random.default_rng(0)
    hit = []
    for _ in range(12):
        x = rng.random((90, 2))
        y = x[:, 0] + rng.standard_t(3, size=90)
        forest = boost(x[:40], y[:40], QUANTILES)
        shift = conformal_shift(forest, x[40:70], y[40:70])
        predicted = forest.predict(x[70:]) + shift
        hit.append(np.mean((predicted[:, 0] <= y[70:]) & (y[70:] <= predicted[:, -1])))
    assert np.mean(hit) > 4 / 6 - 2 * np.std(hit) / np.sqrt(len(hit))


def test_density_is_scipys_and_sums_to_one():
    rng = np.random.default_rng(0)
    x = rng.random((40, 1))
    own = Density.of(x, np.zeros(1, dtype=int))
    other = gaussian_kde(x[:, 0], bw_method=own.widths[0] / x.std(ddof=1))
    points = rng.random((10, 1))
    assert own(points) == pytest.approx(other(points[:, 0]), rel=1e-9)

    choice = Density.of(np.array([[1 / 6], [0.5], [0.5], [5 / 6]]), np.array([3]))
    assert choice(np.array([[1 / 6], [0.5], [5 / 6]])).sum() == pytest.approx(1)
    assert choice(np.array([[0.5]])) > choice(np.array([[1 / 6]]))


def test_density_draws_within_the_cube_and_near():
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(0.1, 0.01, size=50), np.full(50, 0.25)])
    drawn = Density.of(x, np.array([0, 2])).draw(500, rng)
    assert np.all((drawn >= 0) & (drawn <= 1))
    assert abs(np.median(drawn[:, 0]) - 0.1) < 0.05
    assert set(np.unique(drawn[:, 1])) == {0.25, 0.75} or set(np.unique(drawn[:, 1])) == {0.25}


def test_draws_near_a_bound_are_a_truncated_normal():
    width = 0.2
    drawn = _draw_range(np.full(4000, 0.1), width, np.random.default_rng(0))
    assert kstest(drawn, truncnorm(-0.5, 4.5, loc=0.1, scale=width).cdf).pvalue > 0.01


def seen(levels, losses, configs=None):
    count = len(levels)
    return Seen(
        x=np.linspace(0, 1, count)[:, None],
        level=np.array(levels),
        loss=np.array(losses, dtype=float),
        trial=np.arange(count),
        config=np.arange(count) if configs is None else np.array(configs),
        ended=np.arange(count),
        pending=np.empty((0, 1)),
        pending_level=np.empty(0, dtype=int),
    )


def test_bohb_looks_at_the_dearest_level_with_enough():
    few = seen([0] * 10 + [1] * 3, range(13))
    good, bad = split_at(few, dims=1)
    assert (len(good), len(bad)) == (2, 8)  # of level 0: 3 are too few for two of each
    enough = seen([0] * 10 + [1] * 4, range(14))
    good, bad = split_at(enough, dims=1)
    assert good[:, 0] == pytest.approx(enough.x[10:12, 0])
    assert split_at(seen([0, 0, 0], [1, 2, 3]), dims=1) is None


def test_last_loss_of_each_configuration():
    trials = seen([0, 0, 1, 2, 0], [5, 4, 3, 2, 6], configs=[0, 1, 0, 0, 4])
    assert list(last_of(trials)) == [False, True, False, True, True]


def test_mobster_improves_where_enough_is_known():
    assert level_to_improve(seen([0] * 5 + [1] * 3 + [2] * 2, range(10))) == 1
    assert level_to_improve(seen([2], [1.0])) == 2


def test_pareto_front_against_its_definition():
    rng = np.random.default_rng(0)
    cost = rng.integers(0, 5, size=200).astype(float)
    loss = rng.random(200) - 0.05 * cost
    loss[rng.random(200) < 0.1] = np.inf
    front = pareto(cost, loss)
    cheap = np.quantile(cost[np.isfinite(loss)], 0.2)
    for i in np.flatnonzero(front):
        cheaper = np.maximum(cost, cheap) <= max(cost[i], cheap)
        assert loss[i] == loss[cheaper].min()
    assert np.all(np.diff(loss[front][np.argsort(cost[front])]) < 0)
    assert loss[front].min() == loss.min()


def test_normal_scores_keep_the_order_and_are_normal():
    loss = np.random.default_rng(0).pareto(1, size=999)
    scores = normal_scores(loss)
    assert np.all(np.argsort(scores) == np.argsort(loss))
    assert scores.std() == pytest.approx(1, abs=0.01)
    assert np.median(scores) == pytest.approx(0)


def test_expected_improvement_against_draws():
    gap, deviation = np.array([-1.0, 0.0, 2.0]), np.array([0.5, 1.0, 0.7])
    draws = np.random.default_rng(0).normal(size=(400_000, 1)) * deviation
    simulated = np.maximum(gap - draws, 0).mean(axis=0)
    assert improvement(gap, deviation) == pytest.approx(simulated, abs=4e-3)
    assert improvement(gap, deviation)[1] == pytest.approx(norm.pdf(0))


def test_steps_of_carbs():
    near = Near(origins=np.array([[0.5, 0.1], [0.9, 0.9]]), choices=np.array([0, 4]))
    points = near.draw(2000, np.random.default_rng(0))
    assert np.all((points >= 0) & (points <= 1))
    stayed = np.isin(points[:, 1], [0.1, 0.9]).mean()
    assert stayed == pytest.approx(0.75, abs=0.04)
    assert near.density(np.array([[0.5, 0.7], [0.65, 0.1]])) == pytest.approx([1.0, np.exp(-0.5)])


def test_places_are_held_by_the_better():
    losses = np.array([3.0, 1.0, 2.0, 2.5, 4.0, np.inf, 2.5])
    assert list(survivors(losses, 3)) == [6, 1, 2]  # 3 took place 0, then 6 with the same loss
    assert list(survivors(losses[:2], 3)) == [0, 1]


@given(
    st.lists(st.sampled_from([1.0, 2.0, 3.0, np.inf]), min_size=1, max_size=30), st.integers(1, 7)
)
def test_places_go_by_greedy_selection(losses, size):
    holders = {}
    for trial, loss in enumerate(losses):
        place = trial % size
        if place not in holders or loss <= losses[holders[place]]:
            holders[place] = trial
    assert list(survivors(np.array(losses), size)) == [holders[place] for place in sorted(holders)]


def test_models_are_refitted_seldom_when_much_is_known():
    due = [milestone(count) for count in range(1, 20_000)]
    assert due[:63] == list(range(1, 64))
    assert all(low <= high for low, high in pairwise(due))
    late = np.arange(1, 20_000) - due
    assert np.all(late < np.maximum(np.arange(1, 20_000) / 32, 1))
    assert len(set(due[10_000:])) < 80


def test_a_bounded_view_keeps_the_best_and_thins_the_rest():
    rng = np.random.default_rng(0)
    trials = seen(rng.integers(0, 3, size=500), rng.permutation(500))
    kept = trials.bounded(100, 30)
    assert len(set(kept)) == 100
    assert list(kept) == sorted(kept)
    ranked = sorted(range(500), key=lambda i: (-trials.level[i], trials.loss[i]))
    assert set(ranked[:30]) <= set(kept)
    others = np.array(sorted(set(kept) - set(ranked[:30])))
    assert np.diff(others).max() < 500 / 70 * 2.5  # from all along the study
    assert list(trials.bounded(500, 30)) == list(range(500))


def test_crossover_mixes_two_points():
    rng = np.random.default_rng(0)
    made = np.array([crossed(np.zeros(4), np.ones(4), rng) for _ in range(4000)])
    assert set(np.unique(made)) == {0.0, 1.0}
    assert made.sum(axis=1).min() == 1  # one coordinate at least
    expected = 0.5 + (1 / 16) / 4
    assert made.mean() == pytest.approx(expected, abs=0.015)
