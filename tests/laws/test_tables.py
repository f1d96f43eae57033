"""Tables of runs: spellings, expressions, formats, the run store."""

import json

import numpy as np
import pytest

from stepladder.laws.columns import readings, recognise
from stepladder.laws.expressions import evaluate
from stepladder.laws.tables import read_table, select

COLUMNS = {"flops": np.array([6.0, 60.0]), "params": np.array([1.0, 2.0]),
           "Model Size": np.array([3.0, 4.0]), "set": np.array(["rw", "owt"])}  # fmt: skip


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (["N", "D", "C", "L"], {"params": "N", "tokens": "D", "flops": "C", "loss": "L"}),
        (["Model Size", "Training FLOP", "loss"],
         {"params": "Model Size", "flops": "Training FLOP", "loss": "loss"}),
        (["n_params", "Tokens", "val_loss"],
         {"params": "n_params", "tokens": "Tokens", "loss": "val_loss"}),
        (["n", "d"], {}),  # small letters may be anything
        (["train_loss", "val_loss"], {"loss": "val_loss"}),
        (["loss", "val_loss"], {"loss": "loss"}),
        (["loss_c4", "loss_wiki"], {}),  # two candidates: the user says which
        (["N", "N_no_emb", "D", "train_tokens"], {"params": "N", "tokens": "D"}),
        (["total_params", "active_params"], {"params": "total_params"}),
        (["non_embedding_param_size", "data_size", "lm_loss"],
         {"params": "non_embedding_param_size", "tokens": "data_size", "loss": "lm_loss"}),
        (["throughput/total_tokens", "parameter_count", "eval/paloma/macro_loss"],
         {"params": "parameter_count", "tokens": "throughput/total_tokens",
          "loss": "eval/paloma/macro_loss"}),
        (["tokens/sec", "params / layer", "tokens_per_param", "loss_std"], {}),
    ],
)  # fmt: skip
def test_usual_spellings(header, found):
    made = recognise(["params", "tokens", "flops", "loss"], header)
    assert {name: one.column for name, one in made.items()} == found
    assert all(one.factor == 1 for one in made.values())


@pytest.mark.parametrize(
    ("header", "name", "factor"),
    [
        ("Params (M)", "params", 1e6),
        ("mparams", "params", 1e6),
        ("model_size_b", "params", 1e9),
        ("Tokens (B)", "tokens", 1e9),
        ("tokens in billions", "tokens", 1e9),
        ("Pretraining Data Size (T)", "tokens", 1e12),
        ("throughput/total_gflops", "flops", 1e9),
        ("FLOPs (1E21)", "flops", 1e21),
        ("EFLOPs", "flops", 1e18),
        ("gmacs_total", "flops", 2e9),
    ],
)
def test_units_in_names(header, name, factor):
    assert recognise([name], [header, "other"])[name] == readings(name, [header])[0]
    assert recognise([name], [header])[name].factor == factor


def test_counts_in_words_and_derived_columns(tmp_path):
    path = write(tmp_path / "runs.csv", "Model Size,budget,Val Loss\n135M,8.1e18,3\n1.5b,9e19,2\n")
    table = select(read_table(path), ["params", "tokens", "loss"])
    assert table.columns["params"] == pytest.approx([135e6, 1.5e9])
    assert table.columns["tokens"] == pytest.approx([1e10, 1e10])
    (note,) = table.notes
    assert "params from 'Model Size'" in note
    assert "tokens as flops/(6*params)" in note
    path = write(tmp_path / "seen.csv", 'mparams,samples_seen,error\n"1,000",5e8,.4\n2000,1e9,.3\n')
    table = select(read_table(path), ["params", "tokens", "loss"])
    assert table.columns["params"] == pytest.approx([1e9, 2e9])
    assert table.columns["tokens"] == pytest.approx([5e8, 1e9])


def test_nothing_is_derived_from_text(tmp_path):
    path = write(tmp_path / "runs.csv", "param_count,flops,loss\nexcl. head,1e18,3\n,2e18,2\n")
    table = select(read_table(path), ["params", "tokens", "loss"])
    assert set(table.columns) == {"params", "flops", "loss"}


def test_where_sees_text_that_would_read_as_a_count(tmp_path):
    path = write(tmp_path / "runs.csv", "N,loss,group\n1e8,3,70M\n2e8,2,160M\n")
    table = select(read_table(path), ["params", "loss"], where="group == '70M'")
    assert table.columns["loss"].tolist() == [3.0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("flops/(6*params)", [1.0, 5.0]),
        ("Model Size", [3.0, 4.0]),
        ("`Model Size` ** 2 - 1", [8.0, 15.0]),
        ("-log10(flops) + 2e0", 2 - np.log10([6.0, 60.0])),
        ("params > 1", [False, True]),
        ("1 < params <= 2 and set == 'owt'", [False, True]),
        ("not (params > 1) or flops == 60", [True, True]),
        ("1.5", [1.5, 1.5]),
    ],
)
def test_expressions(text, value):
    np.testing.assert_allclose(evaluate(text, COLUMNS), value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("parms * 2", "no column 'parms'.*did you mean 'params'"),
        ("__import__('os').system('ls')", "may hold names, numbers"),
        ("params.real", "may hold names, numbers"),
        ("[params for x in (1,)]", "may hold names, numbers"),
        ("open(params)", "not a function of one number"),
        ("set * 2", "text, not numbers"),
        ("params +", "cannot read the expression"),
    ],
)
def test_expressions_that_are_refused(text, match):
    with pytest.raises(ValueError, match=match):
        evaluate(text, COLUMNS)


def write(path, text):
    path.write_text(text)
    return path


def test_csv_with_maps_and_where(tmp_path):
    path = write(tmp_path / "runs.csv", "Model Size,Training FLOP,loss,kind\n"
                 "1e8,6e18,3.0,a\n2e8,2.4e19,2.8,b\n4e8,1e20,,b\n")  # fmt: skip
    table = select(
        read_table(path), ["params", "tokens", "loss"],
        maps=["tokens=flops/(6*params)"], where="kind == 'b' and loss > 0",
    )  # fmt: skip
    assert table.columns["tokens"] == pytest.approx([2e10])
    assert set(table.columns) == {"params", "tokens", "loss", "flops"}
    assert table.notes == ("read params from 'Model Size'", "--where leaves 1 of 3 rows")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty"),
        ("a,b\n", "has no rows"),
        ("a,b\n1,2\n3\n", "row 2 has 1 cells and the header 2"),
        ("a,a\n1,2\n", "more than one column called a"),
        ("1e8,2e9,3.1\n2e8,4e9,2.9\n", "first row holds numbers .*names of columns"),
        ("a,b\n1," + 200_000 * "x" + "\n", "is no table: field larger"),
    ],
)
def test_broken_csv(tmp_path, text, match):
    with pytest.raises(ValueError, match=match):
        read_table(write(tmp_path / "runs.csv", text))


def test_semicolons_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("N;loss\n1;2\n", encoding="utf-8-sig")
    assert dict(read_table(path).columns) == {"N": [1.0], "loss": [2.0]}


def test_parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "runs.parquet"
    parquet.write_table(pa.table({"N": [1, 2], "loss": [3.0, None], "kind": ["a", "b"]}), path)
    table = read_table(path)
    np.testing.assert_array_equal(table.columns["loss"], [3.0, np.nan])
    assert table.columns["kind"].tolist() == ["a", "b"]


def test_run_store(tmp_path):
    for k, loss in enumerate((3.0, 2.5, None)):
        folder = tmp_path / f"key{k}"
        folder.mkdir()
        write(folder / "recipe.toml", f"[optimizer]\nlr = {0.1 * (k + 1)}\n")
        if loss is not None:
            result = {"params": 1e6, "tokens": 10.0**k, "loss": loss, "seconds": {"all": 3}}
            write(folder / "result.json", json.dumps(result))
    table = read_table(tmp_path)
    assert table.columns["loss"].tolist() == [3.0, 2.5]
    assert table.columns["optimizer.lr"] == pytest.approx([0.1, 0.2])
    assert table.columns["seconds.all"].tolist() == [3, 3]
    assert table.notes == ("1 runs without a result are left out",)


def test_missing_file_names_the_nearest(tmp_path):
    write(tmp_path / "runs.csv", "a\n1\n")
    with pytest.raises(ValueError, match=r"did you mean 'runs.csv'"):
        read_table(tmp_path / "rums.csv")
    with pytest.raises(ValueError, match="holds no finished run"):
        read_table(tmp_path)
