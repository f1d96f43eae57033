"""Runs on a Ray cluster: a task a run, a CPU or a GPU a task, one store that all nodes see.

What a run has reached is in the store and nowhere else: its checkpoints are there, so that a run
whose worker or node was lost goes on elsewhere, and its curve is there, which is all that watchers
are told from. Ray brings work to machines, and word of what became of it.
"""

import os
import pickle
import socket
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from stepladder.closing import Closing
from stepladder.cost import cost
from stepladder.data import Dataset
from stepladder.execute.here import AtWork, Result, Watch, take_paid
from stepladder.execute.serve import Job, Message, portable
from stepladder.recipe import Recipe
from stepladder.run_directory import CURVE, Damaged, read_curve
from stepladder.store import Busy, Store
from stepladder.train import choose_execution, train

ATTEMPTS = 3  # of one run, each from the newest checkpoint
POLL_SECONDS = 0.2  # between two looks at the curves of the runs at work
CONNECT_SECONDS = 5.0  # Ray itself would try a dead address for a minute
# The lock of a node that was lost is another node's to wait for: NFS gives it up with the lease.
LOCK_SECONDS = 120.0


@dataclass(kw_only=True)
class _Run(AtWork):
    """A run at work, what its watcher was told, and how it was lost so far."""

    told: set[tuple[int, bool]] = field(default_factory=set)
    losses: list[str] = field(default_factory=list)

    def tell(self, store: Store) -> None:
        """Tells the watcher of the rows that its curve has gained."""
        with suppress(Damaged, OSError):  # the run itself will say so
            for row in read_curve(store.folder(self.recipe.key) / CURVE)[0]:
                what = row["step"], "validation_loss" in row
                if what not in self.told:  # a resumed run makes some rows again
                    self.told.add(what)
                    self.watcher.row(row)
                    self.watcher.step(row["step"])


class RayCluster(Closing):
    """Trains recipes on the nodes of a Ray cluster, as many at once as it has room for.

    Args:
        store, dataset: on a file system that every node sees under the same path.
        watch: what to show a run with; its watchers are called in the thread that calls `run`, a
            row of the curve at a time.
        device: auto, cpu or cuda; auto is CUDA where the cluster has GPUs.
        address: "auto" (the cluster of this node), "host:port" or "ray://host:port"; if None, that
            of RAY_ADDRESS, or else a cluster of this machine alone that ends with this object. A
            connection that this process has already is used, and stays.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(
        self,
        store: Store,
        dataset: Dataset,
        watch: Watch,
        device: str = "auto",
        address: str | None = None,
    ) -> None:
        self.store, self.watch, self.device = Store(store.root.absolute()), watch, device
        self.dataset = replace(dataset, folder=dataset.folder.absolute())
        self.ray = _imported()
        self._is_mine = not self.ray.is_initialized()
        if self._is_mine:
            _connect(self.ray, address or os.environ.get("RAY_ADDRESS"))
        self._task = self.ray.remote(_work)
        self._at_work: dict[Any, _Run] = {}  # by the reference of their task's answer

    def run(self, asked: Sequence[tuple[str, Recipe]]) -> list[Result]:
        """Train recipes, the dearest first, and return their results in the order asked.

        What is in the store, or asked twice, is not run again. Where a run fails no other is
        started, those at work finish, and then it raises. A run whose worker or node is lost goes
        on from its checkpoint elsewhere. Ctrl-C saves every run at its next step.

        Raises:
            ValueError: as `stepladder.train.train`; a run was lost `ATTEMPTS` times, and is named;
                the cluster has no such device, or a node does not see the store.
        """
        results, fresh = take_paid(asked, self.store, self.dataset, self.watch)
        try:
            self._train(fresh, results)
        except BaseException:
            self._stop()
            raise
        return [results[recipe.key] for _, recipe in asked]

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._is_mine and self.ray.is_initialized():
            self.ray.shutdown()

    def _train(self, asked: Any, results: dict[str, Result]) -> None:
        """Runs what is asked, distinct recipes, into `results`; raises the first failure."""
        waiting = deque(sorted(asked, key=lambda pair: -cost(pair[1]).flops_total))
        failures: list[Exception] = []
        while self._at_work or (waiting and not failures):
            while waiting and not failures and len(self._at_work) < self._room():
                label, recipe = waiting.popleft()
                watcher = self.watch(label, recipe)
                self._start(_Run(label=label, recipe=recipe, watcher=watcher))
            done, _ = self.ray.wait(list(self._at_work), timeout=POLL_SECONDS)
            for run in self._at_work.values():
                run.tell(self.store)
            for reference in done:
                self._take(reference, results, failures)
        if failures:
            raise failures[0]

    def _room(self) -> int:
        """How many runs the cluster has room for; it may grow and shrink."""
        there = self.ray.cluster_resources()
        room = int(there.get("GPU" if self._uses_gpus() else "CPU", 0))
        if room < 1 and not self._at_work:
            raise ValueError(
                f"the Ray cluster has no {'GPU' if self._uses_gpus() else 'CPU'} now: add a node "
                "that has one (ray start --address=...), or choose another --device"
            )
        return room

    def _uses_gpus(self) -> bool:
        if self.device == "auto":
            return self.ray.cluster_resources().get("GPU", 0) >= 1
        return self.device.startswith("cuda")

    def _start(self, run: _Run) -> None:
        self.store.root.mkdir(parents=True, exist_ok=True)  # so that a node can tell if it sees it
        job = Job(recipe=run.recipe, store=self.store, dataset=self.dataset)
        gpus = int(self._uses_gpus())
        task = self._task.options(num_cpus=1, max_retries=0, **({"num_gpus": gpus} if gpus else {}))
        reference = task.remote(
            pickle.dumps(job),  # as bytes: what cannot be read there is said by the task
            str(self.store.root),
            "cuda" if gpus else "cpu",
            LOCK_SECONDS if run.losses else 0.0,
        )
        self._at_work[reference] = run

    def _take(self, reference: Any, results: dict[str, Result], failures: list[Exception]) -> None:
        """What became of a task: its result, its failure, or another attempt."""
        run = self._at_work.pop(reference)
        kind, content = self._answer(reference)
        if kind == "result":
            results[run.recipe.key] = content
            run.settle()
        elif kind == "error":
            failures.append(run.noted(content))
        else:
            run.losses.append(content)
            if len(run.losses) < ATTEMPTS:
                self._start(run)
            else:
                failures.append(_lost(run))

    def _answer(self, reference: Any) -> Message:
        """A task's own answer, or ("lost", how) where it can give none any more."""
        errors = self.ray.exceptions
        try:
            message: Message = self.ray.get(reference)
        except errors.OutOfMemoryError:
            return "lost", "its node ran out of memory"
        except (errors.NodeDiedError, errors.LocalRayletDiedError, errors.ObjectLostError):
            return "lost", "its node was lost"
        except errors.WorkerCrashedError:
            return "lost", "its worker process was killed"
        except errors.RayError as error:  # before the task began: it could not be loaded there
            return "error", ValueError(
                f"a node could not start a run: install the same stepladder on all nodes ({error})"
            )
        return message

    def _stop(self) -> None:
        """Interrupts the runs at work and waits until they are saved."""
        at_work, self._at_work = list(self._at_work), {}
        for reference in at_work:
            self.ray.cancel(reference)
        self.ray.wait(at_work, num_returns=len(at_work)) if at_work else None


def _work(job: bytes, root: str, device: str, patience: float) -> Message:
    """One run, on a node. Ray cancels a task as Ctrl-C would: a run then saves itself and ends."""
    try:
        return "result", _trained(job, root, device, time.monotonic() + patience)
    except Exception as error:
        return "error", portable(error)


def _trained(job: bytes, root: str, device: str, deadline: float) -> Result:
    if device == "cpu":
        torch.set_num_threads(1)
    given = _unpacked(job, root)
    execution = choose_execution(given.recipe, device)
    while True:
        try:
            return train(given.recipe, given.store, given.dataset, execution=execution)
        except Busy:
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)


def _unpacked(job: bytes, root: str) -> Job:
    """The job, where this node sees the files that it speaks of."""
    fix = "keep runs and data on a file system that every node mounts at the same path"
    if not Path(root).is_dir():
        raise ValueError(f"node {socket.gethostname()} does not see {root}: {fix}")
    try:
        given: Job = pickle.loads(job)
    except FileNotFoundError as error:  # a dataset pickles as its folder
        raise ValueError(
            f"node {socket.gethostname()} does not see {error.filename}: {fix}"
        ) from error
    return given


def _lost(run: _Run) -> ValueError:
    return ValueError(
        f"{run.name} was lost {len(run.losses)} times and tried again from its checkpoint each "
        f"time ({'; '.join(run.losses)}): see to the nodes, or give each more memory, and run "
        "again; it goes on from its checkpoint, and what the others finished is kept"
    )


def _imported() -> Any:
    # Ray reports on its use over the network unless told otherwise; that is the user's to choose.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ValueError("Ray is not installed: pip install 'stepladder[ray]'") from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    """Joins the cluster at an address, or starts one here; ValueError where that fails."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None or address == "local":
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    _require_listener(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(_not_there(address, error)) from error


def _require_listener(address: str) -> None:
    """ValueError where nothing listens at an address that names a host and a port."""
    if address == "auto":
        return
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        host, port = parts.hostname, parts.port or (10001 if parts.scheme == "ray" else 6379)
        socket.create_connection((host or "", port), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ValueError(_not_there(address, error)) from error


def _not_there(address: str, error: Exception) -> str:
    return (
        f"no Ray cluster answers at {address!r} ({str(error).splitlines()[0]}): start one with "
        "`ray start --head`, or give the address that it printed"
    )
