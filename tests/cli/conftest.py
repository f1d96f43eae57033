"""What tests of verbs share: the verbs in this process, Ctrl-C to them in another, and a cache in
which the machine at hand is already measured."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from stepladder import calibration
from stepladder.cli import main
from stepladder.data.workers import cpu_count
from test_devices import QUICK


class Said(NamedTuple):
    """A verb's exit status, and what it printed."""

    status: int
    out: str
    err: str


Verb = Callable[..., Said]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder. To measure this machine as users do would take most of a minute."""
    folder = tmp_path_factory.mktemp("cache")
    device = calibration.measure("cpu", QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPLADDER_CACHE", str(folder))
        for kind in ("cpu", f"cpu, {cpu_count()} side by side"):
            calibration._write(calibration._cache_file(kind), device)
    return folder


@pytest.fixture
def stepladder(
    place: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Verb:
    """Runs a verb in the module's place."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("STEPLADDER_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "200")

    def stepladder(*words: str) -> Said:
        status = main(list(words))
        return Said(status, *capsys.readouterr())

    return stepladder


def interrupt(words: tuple[str, ...], place: Path, cache: Path, runs: int) -> dict[Path, int]:
    """Stops a verb with Ctrl-C once it has made some runs; what is paid for by then."""
    going = subprocess.Popen(
        [sys.executable, "-m", "stepladder", *words],
        cwd=place,
        env=os.environ | {"STEPLADDER_CACHE": str(cache)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 240
    while len(finished(place)) < runs:
        assert going.poll() is None, going.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)
    going.send_signal(signal.SIGINT)
    _, said = going.communicate(timeout=60)
    assert going.returncode == 130
    assert "the same command resumes" in said
    return finished(place)


def finished(place: Path) -> dict[Path, int]:
    """Results with the times they were written."""
    return {file: file.stat().st_mtime_ns for file in place.glob("runs/*/result.json")}
