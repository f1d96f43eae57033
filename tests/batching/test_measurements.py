"""Noise scale and critical batch against known truths and published numbers."""

import csv
import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from stepladder.batching.critical import critical_batch
from stepladder.batching.noise_scale import NoiseScaleMeter
from stepladder.batching.probe import AccumulationProbe, ShardProbe, shard_statistics
from stepladder.batching.statistics import GradientStatistics


def gaussian_meter(rng, steps, mean, std, small, shards):
    """A meter fed with gradients of known mean and covariance std^2 I."""
    meter = NoiseScaleMeter()
    for _ in range(steps):
        g = mean + std / math.sqrt(small) * rng.standard_normal((shards, len(mean)))
        meter.add(
            small_square=(g**2).sum(axis=1).mean(),
            big_square=(g.mean(axis=0) ** 2).sum(),
            small=small,
            big=small * shards,
        )
    return meter


def test_noise_scale_of_gaussian_gradients_is_covered():
    """The 90% interval covers the truth at its rate (binomial error allowed) and is centred."""
    rng = np.random.default_rng(0)
    mean, std = np.full(40, 0.1), 1.0
    truth = 40 * std**2 / (mean**2).sum()
    found = [gaussian_meter(rng, 48, mean, std, 8, 4).estimate() for _ in range(300)]
    covered = np.mean([f.low <= truth <= f.high for f in found])
    assert 0.85 <= covered <= 0.95
    assert np.median([f.scale for f in found]) == pytest.approx(truth, rel=0.05)


def test_noise_without_signal_has_no_upper_end():
    meter = gaussian_meter(np.random.default_rng(1), 32, np.zeros(20), 1.0, 4, 4)
    estimate = meter.estimate()
    assert math.isinf(estimate.high)
    assert estimate.trace == pytest.approx(20, rel=0.2)


def test_mean_over_shards_is_the_variance_between_shards():
    """The two published estimators are the same number."""
    g = np.random.default_rng(2).standard_normal((6, 30)) + 0.3
    meter = NoiseScaleMeter()
    for _ in range(8):
        meter.add(
            small_square=(g**2).sum(axis=1).mean(),
            big_square=(g.mean(axis=0) ** 2).sum(),
            small=5,
            big=30,
        )
    statistics = GradientStatistics.from_shards(g, 5)
    assert meter.estimate().trace == pytest.approx(statistics.variance, rel=1e-12)
    unbiased = statistics.mean_square - statistics.variance / 30
    assert meter.estimate().squared_norm == pytest.approx(unbiased, rel=1e-12)


def linear_regression(seed=0, samples=4096, width=12):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, width, generator=rng, dtype=torch.float64)
    y = x @ torch.linspace(-1, 1, width, dtype=torch.float64)
    y = y + torch.randn(samples, generator=rng, dtype=torch.float64)
    return x, y, torch.nn.Parameter(torch.zeros(width, dtype=torch.float64))


@pytest.mark.parametrize("every_shard", [False, True])
def test_probe_measures_a_model_as_its_samples_say(every_shard):
    """Against tr Sigma / |G|^2 from every sample's gradient, which is known for least squares."""
    x, y, w = linear_regression()
    per_sample = -2 * (y - x @ w.detach())[:, None] * x
    mean = per_sample.mean(dim=0)
    truth = float(per_sample.var(dim=0).sum() / (mean @ mean))
    meter, micro, count = NoiseScaleMeter(), 16, 4
    probe = AccumulationProbe([w], micro_batches=count, micro_size=micro, every_shard=every_shard)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1)).view(
        -1, count, micro
    )
    for step in order:
        w.grad = None
        for rows in step:
            (((y[rows] - x[rows] @ w) ** 2).mean() / count).backward()
            probe.after_backward()
        probe.finish(meter)
    estimate = meter.estimate()
    assert len(meter) == 64
    assert estimate.low < truth < estimate.high
    assert estimate.scale == pytest.approx(truth, rel=0.35)


def test_probe_leaves_gradients_as_they_are():
    x, y, w = linear_regression(samples=32)
    probe = AccumulationProbe([w], micro_batches=2, micro_size=16, every_shard=True)
    for rows in (slice(0, 16), slice(16, 32)):
        (((y[rows] - x[rows] @ w) ** 2).mean() / 2).backward()
        probe.after_backward()
    probe.finish(NoiseScaleMeter())
    (full,) = torch.autograd.grad(((y - x @ w) ** 2).mean(), w)
    torch.testing.assert_close(w.grad, full)


def test_statistics_are_those_of_the_samples():
    """Gram matrix against plain variances of the gradients and of their inner products."""
    g = np.random.default_rng(3).standard_normal((10, 7)) + 1.0
    shard_lists = [[torch.from_numpy(row[:3]), torch.from_numpy(row[3:])] for row in g]
    mean = g.mean(axis=0)
    inner = g @ mean
    ortho = g - np.outer(inner, mean) / (mean @ mean)
    for found in (
        GradientStatistics.from_shards(g, 1),
        shard_statistics(shard_lists, 1),
    ):
        assert found.mean_square == pytest.approx(mean @ mean, rel=1e-5)
        assert found.variance == pytest.approx(g.var(axis=0, ddof=1).sum(), rel=1e-5)
        assert found.inner_variance == pytest.approx(inner.var(ddof=1), rel=1e-5)
        assert found.orthogonal_variance == pytest.approx(ortho.var(axis=0, ddof=1).sum(), rel=1e-4)


def test_critical_batches_as_printed(realdata):
    """The five critical batches of the authors' notebook, and their order of magnitude in D."""
    printed = [745.32, 955.16, 1393.73, 1888.52, 2533.41]
    rows = defaultdict(list)
    with (realdata / "critical-batch-size" / "steps_to_target.csv").open() as file:
        for row in csv.DictReader(file):
            rows[row["model"]].append((float(row["batch_size"]), float(row["steps"])))
    for expected, points in zip(printed, rows.values(), strict=True):
        found = critical_batch(*zip(*points, strict=True), optimal=256, resamples=50)
        assert found.batch == pytest.approx(expected, abs=0.01)
        assert found.low < found.batch < found.high
        assert found.inside


def test_critical_batch_has_exactly_its_overhead():
    batches = np.array([16, 32, 64, 128, 256, 512, 1024])
    found = critical_batch(batches, 100 + 64000 / batches, overhead=0.2, resamples=20)
    steps = 100 + 64000 / found.batch
    linear = (100 + 64000 / 16) * 16 / found.batch
    assert steps / linear == pytest.approx(1.2, rel=1e-4)
    assert (found.least_steps, found.samples) == pytest.approx((100, 64000), rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NoiseScaleMeter().estimate(), "at least 8 steps"),
        (
            lambda: NoiseScaleMeter().add(small_square=1, big_square=1, small=4, big=4),
            "small < big",
        ),
        (
            lambda: NoiseScaleMeter().add(small_square=math.nan, big_square=1, small=1, big=4),
            "not finite",
        ),
        (
            lambda: NoiseScaleMeter().add(small_square=-1, big_square=1, small=1, big=4),
            "negative or not finite",
        ),
        (lambda: NoiseScaleMeter().estimate(level=1.0), "between 0 and 1"),
        (lambda: NoiseScaleMeter().estimate(last=-1), "last must be a whole number"),
        (lambda: GradientStatistics.from_gram([[1.0]], 1), "two or more shards"),
        (lambda: GradientStatistics.from_gram(np.eye(2), 0), "size must be positive"),
        (lambda: GradientStatistics.from_shards([1.0, 2.0], 1), "as .shards, parameters."),
        (lambda: shard_statistics([], 1), "two or more shards"),
        (lambda: ShardProbe([], shards=2, micro_batches=3, micro_size=1), "3 micro-batches do not"),
        (lambda: ShardProbe([], shards=2, micro_batches=1, micro_size=1), "1 micro-batches do not"),
        (
            lambda: ShardProbe([], shards=2, micro_batches=2, micro_size=1).statistics(),
            "0 of 2 shards were seen",
        ),
        (lambda: GradientStatistics.from_gram([[1.0, math.inf], [0, 1]], 1), "not finite"),
        (lambda: AccumulationProbe([], micro_batches=1, micro_size=1), "at least two"),
        (
            lambda: AccumulationProbe([], micro_batches=2, micro_size=1).finish(NoiseScaleMeter()),
            "0 of 2 micro-batches",
        ),
        (lambda: critical_batch([1, 2, 3], [1, 2, 3]), "four or more"),
        (lambda: critical_batch([1, 2, 3, 4], [1, 2, 3, -1]), "positive and finite"),
        (lambda: critical_batch([1, 2, 4, 8], [5, 5, 5, 5]), "measure smaller batches"),
        (lambda: critical_batch([1, 2, 4, 8], [9, 6, 5, 4], overhead=0), "overhead must be"),
        (lambda: critical_batch([1, 2, 4, 8], [9, 6, 5, 4], resamples=0), "resamples must be"),
        (lambda: critical_batch([1, 2, 4, 8], [800, 400, 200, 100]), "measure larger batches"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
