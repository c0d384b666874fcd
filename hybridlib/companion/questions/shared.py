"""What several questions share: comparisons of the strategies that are there, a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybridlib import statistics
from hybridlib.companion.report import claims, summaries
from hybridlib.companion.report.claims import NAMES
from hybridlib.companion.report.drawing import LOOKS, captioned, label_rows, marks, new_figure, require

NDCG, RECALL = "ndcg@10", "recall@100"
CONTRAST = ["a", "b", "difference", "low", "high", "seed_min", "seed_max"]
COMPARISON = ["setting", "measure", "subset", *CONTRAST, "p", "p_holm"]
MISSING = "encoders of these strategies"  # what a claim needs whose strategies were not run


def listed(names: Sequence[str]) -> str:
    """The names of collections in words: at most three of them, and how many more there are."""
    more = f" and {len(names) - 3} more collections" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def compare(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], measures: Sequence[str] = (NDCG,)) -> pd.DataFrame:
    """Compare those pairs of strategies whose rows are there (`summaries.compare`); no line where there are none."""
    present = set(rows["strategy"])
    pairs = [pair for pair in pairs if set(pair) <= present]
    if not pairs:
        return pd.DataFrame(columns=COMPARISON)
    return summaries.compare(rows, (), pairs=pairs, measures=measures)


def family(comparisons: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put comparisons below each other, with Holm's correction over all their tests."""
    frame = pd.concat([part for part in comparisons if len(part)] or list(comparisons[:1]), ignore_index=True)
    return frame.assign(p_holm=statistics.holm(frame["p"].astype(float)))


def gap(a: str, b: str, measure: str = NDCG) -> str:
    """The difference of two strategies in words."""
    return f"{claims.MEASURES.get(measure, measure)} {NAMES[a]} - {NAMES[b]}"


@captioned(
    "Marker: difference of the two strategies, of a value of each. Bar: 95 % paired cluster bootstrap interval, "
    "queries of all seeds together. Dots: least and largest difference of single seeds."
)
def differences(frame: pd.DataFrame, *, sides: Mapping[str, str]) -> Figure:
    """Draw differences between strategies a and b: a panel per value, a row per pair and group, a line at 0.

    Bars are the intervals of the frame, small dots the least and largest difference of single seeds. The marker is that
    of the strategy that is not in all rows. One scale for all panels.

    Args:
        frame: value (the panel), group and CONTRAST.
        sides: value -> what stands under its panel, such as which side is better; panels stand in this order.
    """
    require(frame, "frame", ["value", "group", *CONTRAST])
    panels = [value for value in sides if value in set(frame["value"])]
    look = "b" if frame["a"].nunique() == 1 else "a"
    lines = list(dict.fromkeys(zip(frame["group"], frame["a"], frame["b"], strict=True)))
    figure, axes = new_figure(1, len(panels), 0.9 + 0.26 * len(lines), sharex=True, sharey=True)
    for ax, panel in zip(axes[0], panels, strict=True):
        label_rows(ax, [f"{group}: {NAMES[a]} - {NAMES[b]}" for group, a, b in lines], above=0.6)
        for place, (group, a, b) in enumerate(lines):
            chosen = (frame["value"] == panel) & (frame["group"] == group) & (frame["a"] == a) & (frame["b"] == b)
            part = frame[chosen]
            seeds = (np.full(len(part), place + 0.28), part[["seed_min", "seed_max"]])
            marks(ax, part, np.full(len(part), place), LOOKS[{"a": a, "b": b}[look]], value="difference", seeds=seeds)
            if place and group != lines[place - 1][0]:
                ax.axhline(place - 0.5, color="0.7", linewidth=0.6)
        ax.axvline(0, color="0.2", linewidth=0.8, zorder=0)
        ax.set_title(panel)
        ax.set_xlabel(sides[panel])
    axes[0][0].xaxis.set_major_locator(MaxNLocator(4))
    return figure
