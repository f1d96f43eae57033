"""How a forecast loss curve looks: a few lines with a chart, JSON, and a figure."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.padding import Padding

from stepladder.cli.curve import Answer
from stepladder.cli.law_view import show_notes
from stepladder.cli.text_chart import Marks, text_chart
from stepladder.laws.curve_forecast import CurveFit
from stepladder.laws.curves import Curve

ROOM = 0.15  # of the losses shown, above and below


def show(answer: Answer, fitted: CurveFit, curves: Sequence[Curve], notes: Sequence[str]) -> None:
    """Print the forecast of the last step, its score, and a chart."""
    console, made = Console(), answer.made
    losses = sum(len(curve.at) for curve in curves)
    logs = f"{len(curves)} log" + "s" * (len(curves) > 1)
    console.print(
        f"[bold]{answer.target.name}[/], steps {made.at[0]} to {made.at[-1]}, "
        f"from {losses} losses in {logs}",
        highlight=False,
    )
    show_notes(notes)
    values = ", ".join(f"{name} {value:.4g}" for name, value in fitted.values.items())
    for line in (*_ends(answer), f"multi-power law: {values}"):
        console.print(Padding(line, (0, 0, 0, 2), expand=False), highlight=False)
    console.print(_chart(answer, curves), highlight=False)


def _ends(answer: Answer) -> list[str]:
    """The forecast of the last step, and the score and the alarm where there are any."""
    made = answer.made
    lines = [
        f"at step {made.at[-1]}: [bold]{made.value[-1]:.4f}[/]   {made.level:.0%} interval: "
        f"{made.law_low[-1]:.4f} to {made.law_high[-1]:.4f}"
    ]
    if made.low[-1] < made.law_low[-1]:
        lines.append(f"one logged loss there: {made.low[-1]:.4f} to {made.high[-1]:.4f}")
    if answer.score is not None:
        s = answer.score
        lines.append(
            f"measured at step {answer.target.at[-1]}: {answer.target.loss[-1]:.4f}; over "
            f"{s.points} losses the error is {s.error.prede:.2%} on average and "
            f"{s.error.worste:.2%} at most, and the interval of one loss held {s.coverage:.0%}"
        )
    if answer.alarm:
        lines.append("[bold red]alarm[/]: the whole 99% interval lies above the goal")
    return lines


def as_json(answer: Answer, fitted: CurveFit, notes: Sequence[str]) -> dict[str, Any]:
    """JSON types: the last step first."""
    made, s = answer.made, answer.score
    return {
        "forecast": float(made.value[-1]),
        "interval": [float(made.low[-1]), float(made.high[-1])],
        "law_interval": [float(made.law_low[-1]), float(made.law_high[-1])],
        "level": made.level,
        "step": int(made.at[-1]),
        "alarm": answer.alarm,
        "score": None
        if s is None
        else {**asdict(s.error), "coverage": s.coverage, "points": s.points},
        "law": "multi-power",
        "parameters": fitted.values,
        "noise": fitted.noise,
        "curve": made.to_json(),
        "notes": list(notes),
    }


def _chart(answer: Answer, curves: Sequence[Curve]) -> str:
    target, made = answer.target, answer.made
    series = [Marks(curve.at, curve.loss, ".") for curve in curves]
    series.append(Marks(made.at, made.value, "·"))
    series += [Marks(target.at, target.loss, "o")] if len(target.at) else []
    low, high = _limits(answer, curves)
    measured = ", o measured" if len(target.at) else ""
    key = f"loss   (. logged{measured}, · forecast)"
    last = max(int(one.x[-1]) for one in series)
    first = min(int(one.x[0]) for one in series)
    return text_chart(series, low, high, key, (str(first), str(last), "step"))


def _limits(answer: Answer, curves: Sequence[Curve]) -> tuple[float, float]:
    """Of the losses shown: without the first ones, which are far above everything else."""
    shown = [curve.loss[len(curve.loss) // 20 :] for curve in curves]
    shown += [answer.made.value, answer.target.loss]
    every = np.concatenate(shown)
    return float(every.min()), float(np.quantile(every, 0.99))


def draw(answer: Answer, curves: Sequence[Curve], path: Path) -> None:
    """A figure: logs, the forecast with its interval and the losses that came; below, rates."""
    from stepladder.report.style import LIGHT, over_one_axis

    made, target = answer.made, answer.target
    figure, (above, below) = over_one_axis(f"Forecast of {target.name}")
    for k, curve in enumerate(curves):
        named = "logged" if k == 0 else None
        above.plot(curve.at, curve.loss, color=LIGHT["muted"], lw=1, label=named)
        below.plot(curve.lr, color=LIGHT["muted"], lw=1)
    band = f"{made.level:.0%} of logged losses"
    above.fill_between(made.at, made.low, made.high, color=LIGHT["band"], lw=0, label=band)
    above.plot(made.at, made.value, color=LIGHT["law"], label="forecast")
    if len(target.at):
        above.plot(target.at, target.loss, ".", ms=3, color=LIGHT["outcome"], label="measured")
    below.plot(target.lr, color=LIGHT["law"])
    low, high = _limits(answer, curves)
    above.set(ylabel="loss", ylim=(low - ROOM * (high - low), high + ROOM * (high - low)))
    below.set(ylabel="rate", xlabel="step", ylim=(0, None))
    above.legend(frameon=False, labelcolor=LIGHT["ink"])
    figure.savefig(path)
