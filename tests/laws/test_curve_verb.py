"""`stepladder curve`, and the logs that it reads."""

import json

import numpy as np
import pytest
from test_curve_forecast import STEPS, made_up, rates

from stepladder.cli import main
from stepladder.laws.logged import read_logged


def write(path, run, until=STEPS, lr=True, every=1):
    """A log as CSV; losses up to a step, rates to the end."""
    lines = ["step,lr,train_loss" if lr else "step,train_loss"]
    for at, loss in list(zip(run.at, run.loss, strict=True))[::every]:
        cell = f"{loss}" if at < until else ""
        lines.append(f"{at},{run.lr[at]},{cell}" if lr else f"{at},{cell}")
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def logs(tmp_path):
    return {
        kind: write(tmp_path / f"{kind}.csv", made_up(kind, 0.002, seed))
        for seed, kind in enumerate(("constant", "cosine", "wsd"))
    }


def call(capsys, *argv, status=0):
    assert main(["curve", *map(str, argv)]) == status
    said = capsys.readouterr()
    return said.err if status == 2 else said.out


def test_a_run_under_another_schedule_is_scored_where_it_has_losses(capsys, logs):
    argv = (logs["constant"], logs["cosine"], "--schedule", logs["wsd"])
    made = json.loads(call(capsys, *argv, "--json"))
    low, high = made["interval"]
    assert low < made["forecast"] < high
    assert made["score"]["prede"] < 0.003
    assert made["score"]["coverage"] > 0.8
    assert made["step"] == 3980
    assert made["curve"]["step"][-1] == 3980
    text = call(capsys, *argv)
    assert f"{made['forecast']:.4f}" in text
    assert "o measured" in text


def test_the_rest_of_a_run_from_its_empty_cells(capsys, tmp_path):
    run = made_up("cosine", 0.002)
    path = write(tmp_path / "run.csv", run, until=2800)
    made = json.loads(call(capsys, path, "--json"))
    assert made["forecast"] == pytest.approx(run.loss[-1], rel=0.01)
    assert made["score"] is None
    assert made["curve"]["step"][0] == 2780
    assert any("a loss in 139 of 199 rows" in note for note in made["notes"])


def test_a_last_log_without_losses_is_a_run_to_come(capsys, tmp_path, logs):
    planned = tmp_path / "planned.csv"
    rows = [f"{s},{x}" for s, x in enumerate(rates("wsd").tolist())]
    planned.write_text("\n".join(["step,lr", *rows]))
    made = json.loads(call(capsys, logs["cosine"], planned, "--json"))
    other = json.loads(call(capsys, logs["cosine"], "--schedule", planned, "--json"))
    assert made["forecast"] == other["forecast"]


def test_where_holds_the_end_out(capsys, logs):
    argv = (logs["cosine"], "--where", "step < 2800", "--json")
    made = json.loads(call(capsys, *argv))
    assert made["score"]["points"] == 60
    assert made["score"]["prede"] < 0.01
    assert json.loads(call(capsys, *argv, "--schedule", logs["cosine"])) == made


def test_a_named_schedule_is_shaped_as_the_logs(capsys, logs):
    argv = (logs["constant"], logs["cosine"], "--schedule", "wsd", "--json")
    made = json.loads(call(capsys, *argv))
    longer = json.loads(call(capsys, *argv, "--steps", 8000, "--set", "decay=0.1"))
    assert made["step"] == 3980
    assert longer["step"] == 7999
    assert longer["forecast"] < made["forecast"]


def test_a_log_without_rates_takes_those_of_the_schedule(capsys, tmp_path, logs):
    bare = write(tmp_path / "bare.csv", made_up("cosine", 0.002, 1), until=2500, lr=False)
    assert "--map lr=COLUMN names it, or --schedule" in call(capsys, bare, status=2)
    made = json.loads(call(capsys, bare, "--schedule", logs["cosine"], "--json"))
    assert made["score"]["worste"] < 0.02


def test_the_alarm_is_the_exit_status(capsys, tmp_path):
    path = write(tmp_path / "run.csv", made_up("cosine", 0.002), until=2800)
    assert "alarm" in call(capsys, path, "--goal", 1.5, status=1)
    assert "alarm" not in call(capsys, path, "--goal", 9)


def test_json_lines_with_a_row_for_what_was_logged(capsys, tmp_path):
    run = made_up("cosine", 0.002)
    rows = [{"step": int(s), "lr": float(run.lr[s])} for s in range(0, STEPS, 5)]
    rows += [
        {"step": int(s), "loss": float(y)} for s, y in zip(run.at, run.loss, strict=True) if s < 3e3
    ]
    path = tmp_path / "curve.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert json.loads(call(capsys, path, "--json"))["step"] == 3995


def test_runs_in_one_table(tmp_path):
    lines = ["run,step,lr,loss"]
    for kind in ("constant", "cosine"):
        run = made_up(kind)
        lines += [f"{kind},{s},{run.lr[s]},{y}" for s, y in zip(run.at, run.loss, strict=True)]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines))
    first, second = read_logged(path, (), None)
    assert (first.name, second.name) == ("runs.csv constant", "runs.csv cosine")
    assert second.lr is not None
    np.testing.assert_allclose(second.lr[300:], rates("cosine")[300:3981], rtol=1e-3)


def test_a_dashboards_export_with_two_losses_gaps_and_a_resume(capsys, tmp_path):
    run = made_up("cosine", 0.002)
    cells = {
        int(s): (f"{run.lr[s]:.6g}", f"{y:.5f}") for s, y in zip(run.at, run.loss, strict=True)
    }
    lines = ['"Step","train/lr","train/loss","val/loss"']
    for step, (lr, loss) in cells.items():
        if step > 2800:
            lines.append(f"{step},{lr},,")  # still to come
        elif not 1000 < step < 1200:
            lines.append(f"{step},{lr},{loss},")
        if step == 2000:  # resumed from an older checkpoint
            again = [f"{s},{a},{b}," for s, (a, b) in cells.items() if 1800 < s <= 2000]
            lines += ["1900,,,3.1", *again]
    path = tmp_path / "export.csv"
    path.write_text("\n".join(lines))
    made = json.loads(call(capsys, path, "--where", "step < 2600", "--json"))
    assert any("read loss from 'train/loss'" in n and "loss=val/loss" in n for n in made["notes"])
    truth = dict(zip(run.at.tolist(), run.loss.tolist(), strict=True))
    assert made["forecast"] == pytest.approx(truth[made["step"]], rel=0.01)
    assert made["score"]["points"] > 3  # what --where held out


def test_rates_before_the_first_row_rise_from_zero(tmp_path):
    path = tmp_path / "late.csv"
    path.write_text("step,lr,loss\n100,0.2,3\n200,0.2,2.9\n400,0.1,2.8\n")
    (run,) = read_logged(path, (), None)
    assert run.lr is not None
    np.testing.assert_allclose(run.lr[[0, 50, 100, 200, 300, 400]], [0, 0.1, 0.2, 0.2, 0.15, 0.1])
    assert "rise from 0" in run.notes[0]
    path.write_text("step,lr,loss\n10,0.1,3\n20,0.2,2.9\n4000,0.1,2.8\n")
    (run,) = read_logged(path, (), None)
    assert run.lr is not None
    np.testing.assert_allclose(run.lr[[0, 5, 10, 15]], [0, 0.05, 0.1, 0.15])
    assert not run.notes  # too little to be worth a word


def test_figure(capsys, tmp_path, logs):
    path = tmp_path / "curve.svg"
    call(capsys, logs["constant"], "--schedule", logs["wsd"], "--figure", path)
    assert "<svg" in path.read_text()


@pytest.mark.parametrize(
    ("text", "more", "match"),
    [
        ("step,lr,loss\n1,1e-3,3\n2,1e-3,-3\n", (), "see row 2"),
        ("step,lr,loss\n1,1e-3,3\n2,-1e-3,3\n", (), "'lr' must be rates of at least 0: see row 2"),
        ("step,lr,loss\n1,1e-3,3\n,1e-3,3\n", (), "'steps' must be counts"),
        ("step,lr,loss\n1,1e-3,3\n1,2e-3,3\n", (), "two rates for step 1"),
        ("step,lr,loss\n1,big,3\n2,big,3\n", (), "must hold numbers, not 'big'"),
        ("stp,lr,loss\n1,1e-3,3\n", (), "did you mean 'stp'"),
        ("step,rate\n1,1e-3\n", (), "has no column 'loss'"),
        ("step,lr,loss\n1,1e-3,3\n2,1e-3,3\n", ("--schedule", "wsdd"), "did you mean 'wsd'"),
        ("step,lr,loss\n1,1e-3,3\n2,1e-3,3\n", ("--steps", "9"), "shape a named schedule"),
        ("step,lr,loss\n1,1e-3,3\n2,1e-3,3\n", ("--level", "2"), "between 0 and 1"),
        ("step,lr,loss\n1,1e-3,3\n2,1e-3,3\n", ("--schedule", "no.csv"), "no file"),
        ("step,lr,loss\n1,1e-3,3\n2,1e-3,3\n", (), "nothing is left to forecast"),
        ("step,lr,loss\n1,1e-3,3\n2,1e-3,\n", (), "needs at least 8"),
        ("step,lr,loss\n1,1e-3,\n2,1e-3,\n", (), "no losses to learn from"),
    ],
)
def test_mistakes_say_what_to_do(capsys, tmp_path, text, more, match):
    path = tmp_path / "run.csv"
    path.write_text(text)
    assert match in call(capsys, path, *more, status=2)


def test_a_line_that_is_no_object_is_named(capsys, tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_text('{"step": 1}\nnot json\n')
    assert "line 2 is no JSON object" in call(capsys, path, status=2)
