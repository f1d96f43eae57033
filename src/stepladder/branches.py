"""Branch points of a store: states of runs that other runs can start from.

    runs/<key>/branch/<step>/                the state at the end of a run's trunk: a checkpoint
    runs/.trunks/<stem>/<step>-<digest>      names the run that holds it

What a stem and a digest mean is the caller's business (`stepladder.train.trunk`): equal ones, equal
states. A run keeps one branch point at most, as large as its checkpoint. Deleting `branch/` of any
run, or `.trunks`, frees the room and loses no result: what could have started there starts anew.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stepladder.durable import write_whole
from stepladder.run_directory import BRANCH, is_whole

TRUNKS = ".trunks"


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A branch point: the state of run `run` after `step` steps, in `folder`."""

    run: str
    step: int
    digest: str
    folder: Path


def point_at_branch(root: Path, stem: str, branch: Branch) -> None:
    """Let later runs find a branch point; it may be about to be written.

    Where one of another run is known already and whole, it stays the one that is found.
    """
    if find_branch(root, stem, branch.step, branch.digest) is None:
        pointer = _pointer(root, stem, branch.step, branch.digest)
        pointer.parent.mkdir(parents=True, exist_ok=True)
        write_whole(pointer, f"{branch.run}\n")


def find_branch(root: Path, stem: str, step: int, digest: str) -> Branch | None:
    """The branch point of that trunk after so many steps, where one is whole."""
    try:
        run = _pointer(root, stem, step, digest).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    folder = branch_folder(root / run, step)
    return Branch(run=run, step=step, digest=digest, folder=folder) if is_whole(folder) else None


def known_branches(root: Path, stem: str) -> Iterator[tuple[int, str]]:
    """Step and digest of the branch points of a stem, the furthest first; perhaps not whole."""
    at = root / TRUNKS / stem
    names = [path.name.split("-") for path in at.iterdir()] if at.is_dir() else []
    known = [(int(name[0]), name[1]) for name in names if len(name) == 2 and name[0].isdecimal()]
    yield from sorted(known, reverse=True)


def branch_folder(run: Path, step: int) -> Path:
    """Where a run directory has its branch point."""
    return run / BRANCH / str(step)


def _pointer(root: Path, stem: str, step: int, digest: str) -> Path:
    return root / TRUNKS / stem / f"{step}-{digest}"
