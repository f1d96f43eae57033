"""Bayesian optimization with a Gaussian process, Optuna's."""

from optuna.samplers import BaseSampler, GPSampler

from stepladder.card import Card
from stepladder.search.proposers import Setup, register
from stepladder.search.windowed import Windowed

CARD = Card(
    name="gp",
    family="proposers",
    title="Practical Bayesian Optimization of Machine Learning Algorithms",
    arxiv="1206.2944",
    claim="reaches expert-level tuning on several learning problems in fewer runs",
    note="Optuna's (log expected improvement). It learns from runs at the top level only. "
    "Of more than 200 trials it sees 200: the best half of those, and the others thinned out.",
)


MOST, BEST = 200, 100  # trials that ended, of those that it sees


@register(CARD)
def gp(setup: Setup) -> BaseSampler:
    """Optuna's defaults, with the study's seed."""
    own = GPSampler(seed=setup.stream, warn_independent_sampling=False)
    return Windowed(own, setup.distributions, most=MOST, best=BEST)
