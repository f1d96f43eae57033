"""Curves under a schedule."""

import numpy as np
import pytest

from stepladder.laws import get
from stepladder.laws.curves import Curve, curve_error, schedule_inputs, stack

VALUES = {"L0": 2.0, "A": 0.5, "alpha": 0.5, "B": 300.0, "C": 2.0, "beta": 0.6, "gamma": 0.6}


def naive_loss(lr, step, v=VALUES):
    """The law as the paper writes it, one sum at a time."""
    total = sum(lr[: step + 1])
    drops = sum(
        (lr[k - 1] - lr[k])
        * (1 - (1 + v["C"] * lr[k] ** -v["gamma"] * sum(lr[k : step + 1])) ** -v["beta"])
        for k in range(1, step + 1)
    )
    return v["L0"] + v["A"] * total ** -v["alpha"] - v["B"] * drops


@pytest.fixture(scope="module")
def cosine():
    steps = np.arange(400)
    warm = np.minimum((steps + 1) / 40, 1.0)
    return 3e-3 * warm * (0.55 + 0.45 * np.cos(np.pi * steps / 400))


def test_schedule_inputs_give_the_papers_sum(cosine):
    at = np.array([5, 39, 40, 200, 399])
    ours = get("multi-power").predict(VALUES, schedule_inputs(cosine, at, None))
    np.testing.assert_allclose(ours, [naive_loss(cosine, t) for t in at], rtol=1e-10)


def test_blocks_change_little(cosine):
    at = np.arange(50, 400, 25)
    law = get("multi-power")
    exact = law.predict(VALUES, schedule_inputs(cosine, at, None))
    np.testing.assert_allclose(law.predict(VALUES, schedule_inputs(cosine, at, 128)), exact,
                               rtol=2e-3)  # fmt: skip


def test_constant_rate_has_no_drops():
    inputs = schedule_inputs(np.full(20, 1e-3), np.array([4, 19]))
    assert np.all(inputs["drop"] == 0)
    np.testing.assert_allclose(inputs["lr_sum"], [5e-3, 2e-2])


def test_stacked_curves_are_the_single_ones(cosine):
    law, at = get("multi-power"), np.array([60, 300])
    runs = [Curve(lr, at, np.array([3.0, 2.5])) for lr in (cosine, np.full(400, 1e-3))]
    columns = stack(runs, blocks=64)
    single = [law.predict(VALUES, schedule_inputs(c.lr, c.at, 64)) for c in runs]
    np.testing.assert_allclose(law.predict(VALUES, columns), np.concatenate(single), rtol=1e-12)


def test_measures_of_a_curve():
    error = curve_error(np.array([1.0, 2.0, 2.0]), np.array([1.0, 2.0, 4.0]))
    assert (error.mae, error.prede, error.worste) == pytest.approx((2 / 3, 1 / 6, 0.5))
    assert error.r2 == pytest.approx(1 - 4 / (14 / 3))
