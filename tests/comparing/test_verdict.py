"""The words of a verdict, from multipliers that are made up."""

from dataclasses import replace

import pytest

from stepladder.comparing.multiplier import Estimate, Interval
from stepladder.comparing.verdict import effect_short, ends, verdict

SURE, FLAT = 0.04, (1.0, 0.8, 1.25)


def made(mean, *, wide=SURE, trend=FLAT, rungs=None):
    def around(value, share):
        return Interval(value=value, low=value * (1 - share), high=value * (1 + share))

    value, low, high = trend
    return Estimate(
        rungs=tuple(around(r, wide) for r in rungs or (mean, mean, mean)),
        mean=around(mean, wide),
        trend=Interval(value=value, low=low, high=high),
        reach=(1.0, 1.0, 1.0),
    )


@pytest.mark.parametrize(
    ("estimate", "said"),
    [
        (made(1.136), "saves 12% (8.3 to 15) of compute; no sign of fading over 30x"),
        (made(1 / 1.09), "costs 9% (4.8 to 14) more compute; no sign of change over 30x"),
        (made(2.5), "needs 0.4 (0.38 to 0.42) of the compute; no sign of fading over 30x"),
        (made(0.25), "costs 4 (3.8 to 4.2) times the compute; no sign of change over 30x"),
        (made(1.01), "within noise: from costing 3.1% more to saving 4.8% of compute"),
        (
            made(1.0, wide=0.6),
            "within noise: from costing 2.5 times to saving 38% of compute",
        ),
        (
            replace(made(1.0), mean=Interval(value=1.0, low=0.9, high=float("inf"))),
            "within noise: from costing 11% more to saving over 99% of compute",
        ),
        (
            made(1.2, trend=(0.8, 0.7, 0.9), rungs=(1.35, 1.2, 1.05)),
            "saves 17% (13 to 20) of compute; fading over 30x: "
            "saves 26% at the smallest rung and 5% at the largest",
        ),
        (
            made(1.2, trend=(1.2, 1.1, 1.3), rungs=(1.1, 1.2, 1.3)),
            "saves 17% (13 to 20) of compute; growing over 30x: "
            "saves 9% at the smallest rung and 23% at the largest",
        ),
        (
            made(0.8, trend=(1.2, 1.1, 1.3), rungs=(0.7, 0.8, 0.9)),
            "costs 25% (20 to 30) more compute; shrinking over 30x: "
            "costs 43% at the smallest rung and 11% at the largest",
        ),
        (
            made(1.2, rungs=(1.4, 1.2, 1.01)),
            "saves 17% (13 to 20) of compute; too noisy to tell whether that lasts over 30x",
        ),
        (
            made(1.01, trend=(1.4, 1.2, 1.6), rungs=(0.8, 1.0, 1.3)),
            "within noise: from costing 3.1% more to saving 4.8% of compute; "
            "growing over 30x: costs 25% at the smallest rung and saves 23% at the largest",
        ),
    ],
)
def test_verdicts(estimate, said):
    assert verdict(estimate, 30.0) == said


@pytest.mark.parametrize(
    ("multiplier", "said"),
    [
        (1.0, "changes nothing"),
        (1.136, "saves 12%"),
        (4.0, "saves 75%"),
        (float("inf"), "saves over 99%"),
        (1 / 1.09, "costs 9%"),
        (0.2, "costs 5x"),
        (0.0, "costs without end"),
    ],
)
def test_short_effects(multiplier, said):
    assert effect_short(multiplier) == said


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (1.136, 1 / 1.05, "saves 12% at the smallest rung and costs 5% at the largest"),
        (1.002, 0.86, "costs nothing at the smallest rung and 16% at the largest"),
        (1.1, 0.998, "saves 9% at the smallest rung and nothing at the largest"),
        (0.19, 0.09, "costs 5.3x at the smallest rung and 11x at the largest"),
        (1.0, 1.0, "changes nothing at the smallest rung and nothing at the largest"),
    ],
)
def test_both_ends(first, last, said):
    assert ends(first, last) == said
