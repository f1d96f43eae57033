"""Runs in parallel on the CPU: a process a core, a thread a process.

A tiny model leaves a second thread little to do, and a run a core uses the cores better: on two of
them 1.7 to 2.2 times (benchmarks/bench_stacked.py). The processes are fresh interpreters
that speak pickle over pipes, as those that encode text do (`stepladder.data.workers`, which says
why), and live as long as the pool: importing torch takes seconds.
"""

import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pickle import UnpicklingError, load
from queue import SimpleQueue

from stepladder.closing import Closing
from stepladder.cost import cost
from stepladder.data import Dataset
from stepladder.data.workers import cpu_count, one_thread
from stepladder.execute.here import AtWork, Result, Watch, run_here, take_paid
from stepladder.execute.serve import Job, Message, send
from stepladder.recipe import Recipe
from stepladder.store import Store
from stepladder.train import find_device

ENDED = "ended"  # the one message that the parent writes itself, with the exit status


def run_workers(
    asked: Sequence[tuple[str, Recipe]],
    store: Store,
    dataset: Dataset,
    watch: Watch,
    device: str = "cpu",
    workers: int | None = None,
) -> list[Result]:
    """Train recipes in parallel and return their results in the order asked; see `Workers`."""
    with Workers(store, dataset, watch, device, workers) as pool:
        return pool.run(asked)


class Workers(Closing):
    """A pool of processes that train; they start when they are first needed.

    On CUDA, and on a machine of one CPU, runs are made here, one after another.

    Args:
        watch: what to show a run with; its watchers are called in the thread that calls `run`.
        device: auto, cpu or cuda.
        workers: processes at most; one per CPU that this process may use if None.

    Raises:
        ValueError: `workers` is less than 1, or the device is not there.
    """

    def __init__(
        self,
        store: Store,
        dataset: Dataset,
        watch: Watch,
        device: str = "cpu",
        workers: int | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be 1 or more, not {workers}")
        self.store, self.dataset, self.watch, self.device = store, dataset, watch, device
        many = workers is not None or cpu_count() > 1
        self.parallel = many and find_device(device).type == "cpu"
        self.count = workers or cpu_count()
        self._pool: list[_Worker] = []
        self._events: SimpleQueue[tuple[_Worker, Message]] = SimpleQueue()

    def run(self, asked: Sequence[tuple[str, Recipe]]) -> list[Result]:
        """Train recipes, the largest first, and return their results in the order asked.

        What is in the store, or asked twice, is not run again. Where a run fails no other is
        started, those at work finish, and then it raises. Ctrl-C saves every run at its next step.

        Raises:
            ValueError: as `train`; a worker was killed, and its run is named.
        """
        if not self.parallel:
            return self._here(asked)
        results, fresh = take_paid(asked, self.store, self.dataset, self.watch)
        try:
            self._train(fresh, results)
        except BaseException:
            self.close()
            raise
        return [results[recipe.key] for _, recipe in asked]

    def close(self) -> None:
        """Stop every worker; runs at work save a checkpoint. A second Ctrl-C does not wait."""
        pool, self._pool = self._pool, []
        self._events = SimpleQueue()  # what stopped workers still say interests nobody
        try:
            for worker in pool:
                worker.stop()
            for worker in pool:
                worker.join()
        except BaseException:
            for worker in pool:
                worker.kill()
            raise

    def _here(self, asked: Sequence[tuple[str, Recipe]]) -> list[Result]:
        return run_here(asked, self.store, self.dataset, self.watch, self.device)

    def _train(self, asked: Sequence[tuple[str, Recipe]], results: dict[str, Result]) -> None:
        """Runs what is asked, distinct recipes, into `results`; raises the first failure."""
        waiting = deque(sorted(asked, key=lambda pair: -_work(pair[1])))
        failures: list[Exception] = []
        self._hand_out(waiting)
        while any(worker.run for worker in self._pool):
            worker, message = self._events.get()
            self._take(worker, message, results, failures)
            if not failures:
                self._hand_out(waiting)
        if failures:
            raise failures[0]

    def _hand_out(self, waiting: deque[tuple[str, Recipe]]) -> None:
        while waiting and (worker := self._idle()):
            label, recipe = waiting.popleft()
            run = AtWork(label=label, recipe=recipe, watcher=self.watch(label, recipe))
            worker.start(run, Job(recipe=recipe, store=self.store, dataset=self.dataset))

    def _idle(self) -> "_Worker | None":
        """A worker without a run, a new one where there may be more."""
        idle = next((worker for worker in self._pool if worker.run is None), None)
        if idle is None and len(self._pool) < self.count:
            idle = _Worker(self._events)
            self._pool.append(idle)
        return idle

    def _take(
        self,
        worker: "_Worker",
        message: Message,
        results: dict[str, Result],
        failures: list[Exception],
    ) -> None:
        kind, content = message
        run = worker.run
        if kind == ENDED:
            self._pool.remove(worker)
            worker.join()
        if run is None:
            return
        if kind == "step":
            run.watcher.step(content)
        elif kind == "row":
            run.watcher.row(content)
        else:
            worker.run = None
            if kind == "result":
                results[run.recipe.key] = content
                run.settle()
            else:
                failures.append(_lost(run, content) if kind == ENDED else run.noted(content))


def _work(recipe: Recipe) -> float:
    spent = cost(recipe)
    return spent.flops_total + spent.flops_evaluation


def _lost(run: AtWork, status: int) -> ValueError:
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    return ValueError(
        f"the process of {run.name} ended ({how}), perhaps for want of "
        "memory: run again, with fewer workers if so; it goes on from its checkpoint, and what the "
        "others finished is kept"
    )


class _Worker:
    """One process, one run at a time; what it says goes to a queue."""

    def __init__(self, events: SimpleQueue[tuple["_Worker", Message]]) -> None:
        self.run: AtWork | None = None
        self._begun = False  # the run has taken a step
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from stepladder.execute.serve import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the parent's to handle
            env=one_thread(),
        )
        self._listener = threading.Thread(target=self._listen, args=(events,), daemon=True)
        self._listener.start()

    def start(self, run: AtWork, job: Job) -> None:
        """Hands a run over."""
        self.run, self._begun = run, False
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, as its listener will say
            send(self._process.stdin, job)

    def stop(self) -> None:
        """Lets a run save itself, and ends a process that has nothing to save."""
        if self.run is None or not self._begun:
            self._process.kill()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def kill(self) -> None:
        """Ends the process, whatever it is at."""
        self._process.kill()
        self.join()

    def join(self) -> None:
        """Waits for the end of a stopped process, and closes its pipes."""
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()

    def _listen(self, events: SimpleQueue[tuple["_Worker", Message]]) -> None:
        assert self._process.stdout is not None
        with suppress(EOFError, UnpicklingError):  # it ended, perhaps in mid-sentence
            while True:
                message: Message = load(self._process.stdout)
                self._begun = True
                events.put((self, message))
        events.put((self, (ENDED, self._process.wait())))
