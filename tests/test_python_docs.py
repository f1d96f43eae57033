"""The Python of the pages runs as it stands."""

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[1] / "docs"
BLOCKS = [
    pytest.param(block, id=f"{name}-{index}")
    for name in ("optimizers", "batching")
    for index, block in enumerate(
        re.findall(r"```python\n(.*?)```", (PAGES / f"{name}.md").read_text(), re.DOTALL)
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_it_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "page", "exec"), {})
