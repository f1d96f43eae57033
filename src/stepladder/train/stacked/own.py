"""Many trainings of the user's own module as one program.

    outcomes = train_many([
        Trial(make=partial(make, lr), batches=batches, steps=200) for lr in rates
    ])

Trials whose modules differ in values only (of parameters, rates, decay, seeds, data) share a
program: `torch.func.vmap` over their stacked parameters and one backward pass for all, so that many
small operations become few large ones. Each trial's losses are those of the same trial alone, and
nothing that becomes of the others changes them. What cannot be stacked is said, and runs alone.
"""

import warnings
from collections import Counter, deque
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from stepladder.scaling.trials import default_loss
from stepladder.train.execution import Execution
from stepladder.train.stacked.functional import (
    FunctionalShare,
    Loss,
    Others,
    loss_of,
    make_of,
    tensors_of,
)
from stepladder.train.stacked.layers import Unstackable
from stepladder.train.stacked.member import Member, Outcome, Trial
from stepladder.train.stacked.planning import fitting
from stepladder.train.stacked.probe import Pattern, check_agreement, drops, probe
from stepladder.train.stacked.program import Program, Threads
from stepladder.train.stacked.rows import Rows
from stepladder.train.stacked.updates import sent

SETTLE_STEPS = 32  # between two looks at the losses on CUDA: each waits for the device
# On a CPU, of memory a trial: from here on its own operations fill a core, and what others add to
# them only fills the caches. A transformer of width 64 with 256 tokens a batch takes 6 MB and
# gains from 1.1 (one thread) on; of width 128 it takes 15 MB and loses a fifth.
CPU_BYTES = 8e6
ONLY = "there is no other to share a program with"
LARGE = "it is large enough to fill the processor by itself"


def train_many(
    trials: Sequence[Trial], *, loss: Loss = default_loss, room: int | None = None
) -> list[Outcome]:
    """Train modules side by side, on the device that they are on.

    Trials of several shapes may be given: those that are alike share a program. A trial whose loss
    is not finite ends there, and makes room for the next.

    Args:
        loss: (model, batch) -> mean loss of the batch, 0-d; if not given, the cross-entropy of
            (inputs, targets), or of tokens that predict the next.
        room: trials of one program at most; if None, as many as fit the device, and on a CPU one
            where a trial fills it by itself.

    Returns:
        An outcome a trial, in the order given.

    Raises:
        ValueError: a trial runs out of batches, or its batches change shape; `room` is less than
            1. What a model, a loss or a `measure` raises comes with the trial's label.
    """
    if room is not None and room < 1:
        raise ValueError(f"room must be 1 or more, not {room}")
    waiting = deque(Member(trial, place) for place, trial in enumerate(trials))
    done: dict[int, Outcome] = {}
    with warnings.catch_warnings():  # what vmap runs trial by trial is slow, and right
        warnings.filterwarnings("ignore", message="There is a performance drop")
        while waiting:
            waiting.extendleft(reversed(_train_alike(waiting, done, loss, room)))
    _say(done.values())
    return [done[place] for place in sorted(done)]


def _train_alike(
    waiting: deque[Member], done: dict[int, Outcome], loss: Loss, room: int | None
) -> list[Member]:
    """Trains the first trial and all that are like it; gives those that are not."""
    first = waiting.popleft()
    with first.on_its_own():
        first.open()
        masked = drops(first, loss)
        try:
            pattern = probe(first, loss, masked=masked)
        except Unstackable as reason:
            done[first.place] = _alone(first, loss, masked, str(reason))
            return []
        execution = _execution(first)
        if room is None:
            room = fitting(pattern.bytes, len(waiting) + 1, execution)
            if execution.device.type == "cpu" and pattern.bytes > CPU_BYTES:
                room = 1
        if room == 1 or not waiting:
            done[first.place] = _alone(first, loss, masked, LARGE if waiting else ONLY)
            return []
    waiting.appendleft(first)
    with Threads(execution) as threads:
        return _Stack(pattern, min(room, len(waiting)), threads, done).run(waiting)


class _Stack:
    """The trials at work: trial i has row i of the program."""

    def __init__(
        self, pattern: Pattern, room: int, threads: Threads, done: dict[int, Outcome]
    ) -> None:
        self.pattern, self.room, self.done = pattern, room, done
        self.members: list[Member] = []
        self.pending: list[Tensor] = []  # losses [S] by step
        model = pattern.first.model
        rows = Rows(model, pattern.groups, alone=(), room=room)
        trained = {name for group in pattern.groups for name in group}
        self.others = Others(model, trained, room)
        self.losses = [pattern.vmapped() for _ in range(threads.count)]
        shares = [FunctionalShare(rows, self.others, losses) for losses in self.losses]
        self.program = Program(rows, pattern.first.optimizer, shares, threads, fixed=True)
        self.program.shrink_to(room)
        self.settle_steps = 1 if rows.device.type == "cpu" else SETTLE_STEPS

    def run(self, waiting: deque[Member]) -> list[Member]:
        """Trains all that are alike; gives the others."""
        apart: list[Member] = []
        while True:
            while waiting and len(self.members) < self.room:
                member = waiting.popleft()
                if not self._enter(member):
                    apart.append(member)
            if not self.members:
                return apart
            self._advance()

    def _enter(self, member: Member) -> bool:
        """Let a trial in, if it is like the first."""
        with member.on_its_own():
            member.open()
            if self.pattern.difference(member):
                return False
            if member is not self.pattern.first:
                try:
                    check_agreement(self.losses[0], member, self.pattern.loss)
                except Unstackable:
                    return False
        self._settle()
        self.members.append(member)
        self._place(len(self.members) - 1, member)
        return True

    def _place(self, row: int, member: Member) -> None:
        self.program.adopt(row, member)
        self.others.adopt(row, member.model)

    def _advance(self) -> None:
        """One step of all, after which some may leave."""
        for member in self.members:
            member.set_rates()
        losses_S, _ = self.program.step(self.members, self._inputs())
        self.pending.append(losses_S)
        for member in self.members:
            with member.on_its_own():
                member.stepped()
        over = any(member.is_over for member in self.members)
        if over or len(self.pending) == self.settle_steps:
            self._settle()
        for member in [member for member in self.members if member.is_over]:
            self._leave(member)

    def _leave(self, member: Member) -> None:
        """The last trial takes the row of one that is over."""
        row, last = self.members.index(member), self.members.pop()
        self.program.updates.settle(member)
        member.let_go()
        if last is not member:
            self.members[row] = last
            self._place(row, last)
        with member.on_its_own():
            self.done[member.place] = member.outcome()

    def _inputs(self) -> list[Tensor]:
        """The tensors of all trials' batches, [S, ...] each; last, keys of dropout where it is."""
        batches = [member.batch for member in self.members]
        for member, batch in zip(self.members, batches, strict=True):
            if make_of(batch) != make_of(self.losses[0].like):
                with member.on_its_own():
                    raise ValueError(
                        f"its batch of step {member.steps_done} has another shape than the first: "
                        "leave out incomplete ones (drop_last=True)"
                    )
        stacked = [torch.stack(same) for same in zip(*map(tensors_of, batches), strict=True)]
        if self.pattern.masked:
            keys = torch.tensor([member.key for member in self.members])
            stacked.append(sent(keys, stacked[0].device))
        return stacked

    def _settle(self) -> None:
        """Read the losses back from the device; waits for it."""
        if self.pending:
            by_member = torch.stack(self.pending).T.tolist()
            for member, losses in zip(self.members, by_member, strict=True):
                member.note(losses)
            self.pending = []


def _alone(member: Member, loss: Loss, masked: bool, reason: str) -> Outcome:
    """Train a trial by itself, as anyone would."""
    execution = _execution(member)
    on_cuda = [execution.device] if execution.device.type == "cuda" else []
    pending: list[Tensor] = []
    with torch.random.fork_rng(on_cuda):
        torch.manual_seed(member.trial.seed)
        while not member.is_over:
            pending.append(_step_alone(member, loss, masked))
            member.stepped()
            if not on_cuda or len(pending) == SETTLE_STEPS or member.is_over:
                member.note(torch.stack(pending).tolist())
                pending = []
        return member.outcome(reason)


def _step_alone(member: Member, loss: Loss, masked: bool) -> Tensor:
    member.set_rates()
    member.optimizer.zero_grad()
    device = _execution(member).device
    key = torch.tensor(member.key, device=device) if masked else None
    value = loss_of(member.model, loss, member.batch, key)
    value.backward()
    if member.clip < float("inf"):
        trained = [p for group in member.optimizer.param_groups for p in group["params"]]
        clip_grad_norm_(trained, member.clip)
    member.optimizer.step(lambda: value)  # type: ignore[arg-type, return-value]
    return value.detach()


def _execution(member: Member) -> Execution:
    return Execution(device=next(member.model.parameters()).device, compiled=False)


def _say(outcomes: Iterable[Outcome]) -> None:
    """Warn of what could not be stacked, once a reason."""
    for reason, count in Counter(
        o.alone for o in outcomes if o.alone not in ("", ONLY, LARGE)
    ).items():
        warnings.warn(f"{count} trials ran one by one: {reason}", stacklevel=3)
