"""Optuna's journal, made for many short trials and for sudden ends.

The file is Optuna's own format: `optuna.load_study` and the dashboard read it as it is.
"""

import json
import time
from collections.abc import Container, Generator
from copy import deepcopy as copied
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from stepladder.durable import full_disk_named, sync_file

_SET_STATE = 6  # JournalOperation.SET_TRIAL_STATE_VALUES
SYNC_SECONDS = 1.0  # results told within this time of a sync do not wait for one of their own


class Journal(JournalFileBackend):
    """A journal that seldom waits for the disk.

    All that is written is in the kernel's hands at once, so that `kill -9` loses nothing. Results
    are synced as they are told, but at most once a second: a loss of power may take those of the
    last second, and then their runs are handed out again, which the store has and nobody pays
    twice. A line that a full disk or a loss of power cut short is taken off when the file is
    opened: lines after it would be unreadable. There is no lock file to outlive its process: a
    batch of lines is one append, which the kernel keeps whole.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        super().__init__(str(path))
        self.path = path
        self._synced = -SYNC_SECONDS
        self._read = (-1, -1)  # log number and size of the file up to which it was read

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends, and syncs where a trial ends in it and the last sync is a while ago."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with full_disk_named(self.path.parent), self.path.open("ab") as file:
            file.write(text.encode())
        if any(_is_told(log) for log in logs) and time.monotonic() - self._synced > SYNC_SECONDS:
            self.sync()

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """What was appended since; Optuna asks more often than anything was."""
        size = self.path.stat().st_size
        if self._read == (log_number_from, size):
            return
        number = log_number_from
        for log in super().read_logs(log_number_from):
            number += 1
            yield log
        self._read = (number, size)

    def sync(self) -> None:
        """Wait until all of it is on the disk."""
        sync_file(self.path)
        self._synced = time.monotonic()


@dataclass
class _Listed:
    """The trials of a study by number, and which of them may still change."""

    trials: list[FrozenTrial] = field(default_factory=list)
    at_work: list[int] = field(default_factory=list)


class Ledger(JournalStorage):
    """Optuna's storage on a journal, whose list of trials costs what changed and not what is there.

    A trial that ended never changes again, so that only those at work are looked up anew.
    """

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self._listed: dict[int, _Listed] = {}

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Trials by number, as any of Optuna's storages."""
        listed = self._listed.get(study_id)
        if listed is None:
            listed = self._listed[study_id] = _Listed(super().get_all_trials(study_id, False))
            listed.at_work = list(range(len(listed.trials)))
        self._refresh(listed, study_id)
        if states == (TrialState.WAITING,):  # asked for before every trial
            trials = [listed.trials[number] for number in listed.at_work]
        else:
            trials = listed.trials.copy()
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copied(trials) if deepcopy else trials

    def _refresh(self, listed: _Listed, study_id: int) -> None:
        for number in listed.at_work:
            listed.trials[number] = self.get_trial(listed.trials[number]._trial_id)
        while (trial := self._numbered(study_id, len(listed.trials))) is not None:
            listed.at_work.append(trial.number)
            listed.trials.append(trial)
        listed.at_work = [n for n in listed.at_work if not listed.trials[n].state.is_finished()]

    def _numbered(self, study_id: int, number: int) -> FrozenTrial | None:
        try:
            return self.get_trial(self.get_trial_id_from_study_id_trial_number(study_id, number))
        except KeyError:
            return None


def _is_told(log: dict[str, Any]) -> bool:
    state = log.get("state")
    return log["op_code"] == _SET_STATE and state is not None and TrialState(state).is_finished()


def _cut_torn_line(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("ab") as file:
                file.truncate(whole)
