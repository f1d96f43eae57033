"""Optuna's journal, made for many short trials and for sudden ends.

The file is Optuna's own format: `optuna.load_study` and the dashboard read it as it is.
"""

import json
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from stepladder.durable import full_disk_named, sync_file

_SET_STATE = 6  # JournalOperation.SET_TRIAL_STATE_VALUES


class Journal(JournalFileBackend):
    """A journal that waits for the disk only where a result is told.

    All else is in the kernel's hands at once, so that `kill -9` loses nothing that was written. A
    line that a full disk or a loss of power cut short is taken off when the file is opened: it was
    told to nobody, and lines after it would be unreadable. There is no lock file to outlive its
    process: a batch of lines is one append, which the kernel keeps whole.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(path)
        super().__init__(str(path))
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Appends; on disk when this returns, where a trial ends in it."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with full_disk_named(self.path.parent), self.path.open("ab") as file:
            file.write(text.encode())
        if any(_is_told(log) for log in logs):
            sync_file(self.path)


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
