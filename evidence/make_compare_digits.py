"""What do the methods of vision papers save over AdamW on images? scikit-learn's digits.

    python evidence/make_compare_digits.py [NAME ...] [--record]

The statistics and the equal search of `stepladder.compare`, with another executor: a multilayer
perceptron (three layers, no biases, muP) at hidden widths 16, 32 and 64, 16 images a weight, batch
32 growing as the root of the images, three seeds, rates as in `make_compare.py`. Two labels in five
are drawn at random whenever an image is seen, so that gradient noise does not vanish as the model
fits; the loss is the divergence from the distribution that labels are drawn from. A recipe carries
what is run: its width is the hidden layers', its tokens are images. Writes
evidence/compare/digits.json, lever by lever, and digits.svg.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import reworded
from make_compare import overview, said
from sklearn.datasets import load_digits
from torch import Tensor, nn

import stepladder as sl
from stepladder.card import Evidence, record
from stepladder.comparing.growth import tuned_to
from stepladder.comparing.means import DRAWS, means_of, seed_noise
from stepladder.comparing.multiplier import estimate, loss_difference
from stepladder.comparing.search import Search, lost_by_tuning, tune
from stepladder.comparing.verdict import verdict
from stepladder.cost.optimizer import price
from stepladder.durable import write_whole
from stepladder.laws.result import finite
from stepladder.models.build import scaled_like
from stepladder.recipe import Batching, Model, Optimizer, Parametrization, Recipe, Schedule
from stepladder.report import style
from stepladder.train.feedback import Batches
from stepladder.train.sitting import build_optimizer
from stepladder.train.timeline import rate_factor

OUT = Path(__file__).parent / "compare"
COMMAND = "python evidence/make_compare_digits.py"
WIDTHS, SEEDS = (16, 32, 64), 3
IMAGES, RATIO, BATCH = 64, 16, 32  # inputs; images a weight; images a step at the smallest
CLASSES, NOISY = 10, 0.4
LEVEL = 0.9


def weights_of(width: int) -> int:
    """Weights of the perceptron."""
    return IMAGES * width + width**2 + width * CLASSES


def network(width: int) -> nn.Sequential:
    """The perceptron, on torch's own initial values."""
    sizes = ((IMAGES, width), (width, width), (width, CLASSES))
    first, second, last = (nn.Linear(a, b, bias=False) for a, b in sizes)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)


def recipe(
    name: str = "adamw", exponent: float = -5, like: str = "", schedule: Schedule | None = None
) -> Recipe:
    """A lever at the smallest width: an optimizer with its middle rate, or another schedule."""
    width = WIDTHS[0]
    model = Model(
        width=width,
        depth=1,
        heads=1,
        kv_heads=1,
        head_size=width,
        mlp_width=width,
        context=1,
        vocab_size=CLASSES,
    )
    return Recipe(
        model=model,
        optimizer=Optimizer(
            name=name,
            lr=2.0**exponent,
            weight_decay=0.0,
            beta2=0.99,
            eps=0.1 if name == "sania" else 1e-8,
        ),
        schedule=schedule or Schedule(warmup=0.05),
        parametrization=Parametrization(rule="mup", base_width=width, scale_like=like),
        tokens=RATIO * weights_of(width),
        batch=BATCH,
    )


def growing(name: str, parts: int = 1, **params: float) -> Recipe:
    """AdamW with a batch that grows by a policy from half the baseline's to twice it."""
    batching = Batching(name=name, params=params)
    return replace(recipe(), batch=BATCH // 2, accumulate=parts, batching=batching)


def longer(k: int) -> Recipe:
    """AdamW with k times the batch and as many steps (regime adaptation; the rate is tuned)."""
    return replace(recipe(), batch=BATCH * k, tokens=recipe().tokens * k)


LEVERS = {
    "optim/sgd": recipe("sgd", -2),
    "optim/lars": recipe("lars", 3),
    "optim/lamb": recipe("lamb", -6),
    "optim/adamp": recipe("adamp"),
    "optim/adabound": recipe("adabound", like="adamw"),
    "optim/lion": recipe("lion", -8),
    "optim/smag": recipe("smag", -2, like="sgd"),
    "optim/sania": recipe("sania", -2, like="adamw"),
    "optim/laprop": recipe("laprop"),
    "schedules/one-cycle": recipe(schedule=Schedule(name="one-cycle", warmup=0.0)),
    "schedules/step": recipe(schedule=Schedule(name="step", warmup=0.05)),
    "schedules/cosine": recipe(schedule=Schedule(name="cosine", warmup=0.05)),
    "schedules/constant": recipe(schedule=Schedule(name="constant", warmup=0.05)),
    "batching/regime-adaptation": longer(2),
    "batching/doubling": growing("doubling", end=4),
    "batching/norm-test": growing("norm-test", parts=4, eta=0.7, largest=4),
    "batching/inner-product-test": growing("inner-product-test", parts=4, theta=0.2, largest=4),
    "batching/coordinate-norm-test": growing(
        "coordinate-norm-test", parts=4, eta=1.0, share=0.5, largest=4
    ),
}


class Digits:
    """An executor: trains perceptrons, each recipe once."""

    def __init__(self) -> None:
        x, y = load_digits(return_X_y=True)
        self.x, self.y = torch.tensor(x / 16.0 - 0.3, dtype=torch.float32), torch.tensor(y)
        self.done: dict[str, dict[str, Any]] = {}

    def __call__(self, asked: Sequence[tuple[str, Recipe]]) -> list[dict[str, Any]]:
        """Results in order, as `stepladder.execute` gives them."""
        for _, one in asked:
            if one.key not in self.done:
                self.done[one.key] = self.train(one)
        return [self.done[one.key] for _, one in asked]

    def train(self, one: Recipe) -> dict[str, Any]:
        """One run."""
        start = time.process_time()
        torch.manual_seed(one.seed)
        model, base = network(one.model.width), network(WIDTHS[0])
        plan = sl.parametrize(model, base=base, rule="mup", optimizer=scaled_like(one))
        plan.initialize(seed=one.seed)
        optimizer = build_optimizer(one, plan)
        order = torch.Generator().manual_seed(one.seed)
        batches, done = Batches(one, model.parameters()), 0
        taken = batches.first()
        while done < one.steps:
            factor = rate_factor(one, done, taken)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            loss = self.backward(model, one, batches, taken, order)
            optimizer.step(lambda loss=loss: loss)
            optimizer.zero_grad()
            done += taken
            taken = batches.next(taken, done)
        found = self.divergence(model)
        return {
            "key": one.key,
            "loss": found,
            "diverged": not math.isfinite(found),
            "seconds": time.process_time() - start,
        }

    def backward(
        self, model: nn.Module, one: Recipe, batches: Batches, taken: int, order: torch.Generator
    ) -> Tensor:
        """The loss of a step of some batches; the gradients are the parameters'."""
        batches.watch(taken)
        parts, total = taken * one.accumulate, torch.zeros(())
        for _ in range(parts):
            rows = torch.randint(len(self.x), (one.batch // one.accumulate,), generator=order)
            loss = nn.functional.cross_entropy(model(self.x[rows]), self.seen(rows, order)) / parts
            loss.backward()
            batches.after_backward()
            total = total + loss.detach()
        return total

    def seen(self, rows: Tensor, order: torch.Generator) -> Tensor:
        """Labels as they are seen: a share of them drawn at random."""
        drawn = torch.randint(CLASSES, rows.shape, generator=order)
        return torch.where(torch.rand(rows.shape, generator=order) < NOISY, drawn, self.y[rows])

    @torch.no_grad()
    def divergence(self, model: nn.Module) -> float:
        """KL of the model's predictions from the distribution that labels are drawn from."""
        truth = nn.functional.one_hot(self.y, CLASSES) * (1 - NOISY) + NOISY / CLASSES
        log = model(self.x).log_softmax(dim=-1)
        return float((truth * (truth.log() - log)).sum(dim=-1).mean())


def grown(one: Recipe, width: int) -> Recipe:
    """The recipe at a hidden width."""
    data = weights_of(width) / weights_of(WIDTHS[0])
    return replace(
        one,
        model=replace(one.model, width=width),
        tokens=round(one.tokens * data),
        batch=one.accumulate * round(one.batch * math.sqrt(data) / one.accumulate),
    )


def compute(one: Recipe) -> float:
    """FLOP of a run: products forward and backward, and the optimizer's."""
    weights = weights_of(one.model.width)
    return weights * (6.0 * one.steps * one.batch + price(one.optimizer.name).flops * one.steps)


def trained(one: Recipe, execute: Digits) -> list[float]:
    """Losses of a rung over the seeds.

    Raises:
        ValueError: it diverged.
    """
    results = execute([("", replace(one, seed=seed)) for seed in range(SEEDS)])
    if any(result["diverged"] for result in results):
        raise ValueError(f"diverged at width {one.model.width} with its best rate at {WIDTHS[0]}")
    return [result["loss"] for result in results]


def measured(name: str, execute: Digits) -> dict[str, Any]:
    """One comparison, as plain data; one that cannot be made says why."""
    try:
        found = measure(name, execute)
    except ValueError as error:
        found = {"failed": str(error)}
    return {"name": name, "command": f"{COMMAND} {name}", **found}


def measure(name: str, execute: Digits) -> dict[str, Any]:
    """One comparison's numbers."""
    arms = (recipe(), LEVERS[name])
    tuned = tune(arms, Search(seeds=2), execute)
    rungs = [
        [tuned_to(grown(arm, width), t.lr) for width in WIDTHS]
        for arm, t in zip(arms, tuned, strict=True)
    ]
    losses = np.array([[trained(one, execute) for one in arm] for arm in rungs])
    noise = seed_noise(losses)
    lost = [lost_by_tuning(t, noise.deviation[k], DRAWS, seed=k) for k, t in enumerate(tuned)]
    means = means_of(losses, lost=lost)
    x = np.array([[compute(one) for one in arm] for arm in rungs])
    made = estimate(x, means, level=LEVEL)
    return {
        "verdict": verdict(made, float(x[0, -1] / x[0, 0])),
        "multiplier": asdict(made.mean),
        "trend_per_decade": asdict(made.trend),
        "rungs": [
            {
                "width": width,
                "compute": x[:, i].tolist(),
                "losses": losses[:, i].tolist(),
                "loss_difference": asdict(gap),
                "multipliers": {"compute": asdict(made.rungs[i])},
            }
            for i, (width, gap) in enumerate(
                zip(WIDTHS, loss_difference(means, level=LEVEL), strict=True)
            )
        ],
        "lr": [t.lr for t in tuned],
        "at_edge": [t.at_edge for t in tuned],
        "tuning_runs": [t.runs for t in tuned],
        "noise": noise.deviation.tolist(),
        "pairing": noise.pairing,
    }


def read() -> dict[str, Any]:
    """What is measured already, by lever."""
    file = OUT / "digits.json"
    return json.loads(file.read_text()) if file.exists() else {}


def write(known: dict[str, Any]) -> None:
    """What is measured, by lever."""
    write_whole(OUT / "digits.json", json.dumps(finite(known), indent=1) + "\n")


def keep() -> None:
    """Figure and catalogue from what is there."""
    known = {name: reworded(content) for name, content in read().items()}
    write(known)
    contents = list(known.values())
    title = "Compute multiplier over AdamW with linear decay, digits (90%)"
    shown = [content for content in contents if "verdict" in content]
    write_whole(OUT / "digits.svg", style.svg(overview(shown, title), "digits"))
    widths = f"hidden widths {WIDTHS[0]} to {WIDTHS[-1]}"
    for content in contents:
        family, _, name = content["name"].partition("/")
        against = "against AdamW with linear decay, tuned equally"
        record(
            family,
            name,
            Evidence(
                result=f"digits: {said(content)} ({against}; {widths}, {SEEDS} seeds)",
                command=content["command"],
                figure="evidence/compare/digits.svg",
            ),
        )


def main() -> None:
    """Measure what is missing, or record what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--record", action="store_true")
    given = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    if given.record:
        return keep()
    torch.set_num_threads(1)
    execute = Digits()
    for name in given.names or LEVERS:
        if name not in (known := read()):
            known[name] = measured(name, execute)
            write(known)
            print(f"{name}: {said(known[name])}", flush=True)
    return None


if __name__ == "__main__":
    main()
