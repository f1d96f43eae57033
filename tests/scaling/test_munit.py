"""munit scaling: everything at size 1 at the start, the paper's rates, and a check that passes."""

import pytest
import torch
from torch import nn

from stepladder.scaling import coordinate_check, parametrize
from stepladder.scaling.munit import (
    MunitBlock,
    MunitLinear,
    MunitReadout,
    residual,
    square_root_attention,
)

ONES = {"embedding": 1.0, "hidden": 1.0, "readout": 1.0}


class Decoder(nn.Module):
    """Embedding, blocks, readout."""

    def __init__(self, width, depth=2, vocabulary=23, tau=0.4):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(MunitBlock(width, width // 8, tau) for _ in range(depth))
        self.head = MunitReadout(width, vocabulary)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_outputs_of_all_layers_have_variance_one_at_any_size():
    """Of linear layers over inputs of variance 1, and of the stream: within a quarter. What follows
    an attention or a GELU is smaller, as the paper says, and normalised."""
    torch.manual_seed(0)
    for width, depth in ((256, 8), (512, 2)):
        seen = {}
        model = Decoder(width, depth, vocabulary=500)
        for name, module in model.named_modules():
            if isinstance(module, MunitBlock) or name.endswith(("query", "key", "value", "up")):
                module.register_forward_hook(
                    lambda _, __, out, n=name, s=seen: s.update({n: float(out.detach().var())})
                )
        model(torch.randint(500, (16, 64)))
        assert len(seen) == 5 * depth
        assert all(0.8 < variance < 1.25 for variance in seen.values()), seen


def test_forward_and_backward_share_one_constant():
    torch.manual_seed(1)
    x = torch.randn(7, 12, dtype=torch.float64, requires_grad=True)
    layer, readout = MunitLinear(12, 5).double(), MunitReadout(12, 5).double()
    for module, constant in ((layer, 12**-0.5), (readout, 1 / 12)):
        out = module(x)
        torch.testing.assert_close(out, constant * x @ module.weight.T)
        (found,) = torch.autograd.grad(out.sum(), x)
        torch.testing.assert_close(found, (constant * module.weight.sum(0)).expand(7, 12))


def test_square_roots_of_scores_keep_the_variance_of_independent_values():
    """At every position within 10%, where softmax's falls below a tenth at position 64."""
    torch.manual_seed(2)
    q, k, v = (torch.randn(400, 2, 64, 16) for _ in range(3))
    by_position = square_root_attention(q, k, v).var(dim=(0, 1, 3))
    assert by_position.min() > 0.9
    assert by_position.max() < 1.1
    softmax = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert softmax[:, :, -1].var() < 0.1
    assert torch.equal(square_root_attention(q, k, v)[:, :, 0], v[:, :, 0])  # sees itself only


def test_a_residual_keeps_variance_one():
    torch.manual_seed(3)
    x, branch = torch.randn(2, 100_000)
    for tau in (0.1, 0.4, 0.9):
        assert residual(x, branch, tau).var() == pytest.approx(1, abs=0.02)


def test_rates_are_the_papers():
    """Table 2 in the paper's form: hidden rates fall as 1 / sqrt(fan-in), others stay."""
    plan = parametrize(
        Decoder(256, 2), base=Decoder(64, 2), rule="munit", form="multiplier", init_std=ONES
    )
    for name, record in plan.table.items():
        hidden = record.role in ("hidden", "attention", "branch output")
        assert record.lr == pytest.approx(1 / 2 if hidden else 1), name
        assert record.init_std == (0 if "norm" in name else 1), name
    assert plan.table["blocks.0.up.weight"].multiplier == pytest.approx(1 / 2)
    assert plan.table["head.weight"].multiplier == pytest.approx(1 / 4)
    shrinkage = {g["lr"] * g["weight_decay"] for g in plan.param_groups(lr=0.1, weight_decay=1e-3)}
    assert [round(s / 1e-3, 9) for s in shrinkage] == [1.0]  # fully decoupled, as in the paper


def test_the_recipe_passes_the_coordinate_check():
    def build(width, lr=0.02):
        model = Decoder(width, 2)
        plan = parametrize(
            model, base=Decoder(32, 2), rule="munit", form="multiplier", init_std=ONES
        )
        return model, torch.optim.AdamW(plan.param_groups(lr=lr, eps=1e-12))

    report = coordinate_check(build, widths=[32, 64, 128, 256], seeds=2)
    assert report.passed, str(report)


def test_bad_blocks_are_refused():
    with pytest.raises(ValueError, match="3 heads do not divide"):
        MunitBlock(64, 3, 0.4)
    for tau in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            MunitBlock(64, 4, tau)
