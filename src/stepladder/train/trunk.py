"""The trunk of a run: its first steps, for as long as they do not depend on where it ends.

Warmup-stable-decay runs of different lengths take the same steps until the shorter one begins to
decay (Hägele et al., arXiv:2405.18392, section 4); a constant rate, an infinite schedule or an
inverse root share them likewise. So a run keeps its state at the end of its trunk, and a run that
would take the same steps first starts from there, with the bits that it would have had:

    stem      everything in a recipe but its horizon, its schedule and when it is measured
    digest    the rates of the steps of a trunk, to the bit

Two runs with one stem are one run for as long as their digests agree. Nothing here knows schedules
by name. Rates during a warmup agree only where its length is in tokens (`stepladder.schedules`).
"""

import hashlib
import json
import struct
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from stepladder.branches import Branch, find_branch, known_branches
from stepladder.recipe import Recipe, Schedule
from stepladder.train.feedback import reacts
from stepladder.train.timeline import evaluation_steps, rate_factor, warmup_steps

TRAIL, MEASURED = "trail.npy", "measured.json"
DIGEST_LENGTH = 16

Row = dict[str, Any]


def stem_of(recipe: Recipe) -> str | None:
    """What recipes share that may have a trunk in common; None where steps react to training."""
    if reacts(recipe):
        return None
    return replace(recipe, tokens=recipe.batch, schedule=Schedule(), evaluations=1).key


def lengthened(recipe: Recipe, tokens: int) -> Recipe:
    """The recipe with another horizon; a schedule's own parameter `tokens` follows it."""
    params = dict(recipe.schedule.params)
    if "tokens" in params:
        params["tokens"] = tokens
    return replace(recipe, tokens=tokens, schedule=replace(recipe.schedule, params=params))


@lru_cache(maxsize=64)
def trunk_steps(recipe: Recipe) -> int:
    """How many steps a run of twice the horizon would begin with alike; 0 where they are no more
    than the warmup, which is not worth a checkpoint."""
    if stem_of(recipe) is None:
        return 0
    longer = lengthened(recipe, 2 * recipe.tokens)
    differ = (
        step
        for step in range(recipe.steps)
        if rate_factor(recipe, step) != rate_factor(longer, step)
    )
    end = next(differ, recipe.steps)
    return end if end > ceil(warmup_steps(recipe)) else 0


def digests(recipe: Recipe, ends: Iterable[int]) -> dict[int, str]:
    """The digest of the first steps of a recipe, for each number of them in `ends`."""
    wanted, out, rates = set(ends), {}, hashlib.sha256()
    for step in range(max(wanted, default=-1) + 1):
        if step in wanted:
            out[step] = rates.hexdigest()[:DIGEST_LENGTH]
        if step < recipe.steps:
            rates.update(struct.pack("<d", rate_factor(recipe, step)))
    return out


def branches_for(recipe: Recipe, root: Path) -> Iterator[Branch]:
    """Branch points of a store that a run of a recipe can start from, the furthest first."""
    stem = stem_of(recipe)
    if stem is None:
        return
    known = [(step, digest) for step, digest in known_branches(root, stem) if step <= recipe.steps]
    own = digests(recipe, (step for step, _ in known))
    for step, digest in known:
        branch = find_branch(root, stem, step, digest) if own[step] == digest else None
        if branch is not None and measured_at(branch, recipe) is not None:
            yield branch


def shared_steps(shorter: Recipe, longer: Recipe) -> int:
    """How many steps of a run are paid for by one that has ended before."""
    end, stem = trunk_steps(shorter), stem_of(shorter)
    if not end or end > longer.steps or stem != stem_of(longer):
        return 0
    alike = digests(shorter, [end]) == digests(longer, [end])
    measured = _owed(longer, end, evaluation_steps(shorter)) is not None
    return end if alike and measured else 0


def measured_at(branch: Branch, recipe: Recipe) -> dict[int, Row] | None:
    """The measurements that a recipe makes on the trunk, by step, from a branch point.

    None where it makes one there that the run of the branch point did not make.
    """
    try:
        rows = json.loads((branch.folder / MEASURED).read_text(encoding="utf-8"))
        found = {row["step"]: row for row in rows}
    except (OSError, ValueError, TypeError, KeyError):
        return None
    owed = _owed(recipe, branch.step, found)
    return None if owed is None else {step: found[step] for step in owed}


def _owed(recipe: Recipe, end: int, measured: Iterable[int]) -> set[int] | None:
    """The steps up to `end` at which a recipe is measured, where all of them have been."""
    owed = {step for step in evaluation_steps(recipe) if step <= end}
    known = {step for step in measured if step <= end}
    # A noise scale speaks of the steps since the last measurement, so that none may be left out.
    fits = owed == known if recipe.accumulate > 1 else owed <= known
    return owed if fits else None


@dataclass
class Trail:
    """Losses and gradient norms of every step from the first: rows of any spacing are made of them.

    Kept while a run is on its trunk; 16 bytes a step.
    """

    losses: "array[float]" = field(default_factory=lambda: array("d"))
    norms: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, losses: Iterable[float], norms: Iterable[float]) -> None:
        """The next steps."""
        self.losses.extend(losses)
        self.norms.extend(norms)

    def __len__(self) -> int:
        return len(self.losses)

    def __iter__(self) -> Iterator[tuple[float, float]]:
        return zip(self.losses, self.norms, strict=True)

    def write(self, folder: Path) -> None:
        """Put it into a checkpoint."""
        np.save(folder / TRAIL, np.array([self.losses, self.norms], dtype=np.float64))

    @classmethod
    def read(cls, folder: Path) -> "Trail | None":
        """That of a checkpoint, None where it has none."""
        try:
            losses, norms = np.load(folder / TRAIL)
        except (OSError, ValueError):
            return None
        return cls(array("d", losses.tolist()), array("d", norms.tolist()))
