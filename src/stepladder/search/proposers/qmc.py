"""Quasi-random search: a scrambled Sobol sequence."""

from optuna.samplers import QMCSampler

from stepladder.card import Card
from stepladder.search.proposers import Setup, register

CARD = Card(
    name="qmc",
    family="proposers",
    title="Random Search for Hyper-Parameter Optimization",
    arxiv="JMLR 13 (2012) 281-305",
    claim="low-discrepancy sequences fill the space more evenly than random draws",
    note="Optuna's. The sequence goes on over restarts; conditional parameters are drawn "
    "independently.",
)


@register(CARD)
def qmc(setup: Setup) -> QMCSampler:
    """Scrambled Sobol points; where the sequence stands is kept in the study."""
    return QMCSampler(scramble=True, seed=setup.seed[0], warn_independent_sampling=False)
