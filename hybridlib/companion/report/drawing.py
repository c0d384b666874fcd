"""What all figures share: colours and markers, words, the page's layout with its caption, checks, writing to disk."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from hybridlib.companion.report import claims
from hybridlib.files import replace_file

STYLE = Path(__file__).with_name("style.mplstyle")
WIDTH = 7.0  # inches: the text width of a page
GREY = "0.35"


@dataclass(frozen=True)
class Look:
    """How a strategy is named and drawn in every figure."""

    label: str
    color: str
    marker: str


LOOKS = {strategy: Look(**look) for strategy, look in claims.WORDS["strategies"].items()}
SETTINGS = claims.WORDS["settings"]
MEASURES = claims.MEASURES | {"rank_distance": "rank distance (lower is less biased)"}

BY = ["strategy", "alpha", "setting", "measure", "subset"]
SPAN = ["mean", "low", "high"]

INTERVAL = "Bar: 95 % cluster bootstrap interval, queries of all seeds together."  # for captions


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `folder`/`name`.png and .svg, each whole or not at all; the same figure gives the same bytes."""
    paths = []
    with style():
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            paths.append(Path(folder) / f"{name}.{kind}")
            with replace_file(paths[-1]) as new:
                figure.savefig(new, format=kind, metadata=metadata)
    return paths


def style() -> AbstractContextManager:
    """Context in which figures are made and saved: the package's style over matplotlib's defaults."""
    return plt.style.context(STYLE, after_reset=True)


def captioned(caption: str) -> Callable[[Callable[..., Figure]], Callable[..., Figure]]:
    """Finish the figure of a drawing function: the package's style, a title above, the caption and a note below.

    The function gets two arguments more, both of them text: title, and note (what the numbers come from).
    """

    def finished(draw: Callable[..., Figure]) -> Callable[..., Figure]:
        @functools.wraps(draw)
        def drawn(*args, title: str = "", note: str = "", **kwargs) -> Figure:
            with style():
                figure = draw(*args, **kwargs)
                below = [line for text in (caption, note) for line in textwrap.wrap(text, 126)]
                _write_around(figure, textwrap.wrap(title, 80), below)
                figure.draw_without_rendering()
                figure.set_layout_engine("none")  # laid out once: each later drawing would shift it a little
            return figure

        drawn.caption = caption
        return drawn

    return finished


def _write_around(figure: Figure, above: list[str], below: list[str]) -> None:
    """Make the figure higher by lines of text above and below, and write them."""
    figure.set_figheight(figure.get_figheight() + 0.2 * len(above) + 0.13 * len(below))
    if above:
        figure.suptitle("\n".join(above), x=0.01, ha="left")
    figure.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=7, color=GREY, linespacing=1.3)


def new_figure(rows: int, columns: int, height: float, **options) -> tuple[Figure, np.ndarray]:
    """A figure of the page's width with (rows, columns) axes, `height` inches high without title and caption."""
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, layout="constrained", **options)
    plt.close(figure)  # no window and no second copy under a notebook's cell; the figure itself lives on
    return figure, axes


def label_rows(ax: Axes, labels: Sequence[str], *, above: float = 0.5) -> None:
    """Let rows run down the y axis with these labels and no grid between them; `above` the first there is room."""
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -above)
    ax.grid(axis="y", visible=False)


def require(frame: pd.DataFrame, name: str, columns: Iterable[str], **values: str) -> pd.DataFrame:
    """Rows with those values of a frame that the caller knows as `name`; ValueError without a column or any row."""
    needed = list(dict.fromkeys([*columns, *values]))
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        raise ValueError(f"{name} has no column {missing[0]!r}; it needs {', '.join(needed)}")
    for column, value in values.items():
        frame = frame[frame[column] == value]
    if frame.empty:
        wanted = " with " + ", ".join(f"{column} {value!r}" for column, value in values.items()) if values else ""
        raise ValueError(f"{name} has no rows{wanted}; there is nothing to draw: evaluate them first or choose others")
    return frame


def strategies(frame: pd.DataFrame) -> list[str]:
    """Strategies of a frame in the order of LOOKS; ValueError for one that has no look."""
    found = set(frame["strategy"])
    if found - set(LOOKS):
        raise ValueError(f"no strategy {sorted(found - set(LOOKS))[0]!r}; choose from {', '.join(LOOKS)}")
    return [name for name in LOOKS if name in found]


def marks(
    ax: Axes,
    rows: pd.DataFrame,
    places: ArrayLike,
    look: Look,
    *,
    value: str = "mean",
    seeds: tuple[ArrayLike, ArrayLike] | None = None,
    upright: bool = False,
    hollow: bool = False,
) -> None:
    """Draw a marker at each row's value, a bar with end caps from its low to its high, and a small dot per seed.

    Where low or high is NaN, or no column, there is a marker alone. The artists are labelled `look.label` (markers),
    `_interval`, `_low`, `_high` and `_seeds`, each followed by a space and `look.label`.

    Args:
        rows: n rows with the column `value` and, for the bars, low and high.
        places: (n,) where the rows stand on the other axis.
        look: colour, marker and label, such as `LOOKS["hybrid"]`.
        seeds: places (m,) and values (m,) or (m, k) of the dots; beside the bars, which would hide them.
        upright: values run along the y axis, else along the x axis.
        hollow: the marker is only outlined, such as for a printed number.
    """
    places = np.asarray(places, dtype=float)

    def plot(values: ArrayLike, marker: str, at: ArrayLike = places, **style) -> None:
        x, y = (at, values) if upright else (values, at)
        ax.plot(np.asarray(x, dtype=float), np.asarray(y, dtype=float), marker, color=look.color, **style)

    if {"low", "high"} <= set(rows.columns):
        low, high = (rows[end].to_numpy(dtype=float) for end in ("low", "high"))
        bars = ax.vlines if upright else ax.hlines
        bars(places, low, high, color=look.color, linewidth=1.4, label=f"_interval {look.label}")
        for end, name in ((low, "low"), (high, "high")):  # caps wider than the marker, which would hide short bars
            plot(end, "_" if upright else "|", markersize=7, label=f"_{name} {look.label}")
    fill = {"markerfacecolor": "white", "markeredgewidth": 0.9} if hollow else {"markeredgewidth": 0}
    plot(rows[value], look.marker, markersize=4, label=look.label, zorder=3, **fill)
    if seeds is not None:
        dots = {"markersize": 3.5, "markeredgewidth": 0, "alpha": 0.7}
        plot(seeds[1], ".", seeds[0], label=f"_seeds {look.label}", **dots)
