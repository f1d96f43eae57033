"""What --help prints: every verb's, at the width of a terminal."""

from itertools import pairwise

import pytest

from stepladder.cli import VERBS, main


@pytest.mark.parametrize("verb", VERBS)
def test_no_line_of_a_verbs_help_is_broken_by_the_terminal(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    usage, *lines = capsys.readouterr().out.splitlines()
    assert usage.startswith(f"usage: stepladder {verb}")
    assert max(map(len, lines)) <= 80
    assert not any(one == two == "" for one, two in pairwise(lines))
    shown = " ".join(" ".join(lines).replace("│", " ").split())
    assert not any(f"(default: {said})" in shown for said in ("", "''", "None", "False"))
