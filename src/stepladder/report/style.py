"""How figures look, and how they become files: SVG that is the same every time, and PNG.

matplotlib is imported lazily and through its object API: no global state is kept.
"""

from collections.abc import Callable, Sequence
from io import BytesIO
from textwrap import fill
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Role: colour on a light ground, and on a dark one (the HTML report turns one into the other).
COLOURS = {
    "ground": ("#ffffff", "#14171c"),
    "ink": ("#1c2330", "#e7eaf0"),
    "muted": ("#667085", "#98a2b3"),
    "line": ("#e4e7ec", "#2b313b"),
    "law": ("#2f5fd0", "#7fa6ff"),
    "band": ("#cddbfa", "#263c70"),
    "run": ("#41506b", "#b4c0d6"),
    "outcome": ("#d4550b", "#ff9a52"),
    "good": ("#15803d", "#5fd38a"),
}
LIGHT = {role: pair[0] for role, pair in COLOURS.items()}

SIZE, TALL = (8.0, 4.8), (8.0, 6.0)  # inches
TITLE_WIDTH = 72  # letters that fit a line
RESOLUTION = 160  # dots an inch, of the PNG
SETTINGS: Any = {  # matplotlib's type lists every setting by name
    "font.size": 10.5,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same letters everywhere
    "svg.fonttype": "path",
    "axes.titlesize": 12.5,
}


def figure(title: str, panels: int = 1) -> tuple["Figure", list["Axes"]]:
    """An empty figure with a title in words, and its axes side by side."""
    return _titled(
        title, SIZE, lambda made: [made.add_subplot(1, panels, i + 1) for i in range(panels)]
    )


def over_one_axis(title: str) -> tuple["Figure", list["Axes"]]:
    """An empty figure with a title, and two axes over one x: what is shown, and below it a third as
    high what explains it."""
    return _titled(
        title, TALL, lambda made: list(made.subplots(2, 1, sharex=True, height_ratios=[3, 1]))
    )


def _titled(
    title: str, size: tuple[float, float], divided: Callable[["Figure"], list["Axes"]]
) -> tuple["Figure", list["Axes"]]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS):
        made = Figure(figsize=size, layout="constrained", facecolor=LIGHT["ground"])
        axes = divided(made)
        made.suptitle(
            fill(title, TITLE_WIDTH),
            x=0.012,
            ha="left",
            color=LIGHT["ink"],
            fontsize=12.5,
            fontweight="bold",
        )
        for one in axes:
            _plain(one)
    made.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # type: ignore[union-attr, call-arg]
    return made, axes


def label(
    axes: "Axes",
    text: str,
    at: tuple[float, float],
    offset: tuple[float, float],
    colour: str,
    **more: Any,
) -> None:
    """Text beside a point, in place of a legend; the offset is in points."""
    axes.annotate(text, at, xytext=offset, textcoords="offset points", color=LIGHT[colour], **more)


def loss_ticks(axes: "Axes", low: float, high: float) -> None:
    """A logarithmic loss axis with round numbers: powers of ten would leave it empty."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    axes.yaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))


def svg(made: "Figure", name: str) -> str:
    """A figure as SVG, byte for byte the same for the same figure."""
    from matplotlib import rc_context

    out = BytesIO()
    with rc_context(SETTINGS | {"svg.hashsalt": name}):
        made.savefig(out, format="svg", metadata={"Date": None, "Creator": "Stepladder"})
    return out.getvalue().decode()


def png(made: "Figure") -> bytes:
    """A figure as PNG."""
    from matplotlib import rc_context

    out = BytesIO()
    with rc_context(SETTINGS):
        made.savefig(out, format="png", dpi=RESOLUTION, metadata={"Software": "Stepladder"})
    return out.getvalue()


def shades(count: int) -> Sequence[str]:
    """Colours from pale to strong, for rungs from small to large (on both grounds)."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    steps = [0.35 + 0.5 * i / max(1, count - 1) for i in range(count)]
    return [to_hex(colormaps["cool"](step)) for step in steps]


def _plain(axes: "Axes") -> None:
    axes.set_facecolor("none")
    axes.grid(True, color=LIGHT["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LIGHT["muted"])
    axes.tick_params(which="both", colors=LIGHT["muted"], length=0, labelsize=9.5)
    axes.xaxis.label.set_color(LIGHT["muted"])
    axes.yaxis.label.set_color(LIGHT["muted"])
