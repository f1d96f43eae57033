"""The words of a verdict, from multipliers that are made up."""

from dataclasses import replace

import pytest

from stepladder.comparing.multiplier import Estimate, Interval
from stepladder.comparing.verdict import effect_short, verdict

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
            "saves 17% (13 to 20) of compute; fading with scale, from -26% to -5% over 30x",
        ),
        (
            made(1.2, trend=(1.2, 1.1, 1.3), rungs=(1.1, 1.2, 1.3)),
            "saves 17% (13 to 20) of compute; growing with scale, from -9% to -23% over 30x",
        ),
        (
            made(0.8, trend=(1.2, 1.1, 1.3), rungs=(0.7, 0.8, 0.9)),
            "costs 25% (20 to 30) more compute; shrinking with scale, from +43% to +11% over 30x",
        ),
        (
            made(1.2, rungs=(1.4, 1.2, 1.01)),
            "saves 17% (13 to 20) of compute; too noisy to tell whether that lasts over 30x",
        ),
        (
            made(1.01, trend=(1.4, 1.2, 1.6), rungs=(0.8, 1.0, 1.3)),
            "within noise: from costing 3.1% more to saving 4.8% of compute; "
            "growing with scale, from +25% to -23% over 30x",
        ),
    ],
)
def test_verdicts(estimate, said):
    assert verdict(estimate, 30.0) == said


@pytest.mark.parametrize(
    ("multiplier", "said"),
    [(1.0, "+0%"), (0.2, "5x"), (4.0, "0.25x"), (float("inf"), "all of it")],
)
def test_short_effects(multiplier, said):
    assert effect_short(multiplier) == said
