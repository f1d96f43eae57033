"""Published loss curves with their learning rates, by source and group, and what is forecast.

A group is one model, data, batch size and peak rate: curves of one group may stand together in a
forecast. `authors` are the multi-power law's (arXiv:2503.12811), `olmo` OLMo's ladder
(arXiv:2412.04403, loss on C4), both in the data folder. `horizons` are the runs of
fabian-sp/lr-scheduling (arXiv:2501.18965), read from a clone of it in the folder that
STEPLADDER_UNSEEN names, and left out where there is none.
"""

import json
import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from law_sets import ROOT

from stepladder.laws.curve_forecast import settled_at
from stepladder.laws.curves import Curve
from stepladder.laws.logged import read_logged

SIZES = (25, 100, 400)
TRAIN = ("cosine_24000", "constant_24000", "wsdcon_9")
SHORT = (*TRAIN, "wsd_20000_24000", "wsdld_20000_24000", "wsdcon_3", "wsdcon_18")
LONG = ("constant_72000", "cosine_72000")
OLMO = ("190M", "370M", "760M", "1B", "3B")
LENGTHS = ("0.5xC", "1xC-rerun", "2xC", "5xC", "10xC")
OLMO_COLUMNS = (
    "steps=_step",
    "loss=eval/c4_en-validation/CrossEntropyLoss",
    "lr=optim/learning_rate_group0",
)
HORIZONS = "lr-scheduling"  # the clone's folder
WARMUP = 300  # steps of every run of `horizons`: those that go on from a trunk begin after it
EARLY = 1000  # steps: a log that begins later is a cooldown only, and not enough alone
ROWS = 12  # a log of fewer losses is no test
MOST_LOGS, MOST_TARGETS = 10, 8  # of a group: more are drawn from
PARTS = (0.5, 0.7)

Group = dict[str, Curve]


class Case(NamedTuple):
    """What is known, and a curve that is forecast from it.

    `kind` is "one" or "two" where logs under other schedules are known, "rest 0.7" where the
    first 70% of the run itself.
    """

    source: str
    group: str
    kind: str
    name: str
    known: list[Curve]
    target: Curve


def groups() -> dict[tuple[str, str], Group]:
    """Curves of every group there is, by source and group."""
    found = {("authors", f"{n}M"): _authors(n) for n in SIZES}
    found |= {("olmo", size): _olmo(size) for size in OLMO}
    return found | {("horizons", name): group for name, group in _horizons().items()}


def authors(size: int, name: str) -> Curve:
    """A curve of the multi-power law's authors."""
    return _read(ROOT / "multi-power-law" / f"csv_{size}" / f"{name}.csv", ())


def _authors(size: int) -> Group:
    return {name: authors(size, name) for name in (*SHORT, *LONG)}


def _olmo(size: str) -> Group:
    folder = ROOT / "olmo-ladder" / "ladder-runs"
    return {name: _read(folder / f"{size}-{name}.csv", OLMO_COLUMNS) for name in LENGTHS}


def _read(path: Path, maps: tuple[str, ...]) -> Curve:
    (run,) = read_logged(path, maps, None)
    return run.curve(run.rates)


def _horizons() -> dict[str, Group]:
    folder = os.environ.get("STEPLADDER_UNSEEN")
    found: dict[str, Group] = {}
    for path in sorted(Path(folder, HORIZONS, "data").glob("**/*.json")) if folder else ():
        run = json.loads(path.read_text())
        curve = _horizon(run)
        if len(curve.at) >= ROWS:
            found.setdefault(_group_of(run["config"]), {})[_short(path)] = curve
    return {name: group for name, group in found.items() if len(group) > 1}


def _group_of(c: dict[str, Any]) -> str:
    shape, batch = f"{c['n_layer']} layers of {c['n_embd']}", c["batch_size"] * c["acc_steps"]
    return f"{c['dataset']}, {c['model']}, {shape}, batch {batch}, peak {c['lr']:g}"


def _short(path: Path) -> str:
    """A file's name without what its group says already."""
    parts = path.stem.split("_")
    until = next((k for k, part in enumerate(parts) if part.startswith("bs")), len(parts))
    kept = [p for p in parts[:until] if not p.startswith(("nlayers", "nhead", "lr0", "warmup"))]
    return "_".join([path.parent.name, *kept]) if path.parent.name != "data" else "_".join(kept)


def _horizon(run: dict[str, Any]) -> Curve:
    """Validation losses and rates; a run that was resumed counts as it was logged last."""
    config, val, train = run["config"], run["history"]["val"], run["history"]["train"]
    steps = int(config["iterations"])
    step, lr = _last_of(train["iter"], train["train_lr"])
    rise = [(0, 0.0), (WARMUP, config["lr"])] if step[0] > WARMUP else [(0, 0.0)]
    rates = np.interp(
        np.arange(steps), [*(s for s, _ in rise), *step], [*(r for _, r in rise), *lr]
    )
    at, loss = _last_of(val["iter"], val["val_loss"])
    kept = (at > 0) & (at < steps)
    return Curve(rates, at[kept], loss[kept])


def _last_of(step: list[int], value: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Steps in order, each with the last value that was logged for it."""
    last = dict(zip(step, value, strict=True))
    order = np.array(sorted(last), dtype=int)
    return order, np.array([last[s] for s in order.tolist()], dtype=float)


def cases() -> Iterator[Case]:
    """Every forecast that is judged; those that know the same logs stand together."""
    rng = np.random.default_rng(0)
    for (source, group), curves in groups().items():
        for kind, logs in _logs(curves, rng):
            known = [curves[name] for name in logs]
            others = [name for name in curves if name not in logs]
            for name in _some(others, MOST_TARGETS, rng):
                told = f"{name} from {' and '.join(logs)}"
                yield Case(source, group, kind, told, known, settled(curves[name]))
        for name in _some(_whole(curves), MOST_LOGS, rng):
            for part in PARTS:
                known_part, left = split(curves[name], part)
                if len(known_part.at) >= ROWS:
                    yield Case(source, group, f"rest {part}", name, [known_part], left)


def _logs(curves: Group, rng: np.random.Generator) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Which logs are known, one or two, of which one begins early."""
    whole = _whole(curves)
    for name in _some(whole, MOST_LOGS, rng):
        yield "one", (name,)
    pairs = [pair for pair in combinations(curves, 2) if set(pair) & set(whole)]
    for pair in _some(pairs, 2 * MOST_LOGS, rng):
        if len(curves) > 2:
            yield "two", pair


def _whole(curves: Group) -> list[str]:
    return [name for name, c in curves.items() if c.at[0] < EARLY or logged_whole(c)]


def logged_whole(curve: Curve) -> bool:
    """Whether a log begins in the first ninth of its run."""
    return bool(curve.at[0] < len(curve.lr) // 9)


def _some(things: list[Any], most: int, rng: np.random.Generator) -> list[Any]:
    if len(things) <= most:
        return things
    return [things[k] for k in sorted(rng.choice(len(things), most, replace=False))]


def split(curve: Curve, part: float) -> tuple[Curve, Curve]:
    """The losses of the first part of a run, and of the rest."""
    early = curve.at < part * len(curve.lr)
    return (
        Curve(curve.lr, curve.at[early], curve.loss[early]),
        Curve(curve.lr, curve.at[~early], curve.loss[~early]),
    )


def settled(curve: Curve) -> Curve:
    """A run without its warmup."""
    kept = curve.at >= settled_at(curve.lr)
    return Curve(curve.lr, curve.at[kept], curve.loss[kept])
