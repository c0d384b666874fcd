"""Figures: one function each, from frames of `summaries` to a matplotlib Figure; heat maps and boxes: `diagrams`.

Every function also takes `title`, drawn above, and `note`, drawn below after the caption. A missing number is left
blank, never drawn as 0. ValueError for an empty frame, a missing column, or rows that were asked for and are not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from hybridlib.companion.report.drawing import (
    BY,
    INTERVAL,
    LOOKS,
    MEASURES,
    SETTINGS,
    SPAN,
    captioned,
    label_rows,
    marks,
    new_figure,
    require,
    strategies,
)
from hybridlib.companion.report.summaries import monolingual_share

POINTS = 50  # into so many means the steps of a training curve are put together


@captioned(f"Marker: macro mean over languages. {INTERVAL} Dots: single seeds.")
def quality(summary: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """The mAP of each strategy, over all languages: a panel for each setting, one shared scale.

    summary, seeds: of `summaries.summary` and `summaries.by_seed`, hybrid with one alpha.
    """
    keys = {"measure": "map", "subset": "all"}
    means, single = require(summary, "summary", [*BY, *SPAN], **keys), require(seeds, "seeds", [*BY, "value"], **keys)
    alphas = means.loc[means["strategy"] == "hybrid", "alpha"].unique()
    if len(alphas) > 1:
        raise ValueError(f"summary has hybrid with several alphas, {alphas.tolist()}; keep one, or draw mixing_ratio")
    panels = {setting: words for setting, words in SETTINGS.items() if setting in set(means["setting"])}
    shown = f"\nalpha {alphas[0]:g}" if len(alphas) and alphas[0] != 0.5 else ""
    return _strategy_panels("setting", panels, means, single, beside_hybrid=shown)


@captioned(f"Marker: macro mean over pairs of languages. {INTERVAL}")
def shared_script(frame: pd.DataFrame) -> Figure:
    """Cross-lingual mAP of each strategy, apart for pairs of languages that share a script and that do not.

    frame: of `summaries.by_script`.
    """
    require(frame, "frame", ["strategy", "group", *SPAN])
    groups = sorted(frame["group"].unique(), reverse=True)
    return _strategy_panels("group", dict(zip(groups, groups, strict=True)), frame, frame[:0].assign(value=0.0))


def _strategy_panels(
    column: str, panels: Mapping[str, str], means: pd.DataFrame, seeds: pd.DataFrame, beside_hybrid: str = ""
) -> Figure:
    """A panel per value of a column, with its heading; in it a row per strategy. One scale."""
    names, text = strategies(means), {"textcoords": "offset points", "ha": "center", "fontsize": 7}
    figure, axes = new_figure(1, len(panels), 0.75 + 0.42 * len(names), sharex=True, sharey=True)
    for ax, (panel, heading) in zip(axes[0], panels.items(), strict=True):
        label_rows(ax, [LOOKS[name].label + (beside_hybrid if name == "hybrid" else "") for name in names], above=0.6)
        for place, strategy in enumerate(names):
            keys = {column: panel, "strategy": strategy}
            own, single = (frame[(frame[list(keys)] == list(keys.values())).all(axis=1)] for frame in (means, seeds))
            dots = (np.full(len(single), place + 0.27), single["value"])
            marks(ax, own, np.full(len(own), place), LOOKS[strategy], seeds=dots)
            for mean in own["mean"].dropna():
                ax.annotate(f"{mean:.3f}", (mean, place), (0, 5), **text)
        ax.set(xlabel=MEASURES["map"])
        ax.set_title(heading)
        ax.margins(x=0.14)
    return figure


@captioned(
    f"Marker: mean over the queries in one language. {INTERVAL} Rank distance: best rank in each language, largest "
    "minus smallest, in the pool of all languages."
)
def language_bias(by_language: pd.DataFrame, *, zero_shot: Sequence[str] = ("el", "vi")) -> Figure:
    """Rank distance in the multi setting for each query language and strategy, the largest first.

    by_language: of `summaries.by_language`. zero_shot: languages not trained on, which are marked and come last.
    """
    return _language_rows(by_language, "by_language", "rank_distance", (), dict.fromkeys(zero_shot, "zero-shot"))


@captioned(f"Marker: mean over the queries in one language. {INTERVAL}")
def by_language(
    frame: pd.DataFrame,
    *,
    measure: str = "ndcg@10",
    languages: Sequence[str] = (),
    marks: Mapping[str, str] | None = None,
) -> Figure:
    """A measure for each query language and strategy, in one setting.

    frame: of `summaries.by_language`. languages: from top to bottom, others are left out; none: the largest mean first.
    marks: language -> what to put beside it; these come last.
    """
    return _language_rows(frame, "frame", measure, languages, marks or {})


def _language_rows(
    frame: pd.DataFrame, name: str, measure: str, languages: Sequence[str], remarks: Mapping[str, str]
) -> Figure:
    """A row per language, in it a marker per strategy; a darker line before the first of the remarked languages."""
    frame = require(frame, name, ["strategy", "query_lang", *SPAN], measure=measure)
    size = frame.groupby("query_lang", observed=True)["mean"].mean().sort_values(ascending=False)
    languages = [lang for lang in languages or size.index if lang in size.index]
    languages = sorted(languages, key=lambda lang: lang in remarks)
    names, frame = strategies(frame), frame[frame["query_lang"].isin(languages)]
    figure, ((ax,),) = new_figure(1, 1, 1.4 + 0.3 * len(languages))
    label_rows(ax, [f"{lang} ({remarks[lang]})" if lang in remarks else lang for lang in languages])
    for i, strategy in enumerate(names):
        rows = frame[frame["strategy"] == strategy]
        places = rows["query_lang"].astype(str).map(languages.index).astype(float)
        marks(ax, rows, places + (i - (len(names) - 1) / 2) * 0.7 / len(names), LOOKS[strategy])
    first = next((i for i, lang in enumerate(languages) if lang in remarks), 0)
    for edge in range(1, len(languages)):
        ax.axhline(edge - 0.5, color="0.2" if edge == first else "0.9", linewidth=0.6)
    ax.set(ylabel="query language", xlabel=MEASURES.get(measure, measure))
    if measure == "rank_distance":
        _log_if_wide(ax.xaxis, frame[SPAN])
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), borderpad=0.2)
    return figure


@captioned(f"Marker: macro mean over languages. {INTERVAL} Dots: single seeds. Each panel has its own scale.")
def mixing_ratio(summary: pd.DataFrame, seeds: pd.DataFrame) -> Figure:
    """The mAP in mono, cross and multi, and rank distance, against alpha from 0 (X-Y) to 1 (X-X-mono).

    summary, seeds: as for `quality`, any alphas; strategies that are not of the curve are left out.
    """
    figure, axes = new_figure(2, 2, 4.9, sharex=True)
    panels = [*((setting, "map") for setting in SETTINGS), ("multi", "rank_distance")]
    for ax, (setting, measure) in zip(axes.flat, panels, strict=True):
        keys = {"setting": setting, "measure": measure, "subset": "all"}
        rows = monolingual_share(require(summary, "summary", [*BY, *SPAN], **keys))
        share_curve(ax, rows, monolingual_share(require(seeds, "seeds", [*BY, "value"], **keys)))
        ax.set_title(f"{setting}: {MEASURES[measure]}")
        if measure == "rank_distance":
            _log_if_wide(ax.yaxis, rows[SPAN])
    for ax in axes[1]:
        ax.set_xlabel("alpha, share of monolingual batches")
    return figure


def share_curve(ax: Axes, points: pd.DataFrame, seeds: pd.DataFrame) -> None:
    """Draw a curve over the share of monolingual batches; its scale spans .05 at least: noise is not blown up.

    points, seeds: of one setting and measure, with the column of `summaries.monolingual_share`.
    """
    points = points.sort_values("monolingual_share")
    ax.plot(points["monolingual_share"], points["mean"], color="0.6", linewidth=1, zorder=1, label="_curve")
    for strategy in strategies(points):
        part, dots = (frame[frame["strategy"] == strategy] for frame in (points, seeds))
        beside = (dots["monolingual_share"] + 0.035, dots["value"])
        marks(ax, part, part["monolingual_share"], LOOKS[strategy], seeds=beside, upright=True)
    low, high = ax.get_ylim()
    if (spare := 0.05 - (high - low)) > 0:
        ax.set_ylim(low - spare / 2, high + spare / 2)
    names = {0: "x-y", 0.5: "hybrid", 1: "x-x-mono"}
    ticks = (0, 0.25, 0.5, 0.75, 1)
    ax.set_xticks(ticks, [f"{x:g}\n{LOOKS[names[x]].label}" if x in names else f"{x:g}" for x in ticks])


@captioned(
    "Line: mean over seeds, training loss also over neighbouring steps; dashed: X-Y batches. Band and bar: lowest to "
    "highest seed. Ringed: the lowest validation loss of each seed, whose weights are kept."
)
def training_curves(log: pd.DataFrame) -> Figure:
    """Training loss, apart for monolingual and X-Y batches (their losses do not compare), and validation loss.

    log: strategy, seed, step, mode, loss, and validation_loss (NaN where it was not measured).
    """
    require(log, "log", ["strategy", "seed", "step", "mode", "loss", "validation_loss"])
    log = log.reset_index(drop=True)
    width = max(1, -(-int(log["step"].max() + 1) // POINTS))
    figure, ((left, right),) = new_figure(1, 2, 2.9)
    for name in strategies(log):
        own = log[log["strategy"] == name]
        modes = [mode for mode in LOOKS if mode in set(own["mode"])]
        for mode in modes:
            label = f"{LOOKS[name].label}, {LOOKS[mode].label} batches" if len(modes) > 1 else LOOKS[name].label
            part = own[own["mode"] == mode]
            means = part.groupby([part["step"] // width, "seed"])["loss"].mean().unstack("seed")
            x, color = (means.index + 0.5) * width, LOOKS[name].color
            left.fill_between(x, means.min(axis=1), means.max(axis=1), color=color, alpha=0.25, linewidth=0)
            left.plot(x, means.mean(axis=1), "--" if mode == "x-y" else "-", color=color, label=label)
        _validation_line(right, own.dropna(subset="validation_loss"), name)
    for ax, column, what in ((left, "loss", "training"), (right, "validation_loss", "validation")):
        ax.set(xlabel="step", ylabel=f"{what} loss (nats)")
        _log_if_wide(ax.yaxis, log[column])
        ax.legend(loc="upper right")
    return figure


def _validation_line(ax: Axes, own: pd.DataFrame, strategy: str) -> None:
    """Validation loss where it was measured, each seed's lowest in a ring."""
    look = LOOKS[strategy]
    by_step = own.groupby("step")["validation_loss"].agg(["mean", "min", "max"])
    ax.vlines(by_step.index, by_step["min"], by_step["max"], color=look.color, label=f"_interval {look.label}")
    style = {"color": look.color, "markersize": 3, "linewidth": 1}
    ax.plot(by_step.index, by_step["mean"], marker=look.marker, label=look.label, **style)
    best = own.loc[own.groupby("seed")["validation_loss"].idxmin()]
    ring = {"markersize": 8, "markerfacecolor": "none", "color": look.color}
    ax.plot(best["step"], best["validation_loss"], "o", label=f"_best {strategy}", **ring)


def _log_if_wide(axis: Axis, values: pd.DataFrame | pd.Series) -> None:
    """A logarithmic axis where the values differ more than eightfold."""
    values = values.to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 8 * values.min():
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
