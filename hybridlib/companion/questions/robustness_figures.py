"""Figures of notebook 09: quality against the noise in queries, and differences between strategies in several values.

As in `figures`: a frame in, a matplotlib Figure out, ValueError for an empty frame or a missing column.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybridlib.companion.report.drawing import LOOKS, MEASURES, SPAN, new_figure, require, strategies, styled

KINDS = {"typos": "typos: swapped, dropped, doubled letters", "letters": "letters: others of the same script"}


@styled
def noise_rates(frame: pd.DataFrame, *, measure: str = "ndcg@10", title: str = "", note: str = "") -> Figure:
    """A measure of each strategy against the share of letters hit: a column per kind of noise, a row per group.

    Bars are the intervals of the frame. All panels share their scales.

    Args:
        frame: group, kind, strategy, rate (0: clean), mean, low, high.
    """
    require(frame, "frame", ["group", "kind", "strategy", "rate", *SPAN])
    groups, kinds = list(dict.fromkeys(frame["group"])), [kind for kind in KINDS if kind in set(frame["kind"])]
    shape = (len(groups), len(kinds), 0.6 + 1.75 * len(groups))
    figure, axes = new_figure("noise_rates", *shape, title, note, sharex=True, sharey=True)
    for row, group in zip(axes, groups, strict=True):
        for ax, kind in zip(row, kinds, strict=True):
            own = frame[(frame["group"] == group) & (frame["kind"] == kind)]
            _curves(ax, own, frame["rate"].max())
            ax.set_title(f"{group}\n{KINDS[kind]}")
        row[0].set_ylabel(MEASURES.get(measure, measure))
    for ax in axes[-1]:
        rates = sorted(frame["rate"].unique())
        ax.set_xticks(rates, [f"{100 * rate:g} %" for rate in rates])
        ax.set_xlabel("share of letters hit")
    axes[0][0].legend(loc="lower left")
    return figure


def _curves(ax: Axes, rows: pd.DataFrame, widest: float) -> None:
    """A line per strategy, moved a little apart so that no bar hides another."""
    names = strategies(rows)
    for i, name in enumerate(names):
        look, own = LOOKS[name], rows[rows["strategy"] == name].sort_values("rate")
        x = own["rate"] + (i - (len(names) - 1) / 2) * 0.008 * widest
        style = {"color": look.color, "marker": look.marker, "label": look.label, "markersize": 4}
        ax.errorbar(x, own["mean"], _ends(own), capsize=2, linewidth=1.2, markeredgewidth=0, **style)


@styled
def differences(
    frame: pd.DataFrame, *, labels: Mapping[str, str] | None = None, title: str = "", note: str = ""
) -> Figure:
    """Differences between strategies a and b: a panel per value, a row per pair and group, a line at no difference.

    Bars are the intervals of the frame, small dots the least and largest difference of single seeds. The marker is that
    of b: what a is compared with. One scale for all panels.

    Args:
        frame: value (the panel), group, a, b, difference, low, high, seed_min, seed_max.
        labels: value -> what stands under its panel, such as which side is better; panels stand in this order.
    """
    require(frame, "frame", ["value", "group", "a", "b", "difference", "low", "high", "seed_min", "seed_max"])
    labels = labels or {}
    panels = sorted(dict.fromkeys(frame["value"]), key=lambda panel: [*labels, panel].index(panel))
    rows = list(dict.fromkeys(zip(frame["group"], frame["a"], frame["b"], strict=True)))
    figure, axes = new_figure(
        "differences", 1, len(panels), 0.9 + 0.26 * len(rows), title, note, sharex=True, sharey=True
    )
    for ax, panel in zip(axes[0], panels, strict=True):
        own = frame[frame["value"] == panel]
        for line in own.itertuples():
            place, look = rows.index((line.group, line.a, line.b)), LOOKS[line.b]
            ax.hlines(place, line.low, line.high, color=look.color, linewidth=1.4, label=f"_interval {line.b}")
            ax.plot([line.low, line.high], [place] * 2, "|", color=look.color, markersize=7, label="_ends")
            ax.plot(line.difference, place, look.marker, color=look.color, markersize=4.5, label=f"_{line.b}")
            seeds = [line.seed_min, line.seed_max]
            ax.plot(seeds, [place + 0.28] * 2, ".", color=look.color, markersize=3.5, alpha=0.7, label="_seeds")
        ax.axvline(0, color="0.2", linewidth=0.8, zorder=0)
        ax.set_title(panel)
        ax.set_xlabel(labels.get(panel, "difference"))
        ax.grid(axis="y", visible=False)
        for place in range(1, len(rows)):
            if rows[place][0] != rows[place - 1][0]:
                ax.axhline(place - 0.5, color="0.7", linewidth=0.6)
    axes[0][0].xaxis.set_major_locator(MaxNLocator(4))
    names = [f"{group}: {LOOKS[a].label} - {LOOKS[b].label}" for group, a, b in rows]
    axes[0][0].set_yticks(range(len(rows)), names)
    axes[0][0].set_ylim(len(rows) - 0.5, -0.6)
    return figure


def _ends(rows: pd.DataFrame) -> np.ndarray:
    """Lengths (2, n) of the bars below and above the markers; a percentile interval may lie to one side."""
    below, above = rows["mean"] - rows["low"], rows["high"] - rows["mean"]
    return np.maximum(np.stack([below, above]).astype(float), 0)
