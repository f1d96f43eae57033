"""What a worker process does: runs from its input, one after another, and what came of each.

Its input is also its leash. Where it ends, because the parent wants the work stopped or was killed,
the run at hand saves a checkpoint at its next step, as after Ctrl-C, and the process ends.
"""

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import IO, Any

import torch

from stepladder.data import Dataset
from stepladder.recipe import Recipe
from stepladder.store import Store
from stepladder.train import choose_execution, train

NOTICE_SECONDS = 0.1  # between two notices of one run

# ("step", 12), ("row", {..}), ("result", {..}) or ("error", an exception)
Message = tuple[str, Any]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run to make, with all that it needs; small, since a dataset pickles as its folder."""

    recipe: Recipe
    store: Store
    dataset: Dataset


def serve() -> None:
    """Train jobs from standard input, with one thread, until it ends; never returns.

    Ends without the interpreter's teardown, which would wait for the thread that reads the input.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits "ignore"
    torch.set_num_threads(1)
    jobs: SimpleQueue[Job | None] = SimpleQueue()
    answers = _own_output()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    # Stopped, or nobody listens any more: all is on disk either way.
    with suppress(KeyboardInterrupt, BrokenPipeError):
        while (job := jobs.get()) is not None:
            send(answers, _answer(job, answers))
    os._exit(0)


def send(pipe: IO[bytes], message: object) -> None:
    """Write a pickle to a pipe at once."""
    pickle.dump(message, pipe)
    pipe.flush()


def _own_output() -> IO[bytes]:
    """Standard output for messages alone: what a library prints goes to standard error."""
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return own


def _listen(jobs: "SimpleQueue[Job | None]") -> None:
    """Passes jobs on; at the end of the input it stops the main thread, idle or at a run."""
    try:
        while True:
            jobs.put(pickle.load(sys.stdin.buffer))
    except (EOFError, pickle.UnpicklingError):  # closed, or the parent died in mid-sentence
        jobs.put(None)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)


def _answer(job: Job, answers: IO[bytes]) -> Message:
    try:
        execution = choose_execution(job.recipe, "cpu")
        relay = Relay(answers, job.recipe.steps)
        return "result", train(job.recipe, job.store, job.dataset, execution=execution, watch=relay)
    except Exception as error:
        return "error", portable(error)


def portable(error: Exception) -> Exception:
    """The error as it can be sent; what is no ValueError, for the user, keeps its traceback."""
    if not isinstance(error, ValueError):
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its constructor does with arguments that it was not written for
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        return kind(str(error))
    return error


class Relay:
    """A watcher that tells the parent, seldom enough that telling costs nothing.

    The first and the last step and every measurement are told; of the others, ten a second.
    """

    def __init__(self, pipe: IO[bytes], steps: int) -> None:
        self.pipe, self.steps = pipe, steps
        self.told = {"step": float("-inf"), "row": float("-inf")}

    def step(self, step: int) -> None:
        """Tells of a step."""
        self._tell("step", step, always=step == self.steps)

    def row(self, row: dict[str, Any]) -> None:
        """Tells of a row."""
        self._tell("row", row, always="validation_loss" in row)

    def _tell(self, kind: str, content: object, *, always: bool) -> None:
        now = time.monotonic()
        if always or now - self.told[kind] >= NOTICE_SECONDS:
            self.told[kind] = now
            with suppress(BrokenPipeError):  # the parent is gone: the run is about to be saved
                send(self.pipe, (kind, content))
