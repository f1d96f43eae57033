"""`stepladder check`: exit status, text and JSON."""

import json
import re
from pathlib import Path

import pytest

from stepladder.cli import main

HERE = Path(__file__).parent
FILE = """
import sys
sys.path.insert(0, {here!r})
import torch
from scaling_networks import Decoder

def build(width, depth=2):
    return Decoder(width, depth)

def batches():
    torch.manual_seed(0)
    return [torch.randint(23, (4, 9)) for _ in range(2)]
"""


@pytest.fixture
def build(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE.format(here=str(HERE)))
    return f"{path}:build"


SMALL = ["--widths", "16", "32", "64", "--seeds", "2"]


def test_a_rule_that_holds_exits_with_0(build, capsys, tmp_path):
    options = [*SMALL, "--depths", "2", "4", "8", "--table", "--figure", str(tmp_path / "f.svg")]
    assert main(["check", build, *options]) == 0
    out = capsys.readouterr().out
    assert "coordinate check of completep: passed" in out
    assert "start and move alike over width 16 to 64 and depth 2 to 8" in " ".join(out.split())
    assert "first steps only" in out
    assert max(map(len, out.splitlines()[-3:])) <= 80
    assert "blocks.*.mlp.down.weight" in out
    assert (tmp_path / "f.svg").exists()


def test_one_that_does_not_exits_with_1_and_says_where(build, capsys):
    assert main(["check", build, *SMALL, "--rule", "sp", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["passed"] is False
    assert any("mlp.up.weight: its learning rate" in line for line in found["failures"])


def test_a_sweep_of_rates(build, capsys):
    lrs = ["--lrs", "0.001", "0.003", "0.01", "0.03", "0.1", "--sweep-steps", "4"]
    status = main(["check", build, *SMALL, "--batches", "batches", *lrs, "--json"])
    found = json.loads(capsys.readouterr().out)["transfer"]
    assert status == (found["verdict"] == "drifts")
    assert len(found["runs"]) == 3 * 5 * 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def build(width): return {}['hidden']", "mine.py, line 1, in build: KeyError: 'hidden'$"),
        ("def build(width) return 1", "mine.py: SyntaxError"),
        ("import nowhere.at.all", "mine.py, line 1, in <module>: ModuleNotFoundError"),
        ("import torch\n"
         "class Net(torch.nn.Embedding):\n"
         "    def forward(self, x):\n"
         "        return super().forward(x).ids\n"
         "def build(width): return Net(9, width)",
         "mine.py, line 4, in forward: AttributeError: .* given random tokens"),
        ("import torch\ndef build(width): return torch.nn.Linear(16, 16)",
         "makes the same model at width 16 and at width 64"),
        ("import torch\nfrom torch import nn\n"
         "class Block(nn.Module):\n"
         "    def __init__(self, d):\n"
         "        super().__init__()\n"
         "        self.first, self.last = nn.Linear(d, d), nn.Linear(d, d)\n"
         "    def forward(self, x): return x + self.last(self.first(x))\n"
         "def build(width):\n"
         "    deep = [Block(width) for _ in range(2)]\n"
         "    return nn.Sequential(nn.Embedding(9, width), *deep, nn.Linear(width, 9))",
         r"--branches '\*\.last'"),
    ],
)  # fmt: skip
def test_a_file_that_fails_is_told_where(tmp_path, capsys, code, message):
    path = tmp_path / "mine.py"
    path.write_text(code)
    assert main(["check", f"{path}:build", *SMALL]) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("{path}:bild", "did you mean 'build'"),
        ("{path}", "FILE.py:FUNCTION"),
        ("nowhere.py:build", "no Python file"),
    ],
)
def test_bad_input_exits_with_2(build, capsys, where, message):
    path = build.rpartition(":")[0]
    target = where.format(path=path) if ":" in where else "nothing"
    assert main(["check", target]) == 2
    assert message in capsys.readouterr().err
