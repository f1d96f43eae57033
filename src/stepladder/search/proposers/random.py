"""Random search."""

from optuna.samplers import RandomSampler

from stepladder.card import Card
from stepladder.search.proposers import Setup, register

CARD = Card(
    name="random",
    family="proposers",
    title="Random Search for Hyper-Parameter Optimization",
    arxiv="JMLR 13 (2012) 281-305",
    claim="as good as grid search for a small fraction of its cost; the baseline of all others",
    note="Optuna's.",
)


@register(CARD)
def random(setup: Setup) -> RandomSampler:
    """Independent uniform draws."""
    return RandomSampler(seed=setup.stream)
