"""One call on any module: roles, initial values, groups, wrappers, and what is refused."""

import copy
import pickle

import pytest
import torch
from scaling_networks import MLP, STDS, Decoder, ResidualMLP
from torch import nn

from stepladder.scaling import load_shapes, parametrize, read_shapes, save_shapes


def _roles(plan):
    return {name: str(record.role) for name, record in plan.table.items()}


def test_roles_come_from_how_shapes_grow():
    plan = parametrize(Decoder(32, 4), base=Decoder(16, 2))
    roles = _roles(plan)
    assert roles["embedding.weight"] == "embedding"
    assert roles["head.weight"] == "readout"
    assert roles["norm.weight"] == "norm"
    for i in range(4):
        assert roles[f"blocks.{i}.attention.key.weight"] == "attention"
        assert roles[f"blocks.{i}.attention.output.weight"] == "branch output"
        assert roles[f"blocks.{i}.mlp.gate.weight"] == "hidden"
        assert roles[f"blocks.{i}.mlp.down.weight"] == "branch output"
    assert plan.table["blocks.3.mlp.up.weight"].depth == 2
    assert plan.table["head.weight"].depth == 1


def test_roles_of_layers_that_are_not_plain():
    class Net(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.conv = nn.Conv2d(3, n, 3)
            self.depthwise = nn.Conv2d(n, n, 3, groups=n)
            self.mix = nn.Conv2d(n, 2 * n, 3)
            self.back = nn.ConvTranspose2d(2 * n, n, 2)
            self.norm = nn.BatchNorm2d(n)
            self.experts = nn.Parameter(torch.randn(4, n, 2 * n) / n**0.5)
            self.token = nn.Parameter(torch.randn(1, 9, n))
            self.rnn = nn.GRU(n, n)
            self.temperature = nn.Parameter(torch.ones(()))
            self.fixed = nn.Linear(5, 7)
            self.head = nn.Linear(n, 10)

    torch.manual_seed(0)
    plan = parametrize(Net(32), base=Net(8), rule="mup")
    roles = _roles(plan)
    assert roles["conv.weight"] == "input"
    assert roles["depthwise.weight"] == "input"
    assert roles["mix.weight"] == "convolution"
    assert roles["experts"] == "expert"
    assert roles["token"] == "embedding"
    assert roles["norm.weight"] == "norm"
    assert roles["rnn.weight_hh_l0"] == "hidden"
    assert roles["temperature"] == "vector"
    assert roles["fixed.weight"] == "fixed"
    assert roles["head.weight"] == "readout"
    back = plan.table["back.weight"]
    assert (back.fan_in, back.fan_out, back.width) == (64 * 4, 32, 4)
    assert plan.table["mix.weight"].fan_in == 32 * 9


def test_a_bare_matrix_that_could_be_either_is_refused_with_the_line_to_add():
    class Net(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, n))

    with pytest.raises(ValueError, match=r"roles=\{'weight': 'readout'\}"):
        parametrize(Net(32), base=Net(8), rule="mup")
    plan = parametrize(Net(32), base=Net(8), rule="mup", roles={"weight": "readout"}, init_std=STDS)
    assert plan.table["weight"].lr == 1 / 4


def test_at_the_base_shape_nothing_changes():
    """Same values bit for bit, and the same training as plain PyTorch."""
    for rule in ("mup", "completep", "u-mup"):
        torch.manual_seed(3)
        model = Decoder(16).double()
        plain = copy.deepcopy(model)
        plan = parametrize(model, base=Decoder(16), rule=rule)
        plan.initialize()
        tokens = torch.randint(23, (4, 9))
        ours = torch.optim.AdamW(plan.param_groups(lr=1e-2, weight_decay=0.1, eps=1e-6))
        if rule == "u-mup":  # independent decay: the coefficient is the shrinkage itself
            ours = torch.optim.AdamW(plan.param_groups(lr=1e-2, weight_decay=0.1 * 1e-2, eps=1e-6))
        theirs = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.1, eps=1e-6)
        for _ in range(3):
            for net, optimizer in ((model, ours), (plain, theirs)):
                optimizer.zero_grad()
                logits = net(tokens[:, :-1]).flatten(0, 1)
                nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
                optimizer.step()
        for ours_p, theirs_p in zip(model.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(ours_p, theirs_p, rtol=1e-12, atol=1e-14)


def test_own_values_are_scaled_to_what_the_rule_asks():
    torch.manual_seed(0)
    model, base = ResidualMLP(64, 8), ResidualMLP(16, 2)
    plan = parametrize(model, base=base, rule="completep", branches=["*.down"])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    plan.initialize()
    ratio = {n: (p.detach() / before[n]).nanmedian().item() for n, p in model.named_parameters()}
    assert ratio["stem.weight"] == pytest.approx(1)
    assert ratio["blocks.0.up.weight"] == pytest.approx(1)  # nn.Linear already falls with fan-in
    assert ratio["blocks.0.up.bias"] == pytest.approx(2)  # and its bias, which should not
    assert ratio["blocks.0.down.weight"] == pytest.approx(1 / 4)
    assert ratio["head.weight"] == pytest.approx(1 / 2)
    assert ratio["norm.weight"] == pytest.approx(1)
    with pytest.raises(ValueError, match="no longer has the values"):
        plan.initialize()


def test_own_constant_scales_are_recognised():
    """Models that draw everything with one number (Hugging Face) need the width factor applied."""

    def build(width):
        model = Decoder(width)
        for parameter in model.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
        return model

    torch.manual_seed(0)
    plan = parametrize(build(64), base=build(16), rule="mup")
    assert plan.table["blocks.0.mlp.up.weight"].init_std == pytest.approx(0.01, rel=0.05)
    assert plan.table["head.weight"].init_std == pytest.approx(0.005, rel=0.05)
    assert plan.table["embedding.weight"].init_std == pytest.approx(0.02, rel=0.05)


def test_drawn_values_depend_on_seed_and_name_only():
    def drawn(model, seed, threads=1):
        torch.set_num_threads(threads)
        plan = parametrize(model, base=Decoder(16, 1), init_std=STDS)
        plan.initialize(seed=seed)
        torch.set_num_threads(1)
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    class Reordered(Decoder):
        def __init__(self, *shape):
            super().__init__(*shape)
            self.embedding, self._modules = self.embedding, dict(reversed(self._modules.items()))

    torch.manual_seed(5)
    first, again = drawn(Decoder(64, 3), 7), drawn(Decoder(64, 3), 7, threads=2)
    reordered, other = drawn(Reordered(64, 3), 7), drawn(Decoder(64, 3), 8)
    assert list(first) != list(reordered)
    for name, values in first.items():
        assert torch.equal(values, again[name])
        assert torch.equal(values, reordered[name])
        assert values.dim() < 2 or not torch.equal(values, other[name])
    up = first["blocks.0.mlp.up.weight"]
    assert up.std().item() == pytest.approx(64**-0.5, rel=0.03)
    assert not torch.equal(up, first["blocks.1.mlp.up.weight"])


def test_a_model_on_the_meta_device_is_initialised_later():
    with torch.device("meta"):
        model, base = Decoder(32), Decoder(16)
    with pytest.raises(ValueError, match="init_std="):
        parametrize(model, base=base)
    plan = parametrize(model, base=base, init_std=STDS)
    with pytest.raises(ValueError, match="to_empty"):
        plan.initialize()
    real = model.to_empty(device="cpu")
    plan.initialize(real)
    fresh = Decoder(32)
    parametrize(fresh, base=base, init_std=STDS).initialize()
    for ours, theirs in zip(real.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_tied_weights_need_a_multiplier_and_the_plan_says_so():
    plan = parametrize(Decoder(64, tied=True), base=Decoder(16, tied=True), init_std=STDS)
    assert plan.table["embedding.weight"].multiplier == 1 / 4
    assert plan.multipliers() == {"head.weight": 1 / 4}
    assert "tied" in plan.table["embedding.weight"].why
    assert "head.weight" not in plan.table


def test_groups_hold_every_trained_parameter_once_and_are_few():
    model = Decoder(32, 6, tied=True)
    model.norm.weight.requires_grad_(False)
    plan = parametrize(model, base=Decoder(16, 2, tied=True), init_std=STDS)
    groups = plan.param_groups(lr=0.1, weight_decay=0.2, eps=1e-8)
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert len(groups) == 4
    assert not plan.table["norm.weight"].trainable
    by_name = {name: group for group in groups for name in group["names"]}
    assert by_name["blocks.1.mlp.up.weight"]["lr"] == pytest.approx(0.05)
    assert by_name["blocks.1.mlp.up.weight"]["weight_decay"] == pytest.approx(0.4)
    assert by_name["blocks.1.mlp.up.weight"]["eps"] == pytest.approx(1e-8 / 6)
    torch.optim.AdamW(groups)


def test_weight_decay_can_be_kept_off_roles():
    plan = parametrize(
        MLP(32), base=MLP(16), rule="mup", init_std=STDS, no_decay=["bias", "4.weight"]
    )
    decays = {name: record.weight_decay for name, record in plan.table.items()}
    assert decays == {
        "0.weight": 1, "0.bias": 0, "2.weight": 2, "2.bias": 0, "4.weight": 0, "4.bias": 0,
    }  # fmt: skip


def test_weight_decay_conventions():
    def product(convention, lr):
        plan = parametrize(
            MLP(32), base=MLP(16), rule="mup", init_std=STDS, weight_decay=convention
        )
        group = next(g for g in plan.param_groups(lr, 0.1) if "2.weight" in g["names"])
        return group["lr"] * group["weight_decay"]

    assert product("scaled", 0.5) == pytest.approx(0.5 * 0.1)
    assert product("constant", 0.5) == pytest.approx(0.5 * 0.1 / 2)
    assert product("independent", 0.5) == product("independent", 0.25) == pytest.approx(0.1)


def test_muon_takes_matrices_and_adamw_the_rest():
    plan = parametrize(Decoder(64), base=Decoder(16), rule="mup", optimizer="muon", init_std=STDS)
    groups = plan.param_groups(lr={"muon": 0.02, "adamw": 3e-3})
    muon = [g for g in groups if g["optimizer"] == "muon"]
    assert {p.dim() for g in muon for p in g["params"]} == {2}
    torch.optim.Muon([{"params": g["params"], "lr": g["lr"]} for g in muon])
    with pytest.raises(ValueError, match="'adamw'"):
        plan.param_groups(lr={"muon": 0.02})


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_plans_survive_copies_pickles_and_compilation():
    model = Decoder(32)
    plan = parametrize(model, base=Decoder(16), init_std=STDS)
    plan.initialize()
    names = [g["names"] for g in plan.param_groups(lr=0.1)]
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        torch.compile(model),
        nn.DataParallel(model),
    ):
        assert [g["names"] for g in plan.bind(other).param_groups(lr=0.1)] == names
    assert set(model.state_dict()) == set(Decoder(32).state_dict())
    assert copy.deepcopy(plan).table == plan.table
    assert pickle.loads(pickle.dumps(plan)).table == plan.table


def test_plans_are_saved_read_and_compared(tmp_path):
    model = Decoder(32, tied=True)
    plan = parametrize(model, base=Decoder(16, tied=True), init_std=STDS)
    plan.save(tmp_path / "plan.toml")
    again = type(plan).load(tmp_path / "plan.toml")
    assert again == plan
    with pytest.raises(ValueError, match="bind"):
        again.param_groups(lr=0.1)
    assert again.bind(model).param_groups(lr=0.1) == plan.param_groups(lr=0.1)
    other = parametrize(model, base=Decoder(16, tied=True), rule="mup", init_std=STDS)
    changed = plan.difference(other)
    assert changed["blocks.0.mlp.up.weight"]["eps"] == (0.5, 1.0)
    assert plan.difference(again) == {}


def test_settings_that_make_no_sense_are_refused(tmp_path):
    plan = parametrize(MLP(32), base=MLP(16), rule="mup", init_std=STDS)
    for bad in (-1, float("nan"), "3e-3"):
        with pytest.raises(ValueError, match="lr must be a number"):
            plan.param_groups(lr=bad)
    with pytest.raises(ValueError, match="eps must be a number"):
        plan.param_groups(lr=0.1, eps=-1e-8)
    with pytest.raises(ValueError, match="shape \\[64, 6\\], and the plan is for a fan-out of 32"):
        plan.bind(MLP(64))
    with pytest.raises(ValueError, match=r"plan\.save"):
        type(plan).load(tmp_path / "nowhere.toml")
    independent = parametrize(
        MLP(32), base=MLP(16), rule="mup", init_std=STDS, weight_decay="independent"
    )
    with pytest.raises(ValueError, match="an lr above 0"):
        independent.param_groups(lr=0.0, weight_decay=0.1)
    with pytest.raises(ValueError, match="more than one parameter group"):
        torch.optim.AdamW(plan.param_groups(lr=0.1) + plan.param_groups(lr=0.1))


def test_a_refused_start_changes_nothing():
    model = ResidualMLP(64, 8)
    plan = parametrize(model, base=ResidualMLP(16, 2), branches=["*.down"])
    with torch.no_grad():
        model.head.weight *= 2  # the last one
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(ValueError, match=r"head\.weight no longer has the values"):
        plan.initialize()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_adams_epsilon_is_scaled_though_none_is_given():
    """torch's default where the plan is for Adam; a rule that leaves it alone leaves 1e-8."""
    options = {"base": Decoder(16), "init_std": STDS}
    for optimizer in ("adam", "adamw"):
        plan = parametrize(Decoder(64), optimizer=optimizer, **options)
        default, given = (plan.param_groups(lr=0.1, eps=eps) for eps in (None, 1e-8))
        assert [g["eps"] for g in default] == [g["eps"] for g in given]
        assert min(g["eps"] for g in default) == pytest.approx(1e-8 / 4)
    mup = parametrize(Decoder(64), rule="mup", form="multiplier", **options).param_groups(lr=0.1)
    assert {g["eps"] for g in mup} == {1e-8}
    sgd = parametrize(Decoder(64), optimizer="sgd", **options).param_groups(lr=0.1)
    assert all("eps" not in group for group in sgd)


def test_a_base_may_be_larger_and_factors_go_the_other_way():
    down = parametrize(MLP(16), base=MLP(64), rule="mup", init_std=STDS).table["2.weight"]
    up = parametrize(MLP(64), base=MLP(16), rule="mup", init_std=STDS).table["2.weight"]
    assert (down.width, down.lr, down.weight_decay) == (
        1 / up.width,
        1 / up.lr,
        1 / up.weight_decay,
    )


def test_constant_starts_are_in_the_table():
    class Gemma(MLP):
        def __init__(self, n):
            super().__init__(n)
            self.add_module("5", nn.LayerNorm(3))
            nn.init.zeros_(self[5].weight)

    plan = parametrize(Gemma(32), base=Gemma(16), rule="mup")
    assert plan.table["5.weight"].fill == 0
    assert parametrize(Decoder(32), base=Decoder(16), rule="mup").table["norm.weight"].fill == 1
    line = next(line for line in str(plan).splitlines() if line.startswith("5.weight"))
    assert " =0 " in line


def test_a_base_may_be_a_file_of_shapes(tmp_path):
    save_shapes(read_shapes(Decoder(16, 2)), tmp_path / "base.toml")
    assert load_shapes(tmp_path / "base.toml") == read_shapes(Decoder(16, 2))
    from_file = parametrize(Decoder(32, 4), base=tmp_path / "base.toml", init_std=STDS)
    assert from_file.table == parametrize(Decoder(32, 4), base=Decoder(16, 2), init_std=STDS).table
    (tmp_path / "other.toml").write_text("width = 3\n")
    with pytest.raises(ValueError, match="save_shapes"):
        parametrize(Decoder(32), base=tmp_path / "other.toml")


def test_the_table_prints_one_line_a_kind_of_parameter():
    text = str(parametrize(Decoder(32, 8), base=Decoder(16, 2), init_std=STDS))
    lines = [line for line in text.splitlines() if line.startswith("blocks.*.mlp.up.weight")]
    assert len(lines) == 1
    assert "CompleteP" in text


BROKEN = [
    (lambda: (Decoder(32), MLP(16)), {}, "same architecture"),
    (lambda: (MLP(32), Decoder(16)), {}, "same architecture"),
    (lambda: (Decoder(32), Decoder(16, tied=True)), {}, "same architecture"),
    (lambda: (nn.LazyLinear(4), nn.LazyLinear(4)), {}, "run one batch"),
    (lambda: (nn.Identity(), nn.Identity()), {}, "no parameters"),
    (lambda: (Decoder(32), Decoder(16)), {"optimizer": "adamV"}, "did you mean 'adam'"),
    (lambda: (Decoder(32), Decoder(16)), {"rule": "complete"}, "did you mean 'completep'"),
    (lambda: (ResidualMLP(32, 4), ResidualMLP(16, 2)), {}, "branches="),
    (lambda: (Decoder(32), Decoder(16)), {"roles": {"head*": "out"}}, "unknown role"),
    (lambda: (Decoder(32), Decoder(16)), {"roles": {"haed*": "readout"}}, "no parameter matches"),
    (lambda: (Decoder(32), Decoder(16)), {"init_std": {"embedding": 1.0}}, "'hidden'"),
    (lambda: (Decoder(32), Decoder(16)), {"init_std": {"hiden": 1.0}}, "did you mean 'hidden'"),
    (lambda: (Decoder(32), Decoder(16)), {"weight_decay": "scale"}, "did you mean 'scaled'"),
    (lambda: (Decoder(32), Decoder(16)), {"form": "fold"}, "did you mean 'folded'"),
    (lambda: (Decoder(32), Decoder(16)), {"optimizer": torch.optim.AdamW}, "did you mean 'adamw'"),
    (lambda: (Decoder(32), Decoder(16)), {"rule": None}, "no rule None; rules are sp"),
    (lambda: (Decoder(32), 16), {}, "base is a smaller build"),
    (lambda: (Decoder(32), "nowhere.toml"), {}, "save_shapes"),
    (lambda: (Decoder(32), Decoder(16)), {"init_std": STDS | {"hidden": "fanin"}}, "or 'fan_in'"),
    (lambda: (Decoder(32), Decoder(16)), {"init_std": STDS | {"hidden": -1.0}}, "at least 0"),
    (
        lambda: (ResidualMLP(32, 4), ResidualMLP(16, 2)),
        {"branches": ["*.dwn"]},
        "branches: no module",
    ),
    (
        lambda: (Decoder(32, tied=True), Decoder(16, tied=True)),
        {"readout_norm": "nrom", "init_std": STDS},
        "did you mean 'norm'",
    ),
    (lambda: (SharedReadouts(32), SharedReadouts(16)), {"rule": "mup"}, "grows and is shared"),
]


class SharedReadouts(nn.Module):
    """Two readouts of one matrix."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = nn.Linear(width, 7), nn.Linear(width, 7)
        self.second.weight = self.first.weight


@pytest.mark.parametrize(("build", "options", "message"), BROKEN)
def test_what_cannot_be_done_is_refused_with_the_fix(build, options, message):
    model, base = build()
    with pytest.raises(ValueError, match=message):
        parametrize(model, base=base, **options)


def test_a_quantised_parameter_is_refused():
    model = MLP(32)
    model[2].weight = nn.Parameter(torch.zeros(32, 32, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match="before quantising"):
        parametrize(model, base=MLP(16), init_std=STDS)


def test_a_parameter_that_grows_and_is_shared_is_refused():
    class Net(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.up = nn.Linear(5, n, bias=False)
            self.back = nn.Linear(5, n, bias=False)
            self.back.weight = self.up.weight

    with pytest.raises(ValueError, match=r"shared with back\.weight"):
        parametrize(Net(32), base=Net(16))
    assert parametrize(Net(32), base=Net(16), roles={"up.weight": "input"}).table


def test_a_depth_rule_refuses_norms_after_the_sum():
    def build(width, depth):
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width)
        return nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)

    with pytest.raises(ValueError, match="norm_first=True"):
        parametrize(build(32, 4), base=build(16, 2), rule="completep")
    torch.manual_seed(0)
    assert parametrize(build(64, 4), base=build(16, 2), rule="mup").table


def test_settings_are_checked():
    plan = parametrize(MLP(32), base=MLP(16), rule="mup", init_std=STDS)
    for settings in ({"lr": -1}, {"lr": float("nan")}, {"lr": 1, "weight_decay": -1}):
        with pytest.raises(ValueError, match="at least 0"):
            plan.param_groups(**settings)
    with pytest.raises(ValueError, match="no row for"):
        plan.param_groups(lr=1, model=Decoder(16))


def test_a_larger_base_scales_down_by_the_same_rule():
    down = parametrize(MLP(16), base=MLP(64), rule="mup", init_std=STDS)
    assert down.table["2.weight"].lr == 4
    assert _roles(down) == _roles(parametrize(MLP(64), base=MLP(16), rule="mup", init_std=STDS))
