"""Does the monitor tell broken targets from healthy ones, and how soon?

    python evidence/make_monitor.py [FOLDER]

Takes a demo's ladder (made in FOLDER where it is not there), trains its target as planned, once
more with another seed, and broken in four ways, and asks the monitor of each curve what `stepladder
train` would have said. Then 500 ladders like it are simulated, with the noise of its own runs.
Writes evidence/monitor/. Takes some twenty minutes on two cores where FOLDER is new.
"""

import json
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from stepladder.ladder.folder import RUNS, Folder, find
from stepladder.ladder.monitor import LEVEL, Monitor, heading_at, monitor_of, trace_of
from stepladder.laws.floored import Floor, Floored, fit_floored
from stepladder.laws.monitor import GRID, Alarm, Finished, Trace, find_alarm, headings, shape
from stepladder.recipe import Recipe, Schedule
from stepladder.report import style
from stepladder.store import Store

OUT = Path(__file__).parent / "monitor"
LADDERS = 500  # simulated
EXCESS = (0.0, 0.02, 0.03, 0.05, 0.1)  # of the loss, that simulated broken targets have throughout


def few_files(folder: Path) -> Path:
    """A twentieth of the standard library's files: a target that sees them twenty times."""
    kept = folder / "few"
    kept.mkdir(exist_ok=True)
    stdlib = Path(sysconfig.get_path("stdlib"))
    for i, path in enumerate(sorted(stdlib.glob("*.py"))[::4]):
        (kept / f"{i}.py").write_bytes(path.read_bytes())
    return kept


def variants(target: Recipe, root: Path, tokenizer: Path) -> dict[str, Recipe]:
    """The target as it should be, and targets that went wrong."""
    given = target.optimizer
    few = replace(
        target.data, source=str(few_files(root)), tokenizer=str(tokenizer), fingerprint=""
    )
    return {
        "as planned": target,
        "another seed": replace(target, seed=target.seed + 7),
        "rate times 8": replace(target, optimizer=replace(given, lr=8 * given.lr)),
        "rate over 8": replace(target, optimizer=replace(given, lr=given.lr / 8)),
        "rate never decays": replace(target, schedule=Schedule(name="constant", warmup=0.1)),
        "little text, many times": replace(target, data=few),
    }


def stepladder(*words: str) -> dict[str, Any]:
    """A verb's JSON."""
    command = [sys.executable, "-m", "stepladder", *words, "--json"]
    out: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=-1).stdout)
    return out


def trained(recipe: Recipe, root: Path, name: str) -> dict[str, Any]:
    """The result of a recipe, from the store where it is paid for."""
    file = root / f"{name.replace(' ', '-')}.toml"
    file.write_text(recipe.to_toml())
    return stepladder("train", str(file), "--root", str(root))


def told(monitor: Monitor, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the monitor says of a curve."""
    looks = monitor.headings(rows)
    alarm = monitor.alarm(looks)
    at = [heading_at(looks, tenth / 10) for tenth in range(1, 11)]
    return {
        "alarm": asdict(alarm) if alarm else None,
        "headings": [asdict(look) for look in at if look],
    }


class Simulated:
    """Ladders like a real one: its law, its seeds' noise, its runs' ways off the common curve."""

    def __init__(self, forecast: dict[str, Any], store: Store) -> None:
        self.points = forecast["points"]
        self.flops = np.array([p["flops"] for p in self.points])
        self.target = forecast["target"]["flops"]
        self.floor = Floor(**forecast["fit"]["floor"])
        self.law = fit_floored(self.flops, [p["loss"] for p in self.points], self.floor)
        self.e = self.law.parameters["E"]
        logs = [self._log_above(store, p) for p in self.points]
        final = np.log(np.array([p["loss"] for p in self.points]) - self.e)
        scales = np.log(self.flops)
        self.lines = np.polyfit(scales, final[:, None] - np.array(logs), 1)  # [2, grid]
        rest = final[:, None] - np.array(logs) - self._line(self.flops)
        self.rest = rest * np.sqrt(len(rest) / (len(rest) - 2))

    def alarm(self, rng: np.random.Generator, excess: float) -> Alarm | None:
        """Of one simulated target whose loss is too high by `excess` all along."""
        runs = [self._run(flops, rng) for flops in self.flops]
        law = fit_floored(self.flops, [run.final for run in runs], self.floor)
        common = shape(runs, law.parameters["E"], self.target)
        said = law.forecast(self.target, level=LEVEL)
        trace = self._run(self.target, rng).trace
        worse = Trace(trace.progress, trace.loss * (1 + excess))
        return find_alarm(headings(common, worse, LEVEL), said.low, said.high)

    def _run(self, flops: float, rng: np.random.Generator) -> Finished:
        loss = self._law(self.law, flops) * np.exp(self.law.noise * rng.normal())
        ratio = self._line(np.array([flops]))[0] + rng.choice(self.rest)
        return Finished(flops, loss, Trace(GRID, self.e + (loss - self.e) * np.exp(-ratio)))

    def _line(self, flops: np.ndarray) -> np.ndarray:
        slope, offset = self.lines
        return np.log(flops)[:, None] * slope + offset

    def _log_above(self, store: Store, point: dict[str, Any]) -> np.ndarray:
        run = store.get(point["key"])
        assert run is not None
        trace = trace_of(run.curve, point["tokens"])
        return np.log(np.interp(GRID, trace.progress, _smooth(trace.loss)) - self.e)

    @staticmethod
    def _law(law: Floored, flops: float) -> float:
        p = law.parameters
        return float(p["E"] + p["A"] * flops ** -p["alpha"])


def _smooth(loss: np.ndarray, rows: int = 20) -> np.ndarray:
    """Means of the last rows."""
    return np.array([loss[max(0, i - rows + 1) : i + 1].mean() for i in range(len(loss))])


def simulated(forecast: dict[str, Any], store: Store) -> list[dict[str, Any]]:
    """Share of simulated targets with an alarm, and when it came, by how bad they are."""
    world, rng, rows = Simulated(forecast, store), np.random.default_rng(0), []
    for excess in EXCESS:
        alarms = [world.alarm(rng, excess) for _ in range(LADDERS)]
        at = [alarm.heading.progress for alarm in alarms if alarm]
        rows.append(
            {
                "loss_too_high_by": excess,
                "targets": LADDERS,
                "alarms": len(at),
                "median_progress": float(np.median(at)) if at else None,
            }
        )
    return rows


def draw(monitor: Monitor, curves: dict[str, list[dict[str, Any]]]) -> Figure:
    """Where each target was heading along its way, and the moment of its alarm."""
    made, (axes,) = style.figure("Where targets were heading, and when the alarm was raised")
    axes.axhspan(monitor.low, monitor.high, color=style.LIGHT["band"], lw=0)
    colours = ["#2a78d6", "#1baf7a", "#d64550", "#8a5cc7", "#c98500", "#5f6b7a"]
    for colour, (name, rows) in zip(colours, curves.items(), strict=False):
        looks = monitor.headings(rows)
        axes.plot(
            [100 * look.progress for look in looks],
            [look.value for look in looks],
            color=colour,
            lw=1.8,
            label=name,
        )
        alarm = monitor.alarm(looks)
        if alarm:
            at = alarm.heading
            axes.scatter([100 * at.progress], [at.value], s=70, color=colour, zorder=5)
    axes.set_xlabel("% of the way (dots: alarm; band: the forecast's 95% interval)")
    axes.set_ylabel("loss it is heading for (nats per token)")
    axes.legend(frameon=False, fontsize=9.5)
    return made


def ladder_in(root: Path) -> Folder:
    """The ladder in a folder; a demo makes it where there is none."""
    if not list(root.glob("ladders/*/forecast.json")):
        stepladder("demo", "--root", str(root))
    return find(root)


def measure(root: Path) -> None:
    """Train, ask, simulate, write."""
    folder, store = ladder_in(root), Store(root / RUNS)
    forecast = folder.read("forecast")
    assert forecast is not None
    target = Recipe.from_dict(forecast["target"]["recipe"])
    monitor = monitor_of(forecast, store)
    tokenizer = next(iter(store.root.glob("*/tokenizer.json")))
    said: dict[str, Any] = {
        "command": "python evidence/make_monitor.py",
        "forecast": forecast["forecast"],
        "interval_95": [monitor.low, monitor.high],
        "widened": monitor.shape.widened,
    }
    curves: dict[str, list[dict[str, Any]]] = {}
    runs = {}
    for name, recipe in variants(target, root, tokenizer).items():
        result = trained(recipe, root, name)
        stored = store.get(result["key"])
        assert stored is not None
        curves[name] = stored.curve
        runs[name] = {"loss": result["loss"], **told(monitor, stored.curve)}
    said |= {"runs": runs, "simulated": simulated(forecast, store)}
    OUT.mkdir(exist_ok=True)
    (OUT / "monitor.json").write_text(json.dumps(said, indent=2) + "\n")
    figure = draw(monitor, curves)
    (OUT / "monitor.svg").write_text(style.svg(figure, "monitor"))
    (OUT / "monitor.png").write_bytes(style.png(figure))
    for name, run in runs.items():
        alarm = run["alarm"]
        said_of = f"{alarm['side']} at {alarm['heading']['progress']:.0%}" if alarm else "none"
        print(f"{name:<26} loss {run['loss']:.4f}  alarm: {said_of}")
    for row in said["simulated"]:
        print(row)


def main() -> None:
    """In the folder given, or a new one."""
    if len(sys.argv) > 1:
        measure(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as root:
        measure(Path(root))


if __name__ == "__main__":
    main()
