"""`stepladder allocate FIT.json --flops 1e24`: the best use of a budget."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from stepladder.cli.options import parse_known

if TYPE_CHECKING:
    from stepladder.laws.allocation import Allocation
    from stepladder.laws.law import Law


@dataclass(frozen=True, kw_only=True)
class Options:
    """Split a budget between parameters and tokens, with the region that is nearly as good.

    What else the law has is chosen too (experts, sparsity, bits). Every input of the law is an
    option that settles it, or says what to choose from: --experts 64, --bits-weights 4,8,16, ...
    """

    fit: tyro.conf.Positional[str]
    """What stepladder fit --out wrote; or a law's name for its published constants, as in
    chinchilla or chinchilla:epoch."""
    flops: float | None = None
    """Training compute in FLOP."""
    seconds: float | None = None
    """Instead of --flops: time, at --flops-per-second."""
    flops_per_second: float | None = None
    """Speed that is really reached."""
    served_tokens: float = 0.0
    """Tokens of use after training, paid from the same compute."""
    memory: float | None = None
    """Bytes for parameters, idle experts included."""
    bytes_per_param: float = 2.0
    """Bytes for each parameter."""
    unique_tokens: float | None = None
    """Tokens there are."""
    tolerance: float = 0.002
    """Part of the loss that nearly best choices may give away."""
    level: float = 0.9
    """Level of the intervals."""
    json: bool = False
    """Print JSON."""


def main(argv: list[str]) -> int:
    """Parse, allocate, print."""
    options, rest = parse_known(Options, argv, "allocate")
    from stepladder.cli import law_view
    from stepladder.cli.console import print_json

    made = _allocation(options, rest)
    if options.json:
        print_json(made.to_json())
    else:
        law_view.show_allocation(made)
    return 0


def _allocation(options: Options, rest: list[str]) -> "Allocation":
    from stepladder.laws import registry
    from stepladder.laws.allocation import Budget, allocate
    from stepladder.laws.result import Fit

    budget = Budget(
        flops=options.flops,
        seconds=options.seconds,
        flops_per_second=options.flops_per_second,
        served_tokens=options.served_tokens,
        memory=options.memory,
        bytes_per_param=options.bytes_per_param,
        unique_tokens=options.unique_tokens,
    )
    settings: dict[str, Any] = {"tolerance": options.tolerance, "level": options.level}
    if Path(options.fit).is_file():
        fitted = Fit.load(options.fit)
        return allocate(fitted, budget, **_inputs(fitted.law, rest), **settings)
    if options.fit.endswith(".json"):
        raise ValueError(f"there is no file {options.fit}; stepladder fit --out writes one")
    name, _, label = options.fit.partition(":")
    law = registry.get(name)
    constants = law.published(label)
    return allocate(law, budget, values=constants, **_inputs(law, rest), **settings)


def _inputs(law: "Law", rest: list[str]) -> dict[str, Any]:
    """What is settled, and what is to be chosen from."""
    from stepladder.cli.law_table import choice_flags

    lists = choice_flags(rest, [*dict.fromkeys([*(i.name for i in law.inputs), "tokens"])])
    return {
        "given": {name: x[0] for name, x in lists.items() if len(x) == 1},
        "choices": {name: x for name, x in lists.items() if len(x) > 1},
    }
