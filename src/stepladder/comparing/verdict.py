"""The answer of a comparison in words."""

import math

from stepladder.comparing.multiplier import Estimate, Interval

NO_CHANGE = 1.0
MANY = 2.0  # times the compute, from where percentages stop being read
NEITHER = "changes"  # nothing: it neither saves nor costs


def verdict(made: Estimate, span: float) -> str:
    """What a lever saves or costs, and whether it holds as scale grows.

    Args:
        made: multipliers in compute.
        span: compute of the largest rung over the smallest.
    """
    if NO_CHANGE in made.mean:
        said = f"within noise: {effect(made.mean)}"
        return f"{said}; {_trend(made, span)}" if NO_CHANGE not in made.trend else said
    return f"{effect(made.mean)}; {_trend(made, span)}"


def effect(multiplier: Interval) -> str:
    """A multiplier as what it saves or costs: `saves 12% (8 to 16) of compute`."""
    low, high = multiplier.low, multiplier.high
    if NO_CHANGE in multiplier:
        return f"from {_one_end(low)} to {_one_end(high)} of compute"
    if multiplier.value > 1:
        if multiplier.value >= MANY:
            return (
                f"needs {1 / multiplier.value:.2g} ({_share(high)} to {_share(low)}) of the compute"
            )
        return (
            f"saves {_percent(multiplier.value)}% ({_percent(low)} to {_percent(high)}) of compute"
        )
    if 1 / multiplier.value >= MANY:
        return (
            f"costs {_times(multiplier.value)} ({_times(high)} to {_times(low)}) times the compute"
        )
    value, near, far = (_percent(m) for m in (multiplier.value, high, low))
    return f"costs {value}% ({near} to {far}) more compute"


def _trend(made: Estimate, span: float) -> str:
    """Whether the effect stays over the rungs."""
    over, top, helps = f"over {span:.2g}x", made.rungs[-1], made.mean.value > 1
    if NO_CHANGE in made.trend:
        if NO_CHANGE in top:
            return f"too noisy to tell whether that lasts {over}"
        return f"no sign of fading {over}" if helps else f"no sign of change {over}"
    grows = made.trend.value > 1
    word = ("growing" if grows else "fading") if helps else ("shrinking" if grows else "growing")
    return f"{word} {over}: {ends(made.rungs[0].value, top.value)}"


def ends(first: float, last: float) -> str:
    """The smallest and the largest rung's multiplier: `saves 26% at the smallest rung and 5% at
    the largest`, or `saves 12% ... and costs 5% ...`."""
    (verb, low), (again, high) = _verb_and_amount(first), _verb_and_amount(last)
    verb, again = (again if verb == NEITHER else verb), (verb if again == NEITHER else again)
    high = high if verb == again else f"{again} {high}"
    return f"{verb} {low} at the smallest rung and {high} at the largest"


def effect_short(multiplier: float) -> str:
    """`saves 12%`, `costs 9%`, `costs 5x` or `changes nothing`."""
    return " ".join(_verb_and_amount(multiplier))


def _verb_and_amount(multiplier: float) -> tuple[str, str]:
    share = 1 / multiplier if multiplier > 0 else math.inf
    if share >= MANY:
        return "costs", f"{share:.2g}x" if math.isfinite(share) else "without end"
    percent = f"{100 * abs(share - 1):.0f}"
    if percent == "0":
        return NEITHER, "nothing"
    if multiplier < 1:
        return "costs", f"{percent}%"
    return "saves", f"{'over 99' if share < 0.01 else percent}%"


def _one_end(multiplier: float) -> str:
    if multiplier > 1:
        return f"saving {_percent(multiplier)}%"
    if 1 / max(multiplier, 1e-300) >= MANY:
        return f"costing {_times(multiplier)} times"
    return f"costing {_percent(multiplier)}% more"


def _percent(multiplier: float) -> str:
    """What is saved (or more) of the baseline's compute, in percent."""
    share = abs(1 - 1 / multiplier) if multiplier > 0 else math.inf
    if multiplier > 1 and share > 0.99:
        return "over 99"
    return f"{100 * share:.2g}" if share < 0.1 else f"{100 * share:.0f}"


def _share(multiplier: float) -> str:
    return f"{1 / multiplier:.2g}" if multiplier > 0 else "all"


def _times(multiplier: float) -> str:
    return f"{1 / multiplier:.2g}" if multiplier > 0 else "endless"
