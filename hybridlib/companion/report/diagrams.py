"""Figures made of cells and boxes: heat maps, sizes of corpora, what is in a batch, the three settings.

The conventions are those of `figures`. ValueError for what is empty or does not fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch
from matplotlib.ticker import PercentFormatter

from hybridlib.companion.report.drawing import GREY, LOOKS, MEASURES, SETTINGS, new_figure, require, strategies, styled
from hybridlib.sampler import Batch

LANGUAGES = ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh")
HUES = ("#E69F00", "#CC79A7", "#009E73", "#0072B2", "#D55E00", "#56B4E9", "#F0E442", "#999999")  # Okabe-Ito and grey
CELLS = {"positive": "black", "negative": "#CFE6F5", "masked: no negative": "white"}


@styled
def first_ranked(matrices: Mapping[str, pd.DataFrame], *, title: str = "", note: str = "") -> Figure:
    """Who is ranked first by whom: a query language x candidate language heat map per strategy, on one shared scale.

    The share without bias, 1 / number of languages, is marked on the colour bar. No error is shown.

    Args:
        matrices: strategy -> square frame of shares (index query language, columns candidate language).
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
    figure, axes = new_figure("first_ranked", rows, columns, 0.75 + rows * (0.7 + 6.2 / max(columns, 2)), title, note)
    fits = columns * len(languages) <= 33  # the cells of more are too small for numbers of 7 pt
    for ax, name in zip(axes.flat, names, strict=False):
        texts = shares[name].map(lambda x: f"{100 * x:.0f}" if fits else "")
        mesh = _heat_map(ax, shares[name], texts, "YlGnBu", scale)
        ax.set_xlabel("candidate language")
        own = f"own language {100 * np.nanmean(np.diag(shares[name])):.0f} %"
        ax.set_title(f"{LOOKS[name].label}\n{own}", color=LOOKS[name].color, fontweight="bold")
    for ax in axes[:, 0]:
        ax.set_ylabel("query language")
    for ax in axes.flat[len(names) :]:
        ax.axis("off")
    bar = figure.colorbar(mesh, ax=axes, location="bottom", fraction=0.05, aspect=50, label="share of queries")
    _mark_no_bias(bar.ax, len(languages))
    return figure


@styled
def win_matrix(frame: pd.DataFrame, a: str, b: str, *, measure: str = "map", title: str = "", note: str = "") -> Figure:
    """Difference a - b between two strategies for each query and candidate language, in the colour of the better one.

    Ties, whose 95 % paired bootstrap interval holds 0, stand in parentheses; the intervals themselves are not drawn.

    Args:
        frame: of `summaries.wins`: query_lang, pool (the candidate language, or "all"), difference, low, high, outcome
            ("win", "tie" or "loss" of a).
        a, b: the strategies; rank distance is better where it is lower.
    """
    require(frame, "frame", ["query_lang", "pool", "difference", "low", "high", "outcome"])
    strategies(pd.DataFrame({"strategy": [a, b]}))
    frame = frame.astype({"query_lang": str, "pool": str})
    frame = frame.assign(text=[_signed(x, measure) for x in frame["difference"]])
    frame["text"] = frame["text"].where(frame["outcome"] != "tie", "(" + frame["text"] + ")")
    cells = frame.pivot(index="query_lang", columns="pool", values=["difference", "text"])
    limit = _largest(cells["difference"], "frame") or 1.0
    worse, better = (a, b) if measure == "rank_distance" else (b, a)  # whose colour the ends of the scale have
    colors = LinearSegmentedColormap.from_list("", [LOOKS[worse].color, "white", LOOKS[better].color])
    figure, ((ax,),) = new_figure("win_matrix", 1, 1, 1.2 + 0.27 * max(len(cells), 4), title, note)
    mesh = _heat_map(ax, cells["difference"], cells["text"], colors, Normalize(-limit, limit))
    wins, ties, losses = ((frame["outcome"] == outcome).sum() for outcome in ("win", "tie", "loss"))
    score = f"wins {wins}, ties {ties}, loses {losses} of {len(frame)}"
    ax.set(xlabel="candidate language", ylabel="query language")
    ax.set_title(f"{LOOKS[a].label} against {LOOKS[b].label}: {score}")
    quantity = MEASURES.get(measure, measure).split(" (")[0]
    what = f"difference in {quantity}, {LOOKS[a].label} \N{MINUS SIGN} {LOOKS[b].label}"
    ends = [f"{LOOKS[name].label} better" for name in (worse, better)]
    label = f"\N{LEFTWARDS ARROW} {ends[0]}        {what}        {ends[1]} \N{RIGHTWARDS ARROW}"
    figure.colorbar(mesh, ax=ax, location="bottom", fraction=0.05, aspect=50, label=label)
    return figure


@styled
def corpus_sizes(frame: pd.DataFrame, *, title: str = "", note: str = "") -> Figure:
    """Sizes of corpora. Counts have no error, so there are no error bars.

    Args:
        frame: either name, language, queries, candidates (Table 10): bars per language, a panel per name; or name,
            language, size (Table 9, language being codes with spaces between): a point per row on a logarithmic
            scale, with its share of the sum.
    """
    if "size" in frame.columns:
        return _training_sizes(frame, title, note)
    require(frame, "frame", ["name", "language", "queries", "candidates"])
    names, languages = list(dict.fromkeys(frame["name"])), sorted(set(frame["language"]))
    shape = (1, len(names), 0.8 + 0.3 * len(languages))
    figure, axes = new_figure("corpus_sizes", *shape, title, note, sharey=True)
    for ax, name in zip(axes[0], names, strict=True):
        rows = frame[frame["name"] == name].set_index("language").reindex(languages)
        for shift, column, color in ((-0.2, "queries", "0.35"), (0.2, "candidates", "#56B4E9")):
            bars = ax.barh(np.arange(len(languages)) + shift, rows[column], 0.38, color=color, label=column)
            ax.bar_label(bars, ["" if np.isnan(x) else f"{x:,.0f}" for x in rows[column]], padding=2, fontsize=7)
        ax.set_title(name)
        ax.set_xlabel("number of texts")
        ax.margins(x=0.14)
        ax.grid(axis="y", visible=False)
    axes[0][0].set_yticks(range(len(languages)), languages)
    axes[0][0].set_ylim(len(languages) - 0.5, -0.5)
    axes[0][-1].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0)
    return figure


@styled
def batches(batches: Mapping[str, Batch], n: int = 8, *, title: str = "", note: str = "") -> Figure:
    """The paper's Figure 2 from real batches: a column per batch, the languages of query and passage in n places.

    Args:
        batches: label -> batch.
        n: how many places to show; how many more there are is said below.
    """
    if not batches or n < 1:
        raise ValueError("batches is empty or n below 1; pass a label and its batch, and at least one place")
    shown = min(n, max(len(batch) for batch in batches.values()))
    figure, axes = new_figure("batches", 1, len(batches), 0.75 + 0.24 * shown, title, note, sharey=True)
    for ax, (label, batch) in zip(axes[0], batches.items(), strict=True):
        codes = np.stack([batch.query_lang[:n], batch.passage_lang[:n]], axis=1)
        _language_cells(ax, codes)
        ax.set_xticks([0.5, 1.5], ["query", "passage"])
        ax.set_title(label)
        more = len(batch) - len(codes)
        ax.set_xlabel(f"and {more} more" if more else "")
    axes[0][0].set_ylim(shown, 0)
    axes[0][0].set_ylabel("place")
    return figure


@styled
def negatives(
    mask: np.ndarray,
    target: Sequence[int] | None,
    query_lang: Sequence[str],
    passage_lang: Sequence[str],
    *,
    title: str = "",
    note: str = "",
) -> Figure:
    """Which passages of a batch are the positive, a negative, or masked for each query.

    Args:
        mask: (B, P) bool, True where a passage is no negative of the query, as `loss.not_negatives` returns it.
        target: (B,) column of each query's positive; None means column i for query i.
        query_lang, passage_lang: (B,) and (P,) language codes.
    """
    mask = np.asarray(mask, dtype=bool)
    target = np.arange(len(mask)) if target is None else np.asarray(target)
    if mask.ndim != 2 or not mask.size or mask.shape != (len(query_lang), len(passage_lang)):
        raise ValueError(
            f"mask must be (B, P) for {len(query_lang)} queries and {len(passage_lang)} passages, not {mask.shape}"
        )
    if target.shape != (len(mask),) or target.min() < 0 or target.max() >= mask.shape[1]:
        raise ValueError(f"target must be one column below {mask.shape[1]} for each of {len(mask)} queries")
    kinds = np.where(mask, 2, 1)
    kinds[np.arange(len(mask)), target] = 0
    frame = pd.DataFrame(kinds, index=list(query_lang), columns=list(passage_lang))
    small = mask.shape[1] > 40  # no room for signs and codes
    signs = ("", "", "") if small else ("+", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}")
    texts = frame.map(signs.__getitem__)
    figure, ((ax,),) = new_figure("negatives", 1, 1, 0.8 + min(0.22 * len(mask), 7), title, note)
    _heat_map(ax, frame, texts, ListedColormap(list(CELLS.values())), Normalize(-0.5, 2.5), edge="0.8")
    ax.set(xlabel="passage", ylabel="query")
    if small:
        ax.set(xticks=[], yticks=[])
    key = [Patch(facecolor=color, edgecolor="0.6", label=label) for label, color in CELLS.items()]
    ax.legend(handles=key, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0.2)
    return figure


@styled
def settings_diagram(*, languages: int = 11, title: str = "", note: str = "") -> Figure:
    """The three settings of the paper's Figure 1: what a query is matched with, and how many such settings there are.

    Args:
        languages: of the benchmark.
    """
    pools = {
        "mono": ("de", ["de"] * 6, [1], languages),
        "cross": ("de", ["en"] * 6, [4], languages * (languages - 1)),
        "multi": ("de", ["de", "en", "zh", "en", "zh", "de"], [0, 3, 4], languages),
    }
    figure, axes = new_figure("settings_diagram", 1, len(pools), 2.1, title, note)
    for ax, (setting, (query, candidates, relevant, count)) in zip(axes[0], pools.items(), strict=True):
        ax.set(xlim=(0, 10), ylim=(-0.6, 6.6))
        ax.axis("off")
        _box(ax, (0.2, 2.4), f"query\n{query}", query, height=1.2)
        for place, lang in enumerate(candidates):
            height = 5 - place
            _box(ax, (6.2, height + 0.1), lang, lang, thick=place in relevant)
            if place in relevant:
                style = {"arrowstyle": "-|>", "mutation_scale": 8, "color": GREY}
                ax.add_patch(FancyArrowPatch((3.9, 3), (6.1, height + 0.5), **style))
        ax.text(8.05, 6.25, "candidates", ha="center", va="center", fontsize=7.5)
        ax.set_title(SETTINGS[setting], fontweight="bold")
        ax.text(0.2, -0.35, f"{count} settings with {languages} languages", fontsize=7, color=GREY, va="center")
    return figure


def _heat_map(
    ax: Axes, values: pd.DataFrame, texts: pd.DataFrame, colors: str | Colormap, scale: Normalize, edge: str = "white"
) -> QuadMesh:
    """Coloured cells with texts in them; a cell without a value stays blank."""
    numbers = values.to_numpy(dtype=float)
    style = {"cmap": colors, "norm": scale, "edgecolors": edge, "linewidth": 0.5}
    mesh = ax.pcolormesh(np.ma.masked_invalid(numbers), **style)
    for (row, column), number in np.ndenumerate(numbers):
        if np.isfinite(number):
            ink = _ink(mesh.cmap(scale(number))[:3])
            ax.text(column + 0.5, row + 0.5, texts.iloc[row, column], ha="center", va="center", fontsize=7, color=ink)
    ax.set_xticks(np.arange(values.shape[1]) + 0.5, values.columns)
    ax.set_yticks(np.arange(values.shape[0]) + 0.5, values.index)
    ax.set_ylim(len(values), 0)
    _bare(ax)
    return mesh


def _language_cells(ax: Axes, codes: np.ndarray) -> None:
    """Cells with language codes, in a colour for each language; codes (rows, columns) str."""
    for (row, column), code in np.ndenumerate(codes):
        color = language_color(str(code))
        ax.fill_between([column + 0.03, column + 0.97], row + 0.06, row + 0.94, color=color, linewidth=0)
        ax.text(column + 0.5, row + 0.5, code, ha="center", va="center_baseline", color=_ink(color))
    ax.set_xlim(0, codes.shape[1])
    ax.set_yticks([])
    _bare(ax)


def _box(
    ax: Axes, corner: tuple[float, float], text: str, lang: str, *, height: float = 0.8, thick: bool = False
) -> None:
    """A rounded box in the colour of a language."""
    color = language_color(lang)
    style = {"boxstyle": "round,pad=0,rounding_size=0.2", "facecolor": color, "mutation_aspect": 0.5}
    frame = {"edgecolor": "black" if thick else "none", "linewidth": 2 if thick else 0}
    ax.add_patch(FancyBboxPatch(corner, 3.7, height, **style, **frame))
    ax.text(corner[0] + 1.85, corner[1] + height / 2, text, ha="center", va="center", color=_ink(color))


def language_color(lang: str) -> tuple[float, float, float]:
    """A colour for a language, the same in every figure; two may share one, so codes are written too."""
    place = LANGUAGES.index(lang) if lang in LANGUAGES else sum(map(ord, lang))
    paler = 0.55 * (place // len(HUES) % 2)
    return tuple(part + (1 - part) * paler for part in to_rgb(HUES[place % len(HUES)]))


def _training_sizes(frame: pd.DataFrame, title: str, note: str) -> Figure:
    """Table 9: sizes on a logarithmic scale with their shares, largest first; hollow where a set has one language."""
    require(frame, "frame", ["name", "language", "size"])
    frame = frame.sort_values("size", ascending=False)
    figure, ((ax,),) = new_figure("corpus_sizes", 1, 1, 0.7 + 0.24 * len(frame), title, note)
    for place, (size, language) in enumerate(zip(frame["size"], frame["language"], strict=True)):
        ax.plot(size, place, "o", color="0.2", markerfacecolor="0.2" if " " in language else "white")
        share = 100 * size / frame["size"].sum()
        text = f"{size:,.0f}  ({share:.1f} %)" if share >= 0.05 else f"{size:,.0f}  (below 0.1 %)"
        ax.annotate(text, (size, place), (6, 0), textcoords="offset points", va="center", fontsize=7)
    counts = [len(language.split()) for language in frame["language"]]
    words = [f"{n} languages" if n > 1 else f"{lang} only" for n, lang in zip(counts, frame["language"], strict=True)]
    ax.set_yticks(range(len(frame)), [f"{name} ({what})" for name, what in zip(frame["name"], words, strict=True)])
    ax.set(xscale="log", xlabel="pairs per language (share of the sum)", ylim=(len(frame) - 0.5, -0.5))
    ax.set_xlim(right=ax.get_xlim()[1] * 12)  # room for the numbers
    ax.grid(axis="y", visible=False)
    return figure


def _mark_no_bias(ax: Axes, languages: int) -> None:
    """On a horizontal colour bar of shares: percentages, and a line where every language is first equally often."""
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.axvline(1 / languages, color="black", linewidth=1.5, label="_no bias")
    words = f"no bias: 1/{languages} = {100 / languages:.0f} %"
    ax.annotate(words, (1 / languages, 1), (0, 2), textcoords="offset points", fontsize=7, ha="center")


def _largest(values: pd.DataFrame, name: str) -> float:
    """The largest absolute number; ValueError if there is no number at all."""
    numbers = np.abs(values.to_numpy(dtype=float))
    if not np.isfinite(numbers).any():
        raise ValueError(f"{name} has no number in it; there is nothing to draw")
    return float(np.nanmax(numbers))


def _bare(ax: Axes) -> None:
    """No grid, frame or tick marks: the cells are enough."""
    ax.grid(visible=False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _signed(number: float, measure: str) -> str:
    """+.012, or +12 for rank distance."""
    text = f"{number:+,.0f}" if measure == "rank_distance" else f"{number:+.3f}".replace("0.", ".", 1)
    return text.replace("-", "\N{MINUS SIGN}")


def _ink(color: Iterable[float]) -> str:
    """Black or white, whichever reads better on a colour."""
    return "black" if np.dot(list(color), (0.299, 0.587, 0.114)) > 0.5 else "white"
