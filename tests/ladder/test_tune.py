"""The best rate of a few noisy runs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepladder.ladder.tune import optimum

RATES = [0.0075 * 2.0**k for k in range(5)]


def test_an_unlucky_run_does_not_send_the_rate_to_where_no_run_was_better():
    """Two even losses below the best tilt the parabola: it is lowest a factor of four away."""
    losses = [2.60, 2.62, 2.59, 2.9, 2.9]
    found = optimum({rate: [y] for rate, y in zip(RATES, losses, strict=True)})
    assert RATES[1] * (1 - 1e-9) <= found.lr <= RATES[3]


@given(st.lists(st.floats(1.0, 10.0), min_size=3, max_size=9))
def test_the_rate_lies_between_the_neighbours_of_the_best(losses):
    rates = [2.0**k for k in range(len(losses))]
    at = int(np.argmin(losses))
    found = optimum({rate: [y] for rate, y in zip(rates, losses, strict=True)}).lr
    assert rates[max(at - 1, 0)] <= found * (1 + 1e-9)
    assert found <= rates[min(at + 1, len(rates) - 1)] * (1 + 1e-9)


@pytest.mark.parametrize("best", [-3.7, -2.0, -1.1])
def test_a_parabola_is_found_exactly(best):
    rates = 2.0 ** np.arange(-5.0, 1.0)
    losses = {rate: [np.exp(0.1 * (np.log2(rate) - best) ** 2)] for rate in rates}
    assert optimum(losses).lr == pytest.approx(2.0**best, rel=1e-6)
