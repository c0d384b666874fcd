"""The figure of notebook 11: a measure against the mixing ratio, a panel for each task.

As in `figures`: from frames to a matplotlib Figure; ValueError for an empty frame, a missing column or strategy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybridlib.companion.report.drawing import LOOKS, MEASURES, SPAN, new_figure, require, strategies, styled

LEAST = 0.05  # what a panel spans at least, so that noise is not blown up
CURVE = ["task", "measure", "strategy", "alpha"]


@styled
def ratio_by_task(
    summary: pd.DataFrame,
    seeds: pd.DataFrame,
    best: pd.DataFrame,
    *,
    stand_in: bool = False,
    title: str = "",
    note: str = "",
) -> Figure:
    """A task's measure against alpha from 0 (X-Y) to 1 (X-X-mono), a panel per task with a scale of its own.

    Bars are the intervals of `summary` (95 %, cluster bootstrap), small dots the single seeds, rings the alphas that
    the task does not tell apart from its best.

    Args:
        summary: of `ratio.summary`, of all tasks: task, measure, strategy, alpha, mean, low, high.
        seeds: of `ratio.by_seed`: task, strategy, alpha, value.
        best: of `ratio.best`: task, alpha, among_the_best.
        stand_in: the texts only have the form of the tasks; then the panels say so.
    """
    require(summary, "summary", [*CURVE, *SPAN])
    require(seeds, "seeds", [*CURVE, "value"])
    require(best, "best", ["task", "alpha", "among_the_best"])
    tasks = list(dict.fromkeys(summary["task"]))
    columns = 2 if len(tasks) in (2, 4) else min(3, len(tasks))
    rows = -(-len(tasks) // columns)
    figure, axes = new_figure("ratio_by_task", rows, columns, 0.4 + 2.3 * rows, title, note, sharex=True)
    for ax, task in zip(axes.flat, tasks, strict=False):
        curve, dots, good = (frame[frame["task"] == task] for frame in (summary, seeds, best))
        _panel(ax, curve.sort_values("alpha"), dots, good[good["among_the_best"].astype(bool)]["alpha"])
        measure = curve["measure"].iloc[0]
        measure = "accuracy" if task == "Tatoeba" else MEASURES.get(measure, measure)
        ax.set_title(f"{'as in ' if stand_in else ''}{task}: {measure}")
    for ax in axes.flat[len(tasks) :]:
        ax.set_visible(False)
    ends = {0: f"0\n{LOOKS['x-y'].label}", 1: f"1\n{LOOKS['x-x-mono'].label}", 0.5: f"0.5\n{LOOKS['hybrid'].label}"}
    for ax in axes[-1]:
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], [ends.get(x, "") for x in (0, 0.25, 0.5, 0.75, 1)])
        ax.set_xlim(-0.12, 1.16)
        ax.set_xlabel("alpha, the monolingual share")
    return figure


def _panel(ax: Axes, curve: pd.DataFrame, dots: pd.DataFrame, good: Sequence[float]) -> None:
    """The curve of one task; the alphas of `good` are ringed."""
    ax.plot(curve["alpha"], curve["mean"], color="0.6", linewidth=1, zorder=1, label="_curve")
    for strategy in strategies(curve):
        look, own = LOOKS[strategy], curve[curve["strategy"] == strategy]
        ax.vlines(own["alpha"], own["low"], own["high"], color=look.color, linewidth=1.4, label=f"_interval {strategy}")
        style = {"color": look.color, "markersize": 5, "markeredgewidth": 0, "zorder": 3}
        ax.plot(own["alpha"], own["mean"], look.marker, label=look.label, **style)
        style = {"color": look.color, "markersize": 3.5, "markeredgewidth": 0, "alpha": 0.7}
        single = dots[dots["strategy"] == strategy]
        ax.plot(single["alpha"] + 0.05, single["value"], ".", label=f"_seeds {strategy}", **style)
    ringed = curve[np.isin(curve["alpha"].astype(float), np.asarray(good, dtype=float))]
    style = {"markersize": 10, "markerfacecolor": "none", "markeredgecolor": "0.1", "markeredgewidth": 1}
    ax.plot(ringed["alpha"], ringed["mean"], "o", label="_best", zorder=4, **style)
    low, high = ax.get_ylim()
    spare = max(0.0, LEAST - (high - low)) / 2
    ax.set_ylim(low - spare, high + spare)
