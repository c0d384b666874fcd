"""What several questions share: means and comparisons of parts of the rows, figures with a row per thing compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybridlib.companion.report import claims, summaries
from hybridlib.companion.report.claims import NAMES
from hybridlib.companion.report.drawing import LOOKS, captioned, label_rows, marks, new_figure, require
from hybridlib.companion.report.summaries import PAIRS
from hybridlib.statistics import ClusterSums, cell_means, cluster_sums, difference, holm, interval_of

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
    by = ["strategy", "alpha"]
    return pd.concat(
        {name: summaries.intervals(rows, by, measures) for name, rows in parts.items()}, names=[column]
    ).reset_index(column)


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
    return frame.assign(p_holm=holm(frame["p"].astype(float)))[[column, *COMPARISON]]


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
            sums = cluster_sums(part, measure, cell=cell)
            for name, function in functions.items():
                lines.append((*key, strategy, name, *interval_of(sums, function)))
    return pd.DataFrame(lines, columns=[*columns, "strategy", "statistic", "value", "low", "high"])


def contrasts(
    parts: Mapping[tuple, pd.DataFrame], columns: list[str], functions: Mapping[str, Function], measure: str, cell: list
) -> pd.DataFrame:
    """What `values` gives of strategy a minus that of b, for those of `summaries.PAIRS` whose rows are there.

    Returns:
        `columns`, statistic and CONTRAST; seed_min and seed_max: the differences of single seeds.

    Raises:
        ValueError: a and b were not measured on the same queries.
    """
    lines = []
    for key, rows in parts.items():
        for pair in PAIRS:
            if not set(pair) <= set(rows["strategy"]):
                continue
            both = _beside(rows, pair, measure, cell)
            of_seeds = [cell_means(_beside(part, pair, measure, cell)) for _, part in rows.groupby("seed")]
            for name, function in functions.items():
                gap = partial(_gap, function)
                seeds = [gap(means.to_numpy()[None])[0] for means in of_seeds]
                lines.append((*key, name, *pair, *interval_of(both, gap), min(seeds), max(seeds)))
    return pd.DataFrame(lines, columns=[*columns, "statistic", *CONTRAST])


def _beside(rows: pd.DataFrame, pair: tuple[str, str], measure: str, cell: list) -> ClusterSums:
    """The cells of strategy a, then those of b; ValueError unless both were measured on the same queries."""
    a, b = (cluster_sums(rows[rows["strategy"] == strategy], measure, cell=cell) for strategy in pair)
    counts = difference(a, b).counts
    return ClusterSums(np.hstack([a.sums, b.sums]), np.hstack([counts] * 2), a.clusters, a.cells.append(b.cells))


def _gap(function: Function, means: np.ndarray) -> np.ndarray:
    """A function of the first half of the cells minus that of the second."""
    a, b = np.split(means, 2, axis=1)
    return function(a) - function(b)


# ---- figures


def row_panels(
    panels: Sequence[str], labels: Sequence[str], edges: Iterable[int], **options
) -> tuple[Figure, np.ndarray]:
    """A figure of panels side by side with the same labelled rows, a line before those of `edges`, and its axes."""
    figure, (axes,) = new_figure(1, len(panels), 0.9 + 0.26 * len(labels), sharey=True, **options)
    for ax, panel in zip(axes, panels, strict=True):
        label_rows(ax, labels, above=0.6)
        ax.set_title(panel)
        for edge in edges:
            ax.axhline(edge - 0.5, color="0.5", linewidth=0.6)
    return figure, axes


@captioned(
    "Marker: difference of the two strategies, of a value of each. Bar: 95 % paired cluster bootstrap interval, "
    "queries of all seeds together. Dots: least and largest difference of single seeds."
)
def differences(frame: pd.DataFrame, sides: Mapping[str, str]) -> Figure:
    """Draw differences between strategies a and b: a panel per value, a row per pair and group, a line at 0.

    The marker is that of the strategy that is not in all rows. One scale for all panels.

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
    figure, axes = row_panels(panels, labels, edges, sharex=True)
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
