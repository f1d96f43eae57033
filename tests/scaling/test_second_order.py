"""K-FAC and Shampoo under muP: the authors' powers, and updates that stay of size 1 over widths."""

from math import log2

import pytest
import torch
from scaling_networks import MLP, STDS, Decoder
from torch import nn

from stepladder.scaling import coordinate_check, parametrize

WIDTHS = [32, 64, 128, 256]
# Ishikawa & Karakida 2023, as in the first author's released code: rates go as width^-c.
PAPER = {
    "kfac": {"0.weight": 0, "2.weight": 0, "4.weight": 0},
    "shampoo": {"0.weight": -1 / 2, "2.weight": 0, "4.weight": 1 / 2},
}


@pytest.mark.parametrize("optimizer", PAPER)
def test_powers_are_the_authors(optimizer):
    plan = parametrize(MLP(64), base=MLP(16), rule="mup", optimizer=optimizer, init_std=STDS)
    for name, power in PAPER[optimizer].items():
        assert log2(plan.table[name].lr) == pytest.approx(-2 * power)
        assert plan.table[name].optimizer == optimizer
        assert plan.table[name].eps == (1 if optimizer == "kfac" else plan.table[name].eps)
    assert plan.table["0.bias"].optimizer == "adamw"
    spread = [plan.table[name].init_std for name in PAPER[optimizer]]
    base = parametrize(MLP(16), base=MLP(16), rule="mup", init_std=STDS)
    grown = [s / base.table[n].init_std for s, n in zip(spread, PAPER[optimizer], strict=True)]
    assert grown == pytest.approx([1, 1 / 2, 1 / 4])  # b = 0 (its input does not grow), 1/2, 1


class KFAC(torch.optim.Optimizer):
    """W -= lr B^-1 G A^-1 on linear layers; A and B are second moments of inputs and of output
    gradients over the batch, each with a share of its trace added (Martens & Grosse 2015)."""

    def __init__(self, model, groups, share=1e-2):
        super().__init__(groups, {})
        self.share, self.seen, self.layers = share, {}, {}
        for layer in (m for m in model.modules() if isinstance(m, nn.Linear)):
            self.layers[id(layer.weight)] = layer
            layer.register_forward_hook(self._keep)

    def _keep(self, layer, args, out):
        if torch.is_grad_enabled():
            self.seen[id(layer)] = [args[0].detach().flatten(0, -2)]
            out.register_hook(lambda g: self.seen[id(layer)].append(g.detach().flatten(0, -2)))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                x, g = self.seen[id(self.layers[id(weight)])]
                inputs, outputs = (self._damped(t.T @ t / len(t)) for t in (x, g))
                move = torch.linalg.solve(outputs, weight.grad)
                weight -= group["lr"] * torch.linalg.solve(inputs, move, left=False)

    def _damped(self, factor):
        return factor + self.share * factor.trace() * torch.eye(len(factor), dtype=factor.dtype)


class Shampoo(torch.optim.Optimizer):
    """W -= lr L^-1/4 G R^-1/4, on sums L of G G^T and R of G^T G (Gupta et al. 2018)."""

    def __init__(self, model, groups):
        super().__init__(groups, {})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                for side, factor in (
                    ("left", weight.grad @ weight.grad.T),
                    ("right", weight.grad.T @ weight.grad),
                ):
                    state[side] = state.get(side, 0) + factor
                left, right = _root(state["left"]), _root(state["right"])
                weight -= group["lr"] * left @ weight.grad @ right


def _root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag((values + 1e-6 * values[-1]).clamp_min(1e-30) ** -0.25) @ vectors.T


PLAIN = {"kfac": (KFAC, 0.02), "shampoo": (Shampoo, 0.05)}
_DRAW = torch.Generator().manual_seed(0)
BATCH = [
    (
        torch.randn(16, 6, dtype=torch.float64, generator=_DRAW),
        torch.randint(3, (16,), generator=_DRAW),
    )
]


def own(name, change=None):
    """A build that trains its weight matrices by the plain optimizer, scaled by a plan."""
    make, rate = PLAIN[name]

    def build(width, lr=rate):
        model = MLP(width).double()
        plan = parametrize(model, base=MLP(32), rule="mup", optimizer=name, init_std=STDS)
        plan.initialize(seed=torch.initial_seed() % 1000)
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.dim() > 1)
        groups = [
            {"params": [p], "lr": group["lr"], "name": n}
            for group in plan.param_groups(lr=lr, eps=1e-8)
            for p, n in zip(group["params"], group["names"], strict=True)
        ]
        for group in groups:
            group["lr"] *= (change or {}).get(group["name"], lambda _: 1.0)(width / 32)
        return model, make(model, groups)

    return build


@pytest.mark.parametrize("name", PLAIN)
def test_updates_stay_of_size_one_over_widths(name):
    report = coordinate_check(own(name), widths=WIDTHS, batches=BATCH, seeds=3)
    assert report.passed, str(report)
    moves = {row.parameter: row.slope.value for row in report.rows if row.quantity == "move"}
    assert set(moves) == set(PAPER[name])


@pytest.mark.parametrize(
    ("name", "layer", "wrong"),
    [
        ("kfac", "2.weight", lambda wide: 1 / wide),  # Adam's power
        ("shampoo", "0.weight", lambda wide: wide**-0.5),  # no power
        ("shampoo", "4.weight", lambda wide: wide**0.5),  # no power
    ],
)
def test_a_first_order_power_is_found_out(name, layer, wrong):
    report = coordinate_check(own(name, {layer: wrong}), widths=WIDTHS, batches=BATCH, seeds=3)
    assert layer in {row.parameter for row in report.failures}, str(report)


def test_absolute_damping_must_grow_with_the_factors():
    """With muP's sizes, traces of A go as the fan-in and those of B, behind the readout, as 1 / n:
    the powers of damping in the authors' code (d_A = -1, d_B = 1)."""
    traces = {}
    for width in WIDTHS:
        torch.manual_seed(0)
        model, optimizer = own("kfac")(width)
        x, y = BATCH[0]
        nn.functional.cross_entropy(model(x), y).backward()
        seen = {n: optimizer.seen[id(model[int(n)])] for n in ("0", "2", "4")}
        traces[width] = {n: [float(t.square().sum()) for t in pair] for n, pair in seen.items()}
    for layer, (inputs, outputs) in {"0": (0, -1), "2": (1, -1), "4": (1, 0)}.items():
        for side, power in enumerate((inputs, outputs)):
            grown = log2(traces[256][layer][side] / traces[32][layer][side]) / 3
            assert grown == pytest.approx(power, abs=0.3), (layer, side)


def test_kfac_does_not_care_where_a_multiplier_stands():
    """A layer that multiplies its output by 1/4 and stores weights four times as large moves alike
    at the same rate: the plan's fold."""

    class Scaled(nn.Module):
        def __init__(self, multiplier):
            super().__init__()
            self.linear, self.multiplier = nn.Linear(6, 3, bias=False).double(), multiplier

        def forward(self, x):
            return self.multiplier * self.linear(x)

    acting = []
    start = torch.randn(3, 6).double()
    for multiplier in (1.0, 0.25):
        model = Scaled(multiplier)
        model.linear.weight.data = start / multiplier
        optimizer = KFAC(model, [{"params": [model.linear.weight], "lr": 0.1}])
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(BATCH[0][0]), BATCH[0][1]).backward()
            optimizer.step()
        acting.append(multiplier * model.linear.weight.detach())
    torch.testing.assert_close(*acting, rtol=1e-10, atol=1e-12)
    options = {"rule": "ntk", "optimizer": "kfac", "init_std": STDS}
    rates = [
        [
            r.lr
            for r in parametrize(MLP(64), base=MLP(16), form=form, **options).table.values()
            if r.optimizer == "kfac"
        ]
        for form in ("folded", "multiplier")
    ]
    assert rates[0] == pytest.approx(rates[1])


def test_matrix_optimizers_take_what_they_are_made_for():
    taken = {}
    for optimizer in ("muon", "shampoo", "kfac"):
        plan = parametrize(
            Decoder(64), base=Decoder(16), rule="mup", optimizer=optimizer, init_std=STDS
        )
        taken[optimizer] = {n for n, r in plan.table.items() if r.optimizer == optimizer}
    ends = {"embedding.weight", "head.weight"}
    assert taken["shampoo"] == taken["kfac"] == taken["muon"] | ends
    assert not taken["muon"] & ends
