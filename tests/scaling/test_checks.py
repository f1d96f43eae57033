"""The checks: right models pass, models broken on purpose fail with the layer and the factor."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scaling_networks import MLP, STDS, Decoder, ResidualMLP
from torch import nn

from stepladder.scaling import Size, coordinate_check, parametrize, transfer_check
from stepladder.scaling.slopes import Slope, fit_slope, judge
from stepladder.scaling.transfer import Run, final_loss, measure_drift

WIDTHS, DEPTHS = [16, 32, 64, 128], [2, 4, 8, 16]


def decoder(width, depth=2):
    return Decoder(width, depth)


@pytest.mark.parametrize("rule", ["completep", "depth-mup"])
def test_rules_of_width_and_depth_pass_on_both(rule):
    report = coordinate_check(decoder, rule=rule, widths=WIDTHS, depths=DEPTHS, seeds=2)
    assert report.passed, str(report)


@pytest.mark.parametrize("rule", ["mup", "sp-layerwise", "ntk", "mean-field", "munit", "spectral"])
def test_rules_of_width_pass_on_width_and_fail_on_depth(rule):
    report = coordinate_check(decoder, rule=rule, widths=WIDTHS, depths=DEPTHS, seeds=2)
    failed = [row for row in report.rows if row.finding == "fails"]
    assert {row.axis for row in failed} == {"depth"}
    assert any(r.parameter == "blocks.*.mlp.down.weight" and r.quantity == "start" for r in failed)


def test_standard_parametrization_fails_by_its_learning_rate():
    report = coordinate_check(decoder, rule="sp", widths=WIDTHS, seeds=2)
    assert not report.passed
    assert {row.quantity for row in report.rows if row.finding == "fails"} == {"move"}
    assert "its learning rate is too large by about width^" in str(report)
    failed = {row.parameter for row in report.rows if row.finding == "fails"}
    assert "blocks.*.mlp.up.weight" in failed
    assert "embedding.weight" not in failed


def test_unit_mup_passes_but_for_the_embedding_it_slows_on_purpose():
    report = coordinate_check(decoder, rule="u-mup", widths=WIDTHS, seeds=2)
    assert [(r.parameter, r.quantity) for r in report.failures] == [("embedding.weight", "move")]
    assert report.failures[0].slope.value == pytest.approx(-0.5, abs=0.1)


def test_the_effective_theory_moves_less_and_less_as_it_says():
    """Neural tangent scaling: all but the readout move as 1 / sqrt(width), and start right."""
    report = coordinate_check(decoder, rule="effective-theory", widths=WIDTHS, seeds=2)
    assert {row.quantity for row in report.failures} == {"move"}
    slopes = {row.parameter: row.slope.value for row in report.rows if row.quantity == "move"}
    assert abs(slopes.pop("head.weight")) < 0.25
    hidden = {name: slope for name, slope in slopes.items() if "norm" not in name}
    assert all(-0.85 < slope < -0.35 for slope in hidden.values()), hidden
    assert {row.parameter for row in report.failures} >= {"blocks.*.mlp.up.weight"}
    assert "its learning rate is too small by about width^" in str(report)


@pytest.mark.parametrize(
    ("optimizer", "lr"),
    [
        ("sgd", 0.3),
        ("adam", 0.01),
        ("adafactor", 0.1),
        ("lion", 0.003),
        ("adam-atan2", 0.01),
        ("muon", 0.02),
    ],
)
def test_other_optimizers_pass_with_their_own_rates(optimizer, lr):
    report = coordinate_check(
        decoder, rule="mup", widths=WIDTHS, seeds=2, optimizer=optimizer, lr=lr
    )
    assert report.passed, str(report)


def test_false_alarms_on_right_models_are_rare():
    """A dozen checks of fresh models and data, none may alarm."""
    assert sum(_alarms(trial) for trial in range(12)) == 0


@pytest.mark.slow
def test_false_alarms_are_under_five_percent():
    """Over 200 checks: at most 10 alarm."""
    assert sum(_alarms(1000 + trial) for trial in range(200)) <= 10


def _alarms(trial):
    torch.manual_seed(100 + trial)
    x, y = torch.randn(16, 6), torch.randint(3, (16,))
    report = coordinate_check(
        lambda width, depth: _salted(width, depth, trial),
        rule="completep",
        widths=[16, 32, 64],
        depths=[2, 4, 8],
        batches=[(x, y)],
        branches=["*.down"],
        seeds=2,
        steps=3,
    )
    return not report.passed


def _salted(width, depth, salt):
    torch.manual_seed(torch.initial_seed() % 1000 + 1000 * salt)
    return ResidualMLP(width, depth)


def own(change):
    """A build of the user's own: CompleteP by hand, with one thing changed."""

    def build(width, depth=2, lr=0.01):
        model = Decoder(width, depth)
        plan = parametrize(model, base=Decoder(16, 2), init_std=STDS)
        plan.initialize(seed=torch.initial_seed() % 1000)
        groups = [
            {"params": [p], "name": name, "lr": g["lr"], "weight_decay": g["weight_decay"]}
            for g in plan.param_groups(lr=lr, weight_decay=0.1)
            for p, name in zip(g["params"], g["names"], strict=True)
        ]
        change(model, {group["name"]: group for group in groups}, width / 16, depth / 2)
        return model, torch.optim.AdamW(groups)

    return build


def test_several_optimizers_in_one_are_an_optimizer():
    class Pair:
        def __init__(self, *parts):
            self.parts = parts
            self.param_groups = [group for part in parts for group in part.param_groups]

        def zero_grad(self):
            for part in self.parts:
                part.zero_grad()

        def step(self):
            for part in self.parts:
                part.step()

    def build(width):
        model, whole = own(lambda *_: None)(width)
        groups = whole.param_groups
        return model, Pair(torch.optim.AdamW(groups[:3]), torch.optim.AdamW(groups[3:]))

    assert coordinate_check(build, rule="completep", widths=WIDTHS[:3], seeds=2).passed


def test_a_right_parametrization_of_ones_own_passes():
    report = coordinate_check(
        own(lambda *_: None), rule=None, widths=WIDTHS, depths=DEPTHS, seeds=2
    )
    assert report.passed, str(report)
    assert report.rule is None
    assert "start and move alike over width 16 to 128 and depth 2 to 16" in str(report)


def test_a_readout_left_in_standard_parametrization_is_named():
    def change(model, groups, wide, deep):
        groups["head.weight"]["lr"] *= wide

    report = coordinate_check(own(change), widths=WIDTHS, depths=DEPTHS, seeds=2)
    assert {(r.parameter, r.axis, r.quantity) for r in report.failures} == {
        ("head.weight", "width", "move")
    }
    audited = coordinate_check(own(change), rule="completep", widths=WIDTHS, seeds=2)
    assert "head.weight: lr is 1 times the base's at width 128" in str(audited)


def test_a_forgotten_depth_factor_is_named():
    def change(model, groups, wide, deep):
        for name, parameter in model.named_parameters():
            if name.endswith(("attention.output.weight", "mlp.down.weight")):
                parameter.data *= deep
                groups[name]["lr"] *= deep

    report = coordinate_check(own(change), widths=WIDTHS, depths=DEPTHS, seeds=2)
    failed = {(row.parameter, row.axis) for row in report.failures}
    ends = {("blocks.*.attention.output.weight", "depth"), ("blocks.*.mlp.down.weight", "depth")}
    assert failed == ends
    start = next(r for r in report.failures if r.quantity == "start")
    assert "its initial scale is too large by about depth^0.5" in str(start)


def test_a_weight_decay_coupled_the_wrong_way_is_named():
    def change(model, groups, wide, deep):
        for name, group in groups.items():
            if "mlp.up" in name:
                group["weight_decay"] = 0.1 / wide

    report = coordinate_check(own(change), rule="completep", widths=WIDTHS, seeds=2)
    assert [(f.parameter, f.setting) for f in report.faults] == [
        ("blocks.*.mlp.up.weight", "weight_decay")
    ]
    assert (report.faults[0].factor, report.faults[0].wanted) == (1 / 8, 8)
    assert [row for row in report.rows if row.finding == "fails"] == []


def test_a_wrong_initial_scale_is_named():
    def change(model, groups, wide, deep):
        for name, parameter in model.named_parameters():
            if "mlp.gate" in name:
                parameter.data *= wide**0.5

    report = coordinate_check(own(change), widths=WIDTHS, seeds=2)
    assert ("blocks.*.mlp.gate.weight", "start") in {
        (row.parameter, row.quantity) for row in report.failures
    }


def test_the_coordinate_figure_is_drawn(tmp_path):
    report = coordinate_check(decoder, rule="mup", widths=[16, 32, 64], depths=[2, 4, 8], seeds=1)
    for name in ("figure.svg", "figure.png"):
        assert report.figure(tmp_path / name).stat().st_size > 5000


def test_bad_checks_are_refused():
    with pytest.raises(ValueError, match="at least 3 widths"):
        coordinate_check(decoder, rule="mup", widths=[16, 32])
    with pytest.raises(ValueError, match="takes no depth"):
        coordinate_check(lambda width: Decoder(width), rule="mup", widths=WIDTHS, depths=DEPTHS)
    with pytest.raises(ValueError, match="give rule="):
        coordinate_check(decoder, widths=WIDTHS)
    with pytest.raises(ValueError, match="batches="):
        coordinate_check(lambda width: MLP(width), rule="mup", widths=WIDTHS)
    with pytest.raises(ValueError, match="readout_norm="):
        coordinate_check(lambda width: Decoder(width, tied=True), rule="mup", widths=WIDTHS)
    for nothing in ({"lr": 0.0}, {"steps": 0}, {"seeds": 0}, {"lr": float("nan")}):
        with pytest.raises(ValueError, match="must be above 0"):
            coordinate_check(decoder, rule="mup", widths=WIDTHS, **nothing)
    with pytest.raises(ValueError, match="diverged at width 16: give a smaller lr"):
        coordinate_check(decoder, rule="mup", widths=WIDTHS, lr=1e30)
    with pytest.raises(ValueError, match="takes no width"):
        coordinate_check(lambda: Decoder(16), rule="mup", widths=WIDTHS)
    with pytest.raises(ValueError, match="not a tuple"):
        coordinate_check(lambda width: (Decoder(width),), rule="mup", widths=WIDTHS)
    with pytest.raises(ValueError, match="no kfac here to train with"):
        coordinate_check(decoder, rule="mup", widths=WIDTHS, optimizer="kfac")
    with pytest.raises(
        ValueError, match=r"branches=\['\*.down'\] \(in the block: norm, up, down\)"
    ):
        coordinate_check(
            lambda width, depth: ResidualMLP(width, depth),
            rule="completep",
            widths=WIDTHS,
            depths=DEPTHS,
            batches=[(torch.randn(4, 6), torch.zeros(4, dtype=torch.long))],
        )
    with pytest.raises(ValueError, match="five different lrs"):
        transfer_check(decoder, [], rule="mup", widths=WIDTHS, lrs=[0.1])


def test_a_tied_readout_may_be_carried_by_its_norm():
    """The folded norm makes the same logits and passes the check; the forward pass is untouched."""
    model, base = Decoder(64, tied=True).double(), Decoder(16, tied=True)
    plan = parametrize(model, base=base, init_std=STDS)
    plan.initialize()
    model.readout_multiplier = plan.multipliers()["head.weight"]
    tokens = torch.arange(12).view(2, 6)
    wanted = model(tokens)
    folded = parametrize(model, base=base, init_std=STDS, readout_norm="norm")
    assert folded.multipliers() == {}
    folded.initialize()
    model.readout_multiplier = 1.0
    torch.testing.assert_close(model(tokens), wanted, rtol=1e-12, atol=1e-12)
    assert folded.table["norm.weight"].lr == pytest.approx(plan.table["norm.weight"].lr / 4)
    report = coordinate_check(
        lambda width: Decoder(width, tied=True),
        rule="mup",
        widths=WIDTHS,
        seeds=2,
        readout_norm="norm",
    )
    assert report.passed, str(report)
    with pytest.raises(ValueError, match="no tied embedding"):
        parametrize(Decoder(64), base=Decoder(16), init_std=STDS, readout_norm="norm")


@given(
    exponent=st.floats(-2, 2),
    scale=st.floats(0.01, 100),
    sizes=st.sets(st.integers(1, 4096), min_size=3, max_size=6),
)
def test_a_power_law_has_its_exponent_as_slope(exponent, scale, sizes):
    slope = fit_slope(sorted(sizes), [scale * n**exponent for n in sorted(sizes)])
    assert slope.value == pytest.approx(exponent, abs=1e-9)
    assert slope.high - slope.low < 1e-6


def test_the_interval_of_a_slope_covers():
    """Noise of known size: the 95% interval holds the truth in 93 to 97% of 2,000 draws."""
    draw = np.random.default_rng(0)
    sizes = np.repeat([32, 64, 128, 256], 3)
    inside = 0
    for _ in range(2000):
        slope = fit_slope(sizes, 2 ** (0.3 * np.log2(sizes) + draw.normal(0, 0.2, sizes.size)))
        inside += slope.low <= 0.3 <= slope.high
    assert 0.93 <= inside / 2000 <= 0.97


def test_nothing_measured_is_not_judged():
    slope = fit_slope([1, 2, 4], [float("nan")] * 3)
    assert judge(slope, slope, 0.0, 0.0, 0.25) == "ok"
    assert fit_slope([1, 2], [1, 2]).high == float("inf")


def test_a_slope_fails_only_with_its_interval_and_at_the_largest_sizes():
    steep = Slope(value=0.6, low=0.5, high=0.7)
    wide = Slope(value=0.6, low=0.1, high=1.1)
    flat = Slope(value=0.1, low=0.0, high=0.2)
    assert judge(steep, steep, 0, 0, 0.25) == "fails"
    assert judge(steep, flat, 0, 0, 0.25) == "unclear"
    assert judge(wide, steep, 0, 0, 0.25) == "unclear"
    assert judge(flat, steep, 0, 0, 0.25) == "ok"
    assert judge(steep, steep, 0, 0.5, 0.25) == "ok"
    down = Slope(value=-0.6, low=-0.7, high=-0.5)
    assert judge(down, down, 0, 0, 0.25) == "fails"
    assert judge(down, down, float("-inf"), 0, 0.25) == "ok"


@settings(max_examples=10, deadline=None)
@given(drift=st.floats(-1, 1), noise=st.floats(0, 0.002))
def test_the_drift_of_parabolas_is_found(drift, noise):
    """Losses are parabolas in log2 of the rate whose vertex moves by `drift` a doubling."""
    runs = _parabolas(drift, noise)
    report = measure_drift(runs, rule="mup", axis="width")
    assert report.drift == pytest.approx(drift, abs=0.02 + 60 * noise)
    assert report.low <= report.drift <= report.high


def _parabolas(drift, noise, edge=0):
    draw = np.random.default_rng(3)
    return [
        Run(
            size=2**k,
            lr=2.0**e,
            seed=seed,
            loss=2 + 0.05 * (e - (-7 + edge + drift * (k - 6))) ** 2 + draw.normal(0, noise),
        )
        for k in (6, 7, 8)
        for e in range(-11, -2)
        for seed in range(3)
    ]


def test_verdicts_of_the_transfer_check():
    assert measure_drift(_parabolas(0.0, 1e-3), rule=None, axis="width").verdict == "transfers"
    assert measure_drift(_parabolas(-0.8, 1e-3), rule=None, axis="width").verdict == "drifts"
    edge = measure_drift(_parabolas(0.0, 1e-3, edge=9), rule=None, axis="width")
    assert edge.verdict == "unclear"
    assert "try more rates" in str(edge)
    cost = measure_drift(_parabolas(-1.0, 0.0), rule=None, axis="width").penalty
    assert cost == pytest.approx(0.05 * 2**2, rel=0.05)


def test_a_run_that_diverges_counts_as_bad_not_as_missing():
    assert final_loss(iter([1.0, float("nan"), 0.1]), 3) == float("inf")
    assert final_loss(iter([9.0, 9.0, 9.0, 1.0]), 4) == 1.0
    runs = [
        run if run.lr < 2**-5 else Run(size=run.size, lr=run.lr, seed=run.seed, loss=float("inf"))
        for run in _parabolas(0.0, 1e-4)
    ]
    assert measure_drift(runs, rule=None, axis="width").drift == pytest.approx(0, abs=0.1)


def test_a_real_sweep_of_a_small_network_transfers(tmp_path):
    torch.manual_seed(0)
    teacher = nn.Linear(6, 3)
    x = torch.randn(128, 6)
    batches = [(x, teacher(x).argmax(1))]
    report = transfer_check(
        lambda width: MLP(width),
        batches,
        rule="mup",
        widths=[16, 64],
        lrs=[2.0**-k for k in range(2, 9)],
        steps=20,
        base=Size(width=16),
    )
    assert abs(report.drift) < 0.5
    assert len(report.runs) == 2 * 7 * 3
    assert report.figure(tmp_path / "sweep.svg").stat().st_size > 5000
