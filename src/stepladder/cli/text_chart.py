"""A chart in text: marks over two axes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stepladder.laws.law import Array, Index

WIDTH, HEIGHT = 64, 14


class Marks(NamedTuple):
    """Points (points,) that are drawn as one letter, over what was drawn before."""

    x: Array | Index
    y: Array
    mark: str


def text_chart(
    series: Sequence[Marks], low: float, high: float, key: str, ends: tuple[str, str, str]
) -> str:
    """Lines of text.

    Args:
        low, high: of the y axis; what lies beyond is drawn at its ends.
        key: what the y axis is, and what the marks mean.
        ends: the first and the last number of the x axis, and what it is.
    """
    labels = [f"{high:.4g}", *[""] * (HEIGHT - 2), f"{low:.4g}"]
    margin = max(6, *map(len, labels))
    width = WIDTH + 6 - margin  # a chart is as wide, whatever its labels
    grid = np.full((HEIGHT, width), " ")
    x = np.concatenate([one.x for one in series])
    for one in series:
        column = (one.x - x.min()) / max(np.ptp(x), 1e-9) * (width - 1)
        row = (high - np.clip(one.y, low, high)) / max(high - low, 1e-12) * (HEIGHT - 1)
        grid[np.round(row).astype(int), np.round(column).astype(int)] = one.mark
    lines = ["".join(row).rstrip() for row in grid]
    first, last, name = ends
    axis = f"{first}{last:>{width - len(first)}}"
    drawn = "\n".join(
        f"  {label:>{margin}} │{line}" for label, line in zip(labels, lines, strict=True)
    )
    indent = " " * (margin + 3)
    return f"  {key}\n{drawn}\n{indent}└{'─' * width}\n{indent} {axis} {name}"
