"""The run directory: paid for once, one process at a time, and whole after every accident."""

import errno
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from stepladder import durable, run_directory
from stepladder.recipe import Model, Optimizer, Recipe
from stepladder.run_directory import Damaged, encoded, read_curve
from stepladder.store import FORMAT, Busy, Store

KEY, RECIPE = "0123abcd", 'width = 64\nname = "尺度"\n'


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "runs")


def rows_until(step):
    return [{"step": n, "tokens": 8 * n, "loss": 1 / (n + 3)} for n in range(step)]


def weights(text):
    def write(folder: Path) -> None:
        (folder / "optimizer").mkdir()
        (folder / "weights.safetensors").write_text(text)
        (folder / "optimizer" / "state").write_text(text * 3)

    return write


def script(store, body):
    """A process that holds the run of KEY while it executes `body`."""
    head = f"""
        import os, signal, sys, time
        from pathlib import Path
        from stepladder.store import Store
        with Store({str(store.root)!r}).claim({KEY!r}, {RECIPE!r}) as run:
    """
    text = textwrap.dedent(head).rstrip() + "\n" + textwrap.indent(textwrap.dedent(body), "    ")
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)


# A run's life -----------------------------------------------------------------------------------


def test_nothing_is_made_by_looking(store):
    assert store.keys() == []
    assert store.get(KEY) is None
    assert not store.root.exists()


def test_a_run_from_claim_to_result(store):
    with store.claim(KEY, RECIPE) as run:
        assert run.result is None
        for row in rows_until(5):
            run.append(row)
        assert store.get(KEY).status == "partial"
        run.log("first")
        run.log("second")
        run.finish({"loss": 1.5, "curve": [1, 2.5]})
        assert run.result == {"loss": 1.5, "curve": [1, 2.5]}
    stored = store.get(KEY)
    assert (stored.status, stored.recipe, stored.result["loss"]) == ("done", RECIPE, 1.5)
    assert stored.curve == rows_until(5)
    assert (stored.folder / "log.txt").read_text() == "first\nsecond\n"
    assert store.keys() == [KEY]


def test_what_is_paid_for_is_found_again(store):
    with store.claim(KEY, RECIPE) as run:
        run.finish({"loss": 2.0})
    with Store(store.root).claim(KEY, RECIPE) as run:
        assert run.result == {"loss": 2.0}


def test_a_diverged_run_is_a_result(store):
    with store.claim(KEY, RECIPE) as run:
        run.append({"step": 0, "loss": math.nan, "norm": math.inf})
        run.finish({"diverged": True, "loss": math.nan})
    stored = store.get(KEY)
    assert stored.status == "diverged"
    assert stored.result == {"diverged": True, "loss": None}
    assert math.isnan(stored.curve[0]["loss"])
    assert "NaN" not in (stored.folder / "curve.jsonl").read_text()


def test_the_directory_holds_what_the_format_says(store):
    with store.claim(KEY, RECIPE) as run:
        run.append({"step": 1})
        run.log("text")
        run.save_checkpoint(1, weights("w"))
        run.finish({})
    names = {path.name for path in (store.root / KEY).iterdir()}
    files = {"recipe.toml", "curve.jsonl", "result.json", "log.txt", "checkpoint", "format"}
    assert names == files
    assert {p.name for p in store.root.iterdir()} == {KEY, ".locks", "format"}


@given(st.lists(st.floats(), max_size=8))
def test_numbers_come_back_to_the_bit(tmp_path_factory, numbers):
    path = tmp_path_factory.mktemp("curve") / "curve.jsonl"
    path.write_text("".join(encoded({"step": 1, "loss": x}) + "\n" for x in numbers))
    back = [row["loss"] for row in read_curve(path)[0]]
    for one, two in zip(numbers, back, strict=True):
        assert one.hex() == two.hex() if math.isfinite(one) else math.isnan(two)


def test_a_reader_of_a_file_that_is_replaced_keeps_the_old_text(tmp_path):
    path = tmp_path / "result.json"
    durable.write_whole(path, "old")
    with path.open() as reader:
        durable.write_whole(path, "a new and longer text")
        assert reader.read() == "old"
    assert path.read_text() == "a new and longer text"
    assert list(tmp_path.iterdir()) == [path]


# The curve --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", range(0, 60, 7))
def test_half_a_last_line_is_dropped_and_the_next_row_stands_alone(store, kept):
    with store.claim(KEY, RECIPE) as run:
        for row in rows_until(2):
            run.append(row)
    curve = store.root / KEY / "curve.jsonl"
    whole = curve.read_bytes()
    curve.write_bytes(whole[: len(whole) - 60 + kept])
    survivors = rows_until(whole[: len(whole) - 60 + kept].count(b"\n"))
    assert store.get(KEY).curve == survivors
    with store.claim(KEY, RECIPE) as run:
        assert run.curve_rows() == survivors
        run.append({"step": 9})
    assert store.get(KEY).curve == [*survivors, {"step": 9}]


def test_rows_beyond_the_checkpoint_are_dropped(store):
    with store.claim(KEY, RECIPE) as run:
        for row in rows_until(9):
            run.append(row)
        run.truncate_curve(5)
        assert run.curve_rows() == rows_until(6)
        run.truncate_curve(5)
        run.append({"step": 6})
        assert run.curve_rows() == [*rows_until(6), {"step": 6}]


def test_a_full_disk_while_appending_is_named_and_the_curve_can_be_gone_on_with(store, monkeypatch):
    real = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, text):
            self.file.write(text[:7])
            raise OSError(errno.ENOSPC, "No space left on device")

    with store.claim(KEY, RECIPE) as run:
        run.append({"step": 0, "loss": 1.0})
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", lambda *a, **k: Full(real(*a, **k)))
            with pytest.raises(ValueError, match=r"no space left in .*: free some"):
                run.append({"step": 1, "loss": 1.0})
    with store.claim(KEY, RECIPE) as run:
        run.append({"step": 1, "loss": 2.0})
        assert [row["step"] for row in run.curve_rows()] == [0, 1]


# Checkpoints ------------------------------------------------------------------------------------


def test_the_newest_checkpoint_replaces_the_older(store):
    with store.claim(KEY, RECIPE) as run:
        assert run.latest_checkpoint() is None
        for step in (9, 10, 100):
            run.save_checkpoint(step, weights(f"w{step}"))
        step, folder = run.latest_checkpoint()
        assert step == 100
        assert (folder / "optimizer" / "state").read_text() == "w100w100w100"
        assert [p.name for p in (store.root / KEY / "checkpoint").iterdir()] == ["100"]


def test_a_failed_write_leaves_the_one_before(store):
    def broken(folder):
        weights("half")(folder)
        raise KeyError("a bug")

    with store.claim(KEY, RECIPE) as run:
        run.save_checkpoint(1, weights("one"))
        with pytest.raises(KeyError):
            run.save_checkpoint(2, broken)
        step, folder = run.latest_checkpoint()
        assert (step, (folder / "weights.safetensors").read_text()) == (1, "one")
        run.save_checkpoint(2, weights("two"))
        assert run.latest_checkpoint()[0] == 2


def test_a_checkpoint_that_is_there_is_not_written_again(store):
    with store.claim(KEY, RECIPE) as run:
        folder = run.save_checkpoint(1, weights("one"))
        assert run.save_checkpoint(1, weights("other")) == folder
        assert (folder / "weights.safetensors").read_text() == "one"


def flip(path):
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip(folder / "weights.safetensors"),
        lambda folder: (folder / "weights.safetensors").write_text(""),
        lambda folder: (folder / "optimizer" / "state").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("[1]"),
        lambda folder: (folder / "stray").touch(),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(store, tmp_path, damage):
    with store.claim(KEY, RECIPE) as run:
        kept = shutil.copytree(run.save_checkpoint(1, weights("one")), tmp_path / "kept")
        newest = run.save_checkpoint(2, weights("two"))
        kept.rename(newest.with_name("1"))
        damage(newest)
        assert run.latest_checkpoint()[0] == 1
        run.save_checkpoint(2, weights("two again"))
        step, folder = run.latest_checkpoint()
        assert (step, (folder / "weights.safetensors").read_text()) == (2, "two again")


def test_a_full_disk_in_a_checkpoint_is_named_and_leaves_the_one_before(store):
    def full(folder):
        weights("two")(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with store.claim(KEY, RECIPE) as run:
        run.save_checkpoint(1, weights("one"))
        with pytest.raises(ValueError, match=r"no space left .* checkpoint before is intact"):
            run.save_checkpoint(2, full)
        assert run.latest_checkpoint()[0] == 1


def test_a_library_that_hides_the_full_disk_is_seen_through(store, monkeypatch):
    def hidden(folder):
        raise RuntimeError("writer failed")

    usage = shutil.disk_usage(store.root.parent)
    with store.claim(KEY, RECIPE) as run:
        with pytest.raises(RuntimeError):
            run.save_checkpoint(1, hidden)
        monkeypatch.setattr(durable.shutil, "disk_usage", lambda _: usage._replace(free=100))
        with pytest.raises(ValueError, match="no space left"):
            run.save_checkpoint(1, hidden)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    at = tmp_path / "disk"
    at.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(at)]
    if os.name != "posix" or not shutil.which("mount") or subprocess.run(mount).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield at
    subprocess.run(["umount", str(at)], check=True)


def test_a_disk_that_is_really_full(small_disk):
    def large(folder):
        (folder / "weights").write_bytes(b"x" * 1_500_000)

    with Store(small_disk / "runs").claim(KEY, RECIPE) as run:
        run.save_checkpoint(1, large)
        with pytest.raises(ValueError, match="no space left"):
            run.save_checkpoint(2, large)
        assert run.latest_checkpoint()[0] == 1
        assert run.latest_checkpoint()[1].joinpath("weights").stat().st_size == 1_500_000
        run.append({"step": 1})
        run.finish({"loss": 1.0})
        assert run.curve_rows() == [{"step": 1}]


# Processes --------------------------------------------------------------------------------------


def test_two_processes_do_not_both_run_a_recipe(store):
    holder = script(store, "print('held', flush=True); time.sleep(60)")
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Busy, match=f"run {KEY} is being run by process {holder.pid}"):
        store.claim(KEY, RECIPE).__enter__()
    with store.claim("another", RECIPE) as run:
        assert run.result is None
    holder.kill()
    holder.communicate()
    with store.claim(KEY, RECIPE) as run:
        assert run.result is None


def test_one_process_cannot_hold_a_run_twice(store):
    with store.claim(KEY, RECIPE), pytest.raises(Busy, match="by this process"):
        store.claim(KEY, RECIPE).__enter__()
    with store.claim(KEY, RECIPE):
        pass


def pay(root, barrier, paid):
    barrier.wait()
    try:
        with Store(root).claim(KEY, RECIPE) as run:
            if run.result is None:
                paid.put(os.getpid())
                run.finish({"by": os.getpid()})
    except Busy:
        pass


def test_of_many_processes_at_once_one_pays(store):
    context = multiprocessing.get_context("spawn")
    barrier, paid = context.Barrier(4), context.Queue()
    arguments = (store.root, barrier, paid)
    processes = [context.Process(target=pay, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    payer = paid.get(timeout=60)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert paid.empty()
    assert store.get(KEY).result == {"by": payer}


def test_kill_in_the_middle_of_a_checkpoint(store):
    body = """
        run.append({"step": 1})
        run.save_checkpoint(1, lambda folder: (folder / "weights").write_text("one") and None)
        def write(folder):
            (folder / "weights").write_text("half of tw")
            os.kill(os.getpid(), signal.SIGKILL)
        run.append({"step": 2})
        run.save_checkpoint(2, write)
    """
    process = script(store, body)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    checkpoints = store.root / KEY / "checkpoint"
    assert {p.name for p in checkpoints.iterdir()} == {"1", ".2"}
    with store.claim(KEY, RECIPE) as run:
        step, folder = run.latest_checkpoint()
        assert (step, (folder / "weights").read_text()) == (1, "one")
        run.truncate_curve(step)
        assert run.curve_rows() == [{"step": 1}]
        assert {p.name for p in checkpoints.iterdir()} == {"1"}


@pytest.mark.parametrize("moment", ["rename", "sync_folder", "rmtree"])
def test_kill_around_the_rename_leaves_a_whole_checkpoint(store, moment):
    body = f"""
        import shutil
        from stepladder import run_directory
        def end(*_, **__):
            os.kill(os.getpid(), signal.SIGKILL)
        run.save_checkpoint(1, lambda folder: (folder / "weights").write_text("one") and None)
        if {moment!r} == "rename":
            Path.rename = end
        elif {moment!r} == "sync_folder":
            run_directory.sync_folder = end
        else:
            real = shutil.rmtree
            shutil.rmtree = lambda p, *a, **k: end() if p.name == "1" else real(p, *a, **k)
        run.save_checkpoint(2, lambda folder: (folder / "weights").write_text("two") and None)
    """
    process = script(store, body)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    with store.claim(KEY, RECIPE) as run:
        step, folder = run.latest_checkpoint()
        expected = (1, "one") if moment == "rename" else (2, "two")
        assert (step, (folder / "weights").read_text()) == expected


def test_kill_in_the_middle_of_appending(store):
    body = """
        print("appending", flush=True)
        n = 0
        while True:
            run.append({"step": n, "loss": 1 / (n + 3)})
            n += 1
    """
    for _ in range(3):
        process = script(store, body)
        assert process.stdout.readline() == "appending\n"
        while len(store.get(KEY).curve) < 50:
            pass
        process.kill()
        process.communicate()
        with store.claim(KEY, RECIPE) as run:
            rows = run.curve_rows()
            assert [row["step"] for row in rows] == list(range(len(rows)))
            assert all(row["loss"] == 1 / (row["step"] + 3) for row in rows)
            run.truncate_curve(-1)


def test_kill_while_the_result_is_written_leaves_none(store):
    body = """
        def end(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        os.fsync = end
        run.finish({"loss": 1.0})
    """
    script(store, body).communicate()
    assert store.get(KEY).status == "partial"
    with store.claim(KEY, RECIPE) as run:
        assert run.result is None
        run.finish({"loss": 2.0})
    assert not list((store.root / KEY).glob(".*"))


# What cannot be used ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("result.json", b'{"loss": 1.'),
        ("result.json", b"[]"),
        ("curve.jsonl", b'{"step": 1}\n{"st\n{"step": 3}\n'),
        ("curve.jsonl", b"3\n"),
        ("curve.jsonl", b'{"step": 1}\n\xff\n'),
        ("recipe.toml", b"\xff"),
    ],
)
def test_a_damaged_run_is_shown_as_corrupt_and_not_run_over(store, name, content):
    with store.claim(KEY, RECIPE) as run:
        run.append({"step": 1})
    path = store.root / KEY / name
    path.write_bytes(content)
    stored = store.get(KEY)
    assert stored.status == "corrupt"
    assert f"{path} is damaged" in stored.problem
    assert f"delete {store.root / KEY} to run it again" in stored.problem
    with pytest.raises(Damaged, match="is damaged"):
        store.claim(KEY, RECIPE).__enter__()
    assert path.read_bytes() == content


def test_a_lost_recipe_is_shown_and_written_again_by_a_claim(store):
    with store.claim(KEY, RECIPE) as run:
        run.append({"step": 1})
    (store.root / KEY / "recipe.toml").unlink()
    assert store.get(KEY).status == "corrupt"
    with store.claim(KEY, RECIPE) as run:
        assert run.curve_rows() == [{"step": 1}]
    assert store.get(KEY).recipe == RECIPE


def test_a_directory_of_another_recipe_is_refused(store):
    with store.claim(KEY, RECIPE):
        pass
    with pytest.raises(ValueError, match="holds another recipe"):
        store.claim(KEY, "width = 65\n").__enter__()


@pytest.mark.parametrize("place", [".", KEY])
def test_a_newer_format_is_refused(store, place):
    with store.claim(KEY, RECIPE):
        pass
    (store.root / place / "format").write_text(f"{FORMAT + 1}\n")
    for look in (lambda s: s.get(KEY), lambda s: s.claim(KEY, RECIPE).__enter__()):
        with pytest.raises(ValueError, match=r"of format 2, .*pip install -U stepladder"):
            look(Store(store.root))
    (store.root / place / "format").write_text("two")
    with pytest.raises(ValueError, match="must hold the number 1"):
        Store(store.root).get(KEY)


@pytest.mark.parametrize("key", ["", "..", "../up", "a/b", ".locks", "a b", "a\n"])
def test_keys_that_are_no_names_are_refused(store, key):
    with pytest.raises(ValueError, match="is not a run's key"):
        store.get(key)


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot keep runs in"):
        Store(tmp_path / "file" / "runs").claim(KEY, RECIPE).__enter__()


def test_a_row_that_is_not_json_is_the_callers_error_and_leaves_no_trace(store):
    with store.claim(KEY, RECIPE) as run:
        with pytest.raises(TypeError):
            run.append({"step": 1, "loss": object()})
        assert run.curve_rows() == []
    assert run_directory.read_result(store.root / KEY / "result.json") is None
    assert json.loads((store.root / KEY / "format").read_text()) == FORMAT


def test_a_run_from_before_a_field_existed_is_still_paid_for(store):
    recipe = Recipe(
        model=Model(
            width=16, depth=1, heads=2, kv_heads=2, head_size=8, mlp_width=32, context=8,
            vocab_size=32,
        ),
        optimizer=Optimizer(lr=0.01),
        tokens=64,
        batch=8,
    )  # fmt: skip
    older = "\n".join(line for line in recipe.to_toml().splitlines() if "rope_theta" not in line)
    assert older != recipe.to_toml()
    with store.claim(recipe.key, older) as run:
        run.finish({"loss": 1.0})
    with store.claim(recipe.key, recipe.to_toml()) as run:
        assert run.result["loss"] == 1.0


@pytest.mark.parametrize("left_out", [("model", "qk_norm"), ("optimizer", "clip"), ("seed",)])
def test_a_directory_from_before_a_field_existed_is_the_same_run(store, left_out):
    """Its recipe file lacks the field; the key is of what differs from defaults, so it stays."""
    shape = Model(
        width=8, depth=1, heads=1, kv_heads=1, head_size=8, mlp_width=8, context=4, vocab_size=9
    )
    recipe = Recipe(model=shape, optimizer=Optimizer(lr=0.1), tokens=8, batch=4)
    content = recipe.to_dict()
    *sections, name = left_out
    at = content[sections[0]] if sections else content
    del at[name]
    old = tomli_w.dumps(content)
    assert old != recipe.to_toml()
    with store.claim(recipe.key, old) as run:
        run.finish({"loss": 1.5})
    with store.claim(recipe.key, recipe.to_toml()) as run:
        assert run.result == {"loss": 1.5}
    assert store.get(recipe.key).recipe == old
    at[name] = {"qk_norm": False, "clip": 2.0, "seed": 5}[name]
    (store.root / recipe.key / "recipe.toml").write_text(tomli_w.dumps(content))
    with pytest.raises(ValueError, match="holds another recipe"):
        store.claim(recipe.key, recipe.to_toml()).__enter__()


def test_a_limit_on_file_sizes_is_named_like_a_full_disk(store):
    """By the system's own limit, for a file that is written at once and one that grows."""
    process = script(
        store,
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        run.append({"step": 0, "loss": 1.0})
        for attempt in (
            lambda: run.save_checkpoint(1, lambda at: (at / "w").write_bytes(bytes(9000)) and None),
            lambda: [run.append({"step": n, "loss": 1.0}) for n in range(900)],
        ):
            try:
                attempt()
            except ValueError as error:
                print(error)
        """,
    )
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    checkpoint, curve = said.splitlines()
    assert "no space left" in checkpoint
    assert "intact" in checkpoint
    assert "no space left" in curve
