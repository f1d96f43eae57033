"""Every published recipe for one budget, side by side, the user's own laws first."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from stepladder.laws.result import Fit
from stepladder.planning.counting import CONVENTIONS, Convention, convert
from stepladder.planning.own import own_plan
from stepladder.planning.plan import Plan, Quantity, Setting
from stepladder.planning.recipes import get, names

# whose word counts where the user's own laws are silent: tuned widely and confirmed first
ORDER = ("step-law", "porian", "olmo-ladder", "marin", "deepseek", "chinchilla-refit",
         "chinchilla", "nanochat", "power-lines", "kaplan")  # fmt: skip


def published_plans(
    flops: float,
    *,
    vocab: int = 50_304,
    context: int = 2048,
    unique_tokens: float | None = None,
    recipes: Sequence[str] | None = None,
    fits: Iterable[Fit] = (),
    counts: Convention = "all",
) -> tuple[Plan, ...]:
    """Plans for a budget; pure, without torch.

    Args:
        flops: training compute.
        vocab, context: of the model that is planned, for counting parameters and attention.
        unique_tokens: tokens there are; plans that would repeat them say so.
        recipes: names of published recipes; all where not given.
        fits: the user's own fitted laws (see `own_plan`); their plan comes first.
        counts: how the params of those fits are counted.

    Raises:
        ValueError: an impossible budget, no such recipe, or fits that do not make a plan.
    """
    setting = Setting(flops=float(flops), vocab=vocab, context=context,
                      unique_tokens=unique_tokens)  # fmt: skip
    fits = list(fits)
    mine = (own_plan(fits, setting, counts),) if fits else ()
    wanted = names() if recipes is None else list(recipes)
    wanted.sort(key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    return tuple(_finished(p, setting) for p in (*mine, *(get(n)(setting) for n in wanted)))


def chosen(plans: Sequence[Plan]) -> dict[str, tuple[str, Quantity]]:
    """For each quantity, the first plan that states it, and what it states.

    Parameters, tokens and shape come from one plan: they belong together.
    """
    found: dict[str, tuple[str, Quantity]] = {}
    for plan in plans:
        for name, quantity in plan.quantities.items():
            together = name in (
                "params",
                "params_body",
                "params_all",
                "tokens",
                "width",
                "depth",
                "steps",
            )
            if together and plan is not plans[0]:
                continue
            found.setdefault(name, (plan.recipe, quantity))
    return found


def _finished(plan: Plan, setting: Setting) -> Plan:
    return _with_epochs(_with_counts(plan, setting), setting)


def _with_counts(plan: Plan, setting: Setting) -> Plan:
    """The plan, with its parameters under the other conventions too."""
    source = f"from {CONVENTIONS[plan.counts]}, along shapes of width 64 for each block"
    counts: tuple[tuple[str, Convention], ...] = (("params_body", "body"), ("params_all", "all"))
    converted = {
        name: Quantity(
            value=convert(plan.number("params"), plan.counts, wanted, setting.vocab),
            source=source,
            beyond=plan["params"].beyond,
        )
        for name, wanted in counts
    }
    return replace(plan, quantities={**plan.quantities, **converted})


def _with_epochs(plan: Plan, setting: Setting) -> Plan:
    """The plan, with a note where it wants more tokens than there are."""
    tokens = plan.number("tokens")
    if setting.unique_tokens is None or not tokens > setting.unique_tokens:
        return plan
    epochs = tokens / setting.unique_tokens
    worth = "nearly as good as new data" if epochs <= 4 else "worth less and less"
    note = (
        f"passes the data {epochs:.3g} times; up to about four passes are nearly as good as new "
        f"data, so that these are {worth} (arXiv:2305.16264)"
    )
    passes = Quantity(value=epochs, source="tokens over the tokens that there are")
    quantities = {**plan.quantities, "passes": passes}
    return replace(plan, quantities=quantities, notes=(*plan.notes, note))
