"""Figures of retrieval by language: reported beside reproduced, and gains against the size of a language's corpus.

The conventions are those of `figures`. ValueError for an empty frame, a missing column or an unknown strategy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from hybridlib.companion.report.claims import CHECKPOINTS
from hybridlib.companion.report.drawing import GREY, LOOKS, MEASURES, new_figure, require, select, strategies, styled

GAP = 0.07  # least distance of two languages on the size axis, as a power of ten
UNCLEAR = "0.45"
HALO = [withStroke(linewidth=1.8, foreground="white")]  # so that a line behind a letter does not strike it out


@styled
def reported_by_language(
    cells: pd.DataFrame, *, measure: str = "ndcg@10", languages: Sequence[str] = (), title: str = "", note: str = ""
) -> Figure:
    """The paper's numbers of each language and strategy, a panel per checkpoint; beside them what was reproduced.

    Reported markers are hollow, reproduced ones filled, with the intervals of the frame (95 %, cluster bootstrap).

    Args:
        cells: of `tables.build`: checkpoint, strategy, measure, language, reported, reproduced, low, high.
        languages: from top to bottom; none: as they come. Others are left out.
    """
    columns = ["checkpoint", "strategy", "language", "reported", "reproduced", "low", "high"]
    frame = select(cells, "cells", columns, measure=measure)
    languages = [lang for lang in languages or frame["language"].unique() if lang in set(frame["language"])]
    frame = frame[frame["language"].isin(languages)]
    bases, names = list(frame["checkpoint"].unique()), strategies(frame)
    height = 0.9 + 0.25 * len(languages)
    figure, axes = new_figure("reported_by_language", 1, len(bases), height, title, note, sharex=True, sharey=True)
    for ax, base in zip(axes[0], bases, strict=True):
        for i, strategy in enumerate(names):
            own = frame[(frame["checkpoint"] == base) & (frame["strategy"] == strategy)]
            places = own["language"].map(languages.index) + (i - (len(names) - 1) / 2) * 0.7 / len(names)
            _both(ax, own, places.to_numpy(dtype=float), strategy)
        for edge in range(1, len(languages)):
            ax.axhline(edge - 0.5, color="0.2" if languages[edge] == "mean" else "0.9", linewidth=0.6)
        ax.set(xlabel=MEASURES.get(measure, measure))
        ax.set_title(CHECKPOINTS.get(base, base), pad=16)
        ax.grid(axis="y", visible=False)
    axes[0][0].set_yticks(range(len(languages)), languages)
    axes[0][0].set(ylabel="query language", ylim=(len(languages) - 0.5, -0.5))
    axes[0][0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), borderpad=0.1)
    return figure


def _both(ax: Axes, own: pd.DataFrame, places: np.ndarray, strategy: str) -> None:
    """A strategy's hollow markers where the paper is, filled ones with bars where this run is."""
    look = LOOKS[strategy]
    style = {"color": look.color, "markersize": 4, "zorder": 3}
    hollow = style | {"markerfacecolor": "white", "markeredgewidth": 0.9}
    ax.plot(own["reported"], places, look.marker, label=look.label, **hollow)
    ax.hlines(places, own["low"], own["high"], color=look.color, linewidth=1.2, label=f"_interval {strategy}")
    ax.plot(own["reproduced"], places, look.marker, label=f"_reproduced {strategy}", **style, markeredgewidth=0)


@styled
def gain_by_size(
    gains: pd.DataFrame,
    groups: pd.DataFrame,
    seeds: pd.DataFrame | None = None,
    *,
    measure: str = "ndcg@10",
    title: str = "",
    note: str = "",
) -> Figure:
    """The difference between two strategies in each language, against the size of the language's corpus.

    High-resource languages stand on a shaded ground. A marker has the colour of the strategy that is ahead; grey: the
    interval holds 0, or there is none. Panels share their scale.

    Args:
        gains: of `resources.gains` or `printed_gains`, of one or several panels: panel, a, b, language, passages,
            group ("high-resource" or "other"), difference, low, high.
        groups: means over the languages of a group: panel, group, difference, low, high.
        seeds: differences of single seeds: panel, language, difference.
    """
    columns = ["panel", "a", "b", "language", "passages", "group", "difference", "low", "high"]
    require(gains, "gains", columns)
    require(groups, "groups", ["panel", "group", "difference", "low", "high"])
    panels = list(gains["panel"].unique())
    figure, axes = new_figure(
        "gain_by_size", len(panels), 1, 0.4 + 2.3 * len(panels), title, note, sharex=True, sharey=True
    )
    for ax, panel in zip(axes[:, 0], panels, strict=True):
        own = gains[gains["panel"] == panel].sort_values("passages")
        own = own.assign(x=10 ** _apart(np.log10(own["passages"].to_numpy(dtype=float)), GAP))
        _ground(ax, own, groups[groups["panel"] == panel])
        if seeds is not None:
            dots = seeds[seeds["panel"] == panel].merge(own[["language", "x"]], on="language")
            beside = dots["x"] * 10 ** (GAP / 3)  # the bar would hide them
            ax.plot(beside, dots["difference"], ".", color="0.4", markersize=3, markeredgewidth=0, label="_seeds")
        _languages(ax, own)
        ax.set_title(panel)
        ax.set(xscale="log", ylabel=f"difference in {MEASURES.get(measure, measure)}")
        ax.margins(x=0.04, y=0.14)
        ax.grid(axis="x", visible=False)
    low, high = axes[0][0].get_ylim()
    axes[0][0].set_ylim(low, high + 0.12 * (high - low))  # room for the groups' names
    axes[-1][0].set_xlabel("passages of the language's MIRACL corpus (Table 11)")
    return figure


def _languages(ax: Axes, own: pd.DataFrame) -> None:
    """A bar, a marker in the colour of who is ahead, and the code above it, for each language."""
    a, b = (LOOKS[own[side].iloc[0]] for side in ("a", "b"))
    known = own["low"].notna().any()
    colors = np.select([own["low"] > 0, own["high"] < 0], [a.color, b.color], UNCLEAR)
    ax.vlines(own["x"], own["low"].astype(float), own["high"].astype(float), colors=colors, label="_interval")
    for x, y, high, lang, color in zip(own["x"], own["difference"], own["high"], own["language"], colors, strict=True):
        ax.plot(x, y, "o", color=color, markersize=4.5, markeredgewidth=0, zorder=3, label=f"_{lang}")
        top = max(y, high) if pd.notna(high) else y
        ax.annotate(
            lang, (x, top), (0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=7
        ).set_path_effects(HALO)
    words = {a.color: f"{a.label} ahead", b.color: f"{b.label} ahead", UNCLEAR: "interval holds 0"}
    if known:
        handles = [Line2D([], [], marker="o", linestyle="", color=c, label=text) for c, text in words.items()]
        ax.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0.1, markerscale=0.9)


def _ground(ax: Axes, own: pd.DataFrame, groups: pd.DataFrame) -> None:
    """The line of no difference; of each group its name, mean and interval, high-resource on a shaded ground."""
    ax.axhline(0, color="0.2", linewidth=0.9, label="_zero")
    high, other = (own.loc[own["group"] == group, "x"] for group in ("high-resource", "other"))
    border = high.min() / 10 ** (GAP / 2)
    if len(high):
        border = np.sqrt(high.min() * other.max()) if len(other) else border
        ax.axvspan(border, high.max() * 10 ** (2 * GAP), color="0.94", zorder=0, linewidth=0, label="_high-resource")
    for group, x, start in (("high-resource", high, border), ("other", other, other.min() / 10 ** (GAP / 2))):
        if len(x):
            means = groups[groups["group"] == group]
            words = [group if group == "high-resource" else "other languages"]
            words += [_mean(ax, row, [start, x.max() * 10 ** (GAP / 2)]) for row in means.itertuples()]
            style = {"transform": ax.get_xaxis_transform(), "color": GREY, "fontsize": 7, "va": "top"}
            ax.text(start * 10 ** (GAP / 5), 0.985, ": mean ".join(words), **style)


def _mean(ax: Axes, row: tuple, ends: list[float]) -> str:
    """A dashed line, with a band for the interval, as wide as the group; its value in words."""
    ax.fill_between(ends, row.low, row.high, color="#56B4E9", alpha=0.35, linewidth=0, zorder=1)
    ax.plot(ends, [row.difference] * 2, "--", color="0.2", linewidth=1, zorder=2, label=f"_mean {row.group}")
    interval = "" if pd.isna(row.low) else f" [{row.low:+.3f}, {row.high:+.3f}]"
    return f"{row.difference:+.3f}{interval}".replace("-", "\N{MINUS SIGN}")


def _apart(places: np.ndarray, gap: float) -> np.ndarray:
    """Rising numbers moved as little as possible (least squares), so that neighbours are at least `gap` apart."""
    blocks: list[tuple[float, int]] = []
    for i, place in enumerate(places):
        mean, size = place - i * gap, 1
        while blocks and blocks[-1][0] > mean:
            before, n = blocks.pop()
            mean, size = (before * n + mean * size) / (n + size), n + size
        blocks.append((mean, size))
    means, sizes = zip(*blocks, strict=True)
    return np.repeat(means, sizes) + np.arange(len(places)) * gap
