"""`stepladder runs` as a user drives it."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from stepladder.cli import main
from stepladder.recipe import Data, Model, Optimizer, Recipe
from stepladder.report.runs import runs_table
from stepladder.store import Store, StoredRun


def recipe(seed: int) -> Recipe:
    shape = Model(
        width=8, depth=1, heads=1, kv_heads=1, head_size=8, mlp_width=16, context=8, vocab_size=16
    )
    data = Data(fingerprint="0" * 16)
    return Recipe(
        model=shape, optimizer=Optimizer(lr=0.01), tokens=800, batch=8, data=data, seed=seed
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One run done, one diverged, one partial, one corrupt: seeds 0 to 3."""
    store = Store(tmp_path / "runs")
    for seed in range(4):
        made = recipe(seed)
        with store.claim(made.key, made.to_toml()) as run:
            run.append({"step": 5, "tokens": 40, "loss": 2.5})
            if seed in (0, 1):
                lost = {"loss": None, "diverged": True} if seed else {"loss": 2.25}
                more = {"steps": 100, "tokens": 800, "params": 500, "flops": 1e6, "seconds": 3.0}
                run.finish(lost | more | {"started": "2026", "where": {"device": "cpu"}})
    (store.folder(recipe(3).key) / "result.json").write_text("{")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = main(["runs", *argv])
    out, err = capsys.readouterr()
    return status, out, err


def test_list_shows_every_status_and_how_to_mend(root: Path, capsys) -> None:
    status, out, _ = run(capsys, "--root", str(root))
    assert status == 0
    for seed, word in enumerate(("done", "diverged", "partial", "corrupt")):
        line = next(line for line in out.splitlines() if line.startswith(recipe(seed).key))
        assert word in line
    assert "delete" in out


def test_a_row_of_wide_cells_fits_a_terminal() -> None:
    """The widest that they get: nothing is cut off at 80 columns."""
    wide = replace(
        recipe(1000),
        model=replace(recipe(0).model, width=16384, depth=128),
        optimizer=Optimizer(lr=0.00145),
        tokens=128_000_000,
    )
    lost = {"loss": None, "diverged": True, "seconds": 8.5e6}
    one = StoredRun(
        key=wide.key,
        folder=Path(),
        status="diverged",
        recipe=wide.to_toml(),
        result=lost,
        curve=[],
    )
    console = Console(width=80, file=StringIO())
    console.print(runs_table([one]))
    assert "…" not in console.file.getvalue()


def test_list_as_json(root: Path, capsys) -> None:
    _, out, _ = run(capsys, "list", "--json", "--root", str(root))
    rows = {row["key"]: row for row in json.loads(out)}
    done = rows[recipe(0).key]
    assert (done["status"], done["width"], done["lr"], done["loss"]) == ("done", 8, 0.01, 2.25)
    assert rows[recipe(2).key]["loss"] is None
    assert "delete" in rows[recipe(3).key]["problem"]


def test_show_takes_a_prefix(root: Path, capsys) -> None:
    key = recipe(0).key
    others = [recipe(seed).key for seed in (1, 2, 3)]
    length = next(n for n in range(1, 17) if not any(k.startswith(key[:n]) for k in others))
    _, out, _ = run(capsys, "show", key[:length], "--root", str(root))
    assert key in out
    assert "2.2500" in out
    assert "device cpu" in out
    assert "width = 8" in out


@pytest.mark.parametrize(("seed", "text"), [(1, "diverged"), (2, "goes on"), (3, "delete")])
def test_show_says_what_became_of_a_run(root: Path, seed: int, text: str, capsys) -> None:
    _, out, _ = run(capsys, "show", recipe(seed).key, "--root", str(root))
    assert text in out


def test_show_as_json_has_recipe_and_curve(root: Path, capsys) -> None:
    _, out, _ = run(capsys, "show", recipe(0).key, "--json", "--root", str(root))
    shown = json.loads(out)
    assert shown["recipe"] == recipe(0).to_toml()
    assert shown["curve"] == [{"step": 5, "tokens": 40, "loss": 2.5}]


def test_an_unknown_key_names_the_nearest(root: Path, capsys) -> None:
    key = recipe(0).key
    status, _, err = run(capsys, "show", "x" + key[1:], "--root", str(root))
    assert status == 2
    assert f"did you mean {key!r}" in err


def test_an_ambiguous_prefix_names_the_candidates(root: Path, capsys) -> None:
    status, _, err = run(capsys, "show", "", "--root", str(root))
    assert status == 2
    assert all(recipe(seed).key in err for seed in range(4))


def test_no_runs_is_said(tmp_path: Path, capsys) -> None:
    status, out, _ = run(capsys, "--root", str(tmp_path))
    assert status == 0
    assert "no runs in" in out
