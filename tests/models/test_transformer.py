"""The reference model against transformers' own classes, and the properties that define it."""

from dataclasses import replace
from math import log, sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from stepladder import optim
from stepladder.models.build import base_scales, build
from stepladder.models.transformer import NORM_EPS, Transformer, rotary_tables, rotate
from stepladder.recipe import ACTIVATIONS, Model, Optimizer, Parametrization, Recipe

SHAPE = Model(
    width=32, depth=3, heads=4, kv_heads=2, head_size=8, mlp_width=48, context=24, vocab_size=61
)
# Our names -> theirs.
NAMES = {
    "blocks.": "model.layers.",
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "attention.query.": "self_attn.q_proj.",
    "attention.key.": "self_attn.k_proj.",
    "attention.value.": "self_attn.v_proj.",
    "attention.output.": "self_attn.o_proj.",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
    "embedding.": "model.embed_tokens.",
    "head.": "lm_head.",
}


def random_network(shape: Model, seed: int = 0) -> Transformer:
    """Every weight random, gains too, in float64."""
    torch.manual_seed(seed)
    network = Transformer(shape).double()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return network


def tokens(rows: int = 2, shape: Model = SHAPE) -> Tensor:
    return torch.randint(0, shape.vocab_size, (rows, shape.context))


def their_name(name: str) -> str:
    name = "model.norm.weight" if name == "norm.weight" else name
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def theirs_with(network: Transformer) -> LlamaForCausalLM | Qwen3ForCausalLM:
    """transformers' model with the same weights, in float64."""
    shape = network.shape
    make, config = (
        (Qwen3ForCausalLM, Qwen3Config) if shape.qk_norm else (LlamaForCausalLM, LlamaConfig)
    )
    theirs = make(
        config(
            vocab_size=shape.vocab_size,
            hidden_size=shape.width,
            intermediate_size=shape.mlp_width,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_size,
            rms_norm_eps=NORM_EPS,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
            tie_word_embeddings=shape.tied,
            attn_implementation="eager",
        )
    ).double()
    weights = {their_name(name): value for name, value in network.state_dict().items()}
    theirs.load_state_dict(weights)
    return theirs


@pytest.mark.parametrize("qk_norm", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_loss_and_every_gradient_equal_those_of_transformers(qk_norm, tied):
    ours = random_network(replace(SHAPE, qk_norm=qk_norm, tied=tied))
    theirs = theirs_with(ours)
    x = tokens()
    loss = F.cross_entropy(ours(x)[:, :-1].flatten(0, 1), x[:, 1:].flatten())
    loss.backward()
    expected = theirs(x, labels=x).loss
    expected.backward()
    # Their rotary tables, and the float32 of ours before they are widened, differ by roundings.
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    assert len(gradients) == len(list(ours.parameters()))
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[their_name(name)], rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("at", [0, 11, SHAPE.context - 1])
def test_a_token_changes_nothing_before_it(activation, at):
    network = random_network(replace(SHAPE, activation=activation))
    x = tokens(1)
    other = x.clone()
    other[0, at] = (x[0, at] + 1) % SHAPE.vocab_size
    before, after = network(x), network(other)
    torch.testing.assert_close(before[0, :at], after[0, :at], rtol=0, atol=1e-12)
    assert (before[0, at:] - after[0, at:]).abs().amax(-1).min() > 1e-6


def test_sequences_do_not_see_each_other():
    network, x = random_network(SHAPE), tokens(3)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]), rtol=0, atol=1e-12)


def test_rotary_scores_depend_on_the_distance_alone():
    torch.manual_seed(0)
    q, k = torch.randn(2, 8, dtype=torch.float64)
    cos_TE, sin_TE = rotary_tables(64, 8, 10_000.0, q)
    queries, keys = rotate(q.expand(64, 8), cos_TE, sin_TE), rotate(k.expand(64, 8), cos_TE, sin_TE)
    scores = queries @ keys.T
    for distance in (0, 1, 7, 40):
        diagonal = scores.diagonal(-distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert (scores[20] - scores[20, 20]).abs().max() > 0.1
    torch.testing.assert_close(queries.norm(dim=-1), q.norm().expand(64), rtol=0, atol=1e-6)


def test_rotary_frequencies_are_those_of_the_paper():
    """Angle of pair i at position t: t * theta^(-2i/E) (RoFormer, section 3.2.2)."""
    cos_TE, sin_TE = rotary_tables(100, 16, 500.0, torch.zeros(1))
    for t, i in ((1, 0), (7, 3), (99, 7)):
        angle = torch.tensor(t * 500.0 ** (-2 * i / 16), dtype=torch.float64)
        assert cos_TE[t, i].item() == pytest.approx(angle.cos().item(), abs=1e-5)
        assert cos_TE[t, i + 8] == cos_TE[t, i]
        assert sin_TE[t, i + 8].item() == pytest.approx(angle.sin().item(), abs=1e-5)
        assert sin_TE[t, i] == -sin_TE[t, i + 8]


def test_grouped_heads_are_repeated_heads():
    grouped = random_network(SHAPE)
    whole = random_network(replace(SHAPE, kv_heads=SHAPE.heads))
    weights = grouped.state_dict()
    for name, value in weights.items():
        if ".key." in name or ".value." in name:
            heads = value.view(SHAPE.kv_heads, SHAPE.head_size, SHAPE.width)
            repeated = heads.repeat_interleave(SHAPE.heads // SHAPE.kv_heads, dim=0)
            weights[name] = repeated.flatten(0, 1)
    whole.load_state_dict(weights)
    x = tokens()
    torch.testing.assert_close(grouped(x), whole(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("tied", [True, False])
def test_losses_are_those_of_the_logits(tied):
    network = random_network(replace(SHAPE, tied=tied)).float()
    network.readout_multiplier = 0.4
    x, y = tokens(3), tokens(3)
    expected = F.cross_entropy(network(x).double().flatten(0, 1), y.flatten(), reduction="none")
    assert network.loss(x, y).item() == pytest.approx(expected.mean().item(), rel=1e-6)
    by_sequence = network.sequence_losses(x, y)
    torch.testing.assert_close(
        by_sequence.double(), expected.view(3, -1).mean(1), rtol=1e-6, atol=0
    )


def test_tied_weights_are_one_tensor():
    network = Transformer(replace(SHAPE, tied=True))
    assert network.head.weight is network.embedding.weight


# Initial values ----------------------------------------------------------------------------------

GROWN = replace(SHAPE, width=256, heads=8, kv_heads=4, head_size=32, mlp_width=512, depth=6)
SCALED = Parametrization(
    base_width=64, base_depth=2, embedding_std=0.7, hidden_gain=1.3, residual_gain=0.5,
    readout_std=0.02,
)  # fmt: skip


def recipe(rule: str = "completep", model: Model = GROWN, **changes: object) -> Recipe:
    given = {"optimizer": Optimizer(lr=0.01), "tokens": 2400, "batch": 24, **changes}
    return Recipe(model=model, parametrization=replace(SCALED, rule=rule), **given)


# Ratio of the initial scale of hidden matrices, embedding and readout to the base's at 4 times the
# width (Yang et al. 2022, Table 8; Dey et al. 2025, Table 1; PyTorch's own for sp), with depth
# multipliers folded into what ends a branch: 3 times the depth divides it by 3.
RATIOS = {
    "sp": {"hidden": 1 / 2, "ends": 1 / 2, "embedding": 1, "head": 1 / 2},
    "mup": {"hidden": 1 / 2, "ends": 1 / 2, "embedding": 1, "head": 1 / 4},
    "completep": {"hidden": 1 / 2, "ends": 1 / 2 / 3, "embedding": 1, "head": 1 / 4},
}


@pytest.mark.parametrize("rule", RATIOS)
def test_initial_scales_are_those_declared(rule):
    network, _ = build(recipe(rule))
    ratio = RATIOS[rule]
    expected = {
        "embedding.weight": 0.7 * ratio["embedding"],
        "head.weight": 0.02 * ratio["head"],
        "blocks.3.attention.query.weight": 1.3 / sqrt(64) * ratio["hidden"],
        "blocks.3.attention.value.weight": 1.3 / sqrt(64) * ratio["hidden"],
        "blocks.3.mlp.up.weight": 1.3 / sqrt(64) * ratio["hidden"],
        "blocks.5.attention.output.weight": 0.5 / sqrt(64) * ratio["ends"],
        "blocks.5.mlp.down.weight": 0.5 / sqrt(128) * ratio["ends"],
    }
    found = dict(network.named_parameters())
    for name, std in expected.items():
        values = found[name].double()
        error = 5 / sqrt(2 * values.numel())  # five standard errors of a normal sample's scale
        assert values.std().item() == pytest.approx(std, rel=error), name
        assert abs(values.mean().item()) < 5 * std / sqrt(values.numel())
    for name, values in found.items():
        if "norm" in name:
            assert torch.equal(values, torch.ones_like(values))


@pytest.mark.parametrize("model", [SHAPE, GROWN])
@pytest.mark.parametrize("rule", ["mup", "completep"])
def test_a_tied_model_knows_nothing_at_first(rule, model):
    tied = replace(model, tied=True, vocab_size=500)
    base = Parametrization(rule=rule, base_width=SHAPE.width, base_depth=SHAPE.depth)
    network, _ = build(replace(recipe(model=tied), parametrization=base))
    x, y = torch.randint(0, 500, (2, 4, tied.context))
    assert network.loss(x, y).item() == pytest.approx(log(500), abs=1)


def values_of(r: Recipe) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in build(r)[0].named_parameters()}


def same(some: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return some.keys() == other.keys() and all(torch.equal(v, other[n]) for n, v in some.items())


def test_initial_values_depend_on_the_recipe_alone():
    first = values_of(recipe())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        torch.manual_seed(99)
        assert same(first, values_of(recipe()))
    finally:
        torch.set_num_threads(threads)
    assert same(first, values_of(recipe(optimizer=Optimizer(lr=0.5), tokens=4800)))
    other = values_of(recipe(seed=1))
    assert not any(torch.equal(v, other[n]) for n, v in first.items() if "norm" not in n)


@pytest.mark.parametrize("tied", [True, False])
def test_every_rule_is_the_same_at_the_base(tied):
    base = replace(recipe(model=replace(GROWN, tied=tied)).base_model())
    built = {rule: build(recipe(rule, base)) for rule in RATIOS}
    first, plan = built["sp"]
    for network, other in built.values():
        assert same(dict(first.named_parameters()), dict(network.named_parameters()))
        assert network.readout_multiplier == 1.0
        assert all((r.lr, r.eps) == (1, 1) for r in other.table.values())
        assert {n: r.weight_decay for n, r in other.table.items()} == {
            n: r.weight_decay for n, r in plan.table.items()
        }


def test_norm_gains_do_not_decay():
    _, plan = build(recipe())
    groups = plan.param_groups(lr=1.0, weight_decay=0.1)
    decays = {name: g["weight_decay"] for g in groups for name in g["names"]}
    assert all((decay == 0) == ("norm" in name) for name, decay in decays.items())


def test_base_scales_follow_the_gains():
    scales = base_scales(recipe())
    assert scales["*.attention.output.weight"] == 0.5 / 8
    assert scales["*.mlp.down.weight"] == 0.5 / sqrt(128)
    assert (scales["hidden"], scales["embedding"], scales["readout"]) == (1.3 / 8, 0.7, 0.02)


KNOWN = [name for name in optim.REGISTRY if optim.card(name).scaling != "unknown"]


@pytest.mark.parametrize("name", KNOWN)
def test_optimizers_are_scaled_as_their_card_says(name):
    _, plan = build(recipe(optimizer=Optimizer(name=name, lr=0.01)))
    assert plan.optimizer == optim.card(name).scaling


def test_an_optimizer_without_a_known_scaling_is_refused():
    assert optim.card("sania").scaling == "unknown"
    with pytest.raises(ValueError, match=r"rates of 'sania' change.*such as 'adamw'"):
        build(recipe(optimizer=Optimizer(name="sania", lr=0.01)))


def test_a_tied_head_is_built_and_trained_as_one_matrix():
    model, plan = build(recipe(model=replace(GROWN, tied=True)))
    assert model.head.weight is model.embedding.weight
    names = [name for group in plan.param_groups(lr=1.0) for name in group["names"]]
    assert names.count("embedding.weight") == 1
    assert "head.weight" not in names


def test_a_plan_says_where_a_model_lost_its_tie():
    model, plan = build(recipe(model=replace(GROWN, tied=True)))
    model.to("meta").to_empty(device="cpu")  # makes two matrices of one
    with pytest.raises(ValueError, match=r"head.weight was tied .* tie them again"):
        plan.param_groups(lr=1.0)
