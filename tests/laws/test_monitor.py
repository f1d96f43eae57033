"""A run while it is going: ladders whose law is known, and what is said of their targets."""

from dataclasses import dataclass

import numpy as np
import pytest

from stepladder.laws.floored import Floor, fit_floored
from stepladder.laws.monitor import (
    GRID,
    LASTING,
    Finished,
    Heading,
    Trace,
    find_alarm,
    headings,
    shape,
)

FLOOR, LEVEL, ROWS = 0.6, 0.95, 200
RUNGS = {1.6e11: 5, 3.7e11: 2, 6.7e11: 2, 1.2e12: 4}  # FLOP: runs, as in a demo
TARGET = 1.1e13


@dataclass(frozen=True)
class World:
    """Where losses come from: a power law in compute, whose runs trace one curve; training text
    is easier by a gap that grows with scale. Noise of seeds, and of each row of the curve."""

    seeds: float = 0.0035
    rows: float = 0.02
    gap: float = 0.013

    def run(self, flops, rng, until=1.0, broken=lambda x: 1.0, last=1.0):
        """Final validation loss and the curve up to `until`; `broken` multiplies what is above
        the floor along the way, `last` at its end."""
        rest = 37 * flops**-0.0926 * np.exp(self.seeds * rng.normal()) * (3.5 / 2.9)
        final = FLOOR + rest * last
        x = np.arange(1, ROWS + 1) / ROWS
        x = x[x <= until + 1e-9]
        eased = np.exp(-self.gap * np.log(flops / 1e11) * x)
        shake = np.exp(self.rows * (1e12 / flops) ** 0.3 * rng.normal(size=len(x)))
        above = rest * eased * (x + 0.02) ** -0.3 * np.array([broken(v) for v in x])
        return final, Trace(x, (FLOOR + above) * shake)

    def ladder(self, rng):
        """Its finished rungs, and the forecast's interval for the target."""
        runs = [
            Finished(flops, *self.run(flops, rng)) for flops, n in RUNGS.items() for _ in range(n)
        ]
        law = fit_floored(
            [run.flops for run in runs],
            [run.final for run in runs],
            Floor(mean=FLOOR, sd=0.2, source="the world"),
        )
        said = law.forecast(TARGET, level=LEVEL)
        return shape(runs, law.parameters["E"], TARGET), said.low, said.high


WORLD = World()
QUIET = World(seeds=0.0, rows=0.0)


def test_runs_without_noise_tell_their_end_all_along():
    """The line of the rungs in log compute is then the world's own."""
    rng = np.random.default_rng(0)
    runs = [Finished(flops, *QUIET.run(flops, rng)) for flops in RUNGS]
    runs += [Finished(2e12, *QUIET.run(2e12, rng))]
    final, trace = QUIET.run(TARGET, rng)
    for look in headings(shape(runs, FLOOR, TARGET), trace, LEVEL):
        assert look.value == pytest.approx(final, rel=1e-3)
        assert look.low < final < look.high


def test_intervals_hold_the_end_as_often_as_they_say():
    rng, inside, errors, widths = np.random.default_rng(1), [], [], []
    for _ in range(80):
        common, _, _ = WORLD.ladder(rng)
        final, trace = WORLD.run(TARGET, rng)
        looks = headings(common, trace, 0.9)
        inside += [[looks[at].low < final < looks[at].high for at in (20, 90, 170)]]
        errors += [look.value - final for look in looks]
        widths += [(look.high - look.low) / 2 for look in looks]
    held = np.mean(inside, axis=0)
    assert np.all(held > 0.85), held
    # Wide enough to hold everything would be of no use.
    assert np.mean(widths) < 3 * 1.64 * np.sqrt(np.mean(np.square(errors)))


def alarms(count, seed, world=WORLD, **run):
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        common, low, high = world.ladder(rng)
        _, trace = world.run(TARGET, rng, **run)
        found.append(find_alarm(headings(common, trace, LEVEL), low, high))
    return found


def test_healthy_runs_raise_no_alarm():
    raised = [alarm for alarm in alarms(100, seed=2) if alarm]
    assert len(raised) <= 2  # under 5% with room


def test_broken_runs_do_and_early():
    """A rate that is too high all along, one that never decays, a run that stalls half way."""
    high = alarms(15, seed=3, broken=lambda x: 1.12)
    assert all(alarm and alarm.side == "above" for alarm in high)
    assert np.median([alarm.heading.progress for alarm in high]) < 0.35
    flat = alarms(15, seed=4, broken=lambda x: 1 + 0.2 * max(0.0, x - 0.3))
    assert sum(alarm is not None for alarm in flat) >= 14
    stalled = alarms(15, seed=5, broken=lambda x: (max(x, 0.5) / 0.5) ** 0.3)
    assert all(stalled)
    assert all(0.5 < alarm.heading.progress < 0.9 for alarm in stalled)


def test_a_run_that_is_too_good_is_told_too():
    found = alarms(10, seed=6, broken=lambda x: 0.85)
    assert all(alarm and alarm.side == "below" for alarm in found)


def test_a_loss_that_is_not_finite_is_an_alarm_at_once():
    rng = np.random.default_rng(7)
    common, low, high = WORLD.ladder(rng)
    _, trace = WORLD.run(TARGET, rng, until=0.5)
    trace.loss[60] = np.nan
    alarm = find_alarm(headings(common, trace, LEVEL), low, high)
    assert alarm is not None
    assert alarm.side == "not finite"
    assert alarm.heading.progress == pytest.approx(61 / ROWS)


def look(progress, low, high):
    return Heading(progress=progress, value=(low + high) / 2, low=low, high=high)


def test_an_alarm_takes_a_stretch_on_one_side():
    at = np.arange(0.1, 0.4, 0.01)
    inside, above, below = (3.0, 3.1), (3.3, 3.4), (2.7, 2.8)
    short = [look(x, *(above if 0.2 <= x < 0.2 + LASTING - 0.005 else inside)) for x in at]
    assert find_alarm(short, 2.9, 3.2) is None
    swings = [look(x, *(above if round(100 * x) % 4 < 2 else below)) for x in at]
    assert find_alarm(swings, 2.9, 3.2) is None
    long = [look(x, *(above if x >= 0.2 - 1e-9 else inside)) for x in at]
    alarm = find_alarm(long, 2.9, 3.2)
    assert alarm is not None
    assert (alarm.side, alarm.since) == ("above", pytest.approx(0.2))
    assert alarm.heading.progress == pytest.approx(0.2 + LASTING)
    touching = [look(x, 3.1, 3.4) for x in at]
    assert find_alarm(touching, 2.9, 3.2) is None


def test_a_curve_so_far_says_what_the_whole_said_there():
    """What comes later does not change what was said before, however long the rows are."""
    rng = np.random.default_rng(8)
    common, _, _ = WORLD.ladder(rng)
    _, trace = WORLD.run(TARGET, rng)
    whole = headings(common, trace, LEVEL)
    for stop in (20, 21, 77, 150):
        part = headings(common, Trace(trace.progress[:stop], trace.loss[:stop]), LEVEL)
        assert part == whole[: len(part)]
        assert len(part) == stop - 19
    coarse = Trace(np.array([0.05, 0.4, 1.0]), np.array([3.5, 3.2, 3.0]))
    assert [seen.progress for seen in headings(common, coarse, LEVEL)] == [0.4, 1.0]


def test_leaving_rungs_out_widens_what_the_line_cannot_hold():
    """Rungs that bend away from the line are wider by what leaving them out shows."""
    rng = np.random.default_rng(9)
    straight = [Finished(f, *WORLD.run(f, rng)) for f in RUNGS for _ in range(3)]
    bent = [
        replace_final(
            run, FLOOR + (run.final - FLOOR) * np.exp(0.05 * (np.log(run.flops / 5e11)) ** 2)
        )
        for run in straight
    ]
    assert shape(bent, FLOOR, TARGET).widened > 1.5 * shape(straight, FLOOR, TARGET).widened


def replace_final(run, final):
    return run._replace(final=final)


def test_shapes_that_cannot_be():
    rng = np.random.default_rng(10)
    runs = [Finished(f, *WORLD.run(f, rng)) for f in RUNGS]
    with pytest.raises(ValueError, match="3 runs at 3 scales"):
        shape(runs[:3], FLOOR, TARGET)
    with pytest.raises(ValueError, match="at 1 scales"):
        shape([runs[0]] * 5, FLOOR, TARGET)
    short = runs[1]._replace(trace=Trace(*(part[:100] for part in runs[1].trace)))
    with pytest.raises(ValueError, match="run 1 ends at 50%"):
        shape([runs[0], short, *runs[2:]], FLOOR, TARGET)
    with pytest.raises(ValueError, match="floor is too high"):
        shape(runs, runs[-1].final, TARGET)
    assert len(shape(runs, FLOOR, TARGET).spread) == len(GRID)
