"""`stepladder laws`: every law, with its paper, constants, conventions and range."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tyro

from stepladder.cli.options import parse

if TYPE_CHECKING:
    from stepladder.laws.law import Constants, Law


@dataclass(frozen=True, kw_only=True)
class Options:
    """List the laws, or show one in full."""

    name: tyro.conf.Positional[str | None] = None
    """Show this law: inputs and their conventions, published constants and where they hold."""
    json: bool = False
    """Print JSON."""


def main(argv: list[str]) -> int:
    """Parse, list, print."""
    options: Options = parse(Options, argv, "laws")
    from stepladder.cli.console import print_json
    from stepladder.laws import registry

    names = registry.names() if options.name is None else [options.name]
    laws = [registry.get(name) for name in names]
    if options.json:
        documents = [as_json(law) for law in laws]
        print_json(documents if options.name is None else documents[0])
    elif options.name is None:
        _show_list(laws)
    else:
        _show_law(laws[0])
    return 0


def as_json(law: "Law") -> dict[str, Any]:
    """A law's card as JSON types."""
    return {
        "name": law.name,
        "title": law.title,
        "arxiv": law.arxiv,
        "form": law.form,
        "target": law.target,
        "inputs": [{"name": i.name, "meaning": i.meaning, "unit": i.unit} for i in law.inputs],
        "parameters": {p.name: p.meaning for p in law.parameters},
        "coefficients": {c.name: c.meaning for c in law.coefficients},
        "constants": [
            {
                "label": c.label,
                "values": dict(c.values),
                "source": c.source,
                "convention": c.convention,
                "valid": {name: list(ends) for name, ends in c.valid.items()},
            }
            for c in law.constants
        ],
        "rivals": list(law.rivals),
        "note": law.note,
    }


def _show_list(laws: "list[Law]") -> None:
    """A paragraph a law: form, paper, inputs as they are counted, constants, where they hold."""
    from rich.console import Console
    from rich.padding import Padding

    console = Console(highlight=False)
    for law in laws:
        console.print(f"[bold]{law.name}[/]  {escaped(law.form)}")
        inputs = "; ".join(f"{i.name}: {i.meaning}" for i in law.inputs)
        lines = [f"{law.title} (arXiv:{law.arxiv})", inputs]
        lines += [_constants_line(c) for c in law.constants]
        for line in lines:
            console.print(Padding(escaped(line), (0, 0, 0, 2)), style="dim")
    console.print("stepladder laws NAME shows one with its sources, conventions and notes")


def _constants_line(c: "Constants") -> str:
    values = ", ".join(f"{name} {value:.4g}" for name, value in c.values.items())
    valid = ", ".join(f"{n} {low:.3g} to {high:.3g}" for n, (low, high) in c.valid.items())
    return f"{c.label}: {values}" + (f" | fitted on {valid}" if valid else "")


def escaped(text: str) -> str:
    """Text in which square brackets are themselves, not the console's mark-up."""
    from rich.markup import escape

    return escape(text)


def _show_law(law: "Law") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{law.name}[/]  {law.form}", highlight=False)
    console.print(f"{law.title} (arXiv:{law.arxiv})", highlight=False)
    if law.note:
        console.print(law.note, highlight=False)
    inputs = Table("input", "meaning", "unit")
    for i in law.inputs:
        inputs.add_row(i.name, i.meaning, i.unit)
    members = Table("value", "meaning")
    for member in law.members:
        members.add_row(member.name, member.meaning)
    console.print(inputs, members)
    for c in law.constants:
        values = ", ".join(f"{name} {value:g}" for name, value in c.values.items())
        console.print(f"[bold]{c.label}[/] {values}", highlight=False)
        valid = "; ".join(f"{n} {low:g} to {high:g}" for n, (low, high) in c.valid.items())
        for text in (c.source, c.convention, f"fitted on {valid}" if valid else ""):
            if text:
                console.print(f"  {text}", highlight=False)
