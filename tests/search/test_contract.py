"""What every proposer keeps under every scheduler."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from stepladder.search.proposers import REGISTRY as PROPOSERS
from stepladder.search.schedulers import REGISTRY as SCHEDULERS
from stepladder.search.study import NAME, Study

from .objective import COSTS, SPACE, loss

MATRIX = [(p, s) for p in PROPOSERS for s in SCHEDULERS]
OWN = ("bohb", "carbs", "cqr", "dehb", "mobster")  # seeded a trial, so that restarts change nothing
COUNT = {"gp": 8, "cqr": 14, "mobster": 18}  # trials of a test, where an ask is slow


def opened(proposer, scheduler, path=None, seed=0, costs=COSTS):
    return Study.open(SPACE, costs, proposer=proposer, scheduler=scheduler, path=path, seed=seed)


def step(study, at_once, lose=lambda job: False):
    """Ask for several, then tell them, latest first; the values that were asked."""
    jobs = [job for job in (study.ask() for _ in range(at_once)) if job]
    for job in reversed(jobs):
        study.tell(job, math.inf if lose(job) else loss(job.values, job.level))
    return [(job.trial, job.level, job.parent, job.values) for job in jobs]


def played(study, trials, at_once=3):
    out = []
    while len(out) < trials:
        out += step(study, at_once)
    return out


@pytest.mark.parametrize(("proposer", "scheduler"), MATRIX)
def test_every_pair(proposer, scheduler, tmp_path):
    """In parallel, valid, conditional, reproducible, resumed, with diverged and failed trials."""
    trials = COUNT.get(proposer, 24)
    with opened(proposer, scheduler) as study:
        first = played(study, trials)
        assert study.best().loss < 100
    with opened(proposer, scheduler) as study:
        assert played(study, trials) == first  # by seed
    for _, level, parent, values in first:
        assert 1e-4 <= values["a"] <= 1
        assert 0 <= values["b"] <= 1
        assert values["n"] in (1, 2, 3, 4, 5)
        assert ("d" in values) == (values["kind"] == "x")
        assert 0 <= level < len(COSTS)
        assert parent is None or level > 0

    path = tmp_path / "journal.log"
    with opened(proposer, scheduler, path) as study:
        half = played(study, trials // 2)
        waiting = study.ask()  # and never told: the process ends here
        told, spent = study.best(), study.spent
    with opened(proposer, scheduler, path) as study:
        assert (study.best(), study.spent) == (told, spent)
        again = study.ask()
        assert again == waiting
        study.tell(again, None)  # failed
        bad = step(study, 3, lose=lambda job: True)
        later = bad + played(study, trials // 3)
    if proposer in OWN:
        assert half == first[: len(half)]
    states = {t.number: t.state for t in study_of(path).trials}
    assert states[waiting.trial] == TrialState.FAIL
    assert len(states) == len(half) + 1 + len(later)
    assert bad
    assert not {row[0] for row in bad} & {row[2] for row in later}  # what diverged is not promoted


def study_of(path: Path) -> optuna.Study:
    """The journal as anybody's Optuna reads it."""
    return optuna.load_study(study_name=NAME, storage=JournalStorage(JournalFileBackend(str(path))))


@pytest.mark.parametrize("proposer", OWN)
def test_own_proposers_go_on_as_if_never_stopped(proposer, tmp_path):
    whole = opened(proposer, "halving")
    path = tmp_path / "journal.log"
    for _ in range(8):
        with opened(proposer, "halving", path) as study:
            assert step(study, 2) == step(whole, 2)


@pytest.mark.parametrize("proposer", ["bohb", "carbs", "cqr", "dehb", "mobster", "tpe"])
def test_learns_what_random_search_does_not(proposer):
    """Median regret at equal cost under the scheduler each is made for, over a few seeds."""
    scheduler = {"bohb": "hyperband", "carbs": "spread", "dehb": "hyperband"}.get(
        proposer, "halving"
    )
    budget = 600.0 if proposer == "dehb" else 220.0  # it evolves from the third iteration on
    seeds = 2 if proposer == "cqr" else 3  # its asks are slow
    pairs = ((proposer, scheduler), ("random", "full"))
    own, base = (regrets(p, s, budget, seeds) for p, s in pairs)
    assert np.median(own) < 0.6 * np.median(base)


def regrets(proposer, scheduler, budget, seeds):
    out = []
    for seed in range(seeds):
        with opened(proposer, scheduler, seed=seed) as study:
            while job := study.ask(within=budget - study.spent):
                study.tell(job, loss(job.values, job.level))
            best = study.best()
            out.append(loss(best.values, len(COSTS) - 1) - 1.0)
    return out


def test_a_study_is_an_optuna_study(tmp_path):
    path = tmp_path / "journal.log"
    with opened("random", "halving", path) as study:
        rows = played(study, 40)
        best = study.best()
    loaded = study_of(path)
    assert loaded.best_trial.number == best.trial
    assert loaded.best_value == best.loss
    for number, level, _, values in rows:
        trial = loaded.trials[number]
        assert trial.params == values
        assert trial.intermediate_values == {level: loss(values, level)}
        top = level == len(COSTS) - 1
        assert trial.state == (TrialState.COMPLETE if top else TrialState.PRUNED)


KILLED = """
import sys
from pathlib import Path
from search.test_contract import opened
from search.objective import loss
with opened("bohb", "hyperband", Path(sys.argv[1])) as study:
    while True:
        jobs = [study.ask() for _ in range(2)]
        for job in jobs:
            study.tell(job, loss(job.values, job.level))
            print(job.trial, flush=True)
"""


def test_kill_9_loses_no_told_trial(tmp_path):
    path = tmp_path / "journal.log"
    told = []
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        told += [int(child.stdout.readline()) for _ in range(25)]
        child.send_signal(signal.SIGKILL)
        told += [int(line) for line in child.stdout.read().split()]
        child.wait()
        child.stdout.close()
    states = {trial.number: trial.state for trial in study_of(path).trials}
    assert len(told) == len(set(told)) >= 50
    assert all(states[number].is_finished() for number in told)
    with opened("bohb", "hyperband", path) as study:
        assert sum(len(r.ranked) for r in study.book.rungs.values()) >= len(told)
        assert study.ask() is not None


def test_a_torn_line_is_cut_off(tmp_path):
    path = tmp_path / "journal.log"
    with opened("random", "full", path) as study:
        played(study, 3)
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"wor')
    with opened("random", "full", path) as study:
        assert study.book.trials == 3
        played(study, 3)
    assert len(study_of(path).trials) == 6


def test_another_study_is_refused(tmp_path):
    path = tmp_path / "journal.log"
    opened("random", "full", path).close()
    with pytest.raises(ValueError, match=r"another study: it differs in seed"):
        opened("random", "full", path, seed=1)
    with pytest.raises(ValueError, match=r"differs in proposer, scheduler"):
        opened("tpe", "halving", path)
    with pytest.raises(ValueError, match="another process"), opened("random", "full", path):
        opened("random", "full", path)
    strange = tmp_path / "other.log"
    strange.write_text("not a journal\n")
    with pytest.raises(ValueError, match="no journal of a study"):
        opened("random", "full", strange)
    foreign = tmp_path / "foreign.log"
    storage = JournalStorage(JournalFileBackend(str(foreign)))
    study = optuna.create_study(storage=storage, study_name=NAME)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ValueError, match="did not make"):
        opened("random", "full", foreign)


@pytest.mark.parametrize(
    ("proposer", "scheduler", "message"),
    [("boh", "full", "did you mean 'bohb'"), ("tpe", "halfing", "did you mean 'halving'")],
)
def test_unknown_names(proposer, scheduler, message):
    with pytest.raises(ValueError, match=message):
        opened(proposer, scheduler)


def test_own_samplers_work_in_any_optuna_study():
    """Without a space or levels: parameters that trials have in common, as Optuna's own."""
    from stepladder.search.proposers.bohb import Bohb

    def objective(trial):
        return (trial.suggest_float("x", -1, 1) - 0.2) ** 2 + trial.suggest_float("y", 0, 1)

    study = optuna.create_study(sampler=Bohb(seed=3))
    study.optimize(objective, n_trials=40)
    assert study.best_value < 0.15
