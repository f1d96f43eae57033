"""`stepladder export`: a trained run as a directory that other libraries load."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from stepladder.cli.options import parse


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a run's newest weights in another library's format, every multiplier folded in."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run: its key, the start of it, or its directory."""
    format: Literal["hf"] = "hf"
    """hf: what Hugging Face transformers loads (config.json, model.safetensors, tokenizer.json)."""
    out: Path | None = None
    """Where to; exports/KEY where it is not given."""
    runs: Path = Path("runs")
    """The folder of runs."""
    tokenizer: Path | None = None
    """A tokenizer.json, where the one that made the run's tokens is gone."""
    json: bool = False
    """Print the result as JSON."""


def main(argv: list[str]) -> int:
    """Parse, export, print."""
    chosen: Export = parse(Export, argv, "export")
    from stepladder.export import export_hf
    from stepladder.export.run import read_run, readout_multiplier
    from stepladder.export.tokenizer import tokenizer_json
    from stepladder.store import Store

    trained = read_run(chosen.run, Store(chosen.runs))
    recipe = trained.recipe
    folder = chosen.out or Path("exports") / recipe.key
    written = export_hf(
        folder,
        recipe.model,
        trained.weights,
        readout_multiplier=readout_multiplier(recipe),
        tokenizer=tokenizer_json(recipe.data, trained.folder, chosen.tokenizer),
        recipe=recipe.to_toml(),
    )
    _report(
        {"folder": str(folder), "class": written, "key": recipe.key, "step": trained.step},
        recipe.steps,
        chosen.json,
    )
    return 0


def _report(result: dict[str, str | int], steps: int, as_json: bool) -> None:
    if as_json:
        from stepladder.cli.console import print_json

        print_json({**result, "steps": steps})
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(f"[green]written[/] {result['folder']}  ({result['class']})")
    if result["step"] != steps:
        console.print(f"[yellow]from step {result['step']} of {steps}: the run is not over[/]")
    console.print(
        f"[dim]load it with AutoModelForCausalLM.from_pretrained({result['folder']!r})[/]"
    )
