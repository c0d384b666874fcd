"""What several questions share: means and comparisons of parts of the rows, figures with a row per thing compared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybridlib import statistics
from hybridlib.companion.report import claims, summaries
from hybridlib.companion.report.claims import NAMES
from hybridlib.companion.report.drawing import LOOKS, marks, new_figure, require, styled
from hybridlib.companion.report.summaries import PAIRS

NDCG, RECALL = "ndcg@10", "recall@100"
CONTRAST = ["a", "b", "difference", "low", "high", "seed_min", "seed_max"]
COMPARISON = ["measure", *CONTRAST, "p", "p_holm"]
Function = Callable[[np.ndarray], np.ndarray]  # of cell means (N, cells), NaN where there is none, to (N,)
MISSING = "encoders of these strategies"  # what a claim needs whose strategies were not run


def listed(names: Sequence[str]) -> str:
    """The names of collections in words: at most three of them, and how many more there are."""
    more = f" and {len(names) - 3} more collections" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def gap(a: str, b: str, measure: str = NDCG) -> str:
    """The difference of two strategies in words."""
    return f"{claims.MEASURES.get(measure, measure)} {NAMES[a]} - {NAMES[b]}"


def means(parts: Mapping[str, pd.DataFrame], column: str, measures: Sequence[str]) -> pd.DataFrame:
    """Macro mean, 95 % interval and spread over seeds of each strategy in each part of the rows of searches.

    Args:
        parts: name -> rows.
        column: what the names are, such as "language".

    Returns:
        `column`, strategy, alpha, measure, mean, low, high, sd, n_seeds, n_queries.
    """
    frames = [summaries.summary(rows, (), measures=measures).assign(**{column: name}) for name, rows in parts.items()]
    frame = pd.concat(frames, ignore_index=True)
    return frame[frame["subset"] == "all"].drop(columns=["setting", "subset"]).set_index(column).reset_index()


def compare(
    parts: Mapping[str, pd.DataFrame], column: str, pairs: Sequence[tuple[str, str]], measures: Sequence[str] = (NDCG,)
) -> pd.DataFrame:
    """Compare strategies in each part of the rows by `summaries.compare`; Holm's correction is over the whole frame.

    Args:
        parts, column: as for `means`.
        pairs: those whose rows are not there are left out.

    Returns:
        `column` and COMPARISON; no line where there is nothing to compare.
    """
    frames = []
    for name, rows in parts.items():
        present = [pair for pair in pairs if set(pair) <= set(rows["strategy"])]
        if present:
            frames.append(summaries.compare(rows, (), pairs=present, measures=measures).assign(**{column: name}))
    frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[column, *COMPARISON])
    return frame.assign(p_holm=statistics.holm(frame["p"].astype(float)))[[column, *COMPARISON]]


def values(
    parts: Mapping[tuple, pd.DataFrame], columns: list[str], functions: Mapping[str, Function], measure: str, cell: list
) -> pd.DataFrame:
    """Functions of the cells' means of each strategy, with 95 % intervals that draw clusters jointly for all cells.

    Args:
        parts: key -> rows.
        columns: what the keys hold.
        functions: name -> function of means in the sorted order of the cells.
        cell: columns of the rows that make the cells.

    Returns:
        `columns`, strategy, statistic (the function's name), value, low, high.
    """
    lines = []
    for key, rows in parts.items():
        for strategy, part in rows.groupby("strategy", observed=True):
            sums = statistics.cluster_sums(part, measure, cell=cell)
            for name, function in functions.items():
                lines.append((*key, strategy, name, *statistics.interval_of(sums, function)))
    return pd.DataFrame(lines, columns=[*columns, "strategy", "statistic", "value", "low", "high"])


def contrasts(
    parts: Mapping[tuple, pd.DataFrame], columns: list[str], functions: Mapping[str, Function], measure: str, cell: list
) -> pd.DataFrame:
    """What `values` gives of strategy a minus that of b, for those of `summaries.PAIRS` whose rows are there.

    Returns:
        `columns`, statistic and CONTRAST; seed_min and seed_max: the differences of single seeds.
    """
    lines, cell = [], ["side", *cell]
    for key, rows in parts.items():
        for name, function in functions.items():
            for pair in PAIRS:
                both = rows.assign(side=rows["strategy"].astype(str).map({pair[0]: 0, pair[1]: 1}))  # a's cells first
                both = both[both["side"].notna()]
                if both["side"].nunique() < 2:
                    continue
                sums = [statistics.cluster_sums(part, measure, cell=cell) for _, part in both.groupby("seed")]
                seeds = [_gap(function, statistics.cell_means(of_seed).to_numpy()[None])[0] for of_seed in sums]
                interval = statistics.interval_of(
                    statistics.cluster_sums(both, measure, cell=cell), partial(_gap, function)
                )
                lines.append((*key, name, *pair, *interval, min(seeds), max(seeds)))
    return pd.DataFrame(lines, columns=[*columns, "statistic", *CONTRAST])


def _gap(function: Function, means: np.ndarray) -> np.ndarray:
    """A function of the first half of the cells minus that of the second."""
    a, b = np.split(means, 2, axis=1)
    return function(a) - function(b)


# ---- figures


def row_panels(
    name: str, panels: Sequence[str], labels: Sequence[str], edges: Collection[int], title: str, note: str, **options
) -> tuple[Figure, np.ndarray]:
    """A figure of panels side by side that have the same rows, the first on top, and its axes.

    Args:
        labels: of the rows.
        edges: rows before which a line is drawn.
        options: for `drawing.new_figure`.
    """
    figure, (axes,) = new_figure(name, 1, len(panels), 0.9 + 0.26 * len(labels), title, note, sharey=True, **options)
    for ax, panel in zip(axes, panels, strict=True):
        ax.set_title(panel)
        ax.grid(axis="y", visible=False)
        for edge in edges:
            ax.axhline(edge - 0.5, color="0.5", linewidth=0.6)
    axes[0].set_yticks(range(len(labels)), labels)
    axes[0].set_ylim(len(labels) - 0.5, -0.6)
    return figure, axes


@styled
def differences(frame: pd.DataFrame, *, sides: Mapping[str, str], title: str = "", note: str = "") -> Figure:
    """Draw differences between strategies a and b: a panel per value, a row per pair and group, a line at 0.

    Bars are the intervals of the frame, small dots the least and largest difference of single seeds. The marker is that
    of the strategy that is not in all rows. One scale for all panels.

    Args:
        frame: value (the panel), group and CONTRAST.
        sides: value -> what stands under its panel, such as which side is better; panels stand in this order.
    """
    require(frame, "frame", ["value", "group", *CONTRAST])
    panels = [value for value in sides if value in set(frame["value"])]
    side = "b" if frame["a"].nunique() == 1 else "a"
    rows = pd.MultiIndex.from_frame(frame[["group", "a", "b"]].drop_duplicates())
    labels = [f"{group}: {NAMES[a]} - {NAMES[b]}" for group, a, b in rows]
    groups = rows.get_level_values("group")
    edges = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    figure, axes = row_panels("differences", panels, labels, edges, title, note, sharex=True)
    for ax, panel in zip(axes, panels, strict=True):
        part = frame[frame["value"] == panel]
        places = rows.get_indexer(pd.MultiIndex.from_frame(part[["group", "a", "b"]]))
        for strategy in part[side].unique():
            chosen = (part[side] == strategy).to_numpy()
            seeds = (places[chosen] + 0.28, part.loc[chosen, ["seed_min", "seed_max"]])
            marks(ax, part[chosen], places[chosen], LOOKS[strategy], value="difference", seeds=seeds)
        ax.axvline(0, color="0.2", linewidth=0.8, zorder=0)
        ax.set_xlabel(sides[panel])
    axes[0].xaxis.set_major_locator(MaxNLocator(4))
    return figure
