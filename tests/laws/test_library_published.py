"""Laws of the library against numbers that their papers print, and against closed forms."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from stepladder.laws import get
from stepladder.laws.allocation import Budget, allocate
from stepladder.laws.library.broken import broken_power
from stepladder.laws.library.kaplan import minimum_compute, minimum_steps
from stepladder.laws.library.routed import effective_params, saturated
from stepladder.laws.library.token_horizon import carried_over
from stepladder.laws.library.vocabulary import tokens_per_character, width


def published(name, inputs, label=""):
    law = get(name)
    return law.predict(law.published(label).values, inputs)


def slope_in(name, variable, at, values=None, step=1e-4):
    """d log target / d log variable."""
    law = get(name)
    values = values or law.published().values
    up, down = ({**at, variable: at[variable] * np.exp(s * step)} for s in (1, -1))
    return np.log(law.predict(values, up) / law.predict(values, down)) / (2 * step)


def test_kaplan_compute_exponent():
    # equation B.7 prints 0.052, equation 6.5 N ~ C^0.71
    law = get("kaplan-steps")
    v = law.published().values
    exponent = law.derived["alpha_C"].of(v)
    assert exponent == pytest.approx(0.052, abs=6e-4)
    assert exponent / 0.076 == pytest.approx(0.71, abs=0.025)
    assert law.derived["S_c"].of(v) == pytest.approx(2.1e3)


def test_kaplan_joint_law_has_the_single_laws_as_limits():
    v = get("kaplan").published().values
    n = np.geomspace(1e6, 1e9, 5)
    alone = (v["N_c"] / n) ** v["alpha_N"]
    endless = published("kaplan", {"params": n, "tokens": np.full(5, 1e30)})
    np.testing.assert_allclose(endless, alone, rtol=1e-9)
    # section 4.4: data has to grow as N^0.74
    assert v["alpha_N"] / v["alpha_D"] == pytest.approx(0.74, abs=0.005)


def test_kaplan_steps_and_compute_trade_off_as_measured():
    # equation 5.1: (S / S_min - 1) (E / E_min - 1) = 1
    steps, batch, critical = 3.0e4, 7.0e5, 2.2e6
    least_steps = minimum_steps(steps, batch, critical)
    least_data = minimum_compute(steps * batch, batch, critical)
    assert (steps / least_steps - 1) * (steps * batch / least_data - 1) == pytest.approx(1.0)


def test_unraveling_solves_its_equation():
    v = get("unraveling").published().values
    for params, steps, batch in ((1e6, 2e3, 2e4), (1e8, 5e4, 5e5), (3e9, 1e5, 4e6)):

        def gap(loss, params=params, steps=steps, batch=batch):
            critical = v["B_star"] / loss ** (1 / v["alpha_B"])
            least = minimum_steps(steps, batch, critical)
            return (v["N_c"] / params) ** v["alpha_N"] + (v["S_c"] / least) ** v["alpha_S"] - loss

        found = published("unraveling", {"params": params, "steps": steps, "batch": batch})
        assert found == pytest.approx(brentq(gap, 0.1, 1e4, xtol=1e-12), rel=1e-9)


def test_routed_models_are_worth_what_is_printed():
    # the paper: 5M with 128 experts is as good as 55M dense; S-BASE helps up to 937B
    law = get("routed")
    v = law.published("s-base").values
    worth = effective_params(v, 5e6, 128.0)
    assert 45e6 < worth < 75e6
    assert law.derived["N_cutoff"].of(v) == pytest.approx(937e9, rel=0.1)
    dense = published("routed", {"params": worth, "experts": 1.0}, "s-base")
    assert dense == pytest.approx(published("routed", {"params": 5e6, "experts": 128.0}, "s-base"))


def test_saturated_experts_run_from_start_to_most():
    assert saturated(1.0, 1.8, 300.0) == pytest.approx(1.8)
    assert saturated(1e12, 1.8, 300.0) == pytest.approx(300.0)


def test_diloco_predicts_its_larger_models():
    # table 12, joint fit: loss of 1, 2 and 4 replicas; "within a few percent". The law has no
    # floor, and is the more optimistic the larger the model.
    table = {4e9: (2.219, 2.220, 2.230), 10e9: (2.086, 2.086, 2.096)}
    for (params, losses), off in zip(table.items(), (0.02, 0.05), strict=True):
        predicted = published("diloco", {"params": params, "replicas": np.array([1.0, 2.0, 4.0])})
        np.testing.assert_allclose(predicted, losses, rtol=off)
        assert np.all(predicted < losses)


def test_cerebras_measured_point():
    # 13B at 2.3e22 FLOP: 1.575 measured, 1.580 from the law
    assert published("cerebras-gpt", {"flops": 2.3e22}) == pytest.approx(1.580, abs=1e-3)
    law = get("cerebras-gpt")
    assert law.derived["C_0"].of(law.published().values) == pytest.approx(5.984e22)


def test_power_scheduler_meets_the_optima_of_its_figure():
    # figure 2: (sequences, tokens) -> best rate on a grid of factors of two
    figure = {(128, 2e9): 0.0128, (128, 256e9): 0.0008, (16, 128e9): 0.0002, (512, 128e9): 0.0064}
    for (sequences, tokens), rate in figure.items():
        found = published("power-scheduler", {"batch": sequences * 4096.0, "tokens": tokens})
        assert abs(np.log2(found / rate)) < 0.8


def test_deepseek_worked_example():
    # 400M parameters and 2T tokens, 4.8e21 FLOP: 3.6M tokens a step at 6e-4 or 7e-4
    assert published("deepseek-batch", {"flops": 4.8e21}) == pytest.approx(3.6e6, rel=0.02)
    assert 5.5e-4 < published("deepseek-lr", {"flops": 4.8e21}) < 7.5e-4


def test_porian_agrees_with_the_ladder_that_follows_it():
    # OLMo-core: 160 sequences of 2048 and a rate of 0.0047 at 108M parameters
    assert published("porian-lr", {"params": 108e6}) == pytest.approx(0.0047, rel=0.02)
    assert published("porian-batch", {"params": 108e6}) == pytest.approx(160 * 2048, rel=0.04)


def test_porian_exponents_of_the_stored_fits():
    law = get("optimal-size")
    assert law.published("porian").values["a"] == pytest.approx(0.497, abs=5e-4)
    assert law.published("porian-untuned").values["a"] == pytest.approx(0.835, abs=5e-4)
    # what each promises for Chinchilla's compute: 77B against 3T
    assert published("optimal-size", {"flops": 5.88e23}, "porian") == pytest.approx(77e9, rel=0.03)
    far = published("optimal-size", {"flops": 5.88e23}, "porian-untuned")
    assert far == pytest.approx(3e12, rel=0.05)


def test_hoffmann_table_three():
    table = {1.92e19: 400e6, 1.21e20: 1e9, 1.23e22: 10e9, 3.85e24: 175e9, 1.27e26: 1e12}
    for flops, params in table.items():
        found = published("optimal-size", {"flops": flops}, "hoffmann-1")
        assert found == pytest.approx(params, rel=0.05)


def test_the_sign_of_the_rate_in_tokens():
    # tuned together it rises; at one batch it falls: both published, no contradiction
    at = {"params": 1e9, "tokens": 1e11}
    assert slope_in("step-law-lr", "tokens", at) == pytest.approx(0.307)
    fixed = slope_in("power-scheduler", "tokens", {"batch": 5e5, "tokens": 1e11})
    assert fixed == pytest.approx(-0.51)
    assert carried_over(1e-3, 1e10, 3.2e11) == pytest.approx(1e-3 * 32**-0.32)


@pytest.mark.parametrize(("batch", "expected"), [(1e2, -0.5), (1e12, 0.5)])
def test_time_transfer_regimes(batch, expected):
    values = {"B_1": 3e5, "kappa": 1.0, "gamma": 0.0, "c": 1.0}
    at = {"tokens": 1e10, "batch": batch}
    assert slope_in("time-transfer", "tokens", at, values) == pytest.approx(expected, abs=1e-2)
    level = slope_in("time-transfer", "batch", {"tokens": 1e9, "batch": 3e5}, values)
    assert level == pytest.approx(0.0, abs=1e-6)  # the peak lies at the critical batch


def test_overtraining_is_chinchilla_with_one_exponent():
    rng = np.random.default_rng(0)
    n, m = np.exp(rng.uniform(16, 23, 40)), np.exp(rng.uniform(2, 6, 40))
    alpha, a, b = 0.3, 400.0, 700.0
    one = get("chinchilla").predict(
        {"E": 1.7, "A": a, "B": b, "alpha": alpha, "beta": alpha}, {"params": n, "tokens": m * n}
    )
    values = {"E": 1.7, "eta": alpha / 2, "a": a * 6 ** (alpha / 2), "b": b * 6 ** (alpha / 2)}
    law = get("overtraining")
    other = law.predict(values, {"flops": 6 * n * m * n, "tokens_per_param": m})
    np.testing.assert_allclose(other, one, rtol=1e-12)
    best = law.derived["best_tokens_per_param"].of(values)
    ratios = best * np.array([0.9, 1.0, 1.1])
    losses = law.predict(values, {"flops": np.full(3, 1e20), "tokens_per_param": ratios})
    assert losses[1] < min(losses[0], losses[2])


def test_precision_without_rounding_is_chinchilla_and_its_best_bits_are_those_of_any_budget():
    values = {"E": 1.9, "A": 500.0, "B": 1500.0, "alpha": 0.35, "beta": 0.35,
              "gamma_weights": 2.0, "gamma_activations": 2.0, "gamma_cache": 2.0}  # fmt: skip
    parts = ("weights", "activations", "cache")
    full = {f"bits_{part}": 1e3 for part in parts}
    plain = {k: values[k] for k in ("E", "A", "B", "alpha", "beta")}
    at = {"params": 1e8, "tokens": 1e10}
    wide = get("precision").predict(values, {**at, **full})
    assert wide == pytest.approx(get("chinchilla").predict(plain, at))
    bits = {
        flops: allocate(get("precision"), Budget(flops=flops), values=values).inputs["bits_weights"]
        for flops in (1e19, 1e23)
    }
    assert len(set(bits.values())) == 1  # section 4.3.2: the optimum does not depend on compute


def test_translation_split():
    values = {"E": 1.1, "A": 300.0, "p_e": 0.18, "p_d": 0.3}
    law = get("translation")
    total = 5e8

    def loss(share):
        sides = {"encoder_params": share * total, "decoder_params": (1 - share) * total}
        return float(law.predict(values, sides))

    best = minimize_scalar(loss, bounds=(0.01, 0.99), method="bounded", options={"xatol": 1e-8})
    assert law.derived["encoder_share"].of(values) == pytest.approx(best.x, abs=1e-4)


def test_vocabulary_in_the_units_of_its_code():
    a1, a2, b, e = 1.8313851559554126, 0.19584238398665638, 2.1241123120064955, 5.5327846803337435
    alpha, alpha_v = 0.44660634152009615, 0.6707374679896795
    n, v, d = 33.222784, 4096 * 512 / 1e6, 0.5
    expected = a1 / n**alpha + a2 / v**alpha_v + b / d**alpha - e
    found = published("vocabulary", {"params": n * 1e6, "vocab_params": v * 1e6, "tokens": d * 1e9})
    assert found == pytest.approx(expected, rel=1e-6)


def test_vocabulary_grows_slower_than_the_rest():
    # figure 1: N_v ~ N^0.83 and Llama 2 70B should have had at least 216K entries
    def best(params):
        flops = (params / np.exp(-2.4846510161625193)) ** 2
        size = np.geomspace(1e3, 1e6, 4000)
        vocab_params = size * width(params)
        tokens = flops / 6 / (params + vocab_params)
        where = {"params": params, "vocab_params": vocab_params, "tokens": tokens}
        return size[np.argmin(published("vocabulary", where))]

    assert best(70e9) > 150e3
    exponent = np.log(best(7e10) * width(7e10) / (best(7e8) * width(7e8))) / np.log(100)
    assert 0.7 < exponent < 0.95


def test_more_vocabulary_makes_fewer_tokens():
    size = np.geomspace(4096, 150e3, 20)
    assert np.all(np.diff(tokens_per_character(size)) < 0)


def test_broken_power_law_of_figure_one():
    # three breaks: far from them the slope on log axes is minus the sum of changes so far
    breaks = [(0.49, 3e6, 1.1), (-0.811, 1e14, 1.425), (2.1, 2e20, 0.05)]
    for at, expected in ((1e-20, 0.05), (1e22, 0.05 + 0.49 - 0.811 + 2.1)):
        x = at * np.exp(np.array([-1e-3, 1e-3]))
        y = broken_power(x, 4.66e3, 0.05, breaks)
        assert np.diff(np.log(y))[0] / 2e-3 == pytest.approx(-expected, abs=2e-3)
    direct = 1e-3 + 4.66e3 * 1e10**-0.05
    for change, where, gradual in breaks:
        direct_factor = (1 + (1e10 / where) ** (1 / gradual)) ** (-change * gradual)
        direct = 1e-3 + (direct - 1e-3) * direct_factor
    assert broken_power(1e10, 4.66e3, 0.05, breaks, 1e-3) == pytest.approx(direct)


def test_broken_law_is_the_product_with_one_break():
    values = {"E": 1.5, "A": 60.0, "c_0": 0.08, "c_1": 0.1, "d_1": 1e19, "f_1": 0.02}
    flops = np.geomspace(1e-5, 1e40, 50)  # far enough for an exponential to overflow
    law = get("broken").predict(values, {"flops": flops})
    np.testing.assert_allclose(law, broken_power(flops, 60.0, 0.08, [(0.1, 1e19, 0.02)], 1.5))
