"""The tree-structured Parzen estimator, Optuna's default."""

from optuna.samplers import TPESampler

from stepladder.card import Card
from stepladder.search.proposers import Setup, register

CARD = Card(
    name="tpe",
    family="proposers",
    title="Algorithms for Hyper-Parameter Optimization",
    arxiv="NeurIPS 24 (2011)",
    claim="better than random search and than manual tuning on deep belief networks",
    note="Optuna's. Runs below the top level are pruned trials to it, which it ranks by level and "
    "then by loss. 0.1 s an ask after 10,000 trials.",
)


@register(CARD)
def tpe(setup: Setup) -> TPESampler:
    """Optuna's defaults, with trials at work counted as bad so that asks in parallel differ."""
    return TPESampler(seed=setup.stream, constant_liar=True)
