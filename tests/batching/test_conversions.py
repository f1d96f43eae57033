"""Conversion rules: closed forms, and simulations of what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepladder.batching import Settings, convert, micro_batches, names
from stepladder.batching.horizon import step_law, surge, time_transfer
from stepladder.batching.random_matrix import fitted_noise, top_eigenvalue

BASE = Settings(
    batch=64, lr=0.01, beta1=0.95, beta2=0.99, eps=1e-6, weight_decay=0.1, tokens=1e6, ema=0.999
)
OPTIONS = {"random-matrix": {"curvature": 2.0, "noise": 300.0}}


@pytest.mark.parametrize("name", names("conversion"))
def test_ratio_one_changes_nothing(name):
    got = vars(convert(name, BASE, 1.0, **OPTIONS.get(name, {})))
    assert got == pytest.approx(vars(BASE), rel=1e-12)


@pytest.mark.parametrize("name", names("conversion"))
@given(k=st.floats(0.25, 4), again=st.floats(0.25, 4))
def test_two_conversions_are_one(name, k, again):
    options = OPTIONS.get(name, {})
    twice = convert(name, convert(name, BASE, k, **options), again, **options)
    assert vars(twice) == pytest.approx(vars(convert(name, BASE, k * again, **options)), rel=1e-9)


def test_sde_is_the_papers_table():
    got = convert(("sde", "ema"), BASE, 4.0)
    assert (got.batch, got.lr, got.eps) == pytest.approx((256, 0.02, 5e-7))
    assert (1 - got.beta1, 1 - got.beta2) == pytest.approx((0.2, 0.04))
    assert got.ema == pytest.approx(0.999**4)
    assert convert("sde", BASE, 4.0, decay="timescale").weight_decay == pytest.approx(0.2)


@pytest.mark.parametrize("beta", [0.9, 0.95, 0.98, 0.99])
def test_sde_goes_up_to_where_a_beta_is_zero(beta):
    base = Settings(batch=8, lr=0.01, beta1=beta, beta2=0.999)
    assert convert("sde", base, 1 / (1 - beta)).beta1 == pytest.approx(0.0, abs=1e-9)
    assert convert("sde", base, round(1 / (1 - beta))).beta1 >= 0.0


def noisy_adam(settings, samples, rng, curvature=1.0, std=50.0, runs=1000):
    """Mean squared distance of RMSprop-like Adam on a noisy quadratic, at 8 sample counts."""
    x, m, v = (np.full(runs, c) for c in (1.0, 0.0, std**2 / settings.batch))
    steps = int(samples / settings.batch)
    seen = []
    for t in range(steps):
        g = curvature * x + std / math.sqrt(settings.batch) * rng.standard_normal(runs)
        m = settings.beta1 * m + (1 - settings.beta1) * g
        v = settings.beta2 * v + (1 - settings.beta2) * g * g
        x = x - settings.lr * m / (np.sqrt(v) + settings.eps)
        if (t + 1) % (steps // 8) == 0:
            seen.append(np.mean(x**2))
    return np.array(seen[:8])


def test_sde_rule_keeps_adams_trajectory_over_sixteen_times_the_batch_and_linear_does_not():
    """On a quadratic whose noise dominates; the linear rule ends far away, as the paper says."""
    base = Settings(batch=1, lr=0.01, beta1=0.99, beta2=0.999, eps=1e-8)
    reference = noisy_adam(base, 16000, np.random.default_rng(0))
    for k in (4, 16):
        kept = noisy_adam(convert("sde", base, k), 16000, np.random.default_rng(k))
        np.testing.assert_allclose(kept, reference, rtol=0.25)
    broken = noisy_adam(convert("linear", base, 16), 16000, np.random.default_rng(1))
    assert broken[-1] / reference[-1] > 2


def sgd_end(settings, samples, rng, runs=4000):
    x = np.ones(runs)
    for _ in range(int(samples / settings.batch)):
        g = x + 5.0 / math.sqrt(settings.batch) * rng.standard_normal(runs)
        x = x - settings.lr * g
    return np.mean(x**2)


def test_linear_rule_keeps_sgd_until_the_rate_is_no_longer_small():
    """Sixteen times the batch changes nothing while lr is small; the root rule falls behind."""
    base = Settings(batch=1, lr=0.002)
    samples = 400  # exp(-2 * 0.8): still on the way down
    reference = sgd_end(base, samples, np.random.default_rng(0))
    linear = sgd_end(convert("linear", base, 16), samples, np.random.default_rng(1))
    root = sgd_end(convert("sqrt", base, 16), samples, np.random.default_rng(2))
    assert linear == pytest.approx(reference, rel=0.1)
    assert root > 1.5 * reference
    wild = convert("linear", base, 1024)  # lr 2.048 > 2 / curvature
    assert wild.lr > 2.0
    assert sgd_end(wild, 1024 * 200, np.random.default_rng(3)) > 100 * reference


@pytest.mark.parametrize("batch", [4, 16, 64, 256, 4096])
def test_top_eigenvalue_is_that_of_a_spiked_matrix(batch):
    """Against the spectrum of a drawn spiked Wigner matrix, above and below the transition."""
    size, spike, sigma = 600, 1.0, 0.1
    rng = np.random.default_rng(batch)
    wigner = rng.standard_normal((size, size)) * sigma / math.sqrt(batch)
    wigner = (wigner + wigner.T) / math.sqrt(2)
    direction = rng.standard_normal(size)
    direction /= np.linalg.norm(direction)
    top = np.linalg.eigvalsh(wigner + spike * np.outer(direction, direction))[-1]
    assert top_eigenvalue(spike, size * sigma**2, batch) == pytest.approx(top, rel=0.06)


def test_random_matrix_rate_is_linear_then_flat():
    """SGD's slope in log-log falls from about 1 (1/2 below the transition) to 0."""
    options = {"curvature": 1.0, "noise": 1e4, "adaptive": False}
    small = Settings(batch=20000, lr=0.01)
    large = Settings(batch=1e8, lr=0.01)
    assert convert("random-matrix", large, 2.0, **options).lr == pytest.approx(0.01, rel=1e-3)
    noisy = Settings(batch=100, lr=0.01)
    assert convert("random-matrix", noisy, 4.0, **options).lr == pytest.approx(0.02)
    assert 0.01 < convert("random-matrix", small, 2.0, **options).lr < 0.02
    sgd = convert("random-matrix", small, 2.0, **options).lr / 0.01
    adam = convert("random-matrix", small, 2.0, **{**options, "adaptive": True}).lr / 0.01
    assert adam == pytest.approx(math.sqrt(sgd))


@given(
    curvature=st.floats(1e-3, 1e3),
    shape=st.floats(-6, 6),
    batches=st.lists(st.floats(1.0, 1e4), min_size=1, max_size=5),
)
def test_the_noise_that_made_the_eigenvalues_is_found_again(curvature, shape, batches):
    """Whatever it is, the law at it is the law that was measured."""
    noise = curvature**2 * min(batches) * math.exp(shape)
    measured = [top_eigenvalue(curvature, noise, batch) for batch in batches]
    found = fitted_noise(curvature, batches, measured)
    again = [top_eigenvalue(curvature, found, batch) for batch in batches]
    assert again == pytest.approx(measured, rel=1e-3)


@pytest.mark.parametrize(("batches", "values"), [([], []), ([4.0], [-1.0]), ([0.0], [1.0])])
def test_noise_of_no_batches_is_refused(batches, values):
    with pytest.raises(ValueError, match="give the top eigenvalue of all the data"):
        fitted_noise(1.0, batches, values)


def test_regime_adaptation_keeps_the_updates():
    got = convert("regime-adaptation", BASE, 16)
    assert got.tokens / got.batch == BASE.tokens / BASE.batch
    assert got.lr == pytest.approx(4 * BASE.lr)


def test_step_law_at_the_papers_point():
    """A 1B model on 100B tokens, worked by hand from the printed constants."""
    lr, batch = step_law(1e9, 1e11)
    assert lr == pytest.approx(10 ** (math.log10(1.79) - 0.713 * 9 + 0.307 * 11), rel=1e-12)
    assert batch == pytest.approx(10 ** (math.log10(0.58) + 0.571 * 11), rel=1e-12)


@pytest.mark.parametrize(
    ("batch", "power"), [(1e-5, -0.5), (1e5, 0.5), (2**0.5, 0.0)], ids=["below", "above", "at"]
)
def test_time_transfer_has_three_regimes(batch, power):
    """1/sqrt(T) far below the critical batch, sqrt(T) far above, flat across it."""
    assert time_transfer(2.0, batch=batch, critical=1.0) == pytest.approx(2.0**power, rel=1e-4)


def test_surge_peaks_at_the_critical_batch():
    grid = np.logspace(-3, 3, 101)
    assert grid[np.argmax([surge(x) for x in grid])] == pytest.approx(1.0)
    assert surge(1.0) == 1.0


@given(count=st.integers(1, 500), micro=st.integers(1, 64))
def test_micro_batches_divide(count, micro):
    assert micro_batches(count * micro, micro) == count


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: convert("sdee", BASE, 2), "did you mean 'sde'"),
        (lambda: convert("norm-test", BASE, 2), "is a policy, not a conversion"),
        (lambda: convert(("sde", "linear"), BASE, 2), "change lr; choose one"),
        (lambda: convert("linear", BASE, 0.0), "positive and finite"),
        (lambda: convert("linear", BASE, "2"), "positive and finite"),
        (lambda: convert("sde", BASE, 2, deca="keep"), "no setting 'deca', did you mean 'decay'"),
        (lambda: convert("sqrt", BASE, 2, decay="keep"), "no setting 'decay'; it has none"),
        (lambda: convert("random-matrix", BASE, 2), "needs the setting 'curvature'"),
        (lambda: Settings(batch=0, lr=1), "batch must be positive"),
        (lambda: Settings(batch=1, lr=math.nan), "lr must be finite and not negative"),
        (lambda: Settings(batch=1, lr=1, beta1=1.0), r"beta1 must lie in \[0, 1\)"),
        (lambda: Settings(batch=1, lr=1, ema=1.5), r"ema must lie in \[0, 1\)"),
        (lambda: Settings(batch=1, lr=1, tokens=-1), "tokens must be positive"),
        (lambda: top_eigenvalue(1.0, 1.0, 0), "batch must be positive"),
        (lambda: step_law(1, math.inf), "tokens must be positive and finite"),
        (lambda: time_transfer(math.inf, batch=1, critical=1), "ratio must be positive and finite"),
        (lambda: convert("sde", BASE, 21), "at most 20"),
        (lambda: convert("sde", BASE, 2, decay="no"), "'keep' or 'timescale'"),
        (lambda: convert("ema", Settings(batch=1, lr=1), 2), "need the average's decay"),
        (lambda: convert("regime-adaptation", Settings(batch=1, lr=1), 2), "need `tokens`"),
        (lambda: convert("random-matrix", BASE, 2, curvature=0.0, noise=1.0), "must be positive"),
        (lambda: step_law(0, 1), "must be positive"),
        (lambda: time_transfer(2.0, batch=0, critical=1), "must be positive"),
        (lambda: micro_batches(100, 8), "does not divide into micro-batches of 8: 96 or 104"),
        (lambda: micro_batches(4, 8), "does not divide into micro-batches of 8: 8"),
        (lambda: micro_batches(0, 8), "at least 1"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
