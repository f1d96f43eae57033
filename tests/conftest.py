"""Shared test settings: one thread a worker (the suite runs on two), a fixed hypothesis profile."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # more would start processes of its own

# A shell that runs the suite in the background has it ignore Ctrl-C, and so would every process
# that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline would time the machine, which may be busy; failures print what reproduces them.
settings.register_profile("stepladder", deadline=None, print_blob=True)
settings.load_profile("stepladder")


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of published scaling experiments; tests that need it skip where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "realdata"
    folder = Path(os.environ.get("STEPLADDER_REALDATA", default))
    if not folder.is_dir():
        pytest.skip(f"no published data at {folder}; set STEPLADDER_REALDATA")
    return folder
