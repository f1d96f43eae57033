"""Every registered law keeps the contract that the engine relies on."""

import numpy as np
import pytest
from library_cases import CASES, Case, draw

from stepladder.laws import Coefficient, Input, Law, Parameter, get, names
from stepladder.laws.objective import Objective
from stepladder.laws.problem import Problem
from stepladder.laws.starts import spread

LAWS = names()


OWN = {
    "chinchilla": Case({"params": (5e7, 1e10), "tokens": (1e9, 1e11)}),
    "critical-batch": Case({"params": (5e7, 1e9)}),
    "data-constrained": Case(
        {"params": (5e7, 1e10), "tokens": (5e9, 1e11), "unique_tokens": (1e9, 4e9)}
    ),
    "data-constrained-repetition": Case(
        {"params": (5e7, 1e10), "tokens": (5e9, 1e11), "unique_tokens": (1e9, 4e9)}
    ),
    "farseer": Case({"params": (2e8, 6e9), "tokens": (2e9, 2e11)}),
    "power": Case({"flops": (1e15, 1e21)}, {"E": 1.5, "A": 300.0, "alpha": 0.15}),
    "steps-to-target": Case({"batch": (64, 16384)}, {"a": 1300.0, "b": 2.8e6}),
}
EVERY = {**CASES, **OWN}
CASED = [name for name in LAWS if name in EVERY]  # data-mixing and multi-power: inputs with axes


def plausible(name: str) -> tuple[Law, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A law, three sets of values around plausible ones, and seven points."""
    law, case = get(name), EVERY[name]
    truth, columns = draw(law, case, seed=0)
    shake = np.random.default_rng(1).uniform(0.97, 1.03, (len(law.names), 3))
    values = {n: truth[n] * shake[k] for k, n in enumerate(law.names)}
    return law, values, {i.name: columns[i.name][:7] for i in law.inputs}


@pytest.mark.parametrize("name", CASED)
def test_one_start_at_a_time_is_all_starts_together(name):
    law, values, x = plausible(name)
    together = law.predict(values, x)
    assert together.shape == (3, 7)
    for k in range(3):
        single = law.predict({n: v[k] for n, v in values.items()}, x)
        np.testing.assert_allclose(together[k], single, rtol=1e-12)


@pytest.mark.parametrize("name", CASED)
def test_each_point_stands_alone(name):
    law, every, x = plausible(name)
    values = {n: v[0] for n, v in every.items()}
    whole = law.predict(values, x)
    part = law.predict(values, {n: column[2:4] for n, column in x.items()})
    np.testing.assert_allclose(part, whole[2:4], rtol=1e-12)


@pytest.mark.parametrize("name", CASED)
def test_derivatives_are_those_of_central_differences(name):
    law, every, x = plausible(name)
    problem = Problem(
        law=law, inputs=x, target=np.ones(7), weights=np.ones(7),
        objective=Objective(loss="squares", residual="plain"),
    )  # fmt: skip
    at = problem.coordinates({n: v[:1] for n, v in every.items()})
    _, jacobian, _ = problem.linearised(at)
    step = 1e-6
    for k in range(at.shape[1]):
        move = step * np.eye(at.shape[1])[k]
        numeric = (problem.residuals(at + move) - problem.residuals(at - move)) / (2 * step)
        scale = np.abs(numeric).max() + 1e-6 * np.abs(problem.residuals(at)).max() + 1e-9
        np.testing.assert_allclose(jacobian[:, k] / scale, numeric / scale, atol=2e-5)


@pytest.mark.parametrize("name", [n for n in LAWS if get(n).constants])
def test_published_constants_name_every_value_and_lie_within_bounds(name):
    law = get(name)
    for constants in law.constants:
        assert set(constants.values) == set(law.names)
        assert constants.source
        for p in law.parameters:
            assert p.low <= constants.values[p.name] <= p.high
        for quantity in law.derived.values():
            assert np.isfinite(quantity.of(constants.values))


def test_unknown_names_say_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'chinchilla'"):
        get("chinchila")
    with pytest.raises(ValueError, match="did you mean 'epoch'"):
        get("chinchilla").published("epok")


def test_number_in_number_out():
    value = get("chinchilla").predict(
        get("chinchilla").published("hoffmann").values, {"params": 70e9, "tokens": 1.4e12}
    )
    assert value == pytest.approx(1.69 + 406.4 / 70e9**0.34 + 410.7 / 1.4e12**0.28, rel=1e-12)


def test_spread_fills_the_search_box_evenly():
    law = Law(
        name="box", title="", arxiv="", form="", inputs=(Input(name="x", meaning=""),),
        parameters=(
            Parameter(name="a", meaning="", low=0.0, high=2.0),
            Parameter(name="b", meaning="", low=0.1, high=10.0, log=True),
        ),
        coefficients=(Coefficient(name="c", meaning=""),),
        columns=lambda p, x: (p["a"] * x["x"] ** p["b"],),
    )  # fmt: skip
    problem = Problem(
        law=law, inputs={"x": np.arange(1.0, 4)}, target=np.ones(3), weights=np.ones(3),
        objective=Objective(),
    )  # fmt: skip
    at = spread(problem, 400)
    assert at.shape == (400, 2)
    cells = np.histogram2d(at[:, 0], at[:, 1], bins=4, range=[[0, 2], np.log([0.1, 10])])[0]
    assert cells.min() >= 20  # 25 each if perfectly even


def _with_slopes():
    return [name for name in names() if get(name).slopes is not None]


@pytest.mark.parametrize("name", _with_slopes())
def test_analytic_slopes_are_the_complex_steps(name):
    """At random values inside the searched ranges and inputs where such laws are fitted."""
    law, rng = get(name), np.random.default_rng()
    _, drawn = draw(law, EVERY[name], seed=int(rng.integers(1 << 31)))
    x = {i.name: drawn[i.name][:6] for i in law.inputs}
    ends = [p.search or (p.low, p.high) for p in law.parameters]
    p = {q.name: rng.uniform(*e, (3, 1)) for q, e in zip(law.parameters, ends, strict=True)}
    columns = [np.atleast_2d(np.asarray(c, dtype=float)) for c in law.columns(p, x)]
    told = law.slopes(p, x, columns)
    assert set(told) == set(p)
    for q, slopes in told.items():
        moved = law.columns({**p, q: p[q] + 1e-30j}, x)
        for column, slope in zip(moved, slopes, strict=True):
            exact = np.broadcast_to(np.imag(column) / 1e-30, (3, 6))
            np.testing.assert_allclose(np.broadcast_to(slope, (3, 6)), exact, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in LAWS if get(name).derived])
def test_derived_quantities_survive_values_at_their_ends(name):
    law = get(name)
    usual = law.published().values if law.constants else dict.fromkeys(law.names, 0.5)
    for zero in law.names:
        found = law.derive({**usual, zero: 0.0})
        assert found.keys() == law.derived.keys()
        assert all(value.shape == () for value in found.values())


@pytest.mark.parametrize("name", [name for name in LAWS if get(name).derived])
def test_derived_quantities_of_many_candidates_are_those_of_each(name):
    law, rng = get(name), np.random.default_rng()
    usual = law.published().values if law.constants else dict.fromkeys(law.names, 0.5)
    many = {n: value * rng.uniform(0.8, 1.2, 5) for n, value in usual.items()}
    told = law.derive(many)
    for k in range(5):
        for quantity, alone in law.derive({n: v[k] for n, v in many.items()}).items():
            np.testing.assert_allclose(told[quantity][k], alone, rtol=1e-12)
