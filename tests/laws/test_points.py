"""Bad input is named with its rows, and nothing is dropped in silence."""

import numpy as np
import pytest
from surfaces import TRUTH, chinchilla_table

from stepladder.laws import fit, get
from stepladder.laws.noise import explained
from stepladder.laws.points import points


def table(**changes):
    columns = chinchilla_table(TRUTH, 0.003)
    columns.update(changes)
    return columns


def changed(name, row, value):
    columns = table()
    columns[name][row] = value
    return columns


def refuse(columns, match, law="chinchilla", **options):
    with pytest.raises(ValueError, match=match):
        fit(law, columns, bootstrap=0, starts=8, **options)


def test_missing_column_names_the_nearest():
    columns = table()
    columns["toknes"] = columns.pop("tokens")
    refuse(columns, "needs a column 'tokens', did you mean 'toknes'")


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_losses_that_are_no_losses(value):
    refuse(
        changed("loss", [3, 7], value),
        "'loss' must hold positive numbers: see rows 4, 8; --where 'loss > 0'",
    )


def test_sizes_that_are_no_sizes():
    refuse(changed("params", 2, -1e9), "'params' must hold numbers above 0: see row 3")


def test_tokens_in_billions_beside_params_in_units():
    refuse(table(tokens=table()["tokens"] / 1e9), "tokens are in billions.*--map")


def test_params_in_billions_beside_tokens_in_units():
    refuse(table(params=table()["params"] / 1e9), "params are in billions")


def test_tokens_in_millions_and_single_rows_in_another_unit():
    refuse(table(tokens=table()["tokens"] / 1e6), "tokens are in millions.*1e6")
    columns = table()
    columns["tokens"][[3, 7]] /= 1e9
    refuse(columns, "cannot be counts: see rows 4, 8; if tokens are in billions")


def test_rows_are_named_as_in_their_file():
    columns = changed("loss", [1, 2], np.nan)
    refuse(columns, "see rows 20, 30", rows=[10 * (k + 1) for k in range(48)])


def test_outliers_are_named_and_kept():
    columns = changed("loss", 11, 9.0)
    found = fit("chinchilla", columns, bootstrap=0, starts=20)
    assert len(found.points) == 48
    assert any(text.startswith("row 12 far from the law") for text in found.reasons)
    assert not any("far from" in t for t in fit("chinchilla", table(), bootstrap=0).reasons)


def test_both_in_billions_are_one_unit():
    columns = table()
    scaled = {**columns, "params": columns["params"] / 1e9, "tokens": columns["tokens"] / 1e9}
    in_units = fit("chinchilla", columns, bootstrap=0, starts=40)
    assert fit("chinchilla", scaled, bootstrap=0, starts=40).values["alpha"] == pytest.approx(
        in_units.values["alpha"], rel=1e-4
    )


def test_one_size_only():
    refuse(table(params=np.full(48, 1e9)), "all runs have the same params")


def test_a_narrow_range():
    params = 1e9 * np.linspace(1, 1.2, 48)
    refuse(table(params=params), "range of params is too narrow.*1.2")


def test_fewer_runs_than_unknowns():
    few = {name: x[:4] for name, x in table().items()}
    refuse(few, "5 unknowns and there are 4 runs")


def test_repeats_are_not_settings():
    one = {name: np.tile(x[[0, 7, 14]], 4) for name, x in table().items()}
    one["loss"] = one["loss"] * (1 + 1e-3 * np.arange(12))
    refuse(one, "3 distinct settings")


def test_constant_loss():
    refuse(table(loss=np.full(48, 2.5)), "constant")


def test_losses_that_rise_with_compute():
    refuse(table(loss=1.0 / table()["loss"]), "rises with compute.*cheapest.*dearest")


def test_text_is_not_numbers():
    refuse(table(loss=np.array(["low"] * 48)), "not a number")
    cells = table()["loss"].astype(str)
    cells[4] = "n/a"
    refuse(table(loss=cells), "such as 'n/a': see row 5")


def test_lengths_differ():
    refuse(table(loss=table()["loss"][:-1]), "one length")


def test_duplicates_are_named_and_counted():
    columns = {name: np.concatenate([x, x[:2]]) for name, x in table().items()}
    found = fit("chinchilla", columns, bootstrap=0, starts=8)
    assert len(found.points) == 50
    assert any("rows 1, 2, 49, 50 are duplicates" in reason for reason in found.reasons)


def test_dropped_rows_are_named():
    columns = changed("loss", 5, 9.0)
    found = fit("chinchilla", columns, drop_worst=1, bootstrap=0, starts=8)
    assert len(found.points) == 47
    assert any("row 6 left out" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"loss": "hubber"}, "did you mean 'huber'"),
        ({"level": 90.0}, "level must lie between 0 and 1"),
        ({"noise": 0.0}, "noise must be positive"),
        ({"noise": 0.01, "weights": np.ones(48)}, "noise or weights"),
        ({"weights": -np.ones(48)}, "one positive number a row"),
        ({"drop_worst": 48}, "cannot drop 48 of 48"),
    ],
)
def test_options_that_cannot_be(options, match):
    with pytest.raises(ValueError, match=match):
        fit("chinchilla", table(), **{"bootstrap": 0, "starts": 8, **options})


@pytest.mark.parametrize(
    ("scale", "flops", "said"),
    [(1.0, 6.0, ""), (1e-9, 6.0, "look like billions"), (1.0, 6e-9, "flops are 1e-09 times 6")],
)
def test_odd_units_are_remarked(scale, flops, said):
    n, d = np.geomspace(1e8, 1e10, 8), np.geomspace(1e9, 1e12, 8)
    table = {"params": n * scale, "tokens": d * scale, "flops": flops * n * d * scale**2,
             "loss": 2.0 + n**-0.1}  # fmt: skip
    notes = points(get("chinchilla"), table).notes
    assert (said in " ".join(notes)) if said else not notes


def test_explained_variance_by_label():
    rng = np.random.default_rng(0)
    labels = ["a", "b"] * 20
    noise = rng.normal(size=40)
    assert explained(noise, labels) == 0.0
    assert explained(noise + np.tile([0.0, 9.0], 20), labels) > 0.9
    assert explained(noise, [str(k) for k in range(40)]) == 0.0  # one run a label
