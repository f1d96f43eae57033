"""Bayesian optimization with a Gaussian process, Optuna's."""

from optuna.samplers import GPSampler

from stepladder.card import Card
from stepladder.search.proposers import Setup, register

CARD = Card(
    name="gp",
    family="proposers",
    title="Practical Bayesian Optimization of Machine Learning Algorithms",
    arxiv="1206.2944",
    claim="reaches expert-level tuning on several learning problems in fewer runs",
    note="Optuna's (log expected improvement). It learns from runs at the top level only.",
)


@register(CARD)
def gp(setup: Setup) -> GPSampler:
    """Optuna's defaults, with the study's seed."""
    return GPSampler(seed=setup.stream, warn_independent_sampling=False)
