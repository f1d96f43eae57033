"""`stepladder catalogue`: every technique, with its paper, its claim and what was measured here."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from stepladder.cli.options import parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepladder.card import Card

HEAD = """# Catalogue

Every technique that Stepladder has, with its paper, what the paper claims, what it costs, and what
was measured in this repository (with the command that measures it). An optimizer scales as the one
whose rows of the parametrization tables hold for it; schedules and batch policies treat all rates
alike and count in progress and batches, so that they are the same under every parametrization.
Written by `stepladder catalogue --write docs/catalogue.md`; do not edit.
"""

# How the members of a family scale, where their cards need not say.
ALIKE = {
    "schedules": "not at all: it multiplies all rates alike, under every parametrization",
    "batching": "not at all: it treats all rates alike, and counts in batches and progress",
}
# What a recipe says elsewhere, and is therefore none of a technique's own settings.
NOT_OWN = ("lr", "betas", "eps", "weight_decay", "trials")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Every technique, with its paper, its claim and what was measured here.

    One technique's whole card: stepladder catalogue lion.
    """

    words: tyro.conf.Positional[tuple[str, ...]] = ()
    """A technique's name; or words that name, title or claim must all have."""
    family: str | None = None
    """Only this family (optim, schedules, batching, ...)."""
    measured: bool = False
    """Only techniques that were measured here."""
    write: Path | None = None
    """Write the page (Markdown) to this file instead of the terminal."""
    json: bool = False
    """Print JSON."""


def main(argv: list[str]) -> int:
    """Parse, select, print."""
    options: Options = parse(Options, argv, "catalogue")
    from stepladder.cli.console import print_json

    cards = select(options)
    if options.json:
        print_json([row(card) for card in cards])
    elif options.write:
        options.write.parent.mkdir(parents=True, exist_ok=True)
        options.write.write_text(page(cards), encoding="utf-8")
    elif len(cards) == 1 or any(options.words == (card.name,) for card in cards):
        for card in cards:
            print(whole_card(card))
    else:
        _print(cards)
    return 0


def select(options: Options) -> "list[Card]":
    """The cards asked for.

    Raises:
        ValueError: no such family, or nothing matches.
    """
    from stepladder.card import all_cards
    from stepladder.names import did_you_mean

    cards = all_cards()
    families = {card.family for card in cards}
    if options.family is not None and options.family not in families:
        near = did_you_mean(options.family, families)
        raise ValueError(f"there is no family {options.family!r}{near}; {sorted(families)}")
    chosen = [
        card
        for card in cards
        if options.family in (None, card.family)
        and (card.measured or not options.measured)
        and all(word.lower() in _text(card) for word in options.words)
    ]
    if not chosen:
        near = did_you_mean(" ".join(options.words), [card.name for card in cards])
        raise ValueError(f"no technique matches{near}; stepladder catalogue lists them all")
    return [card for card in chosen if options.words == (card.name,)] or chosen


def row(card: "Card") -> dict[str, Any]:
    """A card as JSON: `measured` are the results, `command` measures the first of them."""
    return {
        "name": card.name,
        "family": card.family,
        "paper": card.title,
        "title": card.title,
        "arxiv": card.arxiv,
        "claim": card.claim,
        "measured": [asdict(evidence) for evidence in card.measured],
        "command": card.measured[0].command if card.measured else None,
        "scaling": ALIKE.get(card.family, card.scaling),
        "state_bytes_per_parameter": card.state_bytes,
        "flops_per_parameter": card.flops,
        "note": card.note,
    }


def whole_card(card: "Card") -> str:
    """Everything about a technique, for a terminal."""
    own = ", ".join(f"{key} = {value!r}" for key, value in settings(card).items())
    parts = {
        "paper": f"{card.title} ({_identifier(card.arxiv)})",
        "claim": card.claim,
        "costs": _price(card) if card.family == "optim" else "",
        "scales": _scaling(card),
        "settings": own,
        "note": card.note.strip(),
    }
    lines = [f"{card.name} ({card.family})"]
    lines += [_paragraph(head, text) for head, text in parts.items() if text]
    for one in card.measured or ():
        lines += [_paragraph("measured", one.result), _paragraph("", one.command)]
        lines += [_paragraph("", one.figure)] if one.figure else []
    return "\n".join(lines if card.measured else [*lines, _paragraph("measured", "not yet")]) + "\n"


def settings(card: "Card") -> dict[str, Any]:
    """A technique's own settings (`params` in a recipe) with their defaults; "needed" for none."""
    from importlib import import_module

    from stepladder.card import FAMILIES, REQUIRED, own_settings

    package = next(name for name in FAMILIES if name.endswith(f".{card.family}"))
    try:
        known = own_settings(import_module(package).REGISTRY[card.name])
    except (TypeError, ValueError):  # no callable
        return {}
    return {
        name: "needed" if default is REQUIRED else default
        for name, default in known.items()
        if name not in NOT_OWN
    }


def page(cards: "Sequence[Card]") -> str:
    """The catalogue as Markdown, a section a family."""
    parts = [HEAD]
    for family in dict.fromkeys(card.family for card in cards):
        parts += [f"\n## {family}\n", *(_entry(c) for c in cards if c.family == family)]
    return "\n".join(parts)


def _entry(card: "Card") -> str:
    lines = [
        f"### {card.name}\n",
        f"*{card.title}* ({_link(card.arxiv)})\n",
        f"- Claim: {card.claim}",
    ]
    if card.family == "optim":
        lines.append(f"- Costs {_price(card)}; scales: {_scaling(card)}")
    lines += [f"- Measured: {e.result} (`{e.command}`{_figure(e.figure)})" for e in card.measured]
    if not card.measured:
        lines.append("- Measured: not yet")
    return "\n".join([*lines, f"- Note: {card.note.strip()}"] if card.note else lines) + "\n"


def _price(card: "Card") -> str:
    return f"{card.state_bytes:g} bytes of state and {card.flops:g} FLOPs a parameter"


def _scaling(card: "Card") -> str:
    from stepladder.card import UNKNOWN

    unknown = "unknown: nobody says how its rates change with width"
    as_another = unknown if card.scaling == UNKNOWN else f"as {card.scaling}"
    return ALIKE.get(card.family, as_another if card.family == "optim" else "")


def _paragraph(head: str, text: str) -> str:
    from shutil import get_terminal_size
    from textwrap import fill

    width = min(100, get_terminal_size().columns)
    return fill(text, width, initial_indent=f"  {head:<10}", subsequent_indent=" " * 12)


def _is_arxiv(identifier: str) -> bool:
    return identifier.replace(".", "").isdigit()


def _identifier(arxiv: str) -> str:
    return f"arXiv {arxiv}" if _is_arxiv(arxiv) else arxiv


def _link(arxiv: str) -> str:
    numbered = _is_arxiv(arxiv)
    return f"[arXiv {arxiv}](https://arxiv.org/abs/{arxiv})" if numbered else arxiv


def _figure(path: str) -> str:
    return f", [figure](../{path})" if path else ""


def _text(card: "Card") -> str:
    return f"{card.name} {card.title} {card.claim}".lower()


def _print(cards: "Sequence[Card]") -> None:
    from rich.console import Console
    from rich.table import Table

    for family in dict.fromkeys(card.family for card in cards):
        table = Table(title=family, title_justify="left", show_lines=False, expand=True)
        table.add_column("name", no_wrap=True, style="cyan")
        table.add_column("paper and claim", ratio=3)
        table.add_column("measured here", ratio=2)
        for card in (c for c in cards if c.family == family):
            found = "; ".join(e.result for e in card.measured) or "[dim]not yet[/dim]"
            table.add_row(card.name, f"{card.title} [dim]({card.arxiv})[/dim]\n{card.claim}", found)
        Console().print(table)
