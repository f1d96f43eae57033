"""A directory that Hugging Face `transformers` loads without remote code.

The class is chosen by what it computes: Qwen3 normalises queries and keys, Llama does not, Arcee is
Llama with a plain squared-ReLU MLP. Llama and Arcee insist that the heads divide the width; Mistral
without its sliding window is the same network and does not. Where a class has only gated MLPs,
relu(u)^2 is written as relu(gate) * up with gate = up, which is exact and repeats one matrix.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from stepladder.export.tokenizer import end_of_document, tokenizer_config
from stepladder.models.transformer import NORM_EPS, Transformer
from stepladder.recipe import Model

# Stepladder's name within a block -> the name within `model.layers.N`.
BLOCK_NAMES = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value.weight": "self_attn.v_proj.weight",
    "attention.output.weight": "self_attn.o_proj.weight",
    "attention.query_norm.weight": "self_attn.q_norm.weight",
    "attention.key_norm.weight": "self_attn.k_norm.weight",
    "mlp_norm.weight": "post_attention_layernorm.weight",
    "mlp.gate.weight": "mlp.gate_proj.weight",
    "mlp.up.weight": "mlp.up_proj.weight",
    "mlp.down.weight": "mlp.down_proj.weight",
}
EMBEDDING, NORM, HEAD = "embedding.weight", "norm.weight", "head.weight"
UP, GATE = "mlp.up_proj.weight", "mlp.gate_proj.weight"

Tensors = dict[str, Tensor]


def export_hf(
    folder: Path,
    model: Model,
    weights: Mapping[str, Tensor],
    *,
    readout_multiplier: float = 1.0,
    tokenizer: str,
    recipe: str = "",
) -> str:
    """Write config.json, model.safetensors and the tokenizer; the name of the class that loads it.

    The folder appears when it is whole.

    Args:
        folder: where to; must not be there yet.
        model: the shape.
        weights: the state dict of `models.transformer.Transformer`.
        readout_multiplier: factor of the logits.
        tokenizer: the content of its `tokenizer.json`.
        recipe: TOML of the run, kept beside the weights.

    Raises:
        ValueError: the folder is there already, or weights are missing or not finite.
    """
    if folder.exists():
        raise ValueError(f"{folder} is there already: choose another with --out, or remove it")
    tensors = hf_tensors(model, weights, readout_multiplier)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        dtype = str(tensors["model.norm.weight"].dtype).removeprefix("torch.")
        end = end_of_document(tokenizer)
        _write_json(made / "config.json", hf_config(model, dtype, end[1] if end else None))
        _write_json(
            made / "tokenizer_config.json", tokenizer_config(end[0] if end else None, model.context)
        )
        (made / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
        if recipe:
            (made / "recipe.toml").write_text(recipe, encoding="utf-8")
        save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
        # What these two make is for its owner alone.
        shutil.copymode(made / "config.json", made / "model.safetensors")
        made.chmod(0o755)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return f"{_family(model)[0]}ForCausalLM"


def hf_config(model: Model, dtype: str = "float32", end: int | None = None) -> dict[str, Any]:
    """The content of config.json; `end` is the id that ends a document."""
    family, activation = _family(model)
    rope = {"rope_type": "default", "rope_theta": model.rope_theta}
    return {
        "architectures": [f"{family}ForCausalLM"],
        "model_type": family.lower(),
        "vocab_size": model.vocab_size,
        "hidden_size": model.width,
        "intermediate_size": model.mlp_width,
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_size,
        "hidden_act": activation,
        "max_position_embeddings": model.context,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": model.rope_theta,  # read by transformers 4
        "rope_parameters": rope,  # read by transformers 5
        "tie_word_embeddings": model.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "sliding_window": None,
        "bos_token_id": None,
        "eos_token_id": end,
        "dtype": dtype,
        "torch_dtype": dtype,  # read by transformers 4
        "use_cache": True,
    }


def _family(model: Model) -> tuple[str, str]:
    """The class that computes this network, and its name for the activation."""
    gated = model.activation == "swiglu"
    activation = "silu" if gated else "relu"
    if model.qk_norm:
        return "Qwen3", activation
    if model.width % model.heads:
        return "Mistral", activation
    return ("Llama", "silu") if gated else ("Arcee", "relu2")


def hf_tensors(model: Model, weights: Mapping[str, Tensor], readout_multiplier: float) -> Tensors:
    """The state dict under the names of the class, multipliers folded in.

    The factor of the logits goes into the gain of the last norm, which nothing but the head reads:
    so a tied head stays tied.

    Raises:
        ValueError: a weight is missing, of another shape's model, or not finite.
    """
    if model.tied:  # one matrix under two names, of which a file may keep either
        named = {EMBEDDING: weights[HEAD]} if HEAD in weights else {}
        weights = {**{name: w for name, w in weights.items() if name != HEAD}, **named}
    _check(model, weights)
    tensors = {_name(name): value for name, value in weights.items()}
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * readout_multiplier
    if model.activation != "swiglu" and _family(model)[0] != "Arcee":
        tensors |= {n.replace(UP, GATE): t.clone() for n, t in tensors.items() if n.endswith(UP)}
    return {name: value.contiguous() for name, value in tensors.items()}


def _check(model: Model, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of this shape."""
    with torch.device("meta"):
        expected = {name: p.shape for name, p in Transformer(model).named_parameters()}
    for name, shape in expected.items():
        if name not in weights or weights[name].shape != shape:
            found = tuple(weights[name].shape) if name in weights else "missing"
            raise ValueError(
                f"{name} is {found}, not {tuple(shape)}: the weights are of another model"
            )
        if not weights[name].isfinite().all():
            raise ValueError(f"{name} is not finite: the run diverged, there is nothing to export")


def _name(name: str) -> str:
    outer = {
        EMBEDDING: "model.embed_tokens.weight",
        NORM: "model.norm.weight",
        HEAD: "lm_head.weight",
    }
    if name in outer:
        return outer[name]
    _, layer, inner = name.split(".", 2)
    return f"model.layers.{layer}.{BLOCK_NAMES[inner]}"


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
