"""Schedulers against the tables and the algorithms of their papers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepladder.search.book import Book, Step
from stepladder.search.brackets import sizes
from stepladder.search.schedulers.deepening import Deepening
from stepladder.search.schedulers.freeze_thaw import FreezeThaw
from stepladder.search.schedulers.halving import Halving
from stepladder.search.schedulers.hyperband import Hyperband
from stepladder.search.schedulers.spread import Spread


def test_brackets_are_those_of_the_paper():
    """Table 1 of Li et al. (JMLR 18), R = 81 and eta = 3."""
    costs = [1.0, 3.0, 9.0, 27.0, 81.0]
    assert [sizes(costs, start, 4) for start in range(5)] == [
        [81, 27, 9, 3, 1],
        [34, 11, 3, 1],
        [15, 5, 1],
        [8, 2],
        [5],
    ]


def play(scheduler, book, trials, rng, at_once=1):
    """Run trials with a loss of each configuration that level only sharpens; what was done."""
    quality, done, running = {}, [], []
    for number in range(trials):
        while (step := scheduler.next(book)) is None:
            end(book, running.pop(rng.integers(len(running))), quality)
        quality[number] = quality[step.parent] if step.parent is not None else rng.random()
        book.start(number, step)
        running.append(number)
        done.append((number, step, quality[number]))
        while len(running) >= at_once:
            end(book, running.pop(rng.integers(len(running))), quality)
    return done


def end(book, number, quality):
    book.end(number, quality[number])


def test_hyperband_promotes_exactly_the_best():
    """One iteration in order, against a direct transcription of Algorithm 1."""
    costs, rng = [1.0, 3.0, 9.0], np.random.default_rng(5)
    done = play(Hyperband(), Book(costs), 9 + 3 + 1 + 5 + 1 + 3, rng)
    by_bracket = {b: [d for d in done if d[1].bracket == b] for b in range(3)}
    first = [q for _, _, q in by_bracket[0]]
    assert [step.level for _, step, _ in by_bracket[0]] == [0] * 9 + [1] * 3 + [2]
    assert first[9:12] == sorted(first[:9])[:3]
    assert first[12:] == sorted(first[9:12])[:1]
    assert [step.level for _, step, _ in by_bracket[1]] == [1] * 5 + [2]
    assert [step.level for _, step, _ in by_bracket[2]] == [2] * 3


@given(st.integers(0, 2**31), st.integers(1, 7), st.sampled_from([Hyperband, Deepening]))
def test_races_are_fair_in_parallel_too(seed, at_once, kind):
    """Whatever ends first: a promoted trial is among the best of its whole rung."""
    rng = np.random.default_rng(seed)
    done = play(kind(), Book([1.0, 3.0, 9.0]), 60, rng, at_once)
    rungs = {}
    for number, step, quality in done:
        rungs.setdefault((step.bracket, step.level), {})[number] = quality
    for (bracket, level), members in rungs.items():
        above = [s.parent for _, s, _ in done if (s.bracket, s.level) == (bracket, level + 1)]
        parents = [p for p in above if p is not None]
        assert len(set(parents)) == len(parents)
        if kind is Hyperband and parents:
            best = sorted(members, key=members.get)[: len(parents)]
            assert set(parents) == set(best)


def test_halving_waits_for_nobody():
    """ASHA with eta 3: as soon as three have ended, the best goes on."""
    book, scheduler = Book([1.0, 3.0, 9.0]), Halving()
    for number, loss in enumerate((0.5, 0.2)):
        book.start(number, scheduler.next(book))
        book.end(number, loss)
    assert scheduler.next(book) == Step(level=0)
    book.start(2, Step(level=0))
    assert scheduler.next(book) == Step(level=0)
    book.end(2, 0.9)
    assert scheduler.next(book) == Step(level=1, parent=1)
    book.start(3, Step(level=1, parent=1))
    assert scheduler.next(book) == Step(level=0)


def test_what_diverged_is_never_promoted():
    for kind in (Halving, Hyperband, Deepening):
        book, scheduler = Book([1.0, 3.0]), kind()
        for number in range(40):
            step = scheduler.next(book)
            assert step.parent is None or step.parent % 2
            book.start(number, step)
            book.end(number, math.inf if number % 2 == 0 else float(number))


def test_deepening_runs_nothing_again():
    """A ladder that grows by a level: new runs only, and as many as Hyperband on it has."""
    rng = np.random.default_rng(0)
    short, scheduler = Book([1.0, 3.0]), Deepening()
    count = sum(map(sum, (sizes([1.0, 3.0], s, 1) for s in range(2))))
    done = play(scheduler, short, count, rng)
    longer, quality = Book([1.0, 3.0, 9.0]), {}
    for number, step, value in done:
        longer.start(number, step)
        longer.end(number, value)
        quality[number] = value
    fresh = 0
    while True:
        step = scheduler.next(longer)
        if step.bracket >= 1000:
            break
        number = len(quality)
        quality[number] = quality[step.parent] if step.parent is not None else rng.random()
        longer.start(number, step)
        longer.end(number, quality[number])
        fresh += step.parent is None
    whole = [sizes([1.0, 3.0, 9.0], s, 2) for s in range(3)]
    starts = sum(counts[0] for counts in whole)
    known = sum(1 for _, step, _ in done if step.parent is None)
    assert fresh == starts - known
    ended = {key: len(rung.ranked) for key, rung in longer.rungs.items() if rung.asked}
    assert all(ended[b, b + i] >= n for b, counts in enumerate(whole) for i, n in enumerate(counts))


def test_spread_opens_levels_in_turn():
    book, scheduler = Book([1.0, 3.0, 9.0]), Spread()
    levels = []
    for number in range(30):
        step = scheduler.next(book)
        book.start(number, step)
        book.end(number, 0.0)
        levels.append(step.level)
    assert levels[:4] == [0] * 4
    assert {levels.count(level) for level in range(3)} == {10}


@pytest.mark.parametrize("kind", [Halving, Hyperband, Deepening, Spread, FreezeThaw])
def test_one_level_is_no_special_case(kind):
    done = play(kind(), Book([1.0]), 10, np.random.default_rng(0), at_once=3)
    assert all(step.level == 0 and step.parent is None for _, step, _ in done)
