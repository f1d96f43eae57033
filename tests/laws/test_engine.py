"""The search against scipy: losses, positive coefficients, descents, optima."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, nnls
from scipy.special import huber
from surfaces import TRUTH, chinchilla_table

from stepladder.laws import Law, Parameter, descent, fit, get
from stepladder.laws.descent import descend
from stepladder.laws.law import Input
from stepladder.laws.objective import Objective, terms
from stepladder.laws.problem import Overlay, Problem
from stepladder.laws.starts import nonnegative, starts

RESIDUALS = np.array([-1e-2, -1e-3, -1e-4, 0.0, 5e-4, 2e-3, 1.0])


def problem(table, objective=None):
    law = get("chinchilla")
    return Problem(
        law=law,
        inputs={n: table[n] for n in ("params", "tokens")},
        target=table["loss"],
        weights=np.ones(len(table["loss"])),
        objective=objective or Objective(),
    )


def test_huber_is_scipys():
    np.testing.assert_allclose(
        terms(Objective(), RESIDUALS).value, huber(1e-3, RESIDUALS), rtol=1e-12, atol=1e-300
    )


@pytest.mark.parametrize("loss", ["huber", "squares", "asymmetric", "quantile"])
def test_slope_and_curvature_are_derivatives_and_the_parabola_lies_above(loss):
    objective = Objective(loss=loss, quantile=0.2)
    at, step = RESIDUALS[RESIDUALS != 0] * 1.017, 1e-8

    def value(r):
        return terms(objective, r).value

    here = terms(objective, at)
    numeric = (value(at + step) - value(at - step)) / (2 * step)
    np.testing.assert_allclose(here.slope, numeric, rtol=1e-5, atol=1e-12)
    other = np.linspace(-0.02, 0.02, 201)[:, None]
    if objective.quantile == 0.5:
        above = here.value + here.slope * (other - at) + 0.5 * here.bound * (other - at) ** 2
        assert np.all(above >= value(np.broadcast_to(other, above.shape)) - 1e-15)


def test_quantile_loss_is_minimal_at_the_quantile():
    y = np.random.default_rng(0).exponential(size=4001)
    grid = np.linspace(0, 3, 3001)
    objective = Objective(loss="quantile", delta=1e-6, quantile=0.3, residual="plain")
    total = [terms(objective, g - y).value.sum() for g in grid]
    assert grid[np.argmin(total)] == pytest.approx(np.quantile(y, 0.3), abs=2e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_positive_least_squares_is_scipys(seed):
    rng = np.random.default_rng(seed)
    design, goal = rng.normal(size=(4, 12, 3)), rng.normal(size=(4, 12))
    weight = rng.uniform(0.5, 2, 12)
    ours = nonnegative(design, goal, weight, np.zeros(3, dtype=bool))
    for k in range(4):
        root = np.sqrt(weight)
        theirs, _ = nnls(design[k] * root[:, None], goal[k] * root)
        np.testing.assert_allclose(ours[k], theirs, atol=1e-8)


def test_free_coefficients_may_be_negative():
    design = np.stack([np.ones(5), np.arange(5.0)], axis=1)[None]
    goal = (2.0 - 3.0 * np.arange(5.0))[None]
    free = np.array([False, True])
    np.testing.assert_allclose(nonnegative(design, goal, np.ones(5), free)[0], [2, -3], atol=1e-9)


def test_exact_exponents_from_exact_losses():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(12):
        truth = {"E": rng.uniform(1, 2.5), "alpha": rng.uniform(0.2, 0.6),
                 "beta": rng.uniform(0.2, 0.6)}  # fmt: skip
        truth |= {"A": 0.8 * 5e8 ** truth["alpha"], "B": 0.7 * 1e10 ** truth["beta"]}
        found = fit("chinchilla", chinchilla_table(truth), starts=60, bootstrap=0)
        errors += [abs(found.values[n] / truth[n] - 1) for n in ("alpha", "beta")]
    # the bar is a geometric mean of 1.1%
    assert np.exp(np.mean(np.log(np.array(errors) + 1e-16))) < 1e-6


def test_descent_ends_where_scipy_does():
    table = chinchilla_table(TRUTH, noise=0.005, seed=3)
    p = problem(table, Objective(loss="squares"))
    ours = descend(p, starts(p, 20), tolerance=1e-13)
    best = ours.coordinates[np.argmin(ours.value)]
    theirs = minimize(
        lambda c: p.value(c[None])[0] * 1e4, best * (1 + 1e-3), method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 20_000, "maxfev": 20_000},
    )  # fmt: skip
    assert ours.value.min() <= theirs.fun / 1e4 * (1 + 1e-9)


def test_gradient_vanishes_at_the_optimum_for_every_loss():
    table = chinchilla_table(TRUTH, noise=0.01, seed=4)
    for loss in ("huber", "squares", "asymmetric"):
        found = fit("chinchilla", table, loss=loss, starts=40, bootstrap=0)
        local = found.problem.local(found.coordinates[:1])
        # in units in which the curvature is one
        scaled = local.gradient[0] / np.sqrt(np.diag(local.bound[0]) * found.objective)
        assert np.abs(scaled).max() < 1e-4, loss


def test_weights_count_as_repeated_rows():
    table = chinchilla_table(TRUTH, noise=0.01, seed=5)
    times = np.random.default_rng(0).integers(1, 4, len(table["loss"]))
    weighted = fit("chinchilla", table, weights=times, loss="squares", starts=40, bootstrap=0)
    repeated = {n: np.repeat(x, times) for n, x in table.items()}
    counted = fit("chinchilla", repeated, loss="squares", starts=40, bootstrap=0)
    for name, value in weighted.values.items():
        assert counted.values[name] == pytest.approx(value, rel=1e-5)


def test_overlaid_weights_are_a_problem_of_their_own():
    table = chinchilla_table(TRUTH, noise=0.01, seed=6)
    p = problem(table)
    keep = np.arange(len(table["loss"])) % 5 != 0
    at = starts(p, 20)[:1]
    overlaid = descend(p, at, overlay=Overlay(weights=keep[None].astype(float)), tolerance=1e-12)
    alone = problem({n: x[keep] for n, x in table.items()})
    np.testing.assert_allclose(overlaid.value, descend(alone, at, tolerance=1e-12).value, rtol=1e-6)


@pytest.mark.parametrize("loss", ["squares", "huber"])
def test_a_prior_is_part_of_the_objective_and_its_derivatives(loss):
    table = chinchilla_table(TRUTH, noise=0.01, seed=11)
    plain = problem(table, Objective(loss=loss, delta=0.1))
    p = replace(plain, floor_noise=0.2)
    at = p.coordinates({n: np.array([x]) for n, x in TRUTH.items()}) + 0.01
    share, far = 0.7 * table["loss"].min(), np.log(TRUTH["E"]) + 0.01
    added = 0.5 * (0.2 / 0.5) ** 2 * (far - np.log(share)) ** 2
    assert p.value(at)[0] - plain.value(at)[0] == pytest.approx(added, rel=1e-9)
    local, step = p.local(at), 1e-5
    assert local.value[0] == pytest.approx(p.value(at)[0], rel=1e-12)
    for k in range(at.shape[1]):
        ends = [p.local(at + side * step * np.eye(5)[k]) for side in (1, -1)]
        slope = (ends[0].value[0] - ends[1].value[0]) / (2 * step)
        assert local.gradient[0, k] == pytest.approx(slope, rel=1e-5, abs=1e-9)
    floor = p.names.index("E")
    for fresh, old in ((local.curvature, plain.local(at).curvature),
                       (local.bound, plain.local(at).bound)):  # fmt: skip
        grown = np.zeros((5, 5))
        grown[floor, floor] = (0.2 / 0.5) ** 2
        np.testing.assert_allclose(fresh[0] - old[0], grown, atol=1e-9)
    weights = np.random.default_rng(0).uniform(0.5, 2, (3, len(p.target)))
    for fresh, old in zip(
        p.reweighted(at[0], weights), p.local(np.repeat(at, 3, 0), Overlay(weights)), strict=True
    ):
        np.testing.assert_allclose(fresh, old, rtol=1e-8, atol=1e-9)


def test_ends_do_not_depend_on_who_moves_together(monkeypatch):
    p = problem(chinchilla_table(TRUTH, noise=0.01, seed=8))
    at = starts(p, 60)
    held = np.zeros(at.shape, dtype=bool)
    held[::7, 0] = True
    weights = np.random.default_rng(8).uniform(0.5, 2.0, (60, len(p.target)))
    given = {"overlay": Overlay(weights=weights), "fixed": held, "tolerance": 1e-12}
    together = descend(p, at, **given)
    monkeypatch.setattr(descent, "ELEMENTS", 400)
    few = descend(p, at, **given)
    for one, other in zip(together, few, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


def test_a_step_limit_is_each_candidates_own(monkeypatch):
    p = problem(chinchilla_table(TRUTH, noise=0.01, seed=9))
    monkeypatch.setattr(descent, "ELEMENTS", 400)
    at = starts(p, 40)
    few, alone = descend(p, at, steps=3), [descend(p, row[None], steps=3) for row in at]
    np.testing.assert_allclose(few.value, [one.value[0] for one in alone], rtol=1e-9)
    assert not few.converged.all()


def test_the_last_step_is_taken_and_ends_much_closer():
    bottom = fit("chinchilla", chinchilla_table(TRUTH, noise=0.01, seed=10), loss="squares",
                 bootstrap=0)  # fmt: skip
    p, away = bottom.problem, np.array([0.01, -0.01, 0.0, 0.05, -0.05])
    end = descend(p, bottom.coordinates[:1] + away, tolerance=1e-4)
    assert end.converged.all()
    assert p.value(end.coordinates)[0] < bottom.objective * (1 + 1e-6)
    assert p.value(end.coordinates)[0] <= end.value[0]


@pytest.mark.parametrize("loss", ["squares", "huber"])
def test_a_last_step_never_leads_up(loss):
    p = problem(chinchilla_table(TRUTH, noise=0.01, seed=13), Objective(loss=loss))
    at, weights = starts(p, 40), np.random.default_rng(13).uniform(0, 2, (40, len(p.target)))
    overlay = Overlay(weights=weights)
    before = p.local(at, overlay).value
    ends = descend(p, at, overlay=overlay, tolerance=0.05)  # many a first step is the last
    np.testing.assert_allclose(p.value(ends.coordinates, overlay), ends.value, rtol=1e-9)
    assert (ends.value <= before).all()
    assert (ends.value < before).any()


def test_a_floor_that_is_not_there_goes_to_zero():
    truth = {"E": 0.0, "A": 20.0, "alpha": 0.05}
    flops = np.geomspace(1e15, 1e19, 12)
    loss = get("power").predict(truth, {"flops": flops})
    loss = loss * np.exp(0.002 * (np.arange(12) % 3 - 1))
    found = fit("power", {"flops": flops, "loss": loss}, starts=40, bootstrap=0)
    if found.values["E"] == 0:
        assert found.status == "bound hit"
    assert found.intervals["E"][0] == pytest.approx(0.0, abs=1e-3)
    assert found.values["alpha"] == pytest.approx(0.05, rel=0.1)


def two_valleys() -> Law:
    return Law(
        name="two-valleys", title="", arxiv="", form="y = 1 + (u^2 - 1)^2 / 100 + u x / 1e4",
        inputs=(Input(name="x", meaning="", low=-9.0),),
        parameters=(Parameter(name="u", meaning="", low=-3.0, high=3.0),),
        columns=lambda p, x: (1.0 + (p["u"] ** 2 - 1) ** 2 / 100 + p["u"] * x["x"] / 1e4,),
    )  # fmt: skip


def test_both_of_two_equal_valleys_are_reported():
    x = np.random.default_rng(0).normal(size=40)
    shake = 1e-3 * np.random.default_rng(1).normal(size=40)
    found = fit(two_valleys(), {"x": x, "loss": np.exp(shake)}, loss="squares", bootstrap=0)
    assert found.status == "several optima"
    ends = sorted(o.values["u"] for o in found.optima)
    assert ends == pytest.approx([-1, 1], abs=0.1)
    assert found.optima[0].objective <= found.optima[1].objective
