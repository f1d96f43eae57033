"""Numbers and verdicts as words: the same in the terminal, in figures and in the HTML report."""

import math
from typing import Any

from stepladder.ladder.budget import said_time
from stepladder.ladder.plan import Plan
from stepladder.laws.monitor import Alarm, Heading

Result = dict[str, Any]

PARTS = ("tuning", "check", "rungs", "target")  # of a plan's bill, in the order they are run


def count(number: float) -> str:
    """A count in three digits: 950, 12.4k, 1.5M, 2.03B, 15T."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * size:
            return f"{number / size:.3g}{suffix}"
    return f"{number:.3g}"


def flop(number: float) -> str:
    """Compute in FLOP: 3.1e15."""
    return f"{number:.1e}".replace("e+0", "e").replace("e+", "e")


def rate(lr: float) -> str:
    """A learning rate in three digits."""
    return f"{lr:.3g}"


def loss(value: float | None) -> str:
    """A loss in nats per token; a run without one diverged."""
    return "diverged" if value is None or not math.isfinite(value) else f"{value:.4f}"


def time(seconds: float) -> str:
    """Seconds as people say them, with a digit where they are few."""
    return f"{seconds:.1f} s" if seconds < 9.95 else said_time(seconds)


def percent(ratio: float) -> str:
    """A ratio as a percentage with one digit, or two below one percent."""
    digits = 0 if ratio == 0 else 2 if abs(ratio) < 0.01 else 1
    return f"{100 * ratio:.{digits}f}%"


def forecast_words(forecast: Result) -> str:
    """A forecast in a line: `2.442 (2.377 to 2.503, 90%)`."""
    low, high = forecast["interval"]
    return f"{forecast['forecast']:.3f} ({low:.3f} to {high:.3f}, {percent_level(forecast)})"


def percent_level(content: Result) -> str:
    """The level of an interval: `90%`."""
    return f"{100 * content['level']:.3g}%"


def verdict(forecast: Result, score: Result | None = None) -> str:
    """What came of a forecast, or that its outcome is not known yet."""
    said = f"Forecast {forecast_words(forecast)}"
    if score is None:
        return f"{said}; the target is still to be trained"
    if not math.isfinite(score["outcome"]):
        return f"{said}; the target diverged"
    off = f"{percent(abs(score['relative_error']))} off"
    where = "" if score["inside"] else ", outside the interval"
    return f"{said}, outcome {score['outcome']:.3f}: {off}{where}"


def heading(look: Heading) -> str:
    """Where a run is heading."""
    return f"at {look.progress:.0%} of its way, heading for {_range(look)}"


def alarm(raised: Alarm, interval: tuple[float, float]) -> str:
    """What an alarm says, and what to do."""
    at, (low, high) = raised.heading, interval
    if raised.side == "not finite":
        return f"ALARM at {at.progress:.0%} of its way: the loss is not finite"
    cause = (
        "its learning rate, its data or its code is not that of the rungs"
        if raised.side == "above"
        else "its text is easier than that of the rungs, or the forecast is wrong"
    )
    return (
        f"ALARM at {at.progress:.0%} of its way: heading for {_range(at)}, {raised.side} the "
        f"forecast's {low:.3f} to {high:.3f} since {raised.since:.0%}. Perhaps {cause}; Ctrl-C "
        "stops the run and keeps what is done"
    )


def watched(seen: Result) -> str:
    """What the monitor had to say of a finished run."""
    half = next((h for h in seen["headings"] if h["progress"] >= 0.5), None)
    raised = seen["alarm"]
    said = f"half way heading for {_range(Heading(**half))}" if half else ""
    told = (
        f"ALARM at {raised['heading']['progress']:.0%}: {raised['side']} the forecast"
        if raised
        else "no alarm"
    )
    return "; ".join(filter(None, [said, told]))


def _range(look: Heading) -> str:
    return f"{look.value:.3f} ({look.low:.3f} to {look.high:.3f})"


def transfer(tuning: Result) -> str:
    """Whether the tuned rate holds one rung wider."""
    check = tuning["check"]
    base, wider = check["widths"]
    octaves = f"{check['moved_octaves']:+.2g}{' or more' if check['bound_only'] else ''}"
    cost = f"at width {wider} the rate tuned at {base} costs {percent(check['lost'])} of the loss"
    moved = f"{cost} (the optimum moved by {octaves} octaves)"
    if check["holds"]:
        return f"The rate holds: {moved}"
    return f"The rate does NOT hold: {moved}. Expect the target to do worse than forecast"


def reach(forecast: Result) -> str:
    """How far a forecast reaches over its dearest run."""
    factor = forecast["target"]["flops"] / max(p["flops"] for p in forecast["points"])
    return f"{factor:.3g} times the compute of the largest rung"


def law(forecast: Result) -> str:
    """The fitted law with its parameters."""
    fit = forecast["fit"]
    values = ", ".join(f"{name} = {value:.4g}" for name, value in fit["parameters"].items())
    return f"{fit['form']} with {values}"


def total(bill: dict[str, float]) -> float:
    """All parts of a bill."""
    return math.fsum(bill[part] for part in PARTS)


def title(plan: Plan) -> str:
    """A ladder in a line."""
    model = plan.target.model
    return (
        f"ladder {plan.name}: target {model.width} x {model.depth}, {plan.target.tokens:,} tokens"
    )
