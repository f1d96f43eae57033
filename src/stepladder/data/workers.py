"""Encoding jobs over processes.

The workers are fresh interpreters that speak pickle over pipes. Unlike a process pool they neither
fork a program that already runs threads (torch) nor import the user's script again, so a script
without `if __name__ == "__main__"` works on macOS too; and they end when their parent does, even
when it was killed, because their input ends.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from stepladder.data.encode import Encoded, Job, encode
from stepladder.data.tokenizers import BYTES

# Seconds of work below which starting processes does not pay, and the speeds that tell, in bytes a
# second of one process (orders of magnitude, measured by benchmarks/bench_data.py).
WORTH_SECONDS = 2.0
SPEED = {True: 100e6, False: 3e6}


def encode_all(jobs: Sequence[Job], workers: int | None) -> Iterator[Encoded]:
    """The jobs' results in order; ValueError as from `encode` for the first job that fails."""
    count = _worker_count(jobs) if workers is None else min(workers, len(jobs))
    if count <= 1:
        yield from map(encode, jobs)
        return
    pool = [Worker() for _ in range(count)]
    idle: SimpleQueue[Worker] = SimpleQueue()
    for worker in pool:
        idle.put(worker)
    threads = ThreadPoolExecutor(count)
    try:
        yield from threads.map(partial(_encode_on, idle), jobs)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in pool:
            worker.kill()
        threads.shutdown()
        for worker in pool:
            worker.close()


def _encode_on(idle: SimpleQueue["Worker"], job: Job) -> Encoded:
    worker = idle.get()
    try:
        return worker.encode(job)
    finally:
        idle.put(worker)


def _worker_count(jobs: Sequence[Job]) -> int:
    seconds = sum(job.size / SPEED[job.tokenizer == BYTES] for job in jobs)
    return min(cpu_count(), len(jobs)) if seconds > WORTH_SECONDS else 1


def cpu_count() -> int:
    """CPUs this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def one_thread() -> dict[str, str]:
    """The environment of a process with this package, and one thread for whatever library counts
    threads."""
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": path}


class Worker:
    """One process that encodes one job at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from stepladder.data.workers import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is the parent's to handle
            env=one_thread() | {"TOKENIZERS_PARALLELISM": "false"},  # the workers are it
        )

    def encode(self, job: Job) -> Encoded:
        """Runs the job there; raises what it raised there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            _send(self._process.stdin, job)
            answer = pickle.load(self._process.stdout)
        except (EOFError, OSError) as error:
            raise RuntimeError(
                f"a tokenizer process ended (status {self._process.wait()}), perhaps out of memory:"
                f" run again, with fewer workers"
            ) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def kill(self) -> None:
        """Ends the process, whatever it is at."""
        self._process.kill()

    def close(self) -> None:
        """Waits for the end of a killed process, and closes its pipes."""
        self._process.communicate()


def _send(pipe: IO[bytes], message: Any) -> None:
    pickle.dump(message, pipe)
    pipe.flush()


def serve() -> None:
    """What a worker runs: jobs from standard input, results to standard output, until it ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while True:
        try:
            job = pickle.load(requests)
        except EOFError:
            return
        try:
            answer: Encoded | Exception = encode(job)
        except (ValueError, OSError) as error:
            answer = error
        _send(answers, answer)
