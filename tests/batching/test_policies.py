"""Batch policies: the tests of AdAdaGrad against plain formulas, and ramps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepladder.batching import names, policy
from stepladder.batching.statistics import GradientStatistics

G = np.random.default_rng(0).standard_normal((12, 30)) + 0.4
MEAN = G.mean(axis=0)
SQUARE = MEAN @ MEAN
STATISTICS = GradientStatistics.from_shards(G, 1)
RAMPS = {"linear-ramp": {"start": 8, "end": 64}, "doubling": {"start": 8, "end": 64}}


def test_norm_test_is_the_papers_formula():
    needed = G.var(axis=0, ddof=1).sum() / (0.3**2 * SQUARE)
    assert policy("norm-test", eta=0.3, largest=99).needed(STATISTICS) == pytest.approx(
        needed, rel=1e-9
    )


def test_inner_product_test_is_the_papers_formula():
    inner = (G @ MEAN).var(ddof=1) / (0.5**2 * SQUARE**2)
    test = policy("inner-product-test", theta=0.5, largest=99)
    assert test.needed(STATISTICS) == pytest.approx(inner, rel=1e-9)
    ortho = G - np.outer(G @ MEAN, MEAN) / SQUARE
    augmented = ortho.var(axis=0, ddof=1).sum() / (0.2**2 * SQUARE)
    test = policy("inner-product-test", theta=50.0, nu=0.2, largest=99)
    assert test.needed(STATISTICS) == pytest.approx(augmented, rel=1e-6)


def test_coordinate_test_is_the_worst_coordinate():
    ratio = G.var(axis=0, ddof=1) / MEAN**2 / 0.25
    assert policy("coordinate-norm-test", eta=0.5, largest=99).needed(STATISTICS) == pytest.approx(
        ratio.max()
    )
    most = policy("coordinate-norm-test", eta=0.5, share=0.5, largest=99).needed(STATISTICS)
    assert np.mean(ratio <= most) >= 0.5
    assert most < ratio.max()


def test_the_tests_grow_the_batch_as_noise_takes_over():
    """Near the optimum the gradient vanishes, the variance stays: batch as 1/||g||^2."""
    test, batch, seen = policy("norm-test", eta=0.5, granularity=8, largest=4096), 8, []
    rng = np.random.default_rng(1)
    for distance in (4.0, 1.0, 0.25, 0.0625):
        g = distance + rng.standard_normal((64, 50))
        statistics = GradientStatistics.from_shards(g, 1)
        batch = test.next_batch(batch, progress=0.0, statistics=statistics)
        seen.append(batch)
    expected = [max(8, 8 * math.ceil(1 / (0.25 * d**2) / 8)) for d in (4.0, 1.0, 0.25)]
    assert seen[:3] == pytest.approx(expected, rel=0.35)
    assert all(b % 8 == 0 for b in seen)
    assert seen == sorted(seen)


@pytest.mark.parametrize("name", [n for n in names("policy") if n not in RAMPS])
def test_batches_never_shrink_and_respect_the_cap(name):
    calm = GradientStatistics.from_shards(np.ones((4, 5)) + 1e-9 * G[:4, :5], 1)
    wild = GradientStatistics.from_shards(G[:4, :5] - G[:4, :5].mean(axis=0) + 1e-3, 1)
    test = policy(name, largest=256)
    assert test.next_batch(40, progress=0.5, statistics=calm) == 40
    assert test.next_batch(40, progress=0.5, statistics=wild) == 256


def test_linear_ramp():
    ramp = policy("linear-ramp", start=16, end=80, until=0.5, granularity=16)
    got = [ramp.next_batch(0, progress=p, statistics=None) for p in (0, 0.1, 0.25, 0.5, 1.0)]
    assert got == [16, 32, 48, 80, 80]


def test_doubling():
    ramp = policy("doubling", start=8, end=24, milestones=(0.25, 0.5))
    assert [ramp.next_batch(0, progress=p, statistics=None) for p in (0.2, 0.25, 0.5)] == [
        8,
        16,
        24,
    ]


@pytest.mark.parametrize("name", RAMPS)
@given(progress=st.floats(0, 1), granularity=st.sampled_from([1, 2, 4, 8]))
def test_ramps_stay_in_bounds_and_divide(name, progress, granularity):
    ramp = policy(name, **RAMPS[name], granularity=granularity)
    batch = ramp.next_batch(8, progress=progress, statistics=None)
    assert 8 <= batch <= 64
    assert batch % granularity == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: policy("linear", start=1), "is a conversion, not a policy"),
        (lambda: policy("norm-test", eta=0.0, largest=9), "eta must be positive"),
        (lambda: policy("norm-test", eta=0.2), "needs the setting 'largest'"),
        (lambda: policy("norm-test", larges=9), "no setting 'larges', did you mean 'largest'"),
        (lambda: policy("norm-test", granularity=3, largest=256), "multiple of granularity"),
        (lambda: policy("norm-test", largest=-2), "largest must be a whole number"),
        (lambda: policy("norm-test", largest=4.0), "largest must be a whole number"),
        (lambda: policy("norm-test", largest=4, eta=math.inf), "eta must be positive and finite"),
        (lambda: policy("linear-ramp", end=8, granularity=0), "granularity must be a whole"),
        (lambda: policy("linear-ramp", end=8, until=math.nan), "until is a fraction"),
        (lambda: policy("doubling", end=8, factor=-1.0), "factor must be positive"),
        (lambda: policy("doubling", end=8, milestones=(3.0,)), "milestones are fractions"),
        (lambda: policy("doubling", end=8, milestones=0.5), "milestones are fractions"),
        (lambda: policy("linear-ramp", start=10, end=64, granularity=8), "start 10 must be"),
        (
            lambda: policy("norm-test", largest=9).next_batch(8, progress=0, statistics=None),
            "two or more shards",
        ),
        (
            lambda: policy("coordinate-norm-test", largest=9).needed(
                GradientStatistics.from_gram(G @ G.T, 1)
            ),
            "from_shards",
        ),
        (
            lambda: policy("doubling", start=1, end=8).next_batch(1, progress=1.5, statistics=None),
            "beyond the horizon",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
