"""Figures of notebooks 10 and 12: differences to a baseline per data set, and encoders beside each other.

As in `figures`: frames in, a matplotlib Figure out; ValueError for an empty frame or a missing column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybridlib.companion.questions.beir_average import AVERAGE
from hybridlib.companion.questions.other_encoders import TRAINED, UPPER, kind
from hybridlib.companion.report.drawing import (
    GREY,
    LOOKS,
    MEASURES,
    SPAN,
    Look,
    new_figure,
    require,
    strategies,
    styled,
)

AS_IT_IS_LOOK, UPPER_LOOK = Look("", "0.45", "X"), Look("", "#000000", "P")
BESIDE = 0.75  # of a row's height, for its strategies


@styled
def to_baseline(frame: pd.DataFrame, baseline: str, *, title: str = "", note: str = "") -> Figure:
    """Each strategy minus the baseline, a panel per measure, a row per data set; the average, if there, first.

    All panels have one scale, with 0 in the middle.

    Args:
        frame: of `beir_average.differences`: strategy, measure, dataset, difference, low, high, seed_min, seed_max.
        baseline: strategy that the differences are to; the line at 0.
    """
    span = ["difference", "low", "high", "seed_min", "seed_max"]
    require(frame, "frame", ["strategy", "measure", "dataset", *span])
    names, measures = strategies(frame), list(dict.fromkeys(frame["measure"]))
    rows = sorted(dict.fromkeys(frame["dataset"]), key=lambda name: name != AVERAGE)
    each = 0.17 * len(names) + 0.08
    height = 0.9 + each * len(rows)
    figure, axes = new_figure("to_baseline", 1, len(measures), height, title, note, sharex=True, sharey=True)
    for ax, measure in zip(axes[0], measures, strict=True):
        for i, strategy in enumerate(names):
            own = frame[(frame["strategy"] == strategy) & (frame["measure"] == measure)]
            shift = (i - (len(names) - 1) / 2) * BESIDE / len(names)
            _spans(ax, own, own["dataset"].map(rows.index).to_numpy(dtype=float) + shift, LOOKS[strategy])
        ax.axvline(0, color="0.2", linewidth=1)
        for edge in range(1, len(rows)):
            ax.axhline(edge - 0.5, color="0.9", linewidth=0.6)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(f"{MEASURES.get(measure, measure)} minus {LOOKS[baseline].label}'s\n← worse   better →")
    first = axes[0][0]
    first.set_yticks(range(len(rows)), rows)
    first.set_ylim(len(rows) - 0.5, -0.5)
    reach = max(0.01, 1.15 * float(frame[span].abs().max(axis=None)))
    first.set_xlim(-reach, reach)
    first.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    first.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), borderpad=0.2)
    return figure


def _spans(ax: Axes, own: pd.DataFrame, places: np.ndarray, look: Look) -> None:
    ax.hlines(places, own["low"], own["high"], color=look.color, linewidth=1.4, label=f"_interval {look.label}")
    for end in ("seed_min", "seed_max"):
        style = {"markersize": 3.5, "markeredgewidth": 0, "color": look.color, "alpha": 0.7}
        ax.plot(own[end], places + 0.07, ".", label=f"_seeds {look.label}", **style)
    style = {"color": look.color, "markersize": 5, "markeredgewidth": 0, "zorder": 3}
    ax.plot(own["difference"], places, look.marker, label=look.label, **style)


@styled
def encoders(
    frame: pd.DataFrame, measures: Sequence[str], *, highlight: str = "hybrid", title: str = "", note: str = ""
) -> Figure:
    """Each encoder in each measure, a panel per measure, a row per encoder, in groups: `other_encoders.kind`.

    A line at the value of `highlight` runs through all rows. Groups keep their order, encoders in them are sorted by
    the last measure.

    Args:
        frame: strategy (or name of an encoder), measure, mean, low, high.
        measures: which, from left to right.
    """
    require(frame, "frame", ["strategy", "measure", *SPAN])
    if missing := [measure for measure in measures if measure not in set(frame["measure"])]:
        raise ValueError(f"frame has no rows with measure {missing[0]!r}; measure it first or choose others")
    last = frame[frame["measure"] == measures[-1]].sort_values("mean", ascending=False)
    names = sorted(last["strategy"].astype(str), key=lambda name: (kind(name) == UPPER, kind(name) != TRAINED))
    height = 0.75 + 0.27 * len(names)
    figure, axes = new_figure("encoders", 1, len(measures), height, title, note, sharey=True)
    for ax, measure in zip(axes[0], measures, strict=True):
        rows = frame[frame["measure"] == measure].set_index("strategy")
        if highlight in rows.index:
            ax.axvline(rows.loc[highlight, "mean"], color=_look(highlight).color, linewidth=0.8, zorder=1)
        for place, name in enumerate(names):
            _encoder(ax, rows.loc[name], place, _look(name))
        ax.set_title(MEASURES.get(measure, measure))
        ax.set_xlim(0, 1.15 * rows["high"].max())
        ax.grid(axis="y", visible=False)
        for edge in range(1, len(names)):
            if kind(names[edge]) != kind(names[edge - 1]):
                ax.axhline(edge - 0.5, color="0.2", linewidth=0.6)
    ticks = axes[0][0].set_yticks(range(len(names)), [_look(name).label for name in names])
    for tick, name in zip(ticks, names, strict=True):
        tick.label1.set(color=_look(name).color, fontweight="bold" if name == highlight else "normal")
    axes[0][0].set_ylim(len(names) - 0.5, -0.6)
    return figure


def _look(name: str) -> Look:
    if name in LOOKS:
        return LOOKS[name]
    look = UPPER_LOOK if kind(name) == UPPER else AS_IT_IS_LOOK
    label = name.rstrip("/").rpartition("/")[2] if len(name) > 28 else name
    return Look(label, look.color, look.marker)


def _encoder(ax: Axes, row: pd.Series, place: int, look: Look) -> None:
    ax.hlines(place, row["low"], row["high"], color=look.color, linewidth=1.4)
    ax.plot(row["mean"], place, look.marker, color=look.color, markersize=5, markeredgewidth=0, zorder=3)
    style = {"ha": "center", "fontsize": 7, "color": GREY}
    ax.annotate(f"{row['mean']:.3f}", (row["mean"], place), (0, 4.5), textcoords="offset points", **style)
