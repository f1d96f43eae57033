"""A proposer as a function: what was seen -> where to look next; the rest of a sampler is here."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study
from optuna.trial import FrozenTrial

from stepladder.search.cube import Array, Cube, History, Seen


class PointSampler(BaseSampler):
    """An Optuna sampler from `propose`; every trial has its own random numbers, by its number, so
    that an interrupted study goes on as it would have.

    Args:
        distributions: the whole space, conditional parameters included (inactive ones are proposed
            and not used). None: those that all trials so far have in common, as Optuna does.
        costs: of a run at each level, rising.
        seed: of the study.
    """

    def __init__(
        self,
        distributions: Mapping[str, BaseDistribution] | None = None,
        costs: Sequence[float] = (1.0,),
        seed: int = 0,
    ) -> None:
        self.costs, self.seed = tuple(costs), seed
        self._space = None if distributions is None else dict(distributions)
        self._common = IntersectionSearchSpace(include_pruned=True)
        self._history: History | None = None

    @abstractmethod
    def propose(self, seen: Seen, level: int, cube: Cube, rng: np.random.Generator) -> Array | None:
        """A point (d,) of the unit cube to try at a level; None for a random one."""

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._common.calculate(study) if self._space is None else self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        history = self._history_of(search_space)
        seen = history.read(study, trial.number)
        level = int(trial.user_attrs.get("level", 0))
        rng = self.numbers(trial)
        point = self.propose(seen, level, history.cube, rng)
        return history.cube.values(rng.random(len(history.cube)) if point is None else point)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        rng = np.random.default_rng([self.seed, trial.number, *param_name.encode()])
        return Cube({param_name: param_distribution}).values(rng.random(1))[param_name]

    def numbers(self, trial: FrozenTrial) -> np.random.Generator:
        """The random numbers of a trial."""
        return np.random.default_rng([self.seed, trial.number])

    def _history_of(self, search_space: dict[str, BaseDistribution]) -> History:
        if self._history is None or self._history.cube.names != sorted(search_space):
            self._history = History(Cube(search_space))
        return self._history
