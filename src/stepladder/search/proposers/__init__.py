"""Proposers: which configuration to try next. Each is an Optuna sampler.

Any sampler that Optuna takes is a proposer; what it may know of a trial stands in the trial's user
attributes: `level` (the point on the ladder), `cost` (of a run there), `bracket`, `config` (the
first trial with its configuration), `diverged`. So what is yet to come (proposers that use
gradients, bandits over learners, language models) needs no other seam. One method more is looked
for: `renews(step, book)`, by which a proposer puts a configuration of its own where the scheduler
would promote one (DEHB).
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from stepladder.card import Registry


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a proposer is made from.

    Attributes:
        distributions: the space, conditional parameters included.
        costs: of a run at each level, rising; known, not learned.
        seed: of the study, and the trials it had when it was opened: a sampler with a stream of
            random numbers starts it from both, so that a reopened study does not repeat itself.
    """

    distributions: Mapping[str, BaseDistribution]
    costs: tuple[float, ...]
    seed: tuple[int, int]

    @property
    def stream(self) -> int:
        """One number from both seeds."""
        return self.seed[0] * 1_000_003 + self.seed[1]


Builder = Callable[[Setup], BaseSampler]

REGISTRY: Registry[Builder] = Registry("stepladder.search.proposers")
register = REGISTRY.register


def build(name: str, setup: Setup) -> BaseSampler:
    """A proposer by name.

    Raises:
        ValueError: an unknown name (with the nearest).
    """
    builder = REGISTRY[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a sampler is new in Optuna is on its card here
        return builder(setup)
