"""Iterative-deepening Hyperband against the efficient variant of its paper, written as sets."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stepladder.search.book import Book
from stepladder.search.schedulers.deepening import Deepening

ETA = 3


def sizes(start, top):
    """ceil((s_max + 1) / (s + 1) eta^s) configurations, and a third of them at each level up."""
    climb = top - start
    count = math.ceil((top + 1) / (climb + 1) * ETA**climb)
    return [max(1, count // ETA**i) for i in range(climb + 1)]


def deepened(quality, top):
    """Configurations of each (bracket, level) once the top has risen to `top`; `quality` gives the
    loss of the i-th new configuration of a bracket. What was promoted stays promoted, and the best
    of the others fill what is left of a larger rung."""
    rungs = {}
    for now in range(top + 1):
        for start in range(now + 1):
            counts = sizes(start, now)
            rungs[start, start] = set(range(counts[0]))
            for level, count in enumerate(counts[1:], start + 1):
                kept = rungs.get((start, level), set())
                others = rungs[start, level - 1] - kept
                best = sorted(others, key=lambda i, s=start: quality[s, i])
                rungs[start, level] = kept | set(best[: count - len(kept)])
    return rungs


@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 4))
def test_rungs_are_those_of_the_efficient_variant(seed, top, at_once):
    rng = np.random.default_rng(seed)
    quality = {(s, i): rng.random() for s in range(top + 1) for i in range(ETA**top * 2)}
    book, scheduler = Book([float(ETA**level) for level in range(top + 1)]), Deepening()
    config, rungs, started, running = {}, {}, {}, []
    for number in range(10_000):
        while (step := scheduler.next(book)) is None:
            trial = running.pop(rng.integers(len(running)))
            book.end(trial, quality[config[trial]])
        if step.bracket > top:
            break  # a Hyperband iteration of its own
        if step.parent is None:
            started[step.bracket] = started.get(step.bracket, -1) + 1
            config[number] = step.bracket, started[step.bracket]
        else:
            config[number] = config[step.parent]
        rungs.setdefault((step.bracket, step.level), set()).add(config[number][1])
        book.start(number, step)
        running.append(number)
        while len(running) >= at_once:
            trial = running.pop(rng.integers(len(running)))
            book.end(trial, quality[config[trial]])
    assert rungs == deepened(quality, top)
