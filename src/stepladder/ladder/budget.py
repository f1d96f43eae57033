"""A budget: FLOPs, seconds on a device, or GPU-hours of it."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

DAY = 86400.0
PART = re.compile(r"([0-9.]+(?:[eE][+-]?\d+)?)\s*([a-zA-Z-]*)")
UNITS = {  # suffix: (kind, factor)
    "": ("flops", 1.0),
    "flop": ("flops", 1.0),
    "flops": ("flops", 1.0),
    "s": ("seconds", 1.0),
    "sec": ("seconds", 1.0),
    "second": ("seconds", 1.0),
    "seconds": ("seconds", 1.0),
    "m": ("seconds", 60.0),
    "min": ("seconds", 60.0),
    "minute": ("seconds", 60.0),
    "minutes": ("seconds", 60.0),
    "h": ("seconds", 3600.0),
    "hour": ("seconds", 3600.0),
    "hours": ("seconds", 3600.0),
    "gpuh": ("seconds", 3600.0),
    "gpu-h": ("seconds", 3600.0),
    "gpu-hour": ("seconds", 3600.0),
    "gpu-hours": ("seconds", 3600.0),
    "d": ("seconds", DAY),
    "day": ("seconds", DAY),
    "days": ("seconds", DAY),
}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """An amount of one kind: "flops", or "seconds" on the device of the plan."""

    kind: str
    amount: float

    def covers(self, flops: Mapping[str, float], seconds: Mapping[str, float]) -> bool:
        """Whether the parts of a bill add up to no more than the budget."""
        return sum((flops if self.kind == "flops" else seconds).values()) <= self.amount

    def said(self, flops: Mapping[str, float], seconds: Mapping[str, float]) -> str:
        """A bill in the unit of the budget."""
        total = sum((flops if self.kind == "flops" else seconds).values())
        return str(Budget(kind=self.kind, amount=total))

    def __str__(self) -> str:
        return f"{self.amount:.2g} FLOP" if self.kind == "flops" else said_time(self.amount)


def parse_budget(text: str) -> Budget:
    """Read "1e18", "1e18 flop", "90s", "1h30m", "8h", "64 gpu-hours".

    Raises:
        ValueError: not a positive amount in a known unit.
    """
    parts = PART.findall(text)
    units = [UNITS.get(unit.lower(), ("", 0.0)) for _, unit in parts]
    kinds = {kind for kind, _ in units}
    mixed = len(parts) > 1 and kinds != {"seconds"}
    if (
        PART.sub("", text).strip()
        or mixed
        or "" in kinds
        or not all(_positive(n) for n, _ in parts)
    ):
        parts = []
    if not parts:
        raise ValueError(
            f"cannot read the budget {text!r}: write an amount above 0, in FLOPs (1e18) or time "
            "on the device (90s, 1h30m, 8h, 64gpu-hours)"
        )
    amount = sum(float(n) * factor for (n, _), (_, factor) in zip(parts, units, strict=True))
    return Budget(kind=units[0][0], amount=amount)


def require_within(budget: str, *, flops: float, seconds: float, what: str, fix: str) -> None:
    """Refuses work whose bill exceeds a budget as a user writes it; empty: no bound.

    Args:
        what: the work, as in "the search"; `fix`: how to make it cheaper.

    Raises:
        ValueError: it costs more, or the budget cannot be read.
    """
    if not budget:
        return
    given, bill = parse_budget(budget), ({"all": flops}, {"all": seconds})
    if not given.covers(*bill):
        raise ValueError(
            f"{what} takes about {given.said(*bill)} here, and the budget is {given}: {fix}"
        )


def said_time(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds >= 1000 * DAY:
        return f"{seconds / DAY:.2g} d"
    for size, name in ((DAY, "d"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"


def _positive(number: str) -> bool:
    try:
        return 0 < float(number) < math.inf
    except ValueError:
        return False
