"""Batch ramps: the batch as a function of progress."""

from dataclasses import dataclass
from typing import ClassVar

from stepladder.batching import (
    Measures,
    is_finite,
    register_policy,
    require_count,
    require_positive,
    round_up,
)
from stepladder.batching.statistics import GradientStatistics
from stepladder.card import Card

LINEAR = Card(
    name="linear-ramp",
    family="batching",
    title="Language Models are Few-Shot Learners",
    arxiv="2005.14165",
    claim="small batches early, when the noise scale is small",
)
DOUBLING = Card(
    name="doubling",
    family="batching",
    title="Don't Decay the Learning Rate, Increase the Batch Size",
    arxiv="1711.00489",
    claim="the learning curve of a decaying rate with fewer updates",
)


@dataclass(frozen=True, kw_only=True)
class _Ramp:
    """A batch that depends on progress alone."""

    measures: ClassVar[Measures] = "nothing"
    end: int
    start: int = 1
    granularity: int = 1

    def __post_init__(self) -> None:
        require_count("ramp", start=self.start, end=self.end, granularity=self.granularity)
        for name in ("start", "end"):
            if getattr(self, name) % self.granularity:
                raise ValueError(
                    f"{name} {getattr(self, name)} must be a multiple of granularity "
                    f"{self.granularity}"
                )

    def next_batch(
        self, batch: int, *, progress: float, statistics: GradientStatistics | None
    ) -> int:
        """The ramp's batch at this progress, rounded up to the granularity.

        Raises:
            ValueError: progress outside [0, 1].
        """
        if not 0.0 <= progress <= 1.0:
            raise ValueError(f"progress {progress!r} is outside [0, 1]: beyond the horizon")
        return round_up(self.exact(progress), self.granularity, max(self.start, self.end))

    def exact(self, progress: float) -> float:
        """The batch before rounding."""
        raise NotImplementedError


@register_policy(LINEAR)
@dataclass(frozen=True, kw_only=True)
class LinearRamp(_Ramp):
    """From `start` to `end` in a line over the first `until` of the progress."""

    until: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (is_finite(self.until) and 0 <= self.until <= 1):
            raise ValueError(f"linear-ramp: until is a fraction of the run: {self.until!r}")

    def exact(self, progress: float) -> float:
        done = min(1.0, progress / self.until) if self.until > 0 else 1.0
        return self.start + (self.end - self.start) * done


@register_policy(DOUBLING)
@dataclass(frozen=True, kw_only=True)
class Doubling(_Ramp):
    """`start`, times `factor` at every milestone, at most `end`."""

    milestones: tuple[float, ...] = (1 / 3, 2 / 3)
    factor: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("doubling", factor=self.factor)
        given = self.milestones
        if not isinstance(given, list | tuple) or not all(
            is_finite(m) and 0 <= m <= 1 for m in given
        ):
            raise ValueError(f"doubling: milestones are fractions of the run: {given!r}")

    def exact(self, progress: float) -> float:
        passed = sum(progress >= m for m in self.milestones)
        return min(float(self.end), self.start * self.factor**passed)
