"""Budgets: closed forms, constraints, choices, and what cannot be allocated."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from surfaces import TRUTH, chinchilla_table

from stepladder.laws import Coefficient, Input, Law, fit, get
from stepladder.laws.allocation import Budget, allocate

EPOCH = get("chinchilla").published("epoch").values


def optimum(flops: float) -> float:
    """Equation 4 of arXiv:2203.15556."""
    v = EPOCH
    total = v["alpha"] + v["beta"]
    scale = (v["alpha"] * v["A"] / (v["beta"] * v["B"])) ** (1 / total)
    return scale * (flops / 6) ** (v["beta"] / total)


@pytest.mark.parametrize("flops", [1e18, 1e21, 1e24])
def test_chinchilla_optimum_is_the_closed_form(flops):
    best = allocate(get("chinchilla"), Budget(flops=flops), values=EPOCH)
    assert best.inputs["params"] == pytest.approx(optimum(flops), rel=1e-4)
    assert 6 * best.inputs["params"] * best.inputs["tokens"] == pytest.approx(flops)
    assert best.binding == "flops"


def test_every_choice_within_the_region_is_nearly_as_good():
    law = get("chinchilla")
    best = allocate(law, Budget(flops=1e22), values=EPOCH, tolerance=0.001)
    for end in best.near["params"]:
        value = law.predict(EPOCH, {"params": end, "tokens": 1e22 / 6 / end})
        assert value == pytest.approx(best.value * 1.001, rel=1e-4)


def test_served_tokens_come_out_of_the_budget():
    budget = Budget(flops=1e22, served_tokens=1e12)
    best = allocate(get("chinchilla"), budget, values=EPOCH)
    params, tokens = best.inputs["params"], best.inputs["tokens"]
    assert 6 * params * tokens + 2 * params * 1e12 == pytest.approx(1e22)
    assert params < optimum(1e22)


def test_time_is_compute():
    timed = allocate(get("chinchilla"), Budget(seconds=1e5, flops_per_second=1e16), values=EPOCH)
    assert timed == allocate(get("chinchilla"), Budget(flops=1e21), values=EPOCH)


def test_unique_tokens_limit_a_law_that_knows_no_repetition():
    best = allocate(get("chinchilla"), Budget(flops=1e22, unique_tokens=5e10), values=EPOCH)
    assert best.inputs["tokens"] <= 5e10
    repeated = get("data-constrained")
    more = allocate(repeated, Budget(flops=1e22, unique_tokens=5e10))
    assert more.inputs["tokens"] > 5e10
    assert more.inputs["unique_tokens"] == 5e10


def test_memory_is_used_to_its_last_byte():
    best = allocate(get("chinchilla"), Budget(flops=1e24, memory=16e9), values=EPOCH)
    assert best.binding == "memory"
    assert 2 * best.inputs["params"] == pytest.approx(16e9, rel=1e-4)


def test_choices_of_further_inputs_are_searched():
    law = Law(
        name="with-bits", title="", arxiv="", form="L = 100 (N b)^-0.3 + 100 D^-0.3 + b / 200",
        inputs=(
            Input(name="params", meaning="", falls=True),
            Input(name="tokens", meaning="", falls=True),
            Input(name="bits", meaning="bits of a weight", choices=(4.0, 8.0, 16.0)),
        ),
        coefficients=(Coefficient(name="k", meaning=""),),
        columns=lambda p, x: (
            (x["params"] * x["bits"]) ** -0.3 + x["tokens"] ** -0.3 + x["bits"] / 2e4,
        ),
    )  # fmt: skip
    one = {"values": {"k": 100.0}}
    best = allocate(law, Budget(flops=1e20), **one)
    each = [allocate(law, Budget(flops=1e20), given={"bits": b}, **one).value for b in (4, 8, 16)]
    assert best.value == min(each)
    assert best.inputs["bits"] == (4.0, 8.0, 16.0)[int(np.argmin(each))]


def test_best_choice_moves_between_refits():
    found = fit("chinchilla", chinchilla_table(TRUTH, 0.005), starts=30, bootstrap=0)
    best = allocate(found, Budget(flops=1e22))
    low, high = best.intervals["params"]
    assert low < best.inputs["params"] < high


def best_by_paper(loss, flops_per_token, budget, others):
    """The best (params, *others) by trying them one at a time, without the engine."""
    found = []
    for params in np.geomspace(1e6, 1e13, 3001):
        for one in others:
            tokens = budget / flops_per_token(params, one)
            found.append((loss(params, tokens, one), params, one))
    return min(found)


PRECISION = {"alpha": 0.4965, "beta": 0.4965, "E": 2.7648, "A": 4000.0, "B": 18000.0,
             "gamma_weights": 3.9, "gamma_activations": 3.9, "gamma_cache": 3.9}  # fmt: skip


@pytest.mark.parametrize("flops", [1e18, 1e21, 1e24])
def test_the_best_precision_does_not_depend_on_compute(flops):
    """Section 4.3 of arXiv:2411.04330: with C = 6/16 N D P the loss at a compute falls with
    P / (1 - exp(-P / gamma))^3, whose minimum solves exp(x) - 1 = 3 x at x = P / gamma."""
    x = 1.9038  # of that equation
    assert np.exp(x) - 1 == pytest.approx(3 * x, rel=1e-3)
    fine = tuple(np.arange(6.0, 9.01, 0.25))
    bits = {f"bits_{part}": fine for part in ("weights", "activations", "cache")}
    best = allocate(get("precision"), Budget(flops=flops), values=PRECISION, choices=bits)
    for name in bits:
        assert best.inputs[name] == pytest.approx(x * 3.9, abs=0.13)
    params, tokens = best.inputs["params"], best.inputs["tokens"]
    spent = 6 / 16 * params * tokens * np.mean([best.inputs[name] for name in bits])
    assert spent == pytest.approx(flops)
    worst = max(one.target for one in best.choices["bits_weights"])
    assert best.value < worst < best.value * 1.01


def test_fewer_bits_hold_more_parameters():
    budget = Budget(flops=1e24, memory=2e9)
    sixteen = {f"bits_{part}": 16.0 for part in ("weights", "activations", "cache")}
    wide = allocate(get("precision"), budget, values=PRECISION, given=sixteen)
    free = allocate(get("precision"), budget, values=PRECISION)
    assert wide.inputs["params"] == pytest.approx(1e9, rel=1e-3)
    assert free.inputs["params"] > wide.inputs["params"]
    assert free.inputs["params"] * free.inputs["bits_weights"] / 8 <= 2e9 * (1 + 1e-9)
    assert free.value < wide.value


SPARSE = get("moe-sparsity").published("abnar").values


def sparse_loss(n, d, s):
    """Equation 5 of arXiv:2501.12370."""
    v = SPARSE
    return (v["E"] + v["a"] / n ** v["alpha"] + v["b"] / d ** v["beta"]
            + v["c"] * (1 - s) ** -v["lambda"] + v["d"] * (1 - s) ** -v["delta"] / n ** v["gamma"]
            )  # fmt: skip


@pytest.mark.parametrize("flops", [1e19, 1e22])
def test_best_sparsity_is_the_papers(flops):
    choices = (0.0, 0.5, 0.8, 0.95)
    best = allocate(get("moe-sparsity"), Budget(flops=flops), choices={"sparsity": choices})
    value, params, sparsity = best_by_paper(
        sparse_loss, lambda n, s: 6 * n * (1 - s), flops, choices
    )
    assert best.value == pytest.approx(value, rel=1e-6)
    assert best.inputs["sparsity"] == sparsity
    assert best.inputs["params"] == pytest.approx(params, rel=0.02)
    assert sparsity == 0.95  # as the paper says: towards one
    own = allocate(get("moe-sparsity"), Budget(flops=flops))
    assert own.at_end["sparsity"][-1] == own.inputs["sparsity"]
    assert not best.at_end  # the caller's own choices need no remark
    assert [one.value for one in best.choices["sparsity"]] == list(choices)
    for one in best.choices["sparsity"]:
        alone, _, _ = best_by_paper(sparse_loss, lambda n, s: 6 * n * (1 - s), flops, (one.value,))
        assert one.target == pytest.approx(alone, rel=1e-5)


def test_best_sparsity_rises_with_a_settled_size():
    """The paper's figure 3: at one compute, larger models are best sparser."""
    choices = {"sparsity": tuple(np.linspace(0.0, 0.95, 96))}
    found = [
        allocate(get("moe-sparsity"), Budget(flops=1e20), given={"params": n}, choices=choices)
        for n in (5e8, 2e9, 8e9)
    ]
    sparsity = [one.inputs["sparsity"] for one in found]
    assert sparsity == sorted(sparsity)
    assert sparsity[0] < sparsity[-1]


JOINT = {"E": 1.0, "A": 40.0, "B": 600.0, "alpha": 0.2, "beta": 0.3, "gamma": -0.008,
         "zeta": 0.004, "delta": -0.2, "omega": 0.03, "E_start": 2.0,
         "E_spread": 100.0}  # fmt: skip


def joint_loss(n, d, experts):
    """Equation 3 of arXiv:2502.05172, in the signs of our constants."""
    v, most = JOINT, JOINT["E_start"] * (1 + JOINT["E_spread"])
    hat = 1 / (1 / (experts - 1 + 1 / (1 / v["E_start"] - 1 / most)) + 1 / most)
    size = v["A"] * hat ** v["delta"] / n ** (v["alpha"] + v["gamma"] * np.log(hat))
    data = v["B"] * hat ** v["omega"] / d ** (v["beta"] + v["zeta"] * np.log(hat))
    return v["E"] + size + data


def test_experts_are_chosen_within_memory():
    law, experts = get("joint-moe"), (1, 2, 4, 8, 16, 32)
    free = allocate(law, Budget(flops=1e21), values=JOINT)
    value, params, count = best_by_paper(joint_loss, lambda n, _: 6 * n, 1e21, experts)
    assert free.value == pytest.approx(value, rel=1e-6)
    assert (free.inputs["experts"], free.inputs["params"]) == (
        count, pytest.approx(params, rel=0.02))  # fmt: skip
    bound = allocate(law, Budget(flops=1e21, memory=4e9), values=JOINT)
    held = bound.inputs["params"] * (1 + 2 / 3 * (bound.inputs["experts"] - 1))
    assert bound.stored == pytest.approx(held)
    assert 2 * held <= 4e9 * (1 + 1e-9)
    assert bound.inputs["experts"] < free.inputs["experts"]
    # a mixture can beat the dense model that fills the same memory, the title of the paper
    dense = allocate(law, Budget(flops=1e21, memory=4e9), values=JOINT, given={"experts": 1})
    assert bound.value <= dense.value


def test_a_law_at_one_number_of_tokens_takes_them():
    """Routed models: the dense size that compute allows, and as many experts as memory holds."""
    law = get("routed")
    best = allocate(law, Budget(flops=1e21, memory=1e10), given={"tokens": 1.3e11})
    assert best.inputs["params"] == pytest.approx(1e21 / 6 / 1.3e11, rel=1e-3)
    assert best.inputs["experts"] == 8  # 16 would hold six times the dense parameters
    each = {
        e: float(
            law.predict(law.published().values, {"params": best.inputs["params"], "experts": e})
        )
        for e in (1.0, 8.0)
    }
    assert best.value == pytest.approx(each[8.0], rel=1e-6)
    assert best.value < each[1.0]


def test_mean_parameters_are_allocated_as_dense_ones():
    """Average parameters (arXiv:2501.12486) obey Chinchilla's form: same optimum, C = 6 Nbar D."""
    best = allocate(get("average-params"), Budget(flops=1e21), values=EPOCH)
    assert best.inputs["params"] == pytest.approx(optimum(1e21), rel=1e-4)


def test_settled_tokens_leave_the_rest_to_parameters():
    best = allocate(get("chinchilla"), Budget(flops=6e21), values=EPOCH, given={"tokens": 1e11})
    assert best.inputs["tokens"] == 1e11
    assert best.inputs["params"] == pytest.approx(1e10, rel=1e-3)


def test_what_lies_beyond_the_fitted_runs_is_named():
    found = fit("chinchilla", chinchilla_table(TRUTH, 0.005), starts=30, bootstrap=0)
    largest = float(found.points.inputs["params"].max())
    assert allocate(found, Budget(flops=1e26)).outside["params"][1] == largest
    assert not allocate(found, Budget(flops=1e20)).outside


@pytest.mark.parametrize(
    ("law", "budget", "match"),
    [
        ("power", Budget(flops=1e20), "has no params"),
        ("routed", Budget(flops=1e20), "give tokens"),
        ("step-law-lr", Budget(flops=1e20), "gives lr, which is not a loss"),
        ("precision", Budget(flops=1e20), "no published constants here: fit it"),
        ("data-constrained", Budget(flops=1e20), "needs unique_tokens"),
        ("chinchilla", Budget(), "give flops, or seconds"),
        ("chinchilla", Budget(flops=-1.0), "buys nothing"),
        ("chinchilla", Budget(flops=1e20, memory=10.0), "allows no choice"),
    ],
)
def test_what_cannot_be_allocated(law, budget, match):
    values = None if law != "power" else {"E": 1.0, "A": 1.0, "alpha": 0.1}
    with pytest.raises(ValueError, match=match):
        allocate(get(law), budget, values=values)


@pytest.mark.parametrize("flops", [1e20, 1e22, 1e24])
def test_a_law_that_falls_without_end_is_allocated_where_it_was_fitted(flops):
    """Farseer's printed law promises the least for 1e15 parameters and a handful of tokens."""
    law = get("farseer")
    values = law.published().values

    def loss(size):
        return float(law.predict(values, {"params": size, "tokens": flops / (6 * size)}))

    best = minimize_scalar(lambda log: loss(np.exp(log)), bounds=np.log([1e8, 1e12]),
                           method="bounded", options={"xatol": 1e-9})  # fmt: skip
    found = allocate(law, Budget(flops=flops))
    assert loss(1e15) < best.fun
    assert found.value == pytest.approx(best.fun, rel=1e-6)
    assert found.inputs["params"] == pytest.approx(np.exp(best.x), rel=0.01)
    low, high = found.near["params"]
    assert loss(low) < best.fun * 1.0021
    assert loss(high) < best.fun * 1.0021
    assert high < 1e12
