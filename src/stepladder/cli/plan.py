"""`stepladder plan`: a budget, hardware and data to a target with its rungs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from stepladder.cli.options import parse

if TYPE_CHECKING:
    from stepladder.ladder import Plan
    from stepladder.planning import Plans


@dataclass(frozen=True, kw_only=True)
class Options:
    """Plan a target and the ladder that forecasts it; nothing is trained.

    Args:
        budget: of everything, rungs and target: 1e18 (FLOP), 20min, 8h, 64gpu-hours.
        data: "stdlib" (Python's own sources), or a text file, .jsonl, .parquet, or folder.
        tokenizer: bytes, bpe:SIZE, or a path to tokenizer.json.
        text_field: the field with the text, in .jsonl and .parquet.
        device: auto, cpu or cuda, measured here; or a name such as h100 to plan for.
        ratio: training tokens per parameter; 0 takes 20, or what a small budget allows.
        context: tokens.
        precision: float32 or bfloat16; auto takes bfloat16 on a GPU.
        seed: of the whole ladder.
        root: folder of ladders and runs.
        published: also show what each published recipe would do with the target's compute.
        fit: with --published, a law of yours that stepladder fit --out wrote, which comes before
            every published one; may be repeated.
        json: print the plan as JSON.
    """

    budget: tyro.conf.Positional[str]
    data: str = "stdlib"
    tokenizer: str = "bpe:4096"
    text_field: str = "text"
    device: str = "auto"
    ratio: float = 0.0
    context: int = 256
    precision: str = "auto"
    seed: int = 0
    root: Path = Path()
    published: bool = False
    fit: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    json: bool = False


def main(argv: list[str]) -> int:
    """Parse, plan, print."""
    options: Options = parse(Options, joined(argv), "plan")
    console = Console(stderr=options.json)
    from stepladder.cli.console import print_json
    from stepladder.cli.ladder import plan_from
    from stepladder.report.terminal import plan_table

    plan = plan_from(options, console)
    others = _published(options, plan, console) if options.published or options.fit else None
    if options.json:
        print_json({**plan.to_dict(), **({"published": others.to_json()} if others else {})})
        return 0
    console.print(plan_table(plan))
    if others is not None:
        console.print(others)
    console.print("next: [bold]stepladder climb[/]")
    return 0


def joined(argv: Sequence[str]) -> list[str]:
    """The arguments with a budget's number and unit in one: people write `8 h`."""
    if len(argv) < 2 or not argv[0][:1].isdigit() or argv[1].startswith("-"):
        return list(argv)
    return [argv[0] + argv[1], *argv[2:]]


def _published(options: Options, plan: "Plan", console: Console) -> "Plans":
    """Every recipe's plan for the target's compute, on its data and device."""
    from stepladder.cli.ladder import described_device, read_data
    from stepladder.planning import plan as every_plan

    target = plan.target
    return every_plan(
        plan.flops["target"],
        described_device(options.device)[0],
        read_data(options.data, options.tokenizer, console, options.text_field),
        fits=options.fit,
        vocab=target.model.vocab_size,
        context=target.model.context,
        precision=target.precision,
    )
