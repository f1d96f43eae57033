"""The verbs that fit, forecast, allocate, backtest and list laws."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from surfaces import TRUTH, chinchilla_table

from stepladder.cli import main
from stepladder.cli.text_chart import Marks, text_chart
from stepladder.laws import get

FAST = ["--starts", "30", "--bootstrap", "100"]


@pytest.fixture
def runs(tmp_path):
    """Forty-eight runs as a CSV with the spelling of Epoch's points."""
    table = chinchilla_table(TRUTH, 0.003)
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Model Size", "Training FLOP", "loss"])
        for n, d, loss in zip(table["params"], table["tokens"], table["loss"], strict=True):
            writer.writerow([n, 6 * n * d, loss])
    return path


def out(capsys, *argv):
    assert main([str(a) for a in argv]) == 0
    return capsys.readouterr().out


def err(capsys, *argv):
    assert main([str(a) for a in argv]) == 2
    return capsys.readouterr().err


def fit_json(capsys, runs, *more):
    text = out(capsys, "fit", runs, "--law", "chinchilla", "--map", "params=Model Size",
               "--map", "tokens=flops/(6*params)", "--json", *FAST, *more)  # fmt: skip
    return json.loads(text)


def test_fit_json_has_the_whole_result(capsys, runs):
    result = fit_json(capsys, runs, "--drop-worst", 2)
    assert {"parameters", "intervals", "objective", "status", "optima"} <= set(result)
    assert result["status"] == "converged"
    for name, value in TRUTH.items():
        low, high = result["intervals"][name]
        assert low < result["parameters"][name] < high
        assert result["parameters"][name] == pytest.approx(value, rel=0.5)
    assert len(result["points"]["target"]) == 46
    assert result["optima"][0]["objective"] == result["objective"]


def test_printed_json_is_a_fit_to_forecast_from(capsys, runs, tmp_path):
    path = tmp_path / "FIT.json"
    path.write_text(json.dumps(fit_json(capsys, runs)))
    argv = ("forecast", path, "--params", 7e9, "--tokens=1.4e11")
    made = json.loads(out(capsys, *argv, "--json"))
    low, high = made["interval"]
    assert low < made["forecast"] < high
    assert made["forecast"] == pytest.approx(2.17, abs=0.02)
    assert f"{made['forecast']:.4f}" in out(capsys, *argv, "--next-runs", 2)
    best = json.loads(out(capsys, "allocate", path, "--flops", 1e24, "--json"))
    assert 6 * best["inputs"]["params"] * best["inputs"]["tokens"] == pytest.approx(1e24, rel=1e-6)
    assert best["near"]["params"][0] < best["inputs"]["params"] < best["near"]["params"][1]
    assert "tokens per parameter" in out(capsys, "allocate", path, "--flops", 1e24)


def test_a_table_is_forecast_from_in_one_command(capsys, runs):
    argv = ("forecast", runs, "--law", "chinchilla", "--params", 7e9, "--tokens", 1.4e11)
    made = json.loads(out(capsys, *argv, "--next-runs", 2, "--json"))
    assert made["forecast"] == pytest.approx(2.17, abs=0.02)
    assert made["law"] == "chinchilla"
    assert len(made["next_runs"]) == 2
    assert "tokens as flops/(6*params)" in made["notes"][0]
    assert "next run" in out(capsys, *argv, "--next-runs", 1)


def test_a_column_of_text_that_tells_runs_apart_is_named(capsys, tmp_path):
    table = chinchilla_table(TRUTH, 0.003)
    lines = ["N,D,loss,corpus"]
    for k, (n, d, loss) in enumerate(
        zip(*(table[x] for x in ("params", "tokens", "loss")), strict=True)
    ):
        lines.append(f"{n},{d},{loss * (1.3 if k % 2 else 1.0)},{'web' if k % 2 else 'code'}")
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines))
    text = " ".join(out(capsys, "fit", path, "--law", "chinchilla", *FAST).split())
    assert "--where \"corpus == 'code'\"" in text
    text = out(capsys, "fit", path, "--law", "chinchilla", "--where", "corpus == 'web'", *FAST)
    assert "of what the law leaves" not in text


def test_negative_losses_fit_where_the_law_means_them(capsys, tmp_path):
    law, rng = get("vocabulary-size"), np.random.default_rng(2)
    inputs = {
        "params": np.exp(rng.uniform(17, 21, 60)),
        "characters": np.exp(rng.uniform(20, 24, 60)),
        "vocab": rng.choice([4096, 16384, 65536], 60).astype(float),
    }
    values = {"alpha": 0.4, "alpha_V": 0.6, "E": 7.0, "A_1": 900.0, "A_2": 900.0, "B": 9000.0}
    loss = law.predict(values, inputs) + 0.003 * rng.normal(size=60)
    assert loss.max() < 0
    lines = ["non_vocab_parameters,vocab_size,num_characters,unigram_normalized_loss"]
    columns = (inputs["params"], inputs["vocab"], inputs["characters"], loss)
    lines += [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(lines))
    made = json.loads(out(capsys, "fit", path, "--json", *FAST))
    assert made["law"] == "vocabulary-size"
    assert made["parameters"]["alpha"] == pytest.approx(0.4, abs=0.03)


def test_readable_output_and_figure(capsys, runs, tmp_path):
    figure, fit = tmp_path / "fit.png", tmp_path / "fit.json"
    text = out(capsys, "fit", runs, "--law", "chinchilla", "--map", "tokens=flops/(6*params)",
               "--out", fit, "--figure", figure, *FAST)  # fmt: skip
    assert "converged" in text
    assert "exponent of parameters" in text
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert json.loads(fit.read_text())["law"] == "chinchilla"


def test_auto_compares_laws_by_held_out_error(capsys, runs):
    argv = ("fit", runs, "--map", "tokens=flops/(6*params)", "--json", *FAST)
    result = json.loads(out(capsys, *argv))
    errors = [one["error"] for one in result["compared"] if "error" in one]
    # alike within ten percent counts as equal: the simpler law comes first
    assert all(later > 0.9 * max(errors[: k + 1]) for k, later in enumerate(errors[1:]))
    assert result["law"] == result["compared"][0]["law"]
    assert {"chinchilla", "power"} <= {one["law"] for one in result["compared"]}
    assert any("unknowns want" in one.get("reason", "") for one in result["compared"])


def test_backtest(capsys, runs):
    argv = ("backtest", runs, "--law", "chinchilla", "--map", "tokens=flops/(6*params)")
    made = json.loads(out(capsys, *argv, "--json"))
    assert made["trained"] + made["held"] == 48
    assert made["error"] < 0.02
    assert 0.5 <= made["coverage"] <= 1
    assert "of outcomes" in out(capsys, *argv)


def test_allocation_of_published_constants(capsys):
    best = json.loads(out(capsys, "allocate", "chinchilla:hoffmann", "--flops", 5.76e23, "--json"))
    # equation 4 of the paper: G (C/6)^a with the constants of its equation 10
    a = 0.28 / (0.34 + 0.28)
    scale = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / (0.34 + 0.28))
    assert best["inputs"]["params"] == pytest.approx(scale * (5.76e23 / 6) ** a, rel=0.02)


def test_served_tokens_and_memory_make_smaller_models(capsys):
    def params(*more):
        argv = ("allocate", "chinchilla:epoch", "--flops", 1e24, "--json", *more)
        return json.loads(out(capsys, *argv))["inputs"]["params"]

    assert params("--served-tokens", 1e13) < params()
    assert params("--memory", 2e10) == pytest.approx(1e10, rel=0.03)


def test_list_and_card(capsys):
    cards = json.loads(out(capsys, "laws", "--json"))
    assert len(cards) > 20
    assert all(card["title"] and card["form"] and card["inputs"] for card in cards)
    assert "410.7" in out(capsys, "laws", "chinchilla")
    assert "chinchilla" in out(capsys, "laws")


def test_mistakes_say_what_to_type(capsys, runs, tmp_path):
    assert "did you mean 'chinchilla'" in err(capsys, "fit", runs, "--law", "chinchila")
    several = runs.with_name("several.csv")
    several.write_text("N,D,loss_web,loss_code\n1e8,1e9,3,2\n")
    text = err(capsys, "fit", several, "--law", "chinchilla")
    assert "may be loss: loss_web, loss_code" in text
    assert "--map 'loss=loss_web'" in text
    assert "must read name=column" in err(capsys, "fit", runs, "--law", "power", "--map", "params")
    assert "leaves no rows" in err(capsys, "fit", runs, "--law", "power", "--where", "loss > 99")
    assert "no file" in err(capsys, "allocate", tmp_path / "no.json", "--flops", "1e20")
    assert "give flops" in err(capsys, "allocate", "chinchilla")
    path = tmp_path / "FIT.json"
    path.write_text(json.dumps(fit_json(capsys, runs)))
    assert "did you mean 'params'" in err(capsys, "forecast", path, "--parms", "7e9")
    assert "needs a number" in err(capsys, "forecast", path, "--params", "big", "--tokens", "1")
    said = err(capsys, "forecast", path, "--params", "-7e9", "--tokens", "1e9")
    assert "params cannot be -7e+09: it must be above 0" in said
    assert "between 0 and 1" in err(capsys, "backtest", runs, "--law", "chinchilla", "--held", 1.5)
    assert "needs one number" in err(capsys, "forecast", path, "--params", "1e9,2e9")
    path.write_text("{}")
    assert "not a fit" in err(capsys, "forecast", path, "--params", "7e9")
    path.write_text("{")
    assert "not JSON" in err(capsys, "forecast", path, "--params", "7e9")


def test_a_column_that_two_others_give_is_shown(capsys, tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("N,D,loss\n1e8,1e9,3\n")
    assert "--map flops='6*params*tokens'" in err(capsys, "fit", path, "--law", "power")


def test_allocate_chooses_what_the_law_has(capsys):
    argv = ("allocate", "moe-sparsity", "--flops", 1e20)
    free = json.loads(out(capsys, *argv, "--json"))
    some = json.loads(out(capsys, *argv, "--sparsity", "0,0.5", "--json"))
    assert free["inputs"]["sparsity"] > some["inputs"]["sparsity"] == 0.5
    assert [one["value"] for one in some["choices"]["sparsity"]] == [0, 0.5]
    assert some["inputs"]["tokens"] * some["inputs"]["params"] * 3 == pytest.approx(1e20)
    text = " ".join(out(capsys, *argv).split())
    assert "sparsity 0.98 lies outside 0 to 0.95" in text
    assert "worse by" in text
    assert "sparsity cannot be 5" in err(capsys, *argv, "--sparsity", 5)
    assert "settled by one number" in err(capsys, *argv, "--params", "1e9,2e9")
    assert "no published constants here: fit it" in err(capsys, "allocate", "joint-moe")
    routed = ("allocate", "routed", "--flops", 1e21)
    assert "give tokens" in err(capsys, *routed)
    assert json.loads(out(capsys, *routed, "--tokens", 1.3e11, "--json"))["inputs"]["experts"] > 1


def test_notes_wrap_below_their_first_word(capsys, monkeypatch):
    from stepladder.cli.law_view import show_notes

    monkeypatch.setenv("COLUMNS", "40")
    show_notes(["[bold] is no markup here, and this note is longer than a line"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("  · [bold] is")
    assert lines[1].startswith("    ")
    assert lines[1][4] != " "
    assert max(map(len, lines)) <= 40


def test_mistakes_in_a_table_are_said_once_with_its_rows(capsys, tmp_path):
    def lines(*cells):
        path = tmp_path / "runs.csv"
        path.write_text("\n".join(["N,D,val loss,kind", *cells]))
        return path

    good = [f"{n:g},{20 * n:g},{2 + 1e3 * n**-0.4:.4f},a" for n in np.geomspace(1e7, 1e9, 12)]
    path = lines("1e7,2e8,5,b", *good[:6], "1e8,2e9,nan,a", *good[6:])
    said = err(capsys, "fit", path, "--where", "kind == 'a'")
    assert said.count("positive numbers") == 1
    assert "see row 8" in said  # as in the file, not as in what --where left
    said = err(capsys, "fit", lines(*good), "--map", "loss=10-`val loss`")
    assert "rises with compute" in said
    path.write_text("prams,toks,loss\n1,2,3\n")
    assert "params, did you mean 'prams'?" in err(capsys, "fit", path)


def test_infinite_ends_survive_json(capsys, tmp_path):
    flops = np.geomspace(1e17, 1e18, 6)
    loss = 3 * (flops / 1e17) ** -0.001 * np.exp(0.02 * np.random.default_rng(0).normal(size=6))
    path = tmp_path / "flat.csv"
    lines = [f"{c},{y}" for c, y in zip(flops, np.sort(loss)[::-1], strict=True)]
    path.write_text("\n".join(["flops,loss", *lines]))
    fit = tmp_path / "FIT.json"
    text = out(capsys, "fit", path, "--law", "power", "--json", *FAST)
    assert "Infinity" not in text
    fit.write_text(text)
    assert json.loads(out(capsys, "forecast", fit, "--flops", "2e18", "--json"))["forecast"] > 0


def test_laws_start_without_torch():
    code = (
        "import sys; from stepladder.cli import main; status = main(['laws', 'chinchilla']);"
        "sys.exit(status or any(m.split('.')[0] in ('torch', 'matplotlib', 'pandas')"
        " for m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_has_seen_enough_is_no_error():
    """As in `stepladder laws --json | head -1`."""
    code = "import sys; from stepladder.cli import main; sys.exit(main(['laws', '--json']))"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_a_chart_is_aligned_and_fits_whatever_its_labels():
    for high in (4.6, 4.6e4, 1.234e-12):
        series = [Marks(np.arange(9.0), np.linspace(high, high / 2, 9), "o")]
        _, *drawn, axis, _ = text_chart(series, high / 2, high, "loss", ("1", "9", "step")).split(
            "\n"
        )
        assert len({line.index("│") for line in drawn} | {axis.index("└")}) == 1
        assert max(map(len, [*drawn, axis])) <= 80


def test_noise_on_one_side_only_has_no_ratio(capsys, tmp_path):
    d = np.tile(np.geomspace(4e8, 2e10, 5), 5)  # five sizes, which the table does not tell
    loss = np.repeat([1.4, 1.1, 1.03, 1.01, 1.0], 5) * (1.7 + 410 / d**0.28)
    path = tmp_path / "runs.csv"
    path.write_text("D,loss\n" + "".join(f"{a},{b}\n" for a, b in zip(d, loss, strict=True)))
    text = out(capsys, "fit", path, "--law", "kaplan-data", *FAST)
    assert "above the law more than below (over 100 times)" in " ".join(text.split())


def test_a_law_that_is_chosen_has_the_inputs_that_are_asked_of(capsys, tmp_path):
    n, d = np.array([(a, 20 * a * k) for a in np.geomspace(1e7, 1e9, 6) for k in (1, 2, 4, 8)]).T
    loss = 1.7 + 400 / (6 * n * d) ** 0.15  # a law of compute alone is right
    path = tmp_path / "runs.csv"
    rows = zip(n, d, 6 * n * d, loss, strict=True)
    path.write_text("N,D,C,loss\n" + "".join(",".join(f"{x}" for x in r) + "\n" for r in rows))
    for flags in (("--flops", 1e20), ("--params", "2B", "--tokens=40B")):
        made = json.loads(out(capsys, "forecast", path, *flags, "--json"))
        assert made["low"] < 1.7 + 400 / (4.8e20 if "2B" in flags else 1e20) ** 0.15 < made["high"]
        assert set(made["inputs"]) == {"params", "tokens"} if "2B" in flags else {"flops"}
    assert "no option --parms" in err(capsys, "forecast", path, "--parms", 1)
    assert "needs a number, not '2X'" in err(capsys, "forecast", path, "--flops", "2X")


def test_a_recognised_loss_is_not_offered_for_another_column(capsys, tmp_path):
    path = tmp_path / "grid.csv"
    path.write_text("lr,loss\n0.1,3\n0.2,2\n")
    assert "did you mean" not in err(capsys, "fit", path)
