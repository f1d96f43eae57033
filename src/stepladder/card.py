"""Cards and registries: what a technique claims, what it costs, and what was measured here.

Every lever is one file in its family's folder. A decorator puts it, with its card, into the
family's registry; the catalogue, the cost model and the contract tests read nothing else. No torch.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from tempfile import gettempdir
from typing import Any, Generic, TypeVar

from stepladder.durable import locked, write_whole
from stepladder.names import did_you_mean

T = TypeVar("T")

# Packages that hold a family: each has a `REGISTRY` in its `__init__`.
FAMILIES: tuple[str, ...] = (
    "stepladder.optim",
    "stepladder.schedules",
    "stepladder.batching",
    "stepladder.scaling",
    "stepladder.search.proposers",
    "stepladder.search.schedulers",
)

UNKNOWN = "unknown"
REQUIRED = inspect.Parameter.empty  # a setting that has no default
_RECORDS = Path(__file__).with_name("measured.json")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One thing measured in this repository: what was found, and the command that measures it.

    `figure` is the path of a figure that the command draws, from the root of the repository.
    """

    result: str
    command: str
    figure: str = ""


@dataclass(frozen=True, kw_only=True)
class Card:
    """A technique's identity, claim and price.

    Attributes:
        name: how recipes and the command line call it.
        family: the family whose seam it implements.
        title: exact title of the paper.
        arxiv: arXiv identifier, or a DOI or venue where there is none.
        claim: what the paper says it gains, in one line.
        scaling: for an optimizer, the one whose rows in the parametrization tables apply to it
            under every parametrization (a name known to `stepladder.scaling`: pass it to
            `parametrize`), or "unknown" where neither a source nor an argument says.
        state_bytes: bytes of optimizer state per float32 parameter. For methods whose state
            depends on the matrix's shape, at a square 1024 x 1024 matrix and default options.
        flops: floating-point operations per parameter and step (same convention), counting each
            addition, product, division, root, comparison or sign as one.
        grows_with: what `flops` grow with, for methods that multiply matrices: "side" (the smaller
            side of hidden matrices; other parameters take AdamW) or "rank" (the option of that
            name; `state_bytes` then goes as rank / side).
        measured: what was measured here; empty says that nothing was. Filled from the records
            that benchmarks and evidence makers write, never by hand.
        note: traps, deviations from the paper, what could not be confirmed.
    """

    name: str
    family: str
    title: str
    arxiv: str
    claim: str
    scaling: str = UNKNOWN
    state_bytes: float = 0.0
    flops: float = 0.0
    grows_with: str = ""
    measured: tuple[Evidence, ...] = ()
    note: str = ""


class Registry(Generic[T]):
    """The members of one family, found in the modules of its package on first use."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.family = package.rpartition(".")[2]
        self._members: dict[str, tuple[Card, T]] = {}
        self._loaded = False

    def register(self, card: Card) -> Callable[[T], T]:
        """Decorator that adds a member under its card's name."""
        if card.name in self._members:
            raise ValueError(f"{self.family}: two members are called {card.name!r}; rename one")
        if card.family != self.family:
            raise ValueError(f"card {card.name!r}: family is {card.family!r}, not {self.family!r}")

        def add(member: T) -> T:
            self._members[card.name] = (card, member)
            return member

        return add

    def __getitem__(self, name: str) -> T:
        return self._find(name)[1]

    def __contains__(self, name: object) -> bool:
        return name in self._load()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._load()))

    def card(self, name: str) -> Card:
        """The card of a member, with what was measured.

        Raises:
            ValueError: no such member; the text names the nearest.
        """
        found = self._find(name)[0]
        return replace(found, measured=measured(self.family, name))

    def cards(self) -> list[Card]:
        """Every card, by name."""
        return [self.card(name) for name in self]

    def _find(self, name: str) -> tuple[Card, T]:
        members = self._load()
        if name not in members:
            near = did_you_mean(name, members)
            raise ValueError(
                f"there is no {name!r} in {self.family}{near}; "
                f"`stepladder catalogue --family {self.family}` lists them"
            )
        return members[name]

    def _load(self) -> dict[str, tuple[Card, T]]:
        if not self._loaded:
            for module in iter_modules(import_module(self.package).__path__):
                import_module(f"{self.package}.{module.name}")
            self._loaded = True
        return self._members


def own_settings(technique: Callable[..., Any]) -> dict[str, Any]:
    """What a technique's function or class takes by keyword only, with the defaults; REQUIRED where
    there is none."""
    taken = inspect.signature(technique).parameters.values()
    return {p.name: p.default for p in taken if p.kind is inspect.Parameter.KEYWORD_ONLY}


def measured(family: str, name: str) -> tuple[Evidence, ...]:
    """What was measured of a technique in this repository."""
    return tuple(Evidence(**entry) for entry in _records().get(f"{family}/{name}", []))


def record(family: str, name: str, evidence: Evidence) -> None:
    """Keep a measurement for the catalogue, in place of what the same command said before.

    Called by benchmarks and evidence makers; writes `measured.json` in the package.
    """
    with locked(Path(gettempdir()) / "stepladder-measured.lock", wait=True):
        _records.cache_clear()  # another maker may have written since
        records = _records()
        entries = records.setdefault(f"{family}/{name}", [])
        commands = [entry["command"] for entry in entries]
        at = commands.index(evidence.command) if evidence.command in commands else len(entries)
        entries[at : at + 1] = [{key: value for key, value in asdict(evidence).items() if value}]
        text = json.dumps(records, indent=1, sort_keys=True, ensure_ascii=False)
        write_whole(_RECORDS, text + "\n")


@cache
def _records() -> dict[str, list[dict[str, str]]]:
    return json.loads(_RECORDS.read_text(encoding="utf-8")) if _RECORDS.exists() else {}


def all_cards() -> list[Card]:
    """Every card of every family, in the families' order (imports torch for the optimizers)."""
    return [card for package in FAMILIES for card in import_module(package).REGISTRY.cards()]
