"""The tree-structured Parzen estimator, Optuna's default."""

from optuna.samplers import BaseSampler, TPESampler

from stepladder.card import Card
from stepladder.search.proposers import Setup, register
from stepladder.search.windowed import Windowed

CARD = Card(
    name="tpe",
    family="proposers",
    title="Algorithms for Hyper-Parameter Optimization",
    arxiv="NeurIPS 24 (2011)",
    claim="better than random search and than manual tuning on deep belief networks",
    note="Optuna's. Runs below the top level are pruned trials to it, which it ranks by level and "
    "then by loss. Of more than 400 trials it sees 400: the best 50, which hold the 25 that it "
    "counts as good, and the others thinned out.",
)


MOST, BEST = 400, 50  # trials that ended, of those that it sees


@register(CARD)
def tpe(setup: Setup) -> BaseSampler:
    """Optuna's defaults, with trials at work counted as bad so that asks in parallel differ."""
    own = TPESampler(seed=setup.stream, constant_liar=True)
    return Windowed(own, setup.distributions, most=MOST, best=BEST)
