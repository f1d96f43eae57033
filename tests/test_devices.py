"""Devices: names, curves, and the measurement of the machine at hand."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stepladder import calibration, pacing
from stepladder.calibration import Sizes, is_measured, measure, measured, measured_beside
from stepladder.cost import cost
from stepladder.data import Dataset
from stepladder.devices import ALIASES, NAMED, Curve, device_named, increasing, interpolate
from stepladder.pacing import Timed
from stepladder.recipe import Recipe

QUICK = Sizes(
    rows=64,
    weights=(16, 64),
    vocabularies=(16, 64),
    contexts=(16, 64),
    head_size=8,
    operation_bytes=(1 << 14, 1 << 18),
)


def test_names_are_forgiving() -> None:
    assert device_named(" H100 SXM ") is NAMED["h100-sxm"]
    assert device_named("rtx_4090") is NAMED["rtx-4090"]
    assert all(device_named(short) is NAMED[name] for short, name in ALIASES.items())


@pytest.mark.parametrize(("typed", "meant"), [("h10", "h100"), ("her", "here"), ("l4s", "l4")])
def test_unknown_names_get_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{meant}"):
        device_named(typed)


def test_named_devices_are_whole() -> None:
    for name, device in NAMED.items():
        assert device.name == name
        assert device.source
        assert set(device.matmul) == set(device.attention) == {"float32", "bfloat16"}
        assert device.matmul_rate("bfloat16", 1024) > device.matmul_rate("float32", 1024)
        # Arithmetic intensity at which a GPU of these generations turns from memory to arithmetic.
        assert 100 < device.matmul_rate("bfloat16", 1024) / interpolate(device.bandwidth, 1) < 500


points = st.lists(st.tuples(st.floats(1, 1e9), st.floats(1e-3, 1e15)), min_size=1, max_size=6)
curves = points.map(lambda p: tuple(sorted(dict(p).items())))


@given(curves, st.floats(0.5, 2e9))
def test_a_curve_stays_within_its_rates(curve: Curve, size: float) -> None:
    rates = [rate for _, rate in curve]
    assert min(rates) * (1 - 1e-9) <= interpolate(curve, size) <= max(rates) * (1 + 1e-9)
    assert all(interpolate(curve, at) == pytest.approx(rate) for at, rate in curve)


def test_a_curve_is_a_power_law_between_points() -> None:
    curve = ((4.0, 10.0), (64.0, 1000.0))
    assert interpolate(curve, 16.0) == pytest.approx(100.0)
    assert interpolate(curve, 1.0) == 10.0
    assert interpolate(curve, 1e9) == 1000.0


def test_measuring_gives_curves_of_the_sizes_asked_for() -> None:
    device = measure("cpu", QUICK)
    assert [size for size, _ in device.matmul["bfloat16"]] == [16, 64]
    assert [size for size, _ in device.attention["float32"]] == [16, 64]
    curves = [
        device.bandwidth,
        device.elementwise,
        device.loss,
        *device.matmul.values(),
        *device.attention.values(),
    ]
    assert all(map(increasing, curves))
    assert device.memory > 1 << 28
    assert not device.asynchronous


def test_a_clock_that_stood_still_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([5.0, 5.0, 5.0, 5.0, 5.0, 5.25, 5.25, 5.75])
    later = itertools.count(6.0, 0.5)
    monkeypatch.setattr(calibration, "clock", lambda _: next(readings, None) or next(later))
    monkeypatch.setattr(calibration, "PATIENCE", 0)
    assert calibration._best("cpu", lambda: None) == 0.25


def test_real_steps_tell_launching_and_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A world whose steps take what launching does and so many times their parts: both are found,
    and the cost model then says how long a step takes."""
    device = measure("cpu", QUICK)
    step, block, paces = 3e-3, 2e-3, {8.0: 1.7, 32.0: 1.2}

    def timed(recipe: Recipe, _dataset: Dataset) -> Timed:
        work = cost(recipe).seconds(device).training / recipe.steps
        short = recipe.batch == recipe.model.context  # mostly launching: its work is as its parts
        pace = 1.0 if short else paces[recipe.model.width]
        return Timed(step=step + recipe.model.depth * block + pace * work, around=0.25)

    monkeypatch.setattr(pacing, "_timed", timed)
    found = pacing.paced(device, (8, 32))
    assert (found.step_launch, found.block_launch) == pytest.approx((step, block))
    assert dict(found.pace) == pytest.approx(paces)
    recipe = pacing._recipe(32, 3, sequences=4)
    said = cost(recipe).seconds(found)
    work = cost(recipe).seconds(device).training
    assert said.training == pytest.approx(recipe.steps * (step + 3 * block) + 1.2 * work)
    assert said.start == 0.25
    assert said.total == pytest.approx(said.training + said.evaluation + 0.25)


def test_a_real_step_is_timed_with_one_thread(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        found = pacing._timed(pacing._recipe(8, 1, sequences=1), pacing.made_up(tmp_path))
    finally:
        torch.set_num_threads(before)
    assert 0 < found.step < 1
    assert found.around > 0


@pytest.mark.slow
def test_the_machine_at_the_sizes_that_users_measure() -> None:
    """Twelve seconds of one core; verbs under test find their machine measured in small sizes."""
    device = measure("cpu")
    assert [width for width, _ in device.pace] == list(calibration.CPU.models)
    curves = (*device.matmul.values(), *device.attention.values(), device.loss, device.pace)
    assert all(map(increasing, curves))
    assert device.start > 0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STEPLADDER_CACHE", str(tmp_path))
    monkeypatch.setattr(calibration, "CPU", QUICK)
    monkeypatch.setattr(calibration, "is_quiet", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path


def test_here_is_measured_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = device_named("here")
    monkeypatch.setattr(calibration, "measure", None)  # calling it would fail
    assert measured() == first


def test_what_a_busy_machine_measures_is_not_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "is_quiet", lambda: False)
    assert not is_measured("cpu")
    measured("cpu")
    assert not is_measured("cpu")
    monkeypatch.setattr(calibration, "is_quiet", lambda: True)
    measured("cpu")
    assert is_measured("cpu")


def test_side_by_side_is_measured_by_processes_at_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says what it is before any starts; what the first one found is kept."""
    monkeypatch.setattr(calibration, "cpu_count", lambda: 2)
    quick = repr(QUICK)
    monkeypatch.setattr(
        calibration,
        "TELL",
        f"from stepladder import calibration as c; from stepladder.calibration import Sizes; "
        f"c.CPU = {quick}; c.tell()",
    )
    device = measured_beside()
    assert device.name.endswith("1 thread")
    monkeypatch.setattr(calibration, "TELL", "raise SystemExit(1)")
    assert measured_beside() == device


def test_threads_are_part_of_the_machine(cache: Path) -> None:
    before = torch.get_num_threads()
    measured("cpu")
    try:
        torch.set_num_threads(before + 1)
        assert f"{before + 1} threads" in measured("cpu").name
    finally:
        torch.set_num_threads(before)
    assert len(list((cache / "devices").iterdir())) == 2


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"name": 3}', "whole but curveless"])
def test_a_damaged_cache_is_measured_again(cache: Path, damage: str) -> None:
    first = measured("cpu")
    (path,) = (cache / "devices").iterdir()
    if damage == "whole but curveless":
        damage = path.read_text().replace(str(first.bandwidth[0][1]), "-1.0")
    path.write_text(damage)
    again = measured("cpu")
    assert increasing(again.bandwidth)
    assert measured("cpu") == replace(again)
