"""Figures made of cells and boxes: heat maps, sizes of corpora, what is in a batch, the three settings.

The conventions are those of `figures`. ValueError for what is empty or does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.ticker import PercentFormatter

from hybridlib.companion.report.drawing import (
    GREY,
    LOOKS,
    SETTINGS,
    captioned,
    label_rows,
    new_figure,
    require,
    strategies,
)
from hybridlib.sampler import Batch
from hybridlib.statistics import count_outcomes

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
HUES = colormaps["Set3"]  # twelve pale colours, none of them a strategy's
CELLS = {"positive": "black", "negative": "#CFE6F5", "masked: no negative": "white"}
PLACES = 8  # of a batch that are shown
BAR = {"location": "bottom", "fraction": 0.05, "aspect": 50}


@captioned(
    "Share of queries (%) whose best-ranked relevant candidate, in the pool of all languages, is in that language; "
    "rows add up to 100. Own language: mean of the diagonal. No error is shown."
)
def first_ranked(matrices: Mapping[str, pd.DataFrame]) -> Figure:
    """Who is ranked first by whom: a query language x candidate language heat map per strategy, on one shared scale.

    The share without bias, 1 / number of languages, is marked on the colour bar. matrices: of `summaries.first_ranked`.
    """
    names = strategies(pd.DataFrame({"strategy": list(matrices)}))
    if not names:
        raise ValueError("matrices is empty; it needs a strategy and its frame of shares")
    languages = sorted({lang for matrix in matrices.values() for lang in matrix.index})
    for name in names:
        require(matrices[name], f"matrices[{name!r}]", languages)
    shares = {name: matrices[name].reindex(index=languages, columns=languages) for name in names}
    scale = Normalize(0, _largest(pd.concat(shares.values()), "matrices"))
    columns = min(len(names), 3)
    rows = -(-len(names) // columns)
    figure, axes = new_figure(rows, columns, 0.75 + rows * (0.7 + 6.2 / max(columns, 2)))
    fits = columns * len(languages) <= 33  # the cells of more are too small for numbers of 7 pt
    for ax, name in zip(axes.flat, names, strict=False):
        texts = shares[name].map(lambda x: f"{100 * x:.0f}" if fits else "")
        mesh = _heat_map(ax, shares[name], texts, "YlGnBu", scale)
        own = f"own language {100 * np.nanmean(np.diag(shares[name])):.0f} %"
        ax.set_title(f"{LOOKS[name].label}\n{own}", color=LOOKS[name].color, fontweight="bold")
        ax.set(xlabel="candidate language", ylabel="query language" if ax in axes[:, 0] else "")
    for ax in axes.flat[len(names) :]:
        ax.axis("off")
    bar = figure.colorbar(mesh, ax=axes, **BAR, label="share of queries").ax
    bar.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    even = 1 / len(languages)
    bar.axvline(even, color="black", linewidth=1.5, label="_no bias")
    words = f"no bias: 1/{len(languages)} = {100 * even:.0f} %"
    bar.annotate(words, (even, 1), (0, 2), textcoords="offset points", fontsize=7, ha="center")
    return figure


@captioned(
    "Number and colour: difference of the means. In parentheses: a tie, the 95 % paired bootstrap interval of the "
    "difference holds 0 (per cell, not corrected for their number)."
)
def win_matrix(frame: pd.DataFrame, a: str, b: str) -> Figure:
    """Difference in mAP between two strategies, a - b, for each pair of languages, in the colour of the better one.

    frame: of `summaries.wins`.
    """
    require(frame, "frame", ["query_lang", "pool", "difference", "low", "high", "outcome"])
    strategies(pd.DataFrame({"strategy": [a, b]}))
    text = [f"{x:+.3f}".replace("0.", ".", 1).replace("-", "\N{MINUS SIGN}") for x in frame["difference"]]
    frame = frame.astype({"query_lang": str, "pool": str}).assign(text=text)
    frame["text"] = frame["text"].where(frame["outcome"] != "tie", "(" + frame["text"] + ")")
    cells = frame.pivot(index="query_lang", columns="pool", values=["difference", "text"])
    limit = _largest(cells["difference"], "frame") or 1.0
    ours, other = LOOKS[a], LOOKS[b]
    colors = LinearSegmentedColormap.from_list("", [other.color, "white", ours.color])
    figure, ((ax,),) = new_figure(1, 1, 1.2 + 0.27 * max(len(cells), 4))
    mesh = _heat_map(ax, cells["difference"], cells["text"], colors, Normalize(-limit, limit))
    wins, ties, losses = count_outcomes(frame).values()
    ax.set(xlabel="candidate language", ylabel="query language")
    ax.set_title(f"{ours.label} against {other.label}: wins {wins}, ties {ties}, loses {losses} of {len(frame)}")
    what = f"difference in mAP, {ours.label} \N{MINUS SIGN} {other.label}"
    ends = f"\N{LEFTWARDS ARROW} {other.label} better", f"{ours.label} better \N{RIGHTWARDS ARROW}"
    figure.colorbar(mesh, ax=ax, **BAR, label=f"{ends[0]}        {what}        {ends[1]}")
    return figure


@captioned("Counts, not estimates: there is no error to show.")
def corpus_sizes(frame: pd.DataFrame) -> Figure:
    """Queries and candidates of benchmarks: bars per language, a panel per benchmark (Table 10).

    frame: name, language, queries, candidates.
    """
    require(frame, "frame", ["name", "language", "queries", "candidates"])
    names, languages = list(dict.fromkeys(frame["name"])), sorted(set(frame["language"]))
    figure, axes = new_figure(1, len(names), 0.8 + 0.3 * len(languages), sharey=True)
    for ax, name in zip(axes[0], names, strict=True):
        label_rows(ax, languages)
        rows = frame[frame["name"] == name].set_index("language").reindex(languages)
        for shift, column, color in ((-0.2, "queries", "0.35"), (0.2, "candidates", "#56B4E9")):
            bars = ax.barh(np.arange(len(languages)) + shift, rows[column], 0.38, color=color, label=column)
            ax.bar_label(bars, ["" if np.isnan(x) else f"{x:,.0f}" for x in rows[column]], padding=2, fontsize=7)
        ax.set(xlabel="number of texts")
        ax.set_title(name)
        ax.margins(x=0.14)
    axes[0][-1].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0)
    return figure


@captioned("Counts, not estimates: there is no error to show. Hollow: one language only.")
def training_sizes(frame: pd.DataFrame) -> Figure:
    """Sizes of training sets on a logarithmic scale with their shares of the sum, largest first (Table 9).

    frame: name, language (codes with spaces between), size.
    """
    require(frame, "frame", ["name", "language", "size"])
    frame = frame.sort_values("size", ascending=False)
    figure, ((ax,),) = new_figure(1, 1, 0.7 + 0.24 * len(frame))
    labels = []
    for place, (name, languages, size) in enumerate(frame[["name", "language", "size"]].itertuples(index=False)):
        several = len(languages.split()) > 1
        labels.append(f"{name} ({f'{len(languages.split())} languages' if several else f'{languages} only'})")
        ax.plot(size, place, "o", color="0.2", markerfacecolor="0.2" if several else "white")
        share = 100 * size / frame["size"].sum()
        text = f"{size:,.0f}  ({share:.1f} %)" if share >= 0.05 else f"{size:,.0f}  (below 0.1 %)"
        ax.annotate(text, (size, place), (6, 0), textcoords="offset points", va="center", fontsize=7)
    label_rows(ax, labels)
    ax.set(xscale="log", xlabel="pairs per language (share of the sum)")
    ax.set_xlim(right=ax.get_xlim()[1] * 12)  # room for the numbers
    return figure


@captioned("A row is one place of the batch: the language of its query and of its passage.")
def batches(batches: Mapping[str, Batch]) -> Figure:
    """The paper's Figure 2 from real batches: a column per batch, the languages of query and passage in a few places.

    batches: label -> batch; how many places it has that are not shown is said below.
    """
    if not batches:
        raise ValueError("batches is empty; pass a label and its batch")
    shown = min(PLACES, max(len(batch) for batch in batches.values()))
    figure, axes = new_figure(1, len(batches), 0.75 + 0.24 * shown)
    for ax, (label, batch) in zip(axes[0], batches.items(), strict=True):
        codes = pd.DataFrame({"query": batch.query_lang[:shown], "passage": batch.passage_lang[:shown]}).astype(str)
        _heat_map(ax, codes.map(_hue), codes, HUES, Normalize(-0.5, HUES.N - 0.5))
        ax.set(ylim=(shown, 0), yticks=[], ylabel="place" if ax is axes[0][0] else "")
        ax.set_title(label)
        more = len(batch) - len(codes)
        ax.set_xlabel(f"and {more} more" if more else "")
    return figure


@captioned("Rows are queries, columns the passages of the batch, explicit negatives last. Codes: languages.")
def negatives(mask: np.ndarray, query_lang: Sequence[str], passage_lang: Sequence[str]) -> Figure:
    """Which passages of a batch are the positive (passage i of query i), a negative, or masked for each query.

    mask: (B, P) bool, True where a passage is no negative of the query, as `loss.not_negatives` returns it.
    query_lang, passage_lang: (B,) and (P,) language codes.
    """
    mask, shape = np.asarray(mask, dtype=bool), (len(query_lang), len(passage_lang))
    if mask.shape != shape or not 0 < shape[0] <= shape[1]:
        raise ValueError(f"mask must be (B, P) for {shape[0]} queries and {shape[1]} passages, not {mask.shape}")
    kinds = np.where(mask, 2, 1)
    np.fill_diagonal(kinds, 0)
    frame = pd.DataFrame(kinds, index=list(query_lang), columns=list(passage_lang))
    small = shape[1] > 40  # no room for signs and codes
    signs = ("", "", "") if small else ("+", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}")
    figure, ((ax,),) = new_figure(1, 1, 0.8 + min(0.22 * len(mask), 7))
    colors = ListedColormap(list(CELLS.values()))
    _heat_map(ax, frame, frame.map(signs.__getitem__), colors, Normalize(-0.5, 2.5), edge="0.8")
    ax.set(xlabel="passage", ylabel="query")
    if small:
        ax.set(xticks=[], yticks=[])
    key = [Patch(facecolor=color, edgecolor="0.6", label=label) for label, color in CELLS.items()]
    ax.legend(handles=key, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0.2)
    return figure


@captioned("Thick frame: the candidates that are relevant to the query.")
def settings_diagram() -> Figure:
    """The three settings of the paper's Figure 1: what a query is matched with, and how many settings there are."""
    pools = {  # candidates, the relevant ones, number of settings
        "mono": ("de de de de de de", [1], 11),
        "cross": ("en en en en en en", [4], 110),
        "multi": ("de en zh en zh de", [0, 3, 4], 11),
    }
    figure, axes = new_figure(1, len(pools), 2.1)
    for ax, (setting, (candidates, relevant, count)) in zip(axes[0], pools.items(), strict=True):
        ax.set(xlim=(0, 10), ylim=(-0.6, 6.6))
        ax.axis("off")
        _box(ax, 0.2, 3, "query\nde", "de", height=1.2)
        for place, lang in enumerate(candidates.split()):
            middle = 5.5 - place
            _box(ax, 6.2, middle, lang, lang, thick=place in relevant)
            if place in relevant:
                style = {"arrowstyle": "-|>", "mutation_scale": 8, "color": GREY}
                ax.add_patch(FancyArrowPatch((3.9, 3), (6.1, middle), **style))
        ax.text(8.05, 6.25, "candidates", ha="center", va="center", fontsize=7.5)
        ax.set_title(SETTINGS[setting], fontweight="bold")
        ax.text(0.2, -0.35, f"{count} settings with 11 languages", fontsize=7, color=GREY, va="center")
    return figure


def _box(ax: Axes, left: float, middle: float, text: str, lang: str, *, height: float = 0.8, thick: bool = False):
    """A rounded box in the colour of a language."""
    style = {"boxstyle": "round,pad=0,rounding_size=0.2", "facecolor": HUES(_hue(lang)), "mutation_aspect": 0.5}
    frame = {"edgecolor": "black" if thick else "none", "linewidth": 2 if thick else 0}
    ax.add_patch(FancyBboxPatch((left, middle - height / 2), 3.7, height, **style, **frame))
    ax.text(left + 1.85, middle, text, ha="center", va="center")


def _hue(lang: str) -> int:
    """A language's colour among HUES, the same in every figure; two may share one, so codes are written too."""
    return LANGUAGES.index(lang) if lang in LANGUAGES else sum(map(ord, lang)) % HUES.N


def _heat_map(
    ax: Axes, values: pd.DataFrame, texts: pd.DataFrame, colors: str | Colormap, scale: Normalize, edge: str = "white"
) -> QuadMesh:
    """Coloured cells with texts in black or white, and no frame; a cell without a value stays blank."""
    numbers = values.to_numpy(dtype=float)
    style = {"cmap": colors, "norm": scale, "edgecolors": edge, "linewidth": 0.5}
    mesh = ax.pcolormesh(np.ma.masked_invalid(numbers), **style)
    for (row, column), number in np.ndenumerate(numbers):
        if np.isfinite(number):
            light = np.dot(mesh.cmap(scale(number))[:3], (0.299, 0.587, 0.114)) > 0.5
            place = {"ha": "center", "va": "center_baseline", "fontsize": 7, "color": "black" if light else "white"}
            ax.text(column + 0.5, row + 0.5, texts.iloc[row, column], **place)
    ax.set_xticks(np.arange(values.shape[1]) + 0.5, values.columns)
    ax.set_yticks(np.arange(values.shape[0]) + 0.5, values.index)
    ax.set_ylim(len(values), 0)
    ax.grid(visible=False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return mesh


def _largest(values: pd.DataFrame, name: str) -> float:
    """The largest absolute number; ValueError if there is no number at all."""
    numbers = np.abs(values.to_numpy(dtype=float))
    if not np.isfinite(numbers).any():
        raise ValueError(f"{name} has no number in it; there is nothing to draw")
    return float(np.nanmax(numbers))
