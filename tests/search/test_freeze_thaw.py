"""Forecasts against simulated curves, and what freezing and thawing does with them."""

import math

import numpy as np
import pytest
from scipy import stats

from stepladder.search.book import Book, Step
from stepladder.search.forecasts import GAPS, expected_improvement, fit_forecasts
from stepladder.search.schedulers.freeze_thaw import LEAST_FIRST, MOST_FIRST, FreezeThaw
from stepladder.search.schedulers.halving import Halving


def curves(rng, count, levels, floor, alpha, walk):
    """Losses [count, levels] of configurations at costs e^0, e^1, ...: a law and a random walk."""
    excess = np.empty((count, levels))
    excess[:, 0] = rng.normal(0.5, 0.4, count)
    for level in range(1, levels):
        excess[:, level] = excess[:, level - 1] - alpha + walk * rng.normal(size=count)
    return floor + np.exp(excess)


def fitted(known, lowest=math.inf):
    """Forecasts from the steps of curves [N, levels], one unit of reach each."""
    first = np.sort(known[:, 0])
    return fit_forecasts(
        min(known.min(), lowest),
        (first[len(first) // 20], first[len(first) // 2]),
        known[:, :-1].ravel(),
        known[:, 1:].ravel(),
        np.ones(known[:, 1:].size),
    )


def test_a_law_without_noise_is_carried_on():
    """The floor lies on the grid by construction, so that the mixture can be right about it."""
    rng = np.random.default_rng()
    excess = np.exp(rng.normal(0.5, 0.4, 60))
    losses = np.sort(excess)
    lowest, typical = losses[0] * math.exp(-0.9), (losses[3], losses[30])
    floor = lowest - GAPS[14] * (typical[1] - typical[0])
    known = floor + excess[:, None] * np.exp(-0.3 * np.arange(4))
    laws = fit_forecasts(
        known.min(),
        (floor + losses[3], floor + losses[30]),
        known[:, :-1].ravel(),
        known[:, 1:].ravel(),
        np.ones(known[:, 1:].size),
    )
    expected = floor + excess * np.exp(-0.3 * 5)
    found = laws.expected(known[:, -1], np.full(60, 2.0))
    assert np.abs(found - expected).max() < 0.15 * (known[:, -1] - expected).min()


def test_forecasts_cover_what_comes():
    """Of simulated searches, with the walk, the drift and the floor unknown."""
    rng, inside, total = np.random.default_rng(), 0, 0
    for _ in range(60):
        floor, alpha, walk = rng.uniform(0, 3), rng.uniform(0.1, 0.6), rng.uniform(0.02, 0.2)
        losses = curves(rng, 40, 4, floor, alpha, walk)
        laws = fitted(losses[:25, :3], losses[:, :3].min())
        mean, variance = laws.ahead(losses[25:, 2], np.ones(15))
        spread = np.sqrt(variance + (laws.variance / laws.steps)[:, None])
        excess = np.log(np.maximum(losses[25:, 3] - laws.floor[:, None], 1e-12))
        below = laws.weight @ stats.norm.cdf((excess - mean) / spread)
        inside += int(((below > 0.05) & (below < 0.95)).sum())
        total += 15
    assert 0.84 < inside / total < 0.96


def test_expected_improvement_is_that_of_draws():
    rng = np.random.default_rng()
    laws = fitted(curves(rng, 20, 3, 1.0, 0.3, 0.15))
    losses, reach, best = np.array([1.9, 2.4, 3.5]), np.array([1.0, 2.0, 2.0]), 1.7
    mean, variance = laws.ahead(losses, reach)
    which = rng.choice(len(laws.weight), 200_000, p=laws.weight)
    ends = laws.floor[which, None] + np.exp(
        mean[which] + np.sqrt(variance[which]) * rng.normal(size=(len(which), 3))
    )
    gains = np.maximum(best - ends, 0.0)
    noise = gains.std(axis=0) / math.sqrt(len(gains))
    found = expected_improvement(laws, losses, reach, best)
    assert np.abs(found - gains.mean(axis=0)).max() < 5 * noise.max() + 1e-12
    assert found[0] > found[2]


@pytest.mark.parametrize("shift", [0.0, -50.0])
def test_losses_need_not_be_positive(shift):
    """A metric below zero has laws too: floors lie below what was seen, wherever that is."""
    rng = np.random.default_rng(3)
    known = curves(rng, 30, 3, 1.0, 0.3, 0.05)
    laws, moved = fitted(known), fitted(known + shift)
    assert moved.expected(known[:4, 2] + shift, np.ones(4)) == pytest.approx(
        laws.expected(known[:4, 2], np.ones(4)) + shift, abs=1e-6
    )


# The scheduler ------------------------------------------------------------------------------------

COSTS = (1.0, 4.0, 16.0)


def play(book, losses, trials):
    """Run a scheduler on curves [N, levels]; newcomers take the next row. Steps as they came."""
    scheduler, of, done, fresh = FreezeThaw(), {}, [], iter(range(len(losses)))
    for trial in range(trials):
        step = scheduler.next(book)
        of[trial] = next(fresh) if step.parent is None else of[step.parent]
        book.start(trial, step)
        book.end(trial, float(losses[of[trial], step.level]))
        done.append((trial, step))
    return done


def simulated(rng, count=400):
    """Curves on which the level below says most of what the next will be."""
    return curves(rng, count, 3, 2.0, 0.35, 0.05)


def test_it_looks_first_then_thaws_the_best():
    book, losses = Book(COSTS), simulated(np.random.default_rng())
    done = play(book, losses, 80)
    first = [step for _, step in done[:16]]
    assert first == [Step(level=0)] * 16  # as many as cost one run at the top
    assert done[16][1] == Step(level=1, parent=int(losses[:16, 0].argmin()))
    assert {step.level for _, step in done} == {0, 1, 2}
    parents = [step.parent for _, step in done if step.parent is not None]
    assert len(set(parents)) == len(parents)


@pytest.mark.parametrize(("top", "wanted"), [(2.0, LEAST_FIRST), (7.0, 7), (500.0, MOST_FIRST)])
def test_the_first_look_costs_about_a_run_at_the_top(top, wanted):
    book, scheduler = Book((1.0, top)), FreezeThaw()
    for trial in range(wanted):
        assert scheduler.next(book) == Step(level=0)
        book.start(trial, Step(level=0))
        book.end(trial, 3.0 + trial)
    assert scheduler.next(book) == Step(level=1, parent=0)


def test_it_beats_racing_where_forecasts_are_good():
    """Best final loss at equal cost over simulated searches, against asynchronous halving."""
    won = []
    for seed in range(12):
        losses, found = simulated(np.random.default_rng(seed)), []
        for scheduler in (FreezeThaw(), Halving()):
            book, of, spent, fresh = Book(COSTS), {}, 0.0, iter(range(len(losses)))
            for trial in range(10**6):
                step = scheduler.next(book)
                spent += book.cost(step)
                if spent > 10 * COSTS[-1]:
                    break
                of[trial] = next(fresh) if step.parent is None else of[step.parent]
                book.start(trial, step)
                book.end(trial, float(losses[of[trial], step.level]))
            top = book.rung(0, 2)
            found.append(top.ranked[0][0] if top.finite else math.inf)
        won.append(found[0] - found[1])
    assert np.mean(won) < 0


def test_what_diverged_stays_frozen():
    rng, book = np.random.default_rng(), Book(COSTS)
    losses = simulated(rng)
    losses[::3] = np.inf
    done = play(book, losses, 90)
    assert all(math.isfinite(book.losses[s.parent]) for _, s in done if s.parent is not None)


def test_all_diverged_is_no_dead_end():
    book = Book(COSTS)
    assert {step for _, step in play(book, np.full((60, 3), np.inf), 60)} == {Step(level=0)}


def test_equal_losses_are_no_division_by_zero():
    with np.errstate(all="raise"):
        play(Book(COSTS), np.full((200, 3), 1.5), 60)


def test_a_price_that_a_trunk_lowers_is_looked_at():
    """With the way up almost paid for, the same losses are thawed sooner."""
    counts = []
    for promoted in (None, (1.0, 0.5, 0.5)):
        book = Book(COSTS, promoted)
        done = play(book, simulated(np.random.default_rng(1)), 120)
        counts.append(sum(step.parent is not None for _, step in done))
    assert counts[1] > counts[0]
