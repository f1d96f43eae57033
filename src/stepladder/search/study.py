"""A search that is an Optuna study: ask and tell, with a scheduler that decides what to spend.

    study = Study.open(space, costs, proposer="bohb", scheduler="hyperband", path=path, seed=0)
    job = study.ask()
    study.tell(job, loss)

One Optuna trial is one run: a configuration at a level. Below the top it is told as pruned, with
its loss at the step of its level; at the top as complete. So samplers and tools that know pruned
trials (TPE, the dashboard) understand it, and `study.optuna.best_trial` is the best at the top. A
promoted configuration is a new trial with the same parameters; its user attributes say which trial
it came from. Everything is in the journal: a study that was killed goes on from it, and runs that
were at work are handed out again first.
"""

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from stepladder.closing import Closing
from stepladder.durable import locked
from stepladder.search.book import Book, Step
from stepladder.search.journal import Journal, Ledger
from stepladder.search.proposers import Setup, build
from stepladder.search.schedulers import REGISTRY as SCHEDULERS
from stepladder.search.space import Space, Values

NAME = "stepladder"
FORMAT = 1
IDENTITY = "stepladder:identity"  # user attribute of the study
# User attributes of a trial.
LEVEL, BRACKET, PARENT, CONFIG, COST = "level", "bracket", "parent", "config", "cost"
READY = "ready"  # all its parameters are there
DIVERGED = "diverged"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run to make.

    Attributes:
        trial: number of its Optuna trial.
        level: where on the ladder; `cost` is what a run there costs, beyond what a run of the same
            configuration below has paid.
        values: searched fields, those that are active.
        parent: the trial that this configuration was promoted from, if it was.
    """

    trial: int
    level: int
    cost: float
    values: Values
    parent: int | None


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best run at the highest level where one has ended."""

    trial: int
    level: int
    loss: float
    values: Values


class Study(Closing):
    """See the top of the module; made by `Study.open`."""

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        costs: Sequence[float],
        promoted: Sequence[float] | None,
        scheduler: str,
    ) -> None:
        self.optuna, self.space = study, space
        self.book = Book(costs, promoted)
        self.scheduler = SCHEDULERS[scheduler]()
        self.spent = 0.0  # cost of all trials that were told
        self._trials: dict[int, Trial] = {}
        self._orphans: list[Job] = []
        self._closing = ExitStack()
        self._recall()

    @classmethod
    def open(
        cls,
        space: Space,
        costs: Sequence[float],
        *,
        proposer: str,
        scheduler: str,
        path: Path | None = None,
        seed: int = 0,
        about: str = "",
        promoted: Sequence[float] | None = None,
    ) -> Self:
        """A new study, or the one of a journal, where it stands.

        Args:
            costs: of a run at each level, rising; the same unit for all.
            path: the journal; None keeps it in memory.
            seed: with equal results told in equal order, equal studies. Optuna's own samplers
                start their stream anew when a study is reopened.
            about: what else makes this study another, such as the key of its base recipe.
            promoted: costs of runs that go on from the level below; `costs` if None.

        Raises:
            ValueError: an unknown proposer or scheduler, a journal of another study (with what
                differs), or one that another process is at.
        """
        if scheduler not in SCHEDULERS:
            SCHEDULERS.card(scheduler)  # raises, with the nearest name
        identity = {
            "format": FORMAT,
            "space": space.to_json(),
            "costs": list(costs),
            "proposer": proposer,
            "scheduler": scheduler,
            "seed": seed,
            "about": about,
        }
        if promoted is not None and tuple(promoted) != tuple(costs):
            identity["promoted"] = list(promoted)
        with ExitStack() as closing:
            inner = _open(path, closing)
            _require_same(inner, identity, path)
            done = len(inner.get_trials(deepcopy=False))
            setup = Setup(distributions=space.distributions, costs=tuple(costs), seed=(seed, done))
            inner.sampler = build(proposer, setup)
            study = cls(inner, space, costs, promoted, scheduler)
            study._closing = closing.pop_all()
        return study

    def close(self) -> None:
        """Let another process open the journal."""
        self._closing.close()

    def ask(self, within: float = math.inf) -> Job | None:
        """The next run to make.

        Args:
            within: what it may cost.

        Returns:
            None where it would cost more, or where results must come in first.
        """
        if self._orphans:
            return self._orphans.pop(0) if self._orphans[0].cost <= within else None
        step = self.scheduler.next(self.book)
        if step is None or self._cost(step) > within:
            return None
        return self._start(step)

    def tell(self, job: Job, loss: float | None, **notes: Any) -> None:
        """What a run gave; on disk when this returns.

        Args:
            loss: infinite or NaN where it diverged, None where it failed: neither is promoted.
            notes: kept with the trial as user attributes.
        """
        trial = self._trials.pop(job.trial)
        for name, value in notes.items():
            trial.set_user_attr(name, value)
        finite = loss is not None and math.isfinite(loss)
        if finite:
            assert loss is not None
            trial.report(float(loss), job.level)
        elif loss is not None:
            trial.set_user_attr(DIVERGED, True)
        complete = finite and job.level == self.book.top
        state = TrialState.COMPLETE if complete else TrialState.PRUNED
        self.optuna.tell(
            job.trial,
            loss if complete else None,
            state=TrialState.FAIL if loss is None else state,
        )
        self._count(job.trial, float(loss) if finite and loss is not None else math.inf, job.cost)

    def best(self) -> Best | None:
        """The best run so far at the highest level where one has ended with a loss."""
        for level in reversed(range(self.book.top + 1)):
            rungs = [rung for (_, at), rung in self.book.rungs.items() if at == level]
            found = [rung.ranked[0] for rung in rungs if rung.finite]
            if found:
                loss, number = min(found)
                values = dict(self._frozen(number).params)
                return Best(trial=number, level=level, loss=loss, values=values)
        return None

    def _cost(self, step: Step) -> float:
        """What a step costs; one that a proposer fills anew goes on from nothing."""
        if _renews(self.optuna.sampler, step, self.book):
            return self.book.costs[step.level]
        return self.book.cost(step)

    def _start(self, step: Step) -> Job:
        """A new trial in the journal with all its parameters."""
        parent = None if step.parent is None else self._frozen(step.parent)
        cost = self._cost(step)
        attributes = {LEVEL: step.level, BRACKET: step.bracket, COST: cost}
        if parent is not None:
            attributes[PARENT] = parent.number
        renewed = parent is not None and _renews(self.optuna.sampler, step, self.book)
        given = parent.params if parent is not None and not renewed else {}
        if given and parent is not None:
            attributes[CONFIG] = parent.user_attrs.get(CONFIG, parent.number)
        self.optuna.enqueue_trial(given, user_attrs=attributes)
        with self._proposing(bool(given)):
            trial = self.optuna.ask()
            values = _suggest(trial, self.space)
        trial.set_user_attr(READY, True)
        self.book.start(trial.number, step)
        self._trials[trial.number] = trial
        return Job(
            trial=trial.number, level=step.level, cost=cost, values=values, parent=step.parent
        )

    @contextmanager
    def _proposing(self, settled: bool) -> Iterator[None]:
        """The sampler at work, or, where all values are settled already, none."""
        own = self.optuna.sampler
        if settled:
            self.optuna.sampler = _Nobody()
        try:
            with warnings.catch_warnings():
                # A sampler's advice on its own state is nothing that a user can act on.
                warnings.simplefilter("ignore", UserWarning)
                yield
        finally:
            self.optuna.sampler = own

    def _recall(self) -> None:
        """Rungs from the journal; runs that were at work wait to be handed out again."""
        for past in self.optuna.get_trials(deepcopy=False):
            if not past.state.is_finished():
                self._recall_running(past)
            elif READY in past.user_attrs:
                self.book.start(past.number, _step(past))
                loss = past.intermediate_values.get(past.user_attrs[LEVEL], math.inf)
                self._count(past.number, loss, past.user_attrs[COST])

    def _recall_running(self, past: FrozenTrial) -> None:
        with self._proposing(settled=True):
            waits = past.state == TrialState.WAITING
            trial = self.optuna.ask() if waits else Trial(self.optuna, past._trial_id)
        if READY not in past.user_attrs:  # killed while it was made: nothing ran
            self.optuna.tell(past.number, state=TrialState.FAIL)
            return
        step = _step(past)
        self.book.start(past.number, step)
        self._trials[past.number] = trial
        job = Job(
            trial=past.number,
            level=step.level,
            cost=past.user_attrs[COST],
            values=dict(past.params),
            parent=step.parent,
        )
        self._orphans.append(job)

    def _frozen(self, number: int) -> FrozenTrial:
        return self.optuna.get_trials(deepcopy=False)[number]

    def _count(self, trial: int, loss: float, cost: float) -> None:
        self.book.end(trial, loss)
        self.spent += cost


class _Nobody(optuna.samplers.BaseSampler):
    """Proposes nothing: for trials whose values are settled."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        raise AssertionError(f"{param_name} is settled")


def _suggest(trial: Trial, space: Space) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for dim in space.dims:
        if not dim.is_active(values):
            continue
        if dim.choices:
            values[dim.name] = trial.suggest_categorical(dim.name, dim.choices)
        elif dim.integer:
            values[dim.name] = trial.suggest_int(dim.name, int(dim.low), int(dim.high), log=dim.log)
        else:
            values[dim.name] = trial.suggest_float(dim.name, dim.low, dim.high, log=dim.log)
    return values


def _renews(sampler: Any, step: Step, book: Book) -> bool:
    """Whether the proposer fills a promoted place with a configuration of its own (DEHB)."""
    renews = getattr(sampler, "renews", None)
    return renews is not None and bool(renews(step, book))


def _step(past: FrozenTrial) -> Step:
    kept = past.user_attrs
    return Step(level=kept[LEVEL], bracket=kept[BRACKET], parent=kept.get(PARENT))


def _open(path: Path | None, closing: ExitStack) -> optuna.Study:
    storage: BaseStorage = InMemoryStorage()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if path is not None:
        held = closing.enter_context(locked(path.with_suffix(".open"), wait=False))
        if held is None:
            raise ValueError(
                f"another process is at the study {path}: wait for it to end, or stop it"
            )
        journal = Journal(path)
        closing.callback(journal.sync)
        storage = Ledger(journal)
    try:
        return optuna.create_study(
            storage=storage, study_name=NAME, direction="minimize", load_if_exists=True
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no journal of a study, or a damaged one ({error}): choose another, or move "
            "it away"
        ) from None


def _require_same(study: optuna.Study, identity: dict[str, Any], path: Path | None) -> None:
    """Signs a new study; ValueError where a journal holds another one.

    Under `deepening` further levels may follow those that a study was made with.
    """
    known = study.user_attrs.get(IDENTITY)
    written = json.loads(json.dumps(identity))
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(IDENTITY, written)
        return
    if known is None:
        raise ValueError(f"{path} is the journal of a study that Stepladder did not make")
    grows = [name for name in ("costs", "promoted") if name in written and name in known]
    longer = all(written[name][: len(known[name])] == known[name] for name in grows)
    if written["scheduler"] == "deepening" and longer:
        study.set_user_attr(IDENTITY, written)
        known = known | {name: written[name] for name in grows}
    other = [name for name in written if known.get(name) != written[name]]
    if other:
        raise ValueError(
            f"{path} is the journal of another study: it differs in {', '.join(other)}; choose "
            "another folder, or repeat the command it was made by"
        )
