"""Compiled functions entered directly: the plain function's numbers, whichever way a call goes."""

import pytest
import torch

from stepladder.optim.shortcut import Shortcut, description

# torch warns about itself while it loads its compiler
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def step(row, scalars):
    row["p"].sub_(row["g"] * scalars["rate"] * 0.3)
    length = (row["p"] * row["g"]).sum()
    return {"length": length, "twice": 2 * length}


def steps(rows, scalars):
    return [step(row, scalars) for row in rows]


def fresh(*sizes):
    return [{"p": torch.randn(n), "g": torch.randn(n)} for n in sizes]


def check(shortcut, plain, rows, scalars):
    copies = [{name: t.clone() for name, t in row.items()} for row in rows]
    found = shortcut(rows, scalars, tuple(map(description, rows)))
    for ours, theirs in ((found, plain(copies, scalars)), (rows, copies)):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_shapes_seen_before_do_not_go_through_torch():
    shortcut = Shortcut(lambda rows, scalars: steps(rows, scalars), {})
    for sizes in ((40, 70), (40, 70), (50, 70), (30, 30), (40, 70)):
        check(shortcut, steps, fresh(*sizes), {"rate": torch.rand(())})

    def refuse(rows, scalars):
        raise AssertionError("went through torch")

    shortcut._compiled = refuse
    for sizes in ((40, 70), (50, 70), (30, 30)):
        check(shortcut, steps, fresh(*sizes), {"rate": torch.rand(())})
    for rows, scalars in (
        (fresh(40, 71), {"rate": torch.rand(())}),
        (fresh(40, 70), {"rate": torch.rand(()), "more": torch.rand(())}),
        (
            [{"p": torch.randn(40).double(), "g": torch.randn(40).double()}],
            {"rate": torch.rand(())},
        ),
    ):
        with pytest.raises(AssertionError, match="went through torch"):
            check(shortcut, steps, rows, scalars)


def broken(rows, scalars):
    rows[0]["p"].add_(scalars["rate"])
    torch._dynamo.graph_break()
    return steps(rows, scalars)


def returns_an_input(rows, scalars):
    return [{**step(row, scalars), "p": row["p"]} for row in rows]


@pytest.mark.parametrize("plain", [broken, returns_an_input])
def test_what_is_more_than_one_kernel_goes_through_torch_always(plain):
    shortcut = Shortcut(lambda rows, scalars: plain(rows, scalars), {})
    for _ in range(3):
        check(shortcut, plain, fresh(40, 70), {"rate": torch.rand(())})
