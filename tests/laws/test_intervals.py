"""Intervals against closed forms for linear laws, and their coverage on nonlinear ones."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from surfaces import TRUTH, chinchilla_table

from stepladder.laws import Coefficient, Fit, Input, Law, backtest, fit, forecasting, get
from stepladder.laws.bootstrap import bca, percentile
from stepladder.laws.design import next_runs
from stepladder.laws.forecasting import forecast, outcome_interval
from stepladder.laws.holdout import Held, missed, trials, widening
from stepladder.laws.noise import one_sided, uneven
from stepladder.laws.objective import Objective
from stepladder.laws.optima import search
from stepladder.laws.panel import panel
from stepladder.laws.points import leaning_to_dear, points
from stepladder.laws.predictive import predictive
from stepladder.laws.prior import has_floor
from stepladder.laws.problem import problem_of
from stepladder.laws.profile import covariance
from stepladder.laws.scale import effective

PLAIN = Objective(loss="squares", residual="plain")


@pytest.fixture(scope="module")
def line() -> Law:
    return Law(
        name="test-line", title="", arxiv="", form="y = a + b x",
        inputs=(Input(name="x", meaning="", low=-np.inf),),
        coefficients=(
            Coefficient(name="a", meaning="", free=True),
            Coefficient(name="b", meaning="", free=True),
        ),
        columns=lambda p, x: (1.0, x["x"]),
    )  # fmt: skip


@pytest.fixture(scope="module")
def line_fit(line):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 10, 14)
    y = 3.0 + 0.5 * x + 0.3 * rng.normal(size=14)
    return x, y, fit(line, {"x": x, "loss": y}, loss=PLAIN, bootstrap=300, level=0.95)


def test_profile_of_a_line_is_the_student_interval(line_fit):
    x, y, found = line_fit
    theirs = stats.linregress(x, y)
    t = stats.t.ppf(0.975, len(x) - 2)
    assert found.values["b"] == pytest.approx(theirs.slope, rel=1e-8)
    np.testing.assert_allclose(
        found.intervals["b"],
        [theirs.slope - t * theirs.stderr, theirs.slope + t * theirs.stderr], rtol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(
        found.intervals["a"],
        [theirs.intercept + s * t * theirs.intercept_stderr for s in (-1, 1)], rtol=1e-6,
    )  # fmt: skip


def test_predictive_of_a_line_is_the_student_prediction_interval(line_fit):
    x, y, found = line_fit
    at = 25.0
    spread = covariance(found.problem, found.coordinates[0], found.scale)
    made = predictive(
        found.problem, found.coordinates, found.scale, spread, {"x": np.array(at)},
        found.scale.noise,
    )  # fmt: skip
    n, gap = len(x), np.sum((x - x.mean()) ** 2)
    s = np.sqrt(np.sum((y - found.predict({"x": x})) ** 2) / (n - 2))
    half = stats.t.ppf(0.95, n - 2) * s * np.sqrt(1 + 1 / n + (at - x.mean()) ** 2 / gap)
    centre = found.predict({"x": at})
    assert made.quantile(0.05) == pytest.approx(centre - half, rel=1e-6)
    assert made.quantile(0.95) == pytest.approx(centre + half, rel=1e-6)
    assert made.cdf(np.array([centre]))[0] == pytest.approx(0.5, abs=1e-6)


def test_condition_of_a_line(line_fit):
    x, _, found = line_fit
    unit = np.column_stack([np.ones_like(x), x])
    unit = unit / np.linalg.norm(unit, axis=0)
    assert found.condition == pytest.approx(np.linalg.cond(unit), rel=1e-8)


def test_bca_is_scipys():
    x = np.random.default_rng(0).gamma(2.0, size=40)
    samples = np.random.default_rng(1).choice(x, size=(4000, 40)).mean(axis=1)
    ours = bca(samples, x.mean(), (x - x.mean()) / len(x), 0.9)
    theirs = stats.bootstrap(
        (x,), np.mean, confidence_level=0.9, method="BCa", n_resamples=4000, rng=2
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, rtol=0.02)
    plain = np.quantile(samples, [0.05, 0.95])
    assert percentile(samples, 0.9) == pytest.approx(tuple(plain), rel=1e-3)


def test_percentiles_of_what_may_be_infinite_or_unknown():
    samples = np.concatenate([np.arange(80.0), np.full(20, np.inf)])
    assert percentile(samples, 0.9) == (4.0, np.inf)
    samples[:10] = np.nan
    assert percentile(samples, 0.9) == (-np.inf, np.inf)
    assert percentile(samples[10:80], 0.8) == (16.0, 73.0)


def test_a_derived_quantity_is_covered_as_often_as_it_says():
    """The allocation exponent of a known surface, over fresh draws."""
    rng, truth, inside = np.random.default_rng(), 0.3658 / (0.3478 + 0.3658), []
    for _ in range(60):
        n, d = np.exp(rng.uniform(np.log([[5e7], [1e9]]), np.log([[1e10], [2e11]]), (2, 60)))
        loss = (1.8172 + 482.01 / n**0.3478 + 2085.43 / d**0.3658) * np.exp(rng.normal(0, 5e-3, 60))
        columns = {"params": n, "tokens": d, "loss": loss}
        low, high = fit("chinchilla", columns, starts=30, bootstrap=200).derived_intervals["a"]
        inside.append(low < truth < high)
    assert sum(inside) >= 43  # of 60; fewer once in thousands of runs


def test_one_sided_noise_is_noticed_and_symmetric_noise_is_not():
    rng = np.random.default_rng(0)
    assert one_sided(rng.exponential(size=200)).needed
    flagged = [one_sided(rng.normal(size=100)).needed for _ in range(300)]
    assert np.mean(flagged) < 0.03
    assert not one_sided(-rng.exponential(size=200)).needed  # below the law: not undertuning


def test_bars_of_no_width_are_widened_without_overflow():
    none = Held(miss=np.array([0.1]), error=np.zeros(1))
    assert widening([none]) > 1e9
    assert widening([Held(miss=np.zeros(1), error=np.zeros(1))]) == 1.0


def test_an_interval_may_be_endless(monkeypatch):
    laws = panel(fit("chinchilla", chinchilla_table(TRUTH), starts=8, bootstrap=0), ())
    monkeypatch.setattr(forecasting, "_central", lambda *_: (0.0, -1e4, 1e4))
    assert outcome_interval(laws, {}, 0.9) == (0.0, np.inf)


def test_a_single_far_run_is_no_sign_of_undertuning():
    columns = chinchilla_table(TRUTH, 0.003)
    columns["loss"][13] *= 2.1
    found = fit("chinchilla", columns, starts=30, bootstrap=0)
    assert any("row 14 far from the law" in text for text in found.reasons)
    assert not found.one_sided.needed


def test_uneven_noise_is_noticed_and_even_noise_is_not():
    rng, cost = np.random.default_rng(0), np.geomspace(1, 1e4, 100)
    assert uneven(rng.normal(size=100) * cost**0.2, cost)
    assert uneven(rng.normal(size=100) / cost**0.2, cost)
    assert np.mean([uneven(rng.normal(size=100), cost) for _ in range(300)]) < 0.04
    assert not uneven(np.zeros(5), np.ones(5))


def test_uneven_noise_is_answered_by_the_bootstrap():
    table = chinchilla_table(TRUTH, repeats=3)
    cost = table["params"] * table["tokens"]
    shake = np.random.default_rng(0).normal(size=len(cost)) * 0.02 * (cost / cost.max()) ** -0.2
    found = fit("chinchilla", {**table, "loss": table["loss"] * np.exp(shake)},
                starts=30, bootstrap=200)  # fmt: skip
    assert found.method == "percentile"
    assert found.intervals == found.methods["percentile"]


def test_likelihood_ratio_of_the_two_piece_normal_is_its_maximum():
    x = np.random.default_rng(3).gamma(1.5, size=80)
    result = one_sided(x)

    def minus_twice(theta):
        mode, above, below = theta[0], np.exp(theta[1]), np.exp(theta[2])
        size = np.where(x > mode, above, below)
        density = np.log(2 / np.sqrt(2 * np.pi) / (above + below)) - (x - mode) ** 2 / 2 / size**2
        return -2 * density.sum()

    from scipy.optimize import minimize

    best = min(
        minimize(minus_twice, [m, 0.0, -1.0], method="Nelder-Mead",
                 options={"maxiter": 4000, "xatol": 1e-9, "fatol": 1e-9}).fun
        for m in np.quantile(x, [0.05, 0.2, 0.5])
    )  # fmt: skip
    normal = -2 * stats.norm(x.mean(), x.std()).logpdf(x).sum()
    assert result.ratio == pytest.approx(normal - best, rel=0.02)


def test_next_run_predicts_the_shrinkage_that_a_refit_shows(line_fit):
    x, _, found = line_fit
    options = {"x": np.array([0.0, 5.0, 12.0])}
    ranked = next_runs(found, {"x": 25.0}, options, cost=np.ones(3))
    assert next(c.inputs["x"] for c in ranked) == 12.0
    for candidate in ranked:
        grown = np.append(x, candidate.inputs["x"])
        design = np.column_stack([np.ones_like(grown), grown])
        g = np.array([1.0, 25.0])
        after = g @ np.linalg.inv(design.T @ design) @ g
        before = g @ np.linalg.inv(design[:-1].T @ design[:-1]) @ g
        assert candidate.shrinks == pytest.approx(1 - np.sqrt(after / before), rel=1e-5)


def test_next_runs_are_such_as_were_made():
    table = chinchilla_table(TRUTH, 0.005)
    made = table["tokens"] / table["params"]
    usual = (made > 5) & (made < 100)  # the dearest model has no run on the fewest tokens
    made, table = made[usual], {name: x[usual] for name, x in table.items()}
    found = fit("chinchilla", table, starts=40, bootstrap=0)
    proposed = next_runs(found, {"params": 1e12, "tokens": 2e13})
    ratios = [c.inputs["tokens"] / c.inputs["params"] for c in proposed]
    assert min(ratios) >= made.min() / 2
    assert max(ratios) <= 2 * made.max()
    assert len(proposed) > 10


def test_fit_reads_back_from_json(line_fit):
    found = fit("chinchilla", chinchilla_table(TRUTH, 0.005), starts=40, bootstrap=50)
    again = Fit.from_json(json.loads(json.dumps(found.to_json())))
    point = {"params": 2e10, "tokens": 4e11}
    assert again.forecast(point) == found.forecast(point)
    assert again.to_json() == found.to_json()


def test_known_noise_keeps_a_lucky_fit_honest():
    table = chinchilla_table(TRUTH, 1e-5)
    lucky = fit("chinchilla", table, loss="squares", starts=40, bootstrap=0)
    honest = fit("chinchilla", table, noise=0.005, starts=40, bootstrap=0)

    def width(found):
        low, high = found.intervals["alpha"]
        return high - low

    assert honest.scale.noise == 0.005
    assert width(honest) > 50 * width(lucky)


def coverage(draws: int, loss: str | None, noise: float) -> dict[str, float]:
    held = dict.fromkeys(TRUTH, 0)
    for seed in range(draws):
        table = chinchilla_table(TRUTH, noise, seed)
        found = fit("chinchilla", table, loss=loss, starts=16, bootstrap=0)
        for name, (low, high) in found.intervals.items():
            held[name] += low <= TRUTH[name] <= high
    return {name: count / draws for name, count in held.items()}


def test_intervals_cover_on_a_few_draws():
    # 60 draws of a 90% interval: fewer than 46 or more than 60 happen once in ten thousand
    assert all(part >= 46 / 60 for part in coverage(60, "squares", 0.005).values())


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["squares", "huber"])
def test_intervals_cover_at_their_level(loss):
    for name, part in coverage(500, loss, 0.005).items():
        assert part == pytest.approx(0.9, abs=0.03), name


@pytest.mark.slow
def test_ladder_forecasts_hold_their_outcomes():
    rng = np.random.default_rng(5)
    law, held = get("power"), 0
    for _ in range(40):
        flops = np.repeat(np.geomspace(1e15, 3e16, 5), 3)
        alpha = rng.uniform(0.08, 0.25)
        values = {"E": rng.uniform(1.2, 2.2), "A": rng.uniform(1, 3) * 1e15**alpha, "alpha": alpha}
        loss = law.predict(values, {"flops": flops}) * np.exp(0.003 * rng.normal(size=15))
        target = {"flops": 3e16 * 15}
        outcome = law.predict(values, target) * np.exp(0.003 * rng.normal())
        made = fit(law, {"flops": flops, "loss": loss}, starts=16, bootstrap=0).forecast(target)
        held += made.low <= outcome <= made.high
    assert held >= 29


def test_forecast_names_what_is_wrong():
    found = fit("chinchilla", chinchilla_table(TRUTH, 0.005), starts=20, bootstrap=0)
    with pytest.raises(ValueError, match="did you mean 'params'"):
        found.forecast({"parms": 1e9, "tokens": 1e10})
    with pytest.raises(ValueError, match="needs tokens too"):
        found.forecast({"params": 1e9})
    with pytest.raises(ValueError, match="must be above 0"):
        found.forecast({"params": 1e9, "tokens": 0.0})


def test_rival_laws_share_the_forecast_by_their_held_out_errors():
    at, found = {"params": 2e10, "tokens": 4e11}, fit(
        "chinchilla", chinchilla_table(TRUTH, 0.003), starts=20, bootstrap=0
    )  # fmt: skip
    laws = panel(found)
    errors = [
        missed(trials(f.problem, f.points.cost, f.coordinates, f.settings.noise)) for f in laws.fits
    ]
    made = found.forecast(at)
    share = made.weights["kaplan"] / made.weights["chinchilla"]
    assert share == pytest.approx((errors[0] / errors[1]) ** 2)
    assert sum(made.weights.values()) == pytest.approx(1.0)
    each = [float(f.predict(at)) for f in laws.fits]
    assert min(each) < made.value < max(each)
    assert made.low < made.value < made.high


def test_bars_that_missed_held_out_runs_are_widened():
    table = chinchilla_table(TRUTH, 0.003, seed=2)
    bend = np.exp(0.01 * np.log10(table["params"] * table["tokens"] / 1e16) ** 2)
    found = fit("chinchilla", {**table, "loss": table["loss"] * bend}, starts=20, bootstrap=0)
    assert found.widening > 1.2
    alone = panel(found, ())
    assert alone.fits == (found,)
    assert alone.widening == pytest.approx(found.widening)
    at = {"params": 1e9, "tokens": 1e10}
    plain = forecast(replace(alone, widening=1.0), at)
    wide = found.forecast(at, rivals=())
    assert wide.high - wide.value > plain.high - plain.value
    ratio = np.log(wide.high / wide.low) / np.log(plain.high / plain.low)
    assert ratio == pytest.approx(found.widening, rel=1e-6)


@pytest.mark.parametrize(("reach", "factor"), [(0.1, 1.0), (1.0, 1.0), (4.0, 1.0), (128.0, 2.0)])
def test_bars_widen_with_the_reach_of_a_forecast(reach, factor):
    table = chinchilla_table(TRUTH, 0.003, seed=2)
    laws = panel(fit("chinchilla", table, starts=20, bootstrap=0))
    dearest = np.max(table["params"] * table["tokens"])
    at = {"params": np.array(1e9), "tokens": np.array(reach * dearest / 1e9)}
    assert laws.widening_at(at) == pytest.approx(laws.widening * factor)


def test_laws_that_are_not_of_cost_have_no_reach():
    flops = np.geomspace(1e17, 1e20, 12)
    rate = 0.3 * flops**-0.125 * np.exp(np.random.default_rng(0).normal(0, 0.01, 12))
    laws = panel(fit("deepseek-lr", {"flops": flops, "lr": rate}, starts=20, bootstrap=0))
    assert laws.widening_at({"flops": np.array(1e26)}) == laws.widening


def test_forecasts_lean_to_the_dear_runs():
    """A law that bends away from its cheap runs: the dear ones say where it goes."""
    table = chinchilla_table(TRUTH, 0.002, seed=3)
    cost = 6 * table["params"] * table["tokens"]
    bend = np.exp(0.02 * np.log10(cost / cost.max()) ** 2)
    found = fit("chinchilla", {**table, "loss": table["loss"] * bend}, starts=20, bootstrap=0)
    leaning = panel(found, ("chinchilla",)).fits[0]
    dear = cost > np.quantile(cost, 0.8)

    def miss(law):
        return np.mean(np.log(law.predict(table) / (table["loss"] * bend))[dear] ** 2)

    assert miss(leaning) < 0.5 * miss(found)


def test_a_prior_of_the_floor_steadies_extrapolation_from_few_runs():
    law, flops = get("power"), np.geomspace(1e16, 3e17, 8)
    truth, target = {"E": 1.8, "A": 1e16**0.3, "alpha": 0.3}, {"flops": 1e20}
    exact = law.predict(truth, {"flops": flops})
    errors: dict[float | None, list[float]] = {0.02: [], None: []}
    for seed in range(30):
        loss = exact * np.exp(0.02 * np.random.default_rng(seed).normal(size=8))
        told = points(law, {"flops": flops, "loss": loss})
        for noise, of in errors.items():
            p = problem_of(law, told, Objective(loss="squares"), noise)
            ends = p.values(search(p, 30).coordinates[0])
            of.append(float(np.log(law.predict(ends, target) / law.predict(truth, target))))
    assert np.mean(np.square(errors[0.02])) < 0.7 * np.mean(np.square(errors[None]))


def test_only_forecasts_from_few_runs_have_a_prior():
    few = {n: x[::5] for n, x in chinchilla_table(TRUTH, 0.003).items()}
    for table, has in ((few, True), (chinchilla_table(TRUTH, 0.003), False)):
        found = fit("chinchilla", table, starts=20, bootstrap=0)
        assert found.problem.prior is None
        assert (panel(found).fits[0].problem.prior is not None) == has


def test_a_floor_is_a_positive_end_of_the_target():
    assert has_floor(get("chinchilla"))
    assert not has_floor(get("kaplan"))
    assert not has_floor(get("vocabulary-size"))  # signed: its E is no floor of a loss


@given(
    arrays(np.float64, st.integers(3, 200), elements=st.floats(1.0, 1e12)),
    st.integers(1, 30),
)
def test_leaning_leaves_enough_points_a_say(cost, most):
    table = {"flops": cost, "loss": 2.0 + 1.0 / (1.0 + np.arange(len(cost)))}
    told = leaning_to_dear(points(get("power"), table))
    n = len(cost)
    assert effective(told.lean) >= min(max(n / 3.1, 12), n) - 1e-6
    assert np.mean(told.lean) == pytest.approx(1.0)
    order = np.argsort(cost, kind="stable")
    assert np.all(np.diff(told.lean[order]) >= -1e-12)


@pytest.mark.slow
def test_a_leaning_fit_has_the_sandwich_covariance_of_even_noise():
    """Weighted least squares of a line whose noise is even: errors as they are simulated."""
    rng, law = np.random.default_rng(5), get("power")
    flops = np.geomspace(1e15, 1e19, 60)
    exact = law.predict({"E": 1.0, "A": 40.0, "alpha": 0.1}, {"flops": flops})
    spread, told = [], []
    for _ in range(60):
        loss = exact * np.exp(0.004 * rng.normal(size=60))
        found = fit(law, {"flops": flops, "loss": loss}, loss="squares", starts=8, bootstrap=0)
        leaning = panel(found, ("power",)).fits[0]
        at = leaning.problem.linearised(leaning.coordinates[:1])[1][0][:, -1]
        cov = covariance(leaning.problem, leaning.coordinates[0], leaning.scale)
        told.append(np.sqrt(at @ cov @ at))
        spread.append(float(np.log(leaning.predict({"flops": flops[-1:]})[0])))
    assert np.median(told) == pytest.approx(np.std(spread), rel=0.35)


@pytest.mark.parametrize("loss", ["huber", "squares", "asymmetric", "quantile"])
def test_points_without_noise_have_a_fit_and_a_forecast(loss):
    found = fit("chinchilla", chinchilla_table(TRUTH), loss=loss, starts=40, bootstrap=20)
    assert found.values == pytest.approx(TRUTH, rel=1e-6)
    at = {"params": 1e11, "tokens": 2e12}
    made = found.forecast(at)
    assert made.value == pytest.approx(float(get("chinchilla").predict(TRUTH, at)), rel=1e-6)
    assert made.high - made.low < 1e-6


def test_runs_of_one_cost_have_a_fit_but_no_backtest():
    table = {**chinchilla_table(TRUTH, 0.003), "flops": np.full(48, 1e20)}
    found = fit("chinchilla", table, starts=30, bootstrap=0)
    assert found.left_out is None
    assert found.widening == 1.0
    with pytest.raises(ValueError, match=r"they cost 1e\+20 to 1e\+20"):
        backtest("chinchilla", table)
