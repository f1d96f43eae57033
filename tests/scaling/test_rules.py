"""The rules against the published tables, and the folded form against the multiplier form."""

from math import log2, sqrt

import pytest
import torch
from scaling_networks import MLP, STDS, Decoder, ResidualMLP
from torch import nn
from torch.func import functional_call

from stepladder.optim import build as build_optimizer
from stepladder.scaling import OPTIMIZERS, RULES, parametrize

# Everett et al. 2024, Table 1, in the paper's (multiplier) form: rule -> layer ->
# (multiplier a, init b, SGD c, Adam c) under full alignment, then (SGD c, Adam c) under none.
# As encoded in ../shared/rules.md C1; mean field's Adam readout under no alignment (0, not 1/2)
# follows from muP's row by the symmetry, and "mup" is stated there with a = -1/2 on the embedding.
EVERETT = {
    "sp-layerwise": {
        "embedding": (0, 0, -1 / 2, 0, -1 / 2, 0),
        "hidden": (0, 1 / 2, 1 / 2, 1, 0, 1 / 2),
        "readout": (0, 1 / 2, 1, 1, 1 / 2, 1 / 2),
    },
    "ntk": {
        "embedding": (0, 0, -1 / 2, 0, -1 / 2, 0),
        "hidden": (1 / 2, 0, -1 / 2, 1 / 2, -1, 0),
        "readout": (1 / 2, 0, 0, 1 / 2, -1 / 2, 0),
    },
    "mup": {
        "embedding": (-1 / 2, 1 / 2, 0, 1 / 2, 0, 1 / 2),
        "hidden": (0, 1 / 2, 0, 1, -1 / 2, 1 / 2),
        "readout": (1 / 2, 1 / 2, 0, 1 / 2, 0, 0),
    },
    "mean-field": {
        "embedding": (0, 0, -1, 0, -1, 0),
        "hidden": (1 / 2, 0, -1, 1 / 2, -3 / 2, 0),
        "readout": (1, 0, -1, 0, -1, -1 / 2),
    },
}
LAYERS = {"embedding": "0.weight", "hidden": "2.weight", "readout": "4.weight"}


@pytest.mark.parametrize("alignment", ["full", "none"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("rule", EVERETT)
def test_folded_table_is_everetts_under_the_symmetry(rule, optimizer, alignment):
    plan = parametrize(
        MLP(64), base=MLP(16), rule=rule, optimizer=optimizer, init_std=STDS, alignment=alignment
    )
    base = parametrize(MLP(16), base=MLP(16), rule=rule, optimizer=optimizer, init_std=STDS)
    for layer, name in LAYERS.items():
        a, b, *rates = EVERETT[rule][layer]
        c = rates[(alignment == "none") * 2 + (optimizer == "adam")]
        fold = {"sgd": 2, "adam": 1}[optimizer]  # (a, b, c) -> (0, b + a, c + fold * a)
        record = plan.table[name]
        assert log2(record.init_std / base.table[name].init_std) == pytest.approx(-2 * (a + b))
        assert log2(record.lr) == pytest.approx(-2 * (c + fold * a))


def test_adafactor_rates_follow_from_adam_and_the_initial_scale():
    """rules.md C1: c_Adafactor = c_Adam - b, the same in every form."""
    for rule, layers in EVERETT.items():
        plan = parametrize(MLP(64), base=MLP(16), rule=rule, optimizer="adafactor", init_std=STDS)
        for layer, name in LAYERS.items():
            _, b, _, c, *_ = layers[layer]
            assert log2(plan.table[name].lr) == pytest.approx(-2 * (c - b))


def test_completep_is_table_1_of_the_paper():
    """Dey et al. 2025, Table 1, at m_N = 4 and m_L = 3, in the paper's form."""
    names = ["blocks.0.up.weight", "blocks.2.down.weight", "blocks.1.up.bias"]
    names += ["blocks.1.norm.weight", "norm.weight", "head.weight", "stem.weight"]
    for alpha, rule in [(1.0, "completep"), (0.5, "depth-mup")]:
        plan = parametrize(
            ResidualMLP(64, 6),
            base=ResidualMLP(16, 2),
            rule=rule,
            init_std=STDS,
            branches=["*.down"],
            form="multiplier",
        )
        depth = 3 ** (alpha - 1)
        lr = [depth / 4, depth / 4, depth, depth, 1, 1, 1]
        decay = [4, 4, 1, 1, 1, 1, 1]
        assert [plan.table[n].lr for n in names] == pytest.approx(lr)
        assert [plan.table[n].weight_decay for n in names] == pytest.approx(decay)
        in_blocks = [plan.table[n].eps for n in names[:4]]
        assert in_blocks == pytest.approx([3**-alpha / 4] * 4)
        assert plan.multipliers() == pytest.approx(
            {"head.weight": 1 / 4}
            | {
                f"blocks.{i}.down.{leaf}": 3**-alpha
                for i in range(6)
                for leaf in ("weight", "bias")
            }
        )
        assert plan.table["blocks.0.up.weight"].init_std == pytest.approx(16**-0.5 / 2)
        assert plan.table["blocks.0.down.weight"].init_std == pytest.approx(32**-0.5 / 2)
        assert plan.table["head.weight"].init_std == pytest.approx(16**-0.5)


def test_the_effective_theory_is_its_printed_equations():
    """Dinan, Yaida & Zhang 2023: initial variances 1 / fan-in (1.25 to 1.33); rates 1 / fan-in for
    SGD (1.99 to 1.107) and 1 / (fan-in sqrt(fan-out)) for AdamW (1.108 to 1.116), where embeddings
    and biases have a fan-in of 1; decay a step does not depend on the layer (1.94)."""

    class Net(nn.Module):
        def __init__(self, n, m):  # m: width of the middle layer
            super().__init__()
            self.embedding, self.position = nn.Embedding(7, n), nn.Parameter(torch.zeros(1, 5, n))
            self.up, self.down = nn.Linear(n, m), nn.Linear(m, n, bias=False)
            self.head = nn.Linear(n, 3)

    model, base = Net(32, 256), Net(8, 16)
    fans = {
        "embedding.weight": (1, 4),
        "position": (1, 4),
        "up.weight": (4, 16),
        "up.bias": (1, 16),
        "down.weight": (16, 4),
        "head.weight": (4, 1),
        "head.bias": (1, 1),
    }
    options = {"rule": "effective-theory", "init_std": STDS}
    plans = {o: parametrize(model, base=base, optimizer=o, **options) for o in ("sgd", "adamw")}
    for name, (fan_in, fan_out) in fans.items():
        sgd, adamw = plans["sgd"].table[name], plans["adamw"].table[name]
        assert sgd.lr == pytest.approx(1 / fan_in), name
        assert adamw.lr == pytest.approx(1 / fan_in / sqrt(fan_out)), name
        assert adamw.lr * adamw.weight_decay == pytest.approx(1), name
    table = plans["adamw"].table
    stds = [table[f"{name}.weight"].init_std for name in ("embedding", "up", "down", "head")]
    assert stds == pytest.approx([1, 32**-0.5, 256**-0.5, 32**-0.5])


def test_munit_is_u_mup_but_for_embeddings_and_depth():
    plans = [
        parametrize(Decoder(64, 2), base=Decoder(16, 2), rule=rule, init_std=STDS)
        for rule in ("munit", "u-mup")
    ]
    changed = {
        name: set(fields) - {"why"} for name, fields in plans[0].difference(plans[1]).items()
    }
    assert {name for name, fields in changed.items() if fields} == {"embedding.weight"}
    assert plans[0].table["embedding.weight"].lr == 1


def test_every_factor_is_one_at_the_base_shape():
    for rule in RULES:
        for optimizer in OPTIMIZERS:
            plan = parametrize(
                Decoder(16), base=Decoder(16), rule=rule, optimizer=optimizer, init_std=STDS
            )
            for record in plan.table.values():
                factors = (record.multiplier, record.lr, record.weight_decay, record.eps)
                assert factors == (1, 1, 1, 1)


def test_spectral_is_mup_until_the_aspect_ratio_turns():
    """Yang, Simon & Bernstein 2023: the same exponents, but min(1, sqrt(out / in)) in the scale."""
    spectral = parametrize(MLP(64), base=MLP(16), rule="spectral", init_std=STDS)
    mup = parametrize(MLP(64), base=MLP(16), rule="mup", init_std=STDS)
    for name, record in spectral.table.items():
        assert record.lr == mup.table[name].lr
        if "weight" in name:
            assert record.init_std == pytest.approx(mup.table[name].init_std)
    turned = parametrize(
        MLP(64, features=32), base=MLP(16, features=32), rule="spectral", init_std=STDS
    )
    assert turned.table["0.weight"].init_std == pytest.approx(2**0.5)  # 16/32 -> 1, was 1 at base


class Shampoo(torch.optim.Optimizer):
    """W -= lr (eps + sum G G^T)^-1/4 G (eps + sum G^T G)^-1/4, decay apart (Gupta et al. 2018)."""

    def __init__(self, groups):
        super().__init__(groups, {"lr": 0.0, "eps": 1e-3, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["left"] = group["eps"] * torch.eye(p.shape[0], dtype=p.dtype)
                    state["right"] = group["eps"] * torch.eye(p.shape[1], dtype=p.dtype)
                state["left"] += p.grad @ p.grad.T
                state["right"] += p.grad.T @ p.grad
                move = _root(state["left"]) @ p.grad @ _root(state["right"])
                p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(group["lr"] * move)


def _root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values**-0.25) @ vectors.T


class Pair:
    """Shampoo on the groups marked for it, AdamW on the rest."""

    def __init__(self, groups):
        self.parts = [
            make([g for g in groups if (g["optimizer"] == "shampoo") == first])
            for make, first in ((Shampoo, True), (torch.optim.AdamW, False))
        ]

    def zero_grad(self):
        for part in self.parts:
            part.zero_grad()

    def step(self):
        for part in self.parts:
            part.step()


TORCH_OPTIMIZERS = {
    "shampoo": Pair,
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adafactor": lambda groups: torch.optim.Adafactor(groups, eps=(1e-30, 0.0)),
    "lion": lambda groups: build_optimizer("lion", groups, lr=1.0),
    "adam-atan2": lambda groups: build_optimizer("adam-atan2", groups, lr=1.0),
}


# Eigenvectors of Shampoo's factors lose a few digits; everything else is exact to rounding.
TIGHT = {name: 1e-7 if name == "shampoo" else 1e-10 for name in TORCH_OPTIMIZERS}


def _train(plan, weights, forward, optimizer, batches):
    parameters = nn.ParameterDict(
        {k.replace(".", "/"): nn.Parameter(w.clone()) for k, w in weights.items()}
    )
    holder = _Named(parameters)
    eps = 1e-3 if optimizer in ("adam", "adamw", "shampoo") else None
    opt = TORCH_OPTIMIZERS[optimizer](
        plan.param_groups(lr=0.01, weight_decay=0.1, eps=eps, model=holder)
    )
    for x, y in batches:
        opt.zero_grad()
        acting = {n: plan.table[n].multiplier * p for n, p in holder.named_parameters()}
        nn.functional.cross_entropy(forward(acting, x), y).backward()
        opt.step()
    return {n: (plan.table[n].multiplier * p).detach() for n, p in holder.named_parameters()}


class _Named(nn.Module):
    """Parameters under dotted names, for a plan."""

    def __init__(self, parameters):
        super().__init__()
        self._held = {k.replace("/", "."): p for k, p in parameters.items()}

    def named_parameters(self, *args, **kwargs):
        yield from self._held.items()


@pytest.mark.parametrize("optimizer", TORCH_OPTIMIZERS)
@pytest.mark.parametrize("rule", [r for r in RULES if r not in ("sp", "spectral")])
def test_folded_form_trains_exactly_like_the_multiplier_form(rule, optimizer):
    """float64, ten steps with weight decay and a large epsilon: equal acting weights throughout."""
    torch.manual_seed(1)
    model = ResidualMLP(32, 4).double()
    stds = STDS | {"bias": 0.1}  # Adafactor steps in proportion to the weight: not from 0
    options = {"rule": rule, "optimizer": optimizer, "branches": ["*.down"], "init_std": stds}
    folded = parametrize(model, base=ResidualMLP(8, 2), **options)
    explicit = parametrize(model, base=ResidualMLP(8, 2), form="multiplier", **options)
    folded.initialize(model)
    acting = {name: p.detach().clone() for name, p in model.named_parameters()}
    stored = {name: w / explicit.table[name].multiplier for name, w in acting.items()}
    assert (
        any(record.multiplier != 1 for record in explicit.table.values())
        or rule in ("sp-layerwise", "effective-theory")  # stated without multipliers
    )
    batches = [(torch.randn(8, 6).double(), torch.randint(3, (8,))) for _ in range(10)]

    def forward(weights, x):
        return functional_call(model, weights, (x,))

    ours = _train(folded, acting, forward, optimizer, batches)
    papers = _train(explicit, stored, forward, optimizer, batches)
    for name, weight in ours.items():
        torch.testing.assert_close(weight, papers[name], rtol=TIGHT[optimizer], atol=1e-11)
        assert not torch.equal(weight, acting[name])


@pytest.mark.parametrize(("name", "adjust"), [("muon", "original"), ("muon-matched", "matched")])
def test_an_orthogonal_step_keeps_its_spectral_norm_at_root_out_over_in(name, adjust):
    """rate * torch's adjustment * 1 must grow as sqrt(out / in): Yang, Simon & Bernstein 2023."""

    def adjusted(out, fan_in):
        return sqrt(max(1, out / fan_in)) if adjust == "original" else sqrt(max(out, fan_in))

    class Net(nn.Module):
        def __init__(self, n, hidden):
            super().__init__()
            self.up, self.down = nn.Linear(n, hidden), nn.Linear(hidden, n)

    model, base = Net(64, 512), Net(16, 24)
    plan = parametrize(model, base=base, rule="mup", optimizer=name, init_std=STDS)
    for layer in ("up", "down"):
        (out, fan_in), (base_out, base_in) = (
            getattr(net, layer).weight.shape for net in (model, base)
        )
        grown = (
            plan.table[f"{layer}.weight"].lr * adjusted(out, fan_in) / adjusted(base_out, base_in)
        )
        assert grown == pytest.approx(sqrt(out / fan_in) / sqrt(base_out / base_in))
        assert plan.table[f"{layer}.bias"].optimizer == "adamw"
