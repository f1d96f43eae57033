"""What keeps a study of thousands of trials quick: that it is still the same study."""

import math

import numpy as np
import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from stepladder.search import journal as journals
from stepladder.search.cube import Cube, History
from stepladder.search.journal import Journal, Ledger
from stepladder.search.study import Study
from stepladder.search.windowed import Windowed

from .objective import COSTS, SPACE, loss

STATES = [None, (TrialState.WAITING,), (TrialState.RUNNING,), (TrialState.COMPLETE,)]


def shuffled(study, rng, steps):
    """Asks, queues and tells in a random order, some as failed."""
    at_work = []
    for _ in range(steps):
        what = rng.random()
        if what < 0.2:
            study.enqueue_trial({"x": float(rng.random())})
        elif what < 0.6 or not at_work:
            trial = study.ask()
            trial.suggest_float("x", 0, 1)
            trial.set_user_attr("level", int(rng.integers(3)))
            at_work.append(trial)
        else:
            trial = at_work.pop(int(rng.integers(len(at_work))))
            if rng.random() < 0.2:
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, float(rng.random()))
        yield


@pytest.mark.parametrize("seed", range(3))
def test_the_ledger_lists_what_the_journal_holds(seed, tmp_path):
    path = tmp_path / "journal.log"
    storage = Ledger(Journal(path))
    study = optuna.create_study(storage=storage, study_name="s", sampler=TPESampler(seed=seed))
    rng = np.random.default_rng(seed)
    for _ in shuffled(study, rng, 60):
        if rng.random() < 0.3:
            plain = JournalStorage(JournalFileBackend(str(path)))
            for states in STATES:
                expected = plain.get_all_trials(study._study_id, states=states)
                assert storage.get_all_trials(study._study_id, states=states) == expected
    with pytest.raises(KeyError):
        storage.get_all_trials(17)


def test_a_list_of_trials_is_the_callers_own(tmp_path):
    storage = Ledger(Journal(tmp_path / "journal.log"))
    study = optuna.create_study(storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    listed = study.get_trials(deepcopy=False)
    listed.clear()
    deep = study.get_trials()
    deep[0].user_attrs["mine"] = 1
    assert len(study.trials) == 2
    assert not study.trials[0].user_attrs


def test_another_process_may_write_to_the_journal(tmp_path):
    """A note from the dashboard, say."""
    path = tmp_path / "journal.log"
    study = optuna.create_study(storage=Ledger(Journal(path)), study_name="s")
    study.ask()
    other = JournalStorage(JournalFileBackend(str(path)))
    other.set_trial_user_attr(study.trials[0]._trial_id, "note", "odd")
    assert study.trials[0].user_attrs == {"note": "odd"}


def test_results_are_synced_once_a_second_and_at_the_end(tmp_path, monkeypatch):
    now, synced = [100.0], []
    monkeypatch.setattr(journals.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(journals, "sync_file", lambda path: synced.append(now[0]))
    path = tmp_path / "journal.log"
    with Study.open(SPACE, COSTS, proposer="random", scheduler="full", path=path) as study:
        for time in (100.0, 100.5, 100.9, 101.5, 101.6, 103.0):
            now[0] = time
            study.tell(study.ask(), 1.0)
        assert synced == [100.0, 101.5, 103.0]
        now[0] = 103.1
        study.tell(study.ask(), 1.0)
    assert synced == [100.0, 101.5, 103.0, 103.1]


@pytest.mark.parametrize("at_once", [1, 3])
def test_history_is_the_same_read_at_once_or_as_it_grows(at_once, tmp_path):
    path = tmp_path / "journal.log"
    cube = Cube(SPACE.distributions)
    rng = np.random.default_rng(at_once)
    grown, ends = History(cube), []
    with Study.open(SPACE, COSTS, proposer="random", scheduler="halving", path=path) as study:
        for turn in range(30):
            jobs = [study.ask() for _ in range(at_once)]
            for job in rng.permutation(np.array(jobs, dtype=object)):
                lost = rng.random() < 0.1
                study.tell(job, math.inf if lost else loss(job.values, job.level))
                ends.append(job.trial)
            if turn % 4 == 0:
                grown.read(study.optuna, -1)
        left = grown.read(study.optuna, -1)
    with Study.open(SPACE, COSTS, proposer="random", scheduler="halving", path=path) as study:
        right = History(cube).read(study.optuna, -1)
    for name in ("x", "level", "loss", "trial", "config", "ended"):
        assert np.array_equal(getattr(left, name), getattr(right, name))
    assert list(left.trial) == sorted(ends)
    assert [int(left.trial[left.ended == i][0]) for i in range(len(ends))] == ends
    assert set(left.trial[left.first(10)]) == set(ends[:10])


def test_a_window_that_holds_all_changes_nothing_and_a_small_one_is_enough():
    space = {"x": optuna.distributions.FloatDistribution(-1, 1)}

    def best(sampler):
        study = optuna.create_study(storage=InMemoryStorage(), sampler=sampler)
        study.optimize(lambda t: (t.suggest_float("x", -1, 1) - 0.3) ** 2, n_trials=60)
        return [t.params["x"] for t in study.trials], study.best_value

    bare, _ = best(TPESampler(seed=1))
    whole, _ = best(Windowed(TPESampler(seed=1), space, most=60, best=5))
    assert bare == whole
    bounded, value = best(Windowed(TPESampler(seed=1), space, most=20, best=5))
    assert bounded != bare
    assert value < 1e-3


@pytest.mark.parametrize("proposer", ["bohb", "carbs", "cqr", "dehb", "mobster", "tpe"])
def test_long_studies_that_began_with_failure(proposer):
    """Models that are refitted seldom have nothing to learn from at first."""
    with Study.open(SPACE, COSTS, proposer=proposer, scheduler="full") as study:
        for trial in range(100):
            job = study.ask()
            study.tell(job, math.inf if trial < 90 else loss(job.values, job.level))
        assert study.best() is not None
