"""`stepladder.plan`: a budget, hardware and data to every recipe's plan, side by side."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepladder.devices import Device, device_named
from stepladder.laws.result import Fit
from stepladder.planning.conflicts import Conflict, conflicts
from stepladder.planning.counting import Convention
from stepladder.planning.hardware import compute_in, on_device
from stepladder.planning.plan import Plan, Quantity, Setting
from stepladder.planning.published import chosen, published_plans
from stepladder.planning.table import render

if TYPE_CHECKING:
    from rich.console import RenderableType

    from stepladder.data import Dataset

WIDTH = 200  # columns of the printed text
TOKENIZER = "bpe:4096"  # of a corpus that is given as text; that of `stepladder plan`


@dataclass(frozen=True, kw_only=True)
class Plans:
    """What every recipe would do with a budget; print it, or read it by recipe's name.

    Args:
        budget: training FLOP, and how they were counted from what was asked.
        setting: what is planned for.
        plans: the user's own first (recipe "yours"), then the published ones.
        hardware: what `seconds` are of; empty where none was given.
    """

    budget: Quantity
    setting: Setting
    plans: tuple[Plan, ...]
    hardware: str = ""

    def __getitem__(self, recipe: str) -> Plan:
        for plan in self.plans:
            if plan.recipe == recipe:
                return plan
        raise KeyError(f"no plan is called {recipe!r}: {', '.join(p.recipe for p in self.plans)}")

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Where the plans disagree, by how much, and why; the largest first."""
        return conflicts(self.plans)

    @property
    def chosen(self) -> Mapping[str, tuple[str, Quantity]]:
        """For each quantity the recipe whose word counts, and what it says, with its source."""
        return chosen(self.plans)

    def to_json(self) -> dict[str, Any]:
        """JSON types."""
        from dataclasses import asdict

        return {
            "budget": asdict(self.budget),
            "setting": asdict(self.setting),
            "hardware": self.hardware,
            "chosen": {
                name: {"recipe": recipe, **asdict(quantity)}
                for name, (recipe, quantity) in self.chosen.items()
            },
            "conflicts": [asdict(conflict) for conflict in self.conflicts],
            "plans": [plan.to_json() for plan in self.plans],
        }

    def __rich__(self) -> "RenderableType":
        return render(self.plans)

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=StringIO(), width=WIDTH, record=True)
        console.print(render(self.plans, sources=True))
        return console.export_text()


def plan(
    budget: float | str,
    hardware: str | Device | None = None,
    data: "float | str | Path | Dataset | None" = None,
    *,
    fits: Iterable[Fit | str | Path] = (),
    counts: Convention = "all",
    recipes: Sequence[str] | None = None,
    vocab: int | None = None,
    context: int = 2048,
    precision: str = "bfloat16",
) -> Plans:
    """Plan N, shape, tokens, batch, peak rate, decay and schedule by every published recipe.

    Args:
        budget: training FLOP, or text: "1e21", "8h", "64gpu-hours" (time on one `hardware`).
        hardware: a device's name (h100, a100, "here" is measured) or a Device; needed where the
            budget is a time, and then every plan says how long it takes there.
        data: tokens there are; or a corpus (a path, "stdlib") or Dataset to count them in, which
            also gives the vocabulary. None: they do not run out.
        fits: the user's own fitted laws, or files that `stepladder fit --out` wrote: their plan
            comes before every published one (see `own_plan`).
        counts: how the params of those fits are counted.
        recipes: names of published recipes; all where not given.
        vocab: size of the vocabulary; 50,304 where neither it nor a corpus is given.
        context: tokens a sequence.
        precision: of the matrix products, for times.

    Raises:
        ValueError: a budget, device, recipe or fit that cannot be read; a time without hardware.
    """
    device = device_named(hardware) if isinstance(hardware, str) else hardware
    unique_tokens, corpus_vocab = _read_data(data)
    setting = Setting(
        flops=1.0,
        vocab=vocab or corpus_vocab or Setting(flops=1.0).vocab,
        context=context,
        unique_tokens=unique_tokens,
    )
    flops = _read_budget(budget, device, precision, setting)
    assert isinstance(flops.value, float)
    plans = published_plans(
        flops.value,
        vocab=setting.vocab,
        context=context,
        unique_tokens=unique_tokens,
        recipes=recipes,
        fits=[one if isinstance(one, Fit) else Fit.load(one) for one in fits],
        counts=counts,
    )
    setting = Setting(
        flops=flops.value, vocab=setting.vocab, context=context, unique_tokens=unique_tokens
    )
    if device is not None:
        plans = tuple(on_device(one, setting, device, precision) for one in plans)
    return Plans(budget=flops, setting=setting, plans=plans, hardware=device.name if device else "")


def _read_budget(
    budget: float | str, device: Device | None, precision: str, setting: Setting
) -> Quantity:
    if not isinstance(budget, str):
        return Quantity(value=float(budget), source="as given")
    from stepladder.ladder.budget import parse_budget

    parsed = parse_budget(budget)
    if parsed.kind == "flops":
        return Quantity(value=parsed.amount, source="as given")
    if device is None:
        raise ValueError(f"a budget of {budget} needs hardware to spend it on: hardware='h100'")
    return compute_in(parsed.amount, device, precision, setting)


def _read_data(data: "float | str | Path | Dataset | None") -> tuple[float | None, int | None]:
    """Unique tokens, and the size of the vocabulary where the data has one."""
    if data is None or isinstance(data, int | float):
        return (None if data is None else float(data)), None
    if isinstance(data, str | Path):
        from stepladder.data import prepare

        data = prepare(str(data), TOKENIZER)
    return float(data.train_tokens), data.vocab_size
