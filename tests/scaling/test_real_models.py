"""Public models, their code untouched: parametrized, checked, and failing where they should."""

import importlib.abc
import importlib.machinery
import sys
import types
import warnings

import pytest
import torch
from torch import nn

from stepladder.scaling import coordinate_check, parametrize

WIDTHS, DEPTHS = [32, 64, 128, 256], [2, 4, 8, 16]


def llama(width, depth=2):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=depth,
            num_attention_heads=width // 8,
            num_key_value_heads=width // 16,
            head_dim=8,
            max_position_embeddings=64,
        )
    )


def gpt2(width, depth=2):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=64,
        n_positions=64,
        n_embd=width,
        n_layer=depth,
        n_head=width // 8,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


class Encoder(nn.Module):
    """torch.nn.TransformerEncoder with an embedding and a head."""

    def __init__(self, width, depth=2):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, width // 8, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.embedding = nn.Embedding(64, width)
        self.encoder = nn.TransformerEncoder(
            layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.head = nn.Linear(width, 64)
        for module in self.modules():  # a stack copies one layer: give each its own values
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens)))


class Seq2Seq(nn.Module):
    """torch.nn.Transformer, encoder and decoder, on the same tokens."""

    def __init__(self, width, depth=2):
        super().__init__()
        self.embedding = nn.Embedding(64, width)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="enable_nested_tensor is True")
            self.transformer = nn.Transformer(
                width,
                width // 8,
                depth,
                depth,
                2 * width,
                dropout=0.0,
                batch_first=True,
                norm_first=True,
            )
        self.head = nn.Linear(width, 64)

    def forward(self, tokens):
        x = self.embedding(tokens)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.transformer(x, x, tgt_mask=mask, tgt_is_causal=True))


TOKENS = {
    "llama": (llama, {}),
    "gpt2": (gpt2, {"readout_norm": "transformer.ln_f"}),
    "torch encoder": (Encoder, {}),
    "torch": (Seq2Seq, {}),
}


@pytest.mark.parametrize("name", TOKENS)
def test_language_models_pass_at_four_widths_and_depths(name):
    build, options = TOKENS[name]
    report = coordinate_check(
        build, rule="completep", widths=WIDTHS, depths=DEPTHS, seeds=2, **options
    )
    assert report.passed, str(report)
    assert {row.axis for row in report.rows} == {"width", "depth"}


@pytest.mark.parametrize("name", TOKENS)
def test_language_models_fail_in_standard_parametrization(name):
    build, _ = TOKENS[name]
    report = coordinate_check(build, rule="sp", widths=WIDTHS, depths=[2, 4, 8], seeds=2)
    found = {(row.axis, row.quantity) for row in report.failures}
    assert {("width", "move"), ("depth", "move")} <= found
    assert (("depth", "start") in found) == (name != "gpt2")  # which starts with 1 / sqrt(2 L)


def test_torch_transformer_roles():
    plan = parametrize(Seq2Seq(64, 4), base=Seq2Seq(32, 2), rule="completep")
    roles = {name: str(record.role) for name, record in plan.table.items()}
    assert roles["transformer.decoder.layers.3.multihead_attn.out_proj.weight"] == "branch output"
    assert roles["transformer.encoder.layers.0.self_attn.in_proj_weight"] == "attention"
    assert plan.table["transformer.decoder.layers.2.linear2.weight"].depth == 2


@pytest.fixture(scope="module")
def timm():
    """timm, without torchvision: its own code only draws on it for data and pretrained weights."""
    finder = _Stand()
    sys.meta_path.insert(0, finder)
    try:
        import timm.models.resnet
        import timm.models.vision_transformer
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
    return timm.models


class _Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Empty(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Stand(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports `torchvision` and whatever is below it as empty modules."""

    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return _Empty(spec.name)

    def exec_module(self, module):
        pass


def _images(size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 3, size, size, generator=generator)
    return [(x, torch.randint(10, (8,), generator=generator))]


def test_timm_vision_transformer(timm):
    def build(width, depth=2):
        return timm.vision_transformer.VisionTransformer(
            img_size=16,
            patch_size=8,
            embed_dim=width,
            depth=depth,
            num_heads=width // 8,
            mlp_ratio=2,
            num_classes=10,
        )

    options = {"batches": _images(16), "seeds": 2}
    report = coordinate_check(build, rule="completep", widths=WIDTHS, depths=DEPTHS, **options)
    assert report.passed, str(report)
    standard = coordinate_check(build, rule="sp", widths=WIDTHS, depths=[2, 4, 8], **options)
    assert not standard.passed
    plan = parametrize(build(64), base=build(32), rule="mup")
    assert plan.table["cls_token"].role == "embedding"
    assert plan.table["patch_embed.proj.weight"].role == "input"


def test_timm_resnet(timm):
    """Its branches end in a batch norm, which is named: CompleteP holds over width and depth."""

    def build(width, depth=2):
        return timm.resnet.ResNet(
            timm.resnet.BasicBlock,
            (depth,) * 4,
            num_classes=10,
            stem_width=width,
            channels=(width,) * 4,
            zero_init_last=False,
        )

    options = {"batches": _images(16), "seeds": 2, "steps": 3, "branches": ["layer*.bn2"]}
    sizes = {"widths": [16, 32, 64, 128], "depths": DEPTHS}
    report = coordinate_check(build, rule="completep", **sizes, **options)
    assert report.passed, str(report)
    sizes["depths"] = [2, 4, 8]
    standard = coordinate_check(build, rule="sp", **sizes, **options)
    assert {row.axis for row in standard.failures} == {"width", "depth"}
    mup = coordinate_check(build, rule="mup", **sizes, **options)
    assert {row.axis for row in mup.failures} == {"depth"}
    plan = parametrize(build(32, 7), base=build(16, 4), rule="completep", branches=["layer*.bn2"])
    assert plan.table["layer2.3.bn2.weight"].depth == 7 / 4  # every stage is on one stream
    assert plan.table["layer2.3.bn2.weight"].fill == pytest.approx(4 / 7)
