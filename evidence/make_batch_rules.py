"""Do the batch rules hold as laws, and break where theory says? Digits, batches over 128x.

    python evidence/make_batch_rules.py [STUDY ...] [--record]

At every batch from 2 to 256 a grid of rates is trained for the same number of samples: a multilayer
perceptron on scikit-learn's digits, linear decay, all rates and seeds stacked in one program. Two
labels in five are drawn at random whenever a sample is seen, so that gradient noise does not vanish
as the model fits. The loss is the divergence from the true label distribution. From that come the
best rate as a function of the batch, with its slope, and what each conversion rule, applied to the
settings tuned at the smallest batch, loses against the best rate at the new batch.

Where theory expects rules to break: at the gradient noise scale, measured along the base run. A
third study has clean labels, where the noise is that of sampling alone. Random-matrix theory has
its own law, of the top eigenvalue of a batch's Hessian, measured a quarter of the way.

Writes evidence/batch_rules.json and .svg; what is there is not run again.
"""

import argparse
import json
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn

from stepladder.batching import Settings, convert
from stepladder.batching.random_matrix import fitted_noise, top_eigenvalue
from stepladder.batching.statistics import GradientStatistics
from stepladder.card import Evidence, record
from stepladder.durable import write_whole
from stepladder.laws.result import finite
from stepladder.optim import build
from stepladder.report import style
from stepladder.schedules import get, midpoint

HERE = Path(__file__).parent
COMMAND = "python evidence/make_batch_rules.py"
FIGURE = "evidence/batch_rules.svg"
BATCHES = [2, 4, 8, 16, 32, 64, 128, 256]
SAMPLES = 8000
SEEDS = 3
WIDTHS = (64, 128, 10)
MATRICES = 32  # batches whose Hessian is looked at, of each size
POWER_STEPS = 40


@dataclass(frozen=True, kw_only=True)
class Study:
    """An optimizer on labels of which a share is drawn at random, from the smallest batch up.

    `tuned_by` converts what is not the rate while the best rate is looked for.
    """

    optimizer: str
    noisy: float
    base: Settings
    grid: np.ndarray
    rules: tuple[str, ...]
    tuned_by: str


# betas follow the batch by the SDE rule, so that the grid contains what the rule asks for
ADAM = Study(
    optimizer="adamw",
    noisy=0.4,
    base=Settings(batch=BATCHES[0], lr=0.0, beta1=0.996, beta2=0.999, eps=1e-8),
    grid=np.logspace(-4.0, -0.8, 14),
    rules=("unchanged", "sqrt", "sde", "linear", "random-matrix"),
    tuned_by="sde",
)
STUDIES = {
    "sgd": Study(
        optimizer="sgd",
        noisy=0.4,
        base=Settings(batch=BATCHES[0], lr=0.0, beta1=0.0, beta2=0.0),
        grid=np.logspace(-2.4, 0.9, 14),
        rules=("unchanged", "sqrt", "linear", "random-matrix"),
        tuned_by="unchanged",
    ),
    "adamw": ADAM,
    "adamw-clean": replace(ADAM, noisy=0.0, rules=("unchanged", "sqrt", "sde", "linear")),
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Final divergences of one stacked run, shape (rates, seeds)."""

    rates: np.ndarray
    losses: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        return np.exp(np.log(self.losses).mean(axis=1))

    def best_rate(self) -> float:
        """The minimum of a parabola through the three lowest neighbours, in logarithms."""
        i = int(np.clip(self.mean.argmin(), 1, len(self.rates) - 2))
        x, y = np.log(self.rates[i - 1 : i + 2]), np.log(self.mean[i - 1 : i + 2])
        a, b, _ = np.polyfit(x, y, 2)
        return float(np.exp(-b / (2 * a)) if a > 0 else self.rates[i])


def data() -> tuple[Tensor, Tensor]:
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16.0 - 0.3, dtype=torch.float32), torch.tensor(y)


def weights(rates: int) -> list[nn.Parameter]:
    """Stacked weights, trial = (rate, seed); a seed starts the same at every rate."""
    made = []
    for layer, (rows, columns) in enumerate(pairwise(WIDTHS)):
        drawn = [
            torch.randn(rows, columns, generator=torch.Generator().manual_seed(100 * s + layer))
            for s in range(SEEDS)
        ]
        made.append(nn.Parameter(torch.stack(drawn * rates) / math.sqrt(rows)))
    return made


def noisy(y: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Labels as they are seen: a share of them drawn at random."""
    drawn = torch.randint(WIDTHS[-1], y.shape, generator=generator)
    return torch.where(torch.rand(y.shape, generator=generator) < share, drawn, y)


def seen(
    x: Tensor, y: Tensor, share: float, order: list[torch.Generator], batch: int, rates: int
) -> tuple[Tensor, Tensor]:
    """A batch for every trial: each seed draws its own, which is the same at every rate."""
    rows = torch.stack([torch.randint(len(x), (batch,), generator=g) for g in order])
    labels = torch.stack([noisy(y[r], share, g) for r, g in zip(rows, order, strict=True)])
    return x[rows].repeat(rates, 1, 1), labels.repeat(rates, 1)


def scores(params: list[Tensor], x: Tensor) -> Tensor:
    """x has shape (trials, samples, features)."""
    return torch.bmm(torch.relu(torch.bmm(x, params[0])), params[1])


def losses(params: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Mean loss of every trial, on labels as they are seen."""
    out = scores(params, x)
    flat = nn.functional.cross_entropy(out.flatten(0, 1), y.flatten(), reduction="none")
    return flat.view(len(x), -1).mean(dim=1)


@torch.no_grad()
def divergence(params: list[Tensor], x: Tensor, y: Tensor, share: float) -> Tensor:
    """KL of every trial's prediction from the distribution that labels are drawn from."""
    truth = nn.functional.one_hot(y, WIDTHS[-1]) * (1 - share) + share / WIDTHS[-1]
    log = scores(params, x.expand(len(params[0]), -1, -1)).log_softmax(dim=-1)
    return (torch.special.xlogy(truth, truth) - truth * log).sum(dim=-1).mean(dim=1)


def train(study: Study, settings: Settings, rates: np.ndarray, samples: int = SAMPLES) -> Outcome:
    """All rates and seeds of one batch size, side by side."""
    x, y = data()
    trials, batch = len(rates) * SEEDS, int(settings.batch)
    params = weights(len(rates))
    lr = torch.tensor(np.repeat(rates, SEEDS), dtype=torch.float64)
    betas = (settings.beta1, settings.beta2)
    built = build(
        study.optimizer,
        [{"params": params, "lr": lr, "weight_decay": 0.0, "eps": settings.eps}],
        lr=1.0,
        betas=betas,
        trials=trials,
    )
    order = [torch.Generator().manual_seed(7 + s) for s in range(SEEDS)]
    steps, schedule = samples // batch, get("linear")
    for step in range(steps):
        factor = schedule.factor(midpoint(step, steps), warmup=0.05)
        built.param_groups[0]["lr"] = built.param_groups[0]["initial_lr"] * factor
        loss = losses(params, *seen(x, y, study.noisy, order, batch, len(rates))).sum()
        built.zero_grad()
        loss.backward()
        built.step()
    final = torch.nan_to_num(divergence(params, x, y, study.noisy), nan=1e3, posinf=1e3)
    final = final.clamp(1e-12, 1e3).double()
    return Outcome(rates=np.asarray(rates), losses=final.view(len(rates), SEEDS).numpy())


def loss_of(params: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Mean loss of one trial's weights on a batch."""
    out = torch.relu(x @ params[0]) @ params[1]
    return nn.functional.cross_entropy(out, y)


def noise_scales(study: Study, lr: float) -> list[float]:
    """tr Sigma / |G|^2 from every sample's gradient, after 5, 25, 50 and 75% of the samples."""
    x, y = data()
    labels = noisy(y, study.noisy, torch.Generator().manual_seed(3))
    found = []
    for share in (0.05, 0.25, 0.5, 0.75):
        params = trained_until(study, lr, share)
        grads = torch.func.vmap(torch.func.grad(loss_of), (None, 0, 0))(
            params, x[:, None], labels[:, None]
        )
        flat = torch.cat([g.flatten(1) for g in grads], dim=1).double().numpy()
        statistics = GradientStatistics.from_shards(flat, 1)
        signal = statistics.mean_square - statistics.variance / len(x)
        found.append(statistics.variance / signal if signal > 0 else math.inf)
    return found


def trained_until(study: Study, lr: float, share: float) -> list[Tensor]:
    """One trial's weights on the way, at the given share of its samples."""
    x, y = data()
    settings = study.base
    params = [nn.Parameter(p.detach()[:1].clone()) for p in weights(1)]
    betas = (settings.beta1, settings.beta2)
    built = build(study.optimizer, params, lr=lr, betas=betas, eps=settings.eps)
    order = torch.Generator().manual_seed(7)
    steps = SAMPLES // int(settings.batch)
    for step in range(int(steps * share)):
        factor = get("linear").factor(midpoint(step, steps), warmup=0.05)
        built.param_groups[0]["lr"] = lr * factor
        rows = torch.randint(len(x), (1, int(settings.batch)), generator=order)
        built.zero_grad()
        losses(params, x[rows], noisy(y[rows], study.noisy, order)).sum().backward()
        built.step()
    return [p.detach()[0] for p in params]


def curvatures(study: Study, lr: float) -> dict[str, Any]:
    """Top eigenvalues of batches' Hessians a quarter of the way, and random-matrix theory's.

    The law's two numbers: the whole data's eigenvalue, and the noise that fits the batches' best.
    """
    x, y = data()
    params, order = trained_until(study, lr, 0.25), torch.Generator().manual_seed(3)

    def looked_at(count: int, batch: int) -> float:
        rows = torch.randint(len(x), (count, batch), generator=order)
        return float(top_eigenvalues(params, x[rows], noisy(y[rows], study.noisy, order)).mean())

    measured = [looked_at(MATRICES, batch) for batch in BATCHES]
    whole = looked_at(1, 4 * len(x))

    noise = fitted_noise(whole, BATCHES, measured)
    return {
        "top_eigenvalue": measured,
        "predicted": [top_eigenvalue(whole, noise, batch) for batch in BATCHES],
        "curvature": whole,
        "noise": noise,
    }


def top_eigenvalues(params: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Of the loss's Hessian on each batch, x [batches, samples, features]: power iteration."""

    def product(x: Tensor, y: Tensor, *direction: Tensor) -> list[Tensor]:
        gradient = torch.func.grad(lambda *p: loss_of(list(p), x, y), tuple(range(len(params))))
        return torch.func.jvp(gradient, tuple(params), direction)[1]

    generator = torch.Generator().manual_seed(0)
    v = [torch.randn(len(x), *p.shape, generator=generator) for p in params]
    for _ in range(POWER_STEPS):
        norm = torch.stack([(one**2).flatten(1).sum(dim=1) for one in v]).sum(dim=0).sqrt()
        v = [one / norm[:, None, None] for one in v]
        turned = torch.func.vmap(product)(x, y, *v)
        found = torch.stack(
            [(a * b).flatten(1).sum(dim=1) for a, b in zip(v, turned, strict=True)]
        ).sum(dim=0)
        v = list(turned)
    return found


def measure(study: Study, found: dict[str, Any]) -> dict[str, Any]:
    """The best rate at every batch, and every rule's loss over the best; adds what is missing."""
    if "best_rate" not in found:
        found |= tuned(study)
    rate = found["base_rate"]
    if "noise_scale" not in found:
        found["noise_scale"] = noise_scales(study, rate)
    if "random-matrix" in study.rules and "curvature" not in found:
        found["curvature"] = curvatures(study, rate)
    for rule in study.rules:
        if rule not in found["rules"]:
            found["rules"][rule] = losses_over_best(study, rule, found)
    return found


def tuned(study: Study) -> dict[str, Any]:
    """The best rate and loss at every batch."""
    outcomes = []
    for batch in BATCHES:
        settings = convert(study.tuned_by, study.base, batch / study.base.batch)
        outcomes.append(train(study, settings, study.grid))
    rates = [outcome.best_rate() for outcome in outcomes]
    return {
        "base_rate": rates[0],
        "batches": BATCHES,
        "rules": {},
        "best_rate": rates,
        "best_loss": [float(outcome.mean.min()) for outcome in outcomes],
        "slope_small": slope(BATCHES[:4], rates[:4]),
        "slope_large": slope(BATCHES[-4:], rates[-4:]),
    }


def losses_over_best(study: Study, rule: str, found: dict[str, Any]) -> list[float]:
    """What a rule's settings, from the best at the smallest batch, lose at every batch."""
    out = []
    start = replace(study.base, lr=found["base_rate"])
    for batch, best in zip(BATCHES, found["best_loss"], strict=True):
        options = rule_options(study, rule, found)
        settings = convert(rule, start, batch / start.batch, **options)
        out.append(float(train(study, settings, np.array([settings.lr])).mean[0] / best))
    return out


def rule_options(study: Study, rule: str, found: dict[str, Any]) -> dict[str, Any]:
    """What a rule must be told."""
    if rule != "random-matrix":
        return {}
    law = found["curvature"]
    adaptive = study.optimizer != "sgd"
    return {"curvature": law["curvature"], "noise": law["noise"], "adaptive": adaptive}


def slope(batches: list[int], rates: list[float]) -> float:
    """The power of the batch that the rate goes as."""
    return float(np.polyfit(np.log(batches), np.log(rates), 1)[0])


TITLES = {
    "sgd": "SGD, 40% of labels random",
    "adamw": "Adam, 40% of labels random",
    "adamw-clean": "Adam, clean labels",
}
COLOURS = {
    "unchanged": "#98a2b3",
    "sqrt": "#d4550b",
    "sde": "#15803d",
    "linear": "#2f5fd0",
    "random-matrix": "#7a4fb0",
}


def draw(report: dict[str, Any]) -> Figure:
    """Top: the best rate over the batch, with powers of it. Below: what each rule loses."""
    with rc_context(style.SETTINGS):
        made = Figure(figsize=(11.0, 6.6), layout="constrained")
        there = [name for name in STUDIES if name in report]
        axes = made.subplots(2, len(there), sharex=True, sharey="row")
    title = "SGD's linear rule breaks at the noise scale; Adam's SDE rule holds over all 128x"
    made.suptitle(title, x=0.012, ha="left", fontweight="bold", color=style.LIGHT["ink"])
    for (top, low), name in zip(axes.T, there, strict=True):
        study, found = STUDIES[name], report[name]
        rates(top, found)
        rules(low, study, found)
        top.set_title(TITLES[name], fontsize=11)
        top.annotate("band: noise scale\nalong the run", (0.04, 0.96), xycoords="axes fraction",
                     va="top", fontsize=8, color=style.LIGHT["muted"])  # fmt: skip
        low.set_xlabel("batch (samples)")
    axes[0, 0].set_ylabel("best rate over that at batch 2")
    axes[1, 0].set_ylabel("loss under a rule over the best")
    return made


def rates(axes: Axes, found: dict[str, Any]) -> None:
    """The best rate, with lines of the rules."""
    batches, best = np.array(BATCHES, dtype=float), np.array(found["best_rate"])
    for power, rule in ((0.5, "sqrt"), (1.0, "linear")):
        axes.loglog(batches, (batches / batches[0]) ** power, "--", color=COLOURS[rule], lw=1.2)
        at = (batches[-1], (batches[-1] / batches[0]) ** power)
        name = "batch" if power == 1 else "root of it"
        axes.annotate(name, at, (-14, 0), textcoords="offset points", ha="right", fontsize=8,
                      color=COLOURS[rule])  # fmt: skip
    axes.loglog(batches, best / best[0], "o-", color=style.LIGHT["ink"], ms=4.5, lw=1.8)
    plain(axes)
    shade(axes, found)


def rules(axes: Axes, study: Study, found: dict[str, Any]) -> None:
    """What every rule loses at every batch."""
    for rule in study.rules:
        axes.loglog(BATCHES, found["rules"][rule], "o-", color=COLOURS[rule], ms=4, lw=1.6,
                    label=rule)  # fmt: skip
    axes.axhline(1.0, color=style.LIGHT["muted"], lw=1, zorder=1)
    axes.set_ylim(0.9, 12)
    axes.set_yticks([1, 1.5, 2, 3, 5, 10], ["1", "1.5", "2", "3", "5", "10"])
    plain(axes)
    shade(axes, found)
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def shade(axes: Axes, found: dict[str, Any]) -> None:
    """The noise scale along the run, where theory has the rules break."""
    scales = [scale for scale in found["noise_scale"] if scale is not None]
    axes.axvspan(min(scales), max(scales), color=style.LIGHT["band"], alpha=0.5, lw=0, zorder=0)
    axes.set_xlim(1.6, 330)


def plain(axes: Axes) -> None:
    """Ticks that are batches, no frame."""
    axes.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=style.LIGHT["line"], lw=0.8)
    axes.set_axisbelow(True)


def held_to(found: dict[str, Any], rule: str, bound: float = 1.1) -> int:
    """The largest batch up to which a rule loses at most a tenth."""
    lost = found["rules"][rule]
    return BATCHES[next((i for i, r in enumerate(lost) if r > bound), len(BATCHES)) - 1]


def keep(report: dict[str, Any]) -> None:
    """One line a rule, in the catalogue."""

    def put(rule: str, result: str) -> None:
        record("batching", rule, Evidence(result=result, command=COMMAND, figure=FIGURE))

    sgd, adam, clean = (report[name] for name in STUDIES)
    for rule, found, name in (
        ("linear", sgd, "SGD"),
        ("sqrt", adam, "Adam"),
        ("sde", adam, "Adam"),
    ):
        lost = found["rules"][rule]
        powers = f"B^{found['slope_small']:.2f} up to {BATCHES[3]}, B^{found['slope_large']:.2f}"
        result = (
            f"{name}, digits with noisy labels, tuned at batch {BATCHES[0]}: loss within 10% of "
            f"the best rate's up to batch {held_to(found, rule)}, {lost[-1]:.2f}x at "
            f"{BATCHES[-1]}; the best rate goes as {powers} above"
        )
        if rule != "linear":
            lost = clean["rules"][rule]
            result += f"; with clean labels at most {max(lost):.2f}x"
        put(rule, result)
    low, high = min(sgd["noise_scale"]), max(sgd["noise_scale"])
    breaks = BATCHES[BATCHES.index(held_to(sgd, "linear")) + 1]
    said = f"{low:.0f} to {high:.0f} samples along the run; the linear rule fails at {breaks}"
    put("noise-scale", f"SGD, digits: {said}")
    put("random-matrix", random_matrix(sgd, adam))


def random_matrix(sgd: dict[str, Any], adam: dict[str, Any]) -> str:
    """What came of the law of eigenvalues, and of the rule."""
    off = max(
        abs(a / b - 1)
        for found in (sgd, adam)
        for a, b in zip(
            found["curvature"]["top_eigenvalue"], found["curvature"]["predicted"], strict=True
        )
    )
    parts = [
        f"{name} loses over 10% above batch {held_to(found, 'random-matrix')}, "
        f"{found['rules']['random-matrix'][-1]:.2f}x at {BATCHES[-1]}"
        for name, found in (("SGD", sgd), ("Adam", adam))
    ]
    return (
        f"digits: the top eigenvalue of a batch's Hessian is within {100 * off:.0f}% of the law's "
        f"over {BATCHES[-1] // BATCHES[0]}x in batch; as a rule for the best rate it stops growing "
        f"too early: {'; '.join(parts)}"
    )


def main() -> None:
    """Measure what is missing, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"of {', '.join(STUDIES)}")
    parser.add_argument("--record", action="store_true", help="put the result into the catalogue")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = HERE / "batch_rules.json"
    report: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    report |= {"samples": SAMPLES, "seeds": SEEDS}
    for name in options.studies or STUDIES:
        report[name] = measure(STUDIES[name], report.get(name, {}))
        write_whole(results, json.dumps(finite(report), indent=1) + "\n")
        print(name, json.dumps(report[name]["rules"]), flush=True)
    write_whole(HERE / "batch_rules.svg", style.svg(draw(report), "batch-rules"))
    if options.record:
        keep(report)


if __name__ == "__main__":
    main()
