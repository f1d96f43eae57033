"""Exported models against the real transformers library, and the verb as a user runs it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stepladder.cli import main
from stepladder.data.tokenizers import JsonTokenizer, byte_tokenizer_json, train_bpe
from stepladder.export import export_hf
from stepladder.export.run import readout_multiplier
from stepladder.models.build import build
from stepladder.models.transformer import Transformer
from stepladder.recipe import Data, Model, Optimizer, Parametrization, Recipe
from stepladder.store import Store
from stepladder.train.checkpoint import Progress, write_checkpoint

SHAPE = Model(
    width=128, depth=3, heads=4, kv_heads=4, head_size=32, mlp_width=176, context=64, vocab_size=257
)
# What is exported -> the class that must load it.
SHAPES = {
    "qk-norm": (SHAPE, "Qwen3ForCausalLM"),
    "qk-norm, grouped, tied": (replace(SHAPE, kv_heads=2, tied=True), "Qwen3ForCausalLM"),
    "qk-norm, relu2": (replace(SHAPE, activation="relu2"), "Qwen3ForCausalLM"),
    "qk-norm, odd width": (replace(SHAPE, width=66, rope_theta=5e5), "Qwen3ForCausalLM"),
    "plain": (replace(SHAPE, qk_norm=False), "LlamaForCausalLM"),
    "grouped, tied": (replace(SHAPE, qk_norm=False, kv_heads=1, tied=True), "LlamaForCausalLM"),
    "other theta": (replace(SHAPE, qk_norm=False, rope_theta=5e5), "LlamaForCausalLM"),
    "wide heads": (replace(SHAPE, qk_norm=False, head_size=64), "LlamaForCausalLM"),
    "relu2": (replace(SHAPE, qk_norm=False, activation="relu2"), "ArceeForCausalLM"),
    "relu2, tied": (
        replace(SHAPE, qk_norm=False, activation="relu2", tied=True, kv_heads=2),
        "ArceeForCausalLM",
    ),
    "odd width": (replace(SHAPE, qk_norm=False, width=66), "MistralForCausalLM"),
    "odd width, relu2": (
        replace(SHAPE, qk_norm=False, width=66, activation="relu2"),
        "MistralForCausalLM",
    ),
}


def random_network(shape: Model, multiplier: float = 1.0) -> Transformer:
    """Every weight random, gains too, and logits far from zero."""
    torch.manual_seed(0)
    network = Transformer(shape)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    network.readout_multiplier = multiplier
    return network


def logits_of(folder: Path, tokens: torch.Tensor) -> tuple[str, torch.Tensor]:
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return type(loaded).__name__, loaded(tokens).logits


@pytest.mark.parametrize("name", SHAPES)
def test_transformers_computes_the_same_logits(name: str, tmp_path: Path) -> None:
    shape, expected = SHAPES[name]
    network = random_network(shape, multiplier=0.37 if shape.tied else 1.0)
    folder = tmp_path / "model"
    written = export_hf(
        folder,
        shape,
        network.state_dict(),
        readout_multiplier=network.readout_multiplier,
        tokenizer=byte_tokenizer_json(),
    )
    tokens = torch.randint(0, shape.vocab_size, (2, shape.context))
    found, logits = logits_of(folder, tokens)
    ours = network(tokens).detach()
    assert found == written == expected
    assert ours.std() > 0.3
    assert (logits - ours).abs().max() < 1e-4


@pytest.mark.parametrize("rule", ["sp", "mup", "completep"])
@pytest.mark.parametrize("tied", [False, True])
def test_every_parametrization_folds_away(rule: str, tied: bool, tmp_path: Path) -> None:
    recipe = Recipe(
        model=replace(SHAPE, tied=tied, depth=4),
        optimizer=Optimizer(lr=0.01),
        parametrization=Parametrization(rule=rule, base_width=64, base_depth=2, readout_std=0.1),
        tokens=64,
        batch=64,
    )
    network, _ = build(recipe)
    assert readout_multiplier(recipe) == network.readout_multiplier
    assert (network.readout_multiplier == 1.0) == (rule == "sp" or not tied)
    export_hf(
        tmp_path / "model",
        recipe.model,
        network.state_dict(),
        readout_multiplier=readout_multiplier(recipe),
        tokenizer=byte_tokenizer_json(),
    )
    tokens = torch.randint(0, SHAPE.vocab_size, (2, 64))
    _, logits = logits_of(tmp_path / "model", tokens)
    assert (logits - network(tokens)).abs().max() < 1e-4


TEXT = "def f(x):\n\treturn 'naïve — 日本' + x  # <|endoftext|>\n"


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_the_tokenizer_is_the_one_that_made_the_tokens(kind: str, tmp_path: Path) -> None:
    content = byte_tokenizer_json() if kind == "bytes" else train_bpe([TEXT * 40], 270)
    shape = replace(SHAPE, vocab_size=300)
    export_hf(tmp_path / "m", shape, random_network(shape).state_dict(), tokenizer=content)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "m")
    ours = JsonTokenizer(content)
    plain = TEXT.replace("<|endoftext|>", "")
    assert theirs.encode(plain) == ours.encode([plain])[0].tolist()
    assert theirs.decode(theirs.encode(plain)) == plain
    assert theirs.eos_token_id == ours.end_of_document
    loaded = json.loads((tmp_path / "m" / "config.json").read_text())
    assert loaded["eos_token_id"] == ours.end_of_document


def test_every_file_may_be_read_by_those_who_may_read_the_others(tmp_path: Path) -> None:
    weights = random_network(SHAPE).state_dict()
    export_hf(tmp_path / "m", SHAPE, weights, tokenizer=byte_tokenizer_json())
    (tmp_path / "usual").write_text("made under the same umask")
    usual = (tmp_path / "usual").stat().st_mode
    assert {file.name: file.stat().st_mode for file in (tmp_path / "m").iterdir()} == {
        file.name: usual for file in (tmp_path / "m").iterdir()
    }


def test_generation_runs(tmp_path: Path) -> None:
    export_hf(
        tmp_path / "m", SHAPE, random_network(SHAPE).state_dict(), tokenizer=byte_tokenizer_json()
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    prompt = torch.tensor([[1, 2, 3]])
    made = model.generate(prompt, max_new_tokens=5, do_sample=False, eos_token_id=None)
    expected, network = prompt, random_network(SHAPE)
    for _ in range(5):
        expected = torch.cat((expected, network(expected)[:, -1:].argmax(-1)), dim=1)
    assert torch.equal(made, expected)


@pytest.mark.parametrize("damage", ["missing", "shape", "nan", "there"])
def test_what_cannot_be_exported_is_refused_and_nothing_is_left(
    damage: str, tmp_path: Path
) -> None:
    weights = random_network(SHAPE).state_dict()
    name = "blocks.1.mlp.up.weight"
    if damage == "missing":
        del weights[name]
    if damage == "shape":
        weights[name] = weights[name][1:]
    if damage == "nan":
        weights[name][3, 3] = torch.nan
    if damage == "there":
        (tmp_path / "m").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="there already" if damage == "there" else name):
        export_hf(tmp_path / "m", SHAPE, weights, tokenizer=byte_tokenizer_json())
    assert sorted(tmp_path.iterdir()) == before


def make_run(root: Path, step: int = 2, **changes: object) -> Recipe:
    recipe = Recipe(
        **{"model": SHAPE, "optimizer": Optimizer(lr=0.01), "tokens": 128, "batch": 64, **changes}
    )
    with Store(root).claim(recipe.key, recipe.to_toml()) as run:
        network = random_network(recipe.model)
        optimizer = torch.optim.SGD(network.parameters())
        progress = Progress(step=step)
        run.save_checkpoint(step, lambda at: write_checkpoint(at, network, optimizer, progress))
    return recipe


@pytest.mark.parametrize("tied", [False, True])
def test_the_verb(tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = make_run(Path("runs"), model=replace(SHAPE, tied=tied))
    assert main(["export", recipe.key[:5], "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "folder": f"exports/{recipe.key}",
        "class": "Qwen3ForCausalLM",
        "key": recipe.key,
        "step": 2,
        "steps": 2,
    }
    tokens = torch.randint(0, SHAPE.vocab_size, (1, 64))
    _, logits = logits_of(Path(said["folder"]), tokens)
    network = random_network(recipe.model, readout_multiplier(recipe))
    assert (network.readout_multiplier == 0.5) == tied
    assert (logits - network(tokens)).abs().max() < 1e-4
    assert Recipe.load(Path(said["folder"]) / "recipe.toml") == recipe


def test_a_run_is_of_use_without_the_cache_of_tokens(tmp_path: Path, capsys) -> None:
    content = train_bpe([TEXT * 40], 270)
    (tmp_path / "tokenizer.json").write_text(content)
    recipe = make_run(tmp_path, data=Data(tokenizer="bpe:270", fingerprint="gone"))
    with Store(tmp_path).claim(recipe.key, recipe.to_toml()) as run:
        run.keep(tmp_path / "tokenizer.json")
        (tmp_path / "tokenizer.json").write_text("another")
        run.keep(tmp_path / "tokenizer.json")  # what is kept stays
    assert main(["export", str(tmp_path / recipe.key), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "tokenizer.json").read_text() == content


def test_the_verb_says_that_a_run_is_not_over(tmp_path: Path, capsys) -> None:
    recipe = make_run(tmp_path, step=1)
    folder = tmp_path / recipe.key
    assert main(["export", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "step 1 of 2" in capsys.readouterr().out


def test_the_verb_names_what_is_wrong(tmp_path: Path, capsys) -> None:
    recipe = make_run(tmp_path)
    runs = ["--runs", str(tmp_path)]

    def refused(*arguments: str) -> str:
        assert main(["export", *arguments, *runs]) == 2
        return capsys.readouterr().err

    wrong = recipe.key[:-1] + ("0" if recipe.key[-1] != "0" else "1")
    assert f"did you mean '{recipe.key}'" in refused(wrong)
    other = make_run(tmp_path, seed=1)
    assert "2 runs" in refused("")
    (tmp_path / other.key / "checkpoint" / "2" / "weights.safetensors").write_bytes(b"cut")
    assert "damaged" in refused(other.key, "--out", str(tmp_path / "out"))
    gone = make_run(tmp_path, data=Data(tokenizer="bpe:300", fingerprint="f"))
    assert "--tokenizer" in refused(gone.key, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
