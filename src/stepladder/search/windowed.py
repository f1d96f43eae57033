"""Optuna's own samplers on long studies: they see a bounded number of the trials that ended.

Their time to propose grows with the number of trials, to a tenth of a second and more at 10,000.
"""

from collections.abc import Container, Mapping, Sequence
from copy import deepcopy as copied
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from stepladder.search.cube import Cube, History


class Windowed(BaseSampler):
    """A sampler that sees the best trials and some of the others (`cube.Seen.bounded`), and all
    that are at work. Up to that many it proposes what it would without.

    Args:
        most: trials that ended, at most, that are seen; `best` of them the best, first by level
            and then by loss.
    """

    def __init__(
        self,
        sampler: BaseSampler,
        distributions: Mapping[str, BaseDistribution],
        *,
        most: int,
        best: int,
    ) -> None:
        self.sampler, self.most, self.best = sampler, most, best
        self._history = History(Cube(distributions))
        self._view: _View | None = None

    def reseed_rng(self) -> None:
        self.sampler.reseed_rng()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.sampler.infer_relative_search_space(self._viewed(study, trial), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.sampler.sample_relative(self._viewed(study, trial), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        view = self._viewed(study, trial)
        return self.sampler.sample_independent(view, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._view = None
        self.sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self.sampler.after_trial(study, trial, state, values)

    def _viewed(self, study: Study, trial: FrozenTrial) -> Study:
        """The study as it stands when a trial's first parameter is asked for."""
        if self._view is None:
            seen = self._history.read(study, trial.number)
            if len(seen) <= self.most:
                return study
            ended = seen.trial[seen.bounded(self.most, self.best)]
            self._view = _View(study, [*map(int, ended), *self._history.at_work])
        return self._view


class _View(Study):
    """A study that lists some of its trials, as those that Optuna's Hyperband shows to samplers."""

    def __init__(self, study: Study, numbers: Sequence[int]) -> None:
        super().__init__(
            study_name=study.study_name,
            storage=study._storage,
            sampler=study.sampler,
            pruner=study.pruner,
        )
        trials = study.get_trials(deepcopy=False)
        self._seen = [trials[number] for number in numbers]

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return self._get_trials(deepcopy=deepcopy, states=states)

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = [trial for trial in self._seen if states is None or trial.state in states]
        return copied(trials) if deepcopy else trials
