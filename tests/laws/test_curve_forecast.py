"""Loss curves to come: recovery, scales, what is not told, and the published curves."""

import numpy as np
import pytest
from curve_sets import TEST, TRAIN, curve

from stepladder.laws import get
from stepladder.laws.curve_forecast import fit_curves, score, straying
from stepladder.laws.curves import Curve, schedule_inputs

STEPS, WARM, PEAK = 4000, 200, 2e-3
VALUES = {"L0": 1.9, "A": 0.35, "alpha": 0.55, "B": 60.0, "C": 1.6, "beta": 0.5, "gamma": 0.6}


def rates(kind: str, steps: int = STEPS) -> np.ndarray:
    step = np.arange(steps)
    part = np.clip((step - WARM) / (steps - WARM), 0, 1)
    shape = {
        "constant": np.ones(steps),
        "cosine": 0.55 + 0.45 * np.cos(np.pi * part),
        "wsd": np.clip((1 - part) / 0.2, 0.05, 1.0),
    }[kind]
    return PEAK * np.minimum((step + 1) / WARM, 1.0) * shape


def made_up(kind: str, noise: float = 0.0, seed: int = 0, scale: float = 1.0) -> Curve:
    """A run that the law made."""
    lr, at = rates(kind), np.arange(20, STEPS, 20)
    loss = get("multi-power").predict(VALUES, schedule_inputs(lr, at))
    loss = loss * np.exp(noise * np.random.default_rng(seed).normal(size=len(at)))
    return Curve(scale * lr, at, loss)


def part_of(run: Curve, part: float) -> tuple[Curve, Curve]:
    early = run.at < part * len(run.lr)
    return (
        Curve(run.lr, run.at[early], run.loss[early]),
        Curve(run.lr, run.at[~early], run.loss[~early]),
    )


def test_another_schedule_is_forecast():
    known = [made_up("cosine", 0.002, 1), made_up("constant", 0.002, 2)]
    unseen = made_up("wsd")
    settled = unseen.at > 0.1 * STEPS
    made = fit_curves(known).forecast(unseen.lr, unseen.at[settled])
    result = score(made, unseen.loss[settled])
    assert result.error.worste < 0.008
    assert result.coverage > 0.9


def test_a_published_law_speaks_in_the_same_constants():
    fitted = fit_curves([made_up("cosine"), made_up("wsd")])
    at = np.array([800, 3000, 3999])
    inputs = schedule_inputs(rates("cosine"), at)
    ours = get("multi-power").predict(fitted.values, inputs)
    np.testing.assert_allclose(ours, get("multi-power").predict(VALUES, inputs), rtol=3e-3)
    np.testing.assert_allclose(ours, fitted.forecast(rates("cosine"), at).value, rtol=2e-3)


def test_the_unit_of_rates_and_losses_does_not_matter():
    run, other = made_up("cosine", 0.003), made_up("cosine", 0.003, scale=70.0)
    at = np.array([2000, 3999])
    made = fit_curves([run]).forecast(run.lr, at)
    scaled = fit_curves([Curve(other.lr, other.at, 1.7 * other.loss)]).forecast(other.lr, at)
    for name in ("value", "low", "high", "law_low"):
        np.testing.assert_allclose(
            getattr(scaled, name), 1.7 * getattr(made, name), rtol=1e-3, err_msg=name
        )


def test_intervals_hold_the_rest_of_noisy_runs():
    held, lawful = [], []
    for seed in range(12):
        kind = ("constant", "cosine", "wsd")[seed % 3]
        known, rest = part_of(made_up(kind, 0.004, seed), 0.6)
        made = fit_curves([known]).forecast(rest.lr, rest.at)
        held.append(score(made, rest.loss).coverage)
        truth = get("multi-power").predict(VALUES, schedule_inputs(rest.lr, rest.at))
        lawful.append(np.mean((made.law_low <= truth) & (truth <= made.law_high)))
    assert np.mean(held) > 0.85
    assert np.mean(lawful) > 0.8


def test_a_fall_that_was_not_seen_is_said_and_widens_the_interval():
    known, _ = part_of(made_up("wsd", 0.002), 0.75)  # its cooldown begins at 0.8
    told = fit_curves([known])
    assert not told.falls_seen
    assert fit_curves([made_up("cosine", 0.002)]).falls_seen
    ends = {kind: told.forecast(rates(kind), np.array([3999])) for kind in ("wsd", "constant")}
    widths = {kind: (m.law_high - m.law_low)[0] for kind, m in ends.items()}
    assert widths["wsd"] > 2 * widths["constant"]


def test_a_schedule_further_from_the_log_is_less_sure():
    """The misfit of the law grows with the distance, whatever the constants leave open."""
    log = rates("cosine") / PEAK
    at = np.array([1000, 2500, STEPS - 1])
    own, near, far = (
        straying([log], run / PEAK, at)
        for run in (rates("cosine"), 0.9 * rates("cosine"), rates("constant"))
    )
    assert np.all(own[:, 1] == 0)
    assert np.all(near[:, 1] > 0)
    assert np.all(far[1:, 1] > near[1:, 1])
    apart = np.sqrt(np.mean((rates("constant") / PEAK - log) ** 2))
    assert far[-1, 1] == pytest.approx(apart)
    both = straying([log, rates("constant") / PEAK], rates("constant") / PEAK, at)
    assert np.all(both[:, 1] == 0)  # the nearest log counts


def test_only_a_fall_that_no_log_saw_is_unseen():
    wsd, cosine = rates("wsd") / PEAK, rates("cosine") / PEAK
    at = np.array([3000, STEPS - 1])
    seen = straying([cosine], wsd, at)
    np.testing.assert_allclose(seen[:, 2], [0, (cosine[-1] - wsd[-1]) ** 2])
    early = straying([wsd[:3000]], wsd, at)
    np.testing.assert_allclose(early[:, 2], [0, (1 - wsd[-1]) ** 2])
    np.testing.assert_allclose(early[:, 0], np.log((at + 1) / 3000) ** 2)


def test_far_beyond_the_logs_is_less_sure():
    fitted = fit_curves([made_up("cosine", 0.002)])
    near, far = (
        fitted.forecast(rates("cosine", steps), np.array([steps - 1])) for steps in (4000, 16000)
    )
    assert (far.law_high - far.law_low)[0] > 1.3 * (near.law_high - near.law_low)[0]


def test_neighbouring_losses_are_averaged_alike():
    lr, at = rates("cosine"), np.arange(STEPS)
    loss = get("multi-power").predict(VALUES, schedule_inputs(lr, at))
    rng = np.random.default_rng(3)
    run = Curve(lr, at, loss * np.exp(0.02 * rng.normal(size=STEPS)))
    known, rest = part_of(run, 0.7)
    made = fit_curves([known]).forecast(rest.lr, rest.at)
    truth = loss[rest.at]
    assert np.max(np.abs(made.value / truth - 1)) < 0.01


@pytest.mark.parametrize(
    ("lr", "loss", "match"),
    [
        (np.full(100, 1e-3), np.full(5, 2.0), "at least 8"),
        (np.full(100, 1e-3), np.append(np.full(20, 2.0), -1.0), "positive"),
        (np.zeros(100), np.full(20, 2.0), "rates"),
    ],
)
def test_what_no_curve_can_be(lr, loss, match):
    at = np.linspace(20, 99, len(loss)).astype(int)
    with pytest.raises(ValueError, match=match):
        fit_curves([Curve(lr, at, loss)])


@pytest.mark.parametrize("size", [25, 100, 400])
def test_published_curves_from_their_three(realdata, size):
    """Errors near those that the authors print (0.11 to 0.17%), and three runs of three times the
    length among them."""
    fitted = fit_curves([curve(realdata, size, name) for name in TRAIN])
    found = []
    for name in TEST:
        run = curve(realdata, size, name)
        found.append(score(fitted.forecast(run.lr, run.at), run.loss))
    assert np.mean([one.error.prede for one in found]) < 0.0025
    assert np.mean([one.coverage for one in found]) > 0.75


def test_published_curves_to_their_end(realdata):
    held, errors = [], []
    for size in (25, 400):
        for name in ("cosine_24000", "constant_24000", "wsd_20000_24000", "wsdcon_9"):
            known, rest = part_of(curve(realdata, size, name), 0.7)
            result = score(fit_curves([known]).forecast(rest.lr, rest.at), rest.loss)
            held.append(result.coverage)
            errors.append(result.error.prede)
    assert np.mean(held) > 0.85
    assert np.median(errors) < 0.003
