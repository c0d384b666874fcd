"""Figures: one function each, from frames of `summaries` to a matplotlib Figure; heat maps and boxes: `diagrams`.

Every function takes `title`, drawn above, and `note`, drawn below after the caption: which encoder and corpus the
numbers come from. The caption says what points and bars mean (`drawing.CAPTIONS`); bars are the intervals of the frame.
A strategy has one colour (Okabe-Ito) and one marker everywhere. A missing number is left blank, never drawn as 0.

All raise ValueError for an empty frame, a missing column, or rows that were asked for and are not there.
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
    LOOKS,
    MEASURES,
    SETTINGS,
    SPAN,
    marks,
    new_figure,
    require,
    select,
    strategies,
    styled,
)
from hybridlib.companion.report.summaries import monolingual_share


@styled
def quality(
    summary: pd.DataFrame,
    seeds: pd.DataFrame,
    *,
    measure: str = "map",
    subset: str = "all",
    title: str = "",
    note: str = "",
) -> Figure:
    """A measure of each strategy, a panel for each setting, one shared scale.

    Args:
        summary: strategy, alpha (one for hybrid), setting, measure, subset, mean, low, high.
        seeds: strategy, alpha, setting, measure, subset, value.
    """
    keys = {"measure": measure, "subset": subset}
    means, single = select(summary, "summary", [*BY, *SPAN], **keys), select(seeds, "seeds", [*BY, "value"], **keys)
    alphas = means.loc[means["strategy"] == "hybrid", "alpha"].unique()
    if len(alphas) > 1:
        raise ValueError(f"summary has hybrid with several alphas, {alphas.tolist()}; keep one, or draw mixing_ratio")
    settings = [setting for setting in SETTINGS if setting in set(means["setting"])]
    parts = {SETTINGS[s]: (means[means["setting"] == s], single[single["setting"] == s]) for s in settings}
    figure = _strategy_panels("quality", parts, measure, title, note)
    if len(alphas) and alphas[0] != 0.5:
        labels = {look.label: look.label for look in LOOKS.values()} | {"hybrid": f"hybrid\nalpha {alphas[0]:g}"}
        ax = figure.axes[0]
        ax.set_yticklabels([labels[label.get_text()] for label in ax.get_yticklabels()])
    return figure


@styled
def shared_script(frame: pd.DataFrame, *, measure: str = "map", title: str = "", note: str = "") -> Figure:
    """Cross-lingual quality of each strategy, apart for pairs of languages that share a script and that do not.

    Args:
        frame: strategy, group ("same script" or "different script"), mean, low, high.
    """
    require(frame, "frame", ["strategy", "group", *SPAN])
    parts = {group: (part, None) for group, part in sorted(frame.groupby("group", observed=True), reverse=True)}
    return _strategy_panels("shared_script", parts, measure, title, note)


@styled
def language_bias(
    by_language: pd.DataFrame, *, zero_shot: Sequence[str] = ("el", "vi"), title: str = "", note: str = ""
) -> Figure:
    """Rank distance in the multi setting for each query language and strategy.

    Languages with the largest distance come first, then those never trained on.

    Args:
        by_language: strategy, setting, measure, query_lang, mean, low, high.
        zero_shot: languages to mark as not trained on.
    """
    frame = select(by_language, "by_language", ["strategy", "query_lang", *SPAN], measure="rank_distance")
    size = frame.groupby("query_lang", observed=True)["mean"].mean().sort_values(ascending=False)
    languages = sorted(size.index, key=lambda lang: lang in zero_shot)
    figure, ax = _language_panel("language_bias", frame, languages, zero_shot, title, note)
    ax.set(xlabel=MEASURES["rank_distance"])
    _log_if_wide(ax.xaxis, frame[SPAN])
    return figure


@styled
def by_language(
    frame: pd.DataFrame,
    *,
    measure: str = "ndcg@10",
    languages: Sequence[str] = (),
    marks: Mapping[str, str] | None = None,
    title: str = "",
    note: str = "",
) -> Figure:
    """A measure for each query language and strategy, in one setting.

    Args:
        frame: of `summaries.by_language`: strategy, measure, query_lang, mean, low, high.
        languages: from top to bottom; none: the largest mean first. Others are left out.
        marks: language -> what to put beside it.
    """
    frame = select(frame, "frame", ["strategy", "query_lang", *SPAN], measure=measure)
    size = frame.groupby("query_lang", observed=True)["mean"].mean().sort_values(ascending=False)
    languages = [lang for lang in languages or size.index if lang in size.index]
    figure, ax = _language_panel("by_language", frame, languages, marks or {}, title, note)
    ax.set(xlabel=MEASURES.get(measure, measure))
    return figure


def _language_panel(
    name: str,
    frame: pd.DataFrame,
    languages: list[str],
    remarks: Mapping[str, str] | Sequence[str],
    title: str,
    note: str,
) -> tuple[Figure, Axes]:
    """A row per language, in it a marker per strategy; a darker line before the first of the remarked languages.

    remarks: what stands beside a language; of a sequence that it is zero-shot.
    """
    remarks = remarks if isinstance(remarks, Mapping) else dict.fromkeys(remarks, "zero-shot")
    names, frame = strategies(frame), frame[frame["query_lang"].isin(languages)]
    figure, ((ax,),) = new_figure(name, 1, 1, 1.4 + 0.3 * len(languages), title, note)
    for i, strategy in enumerate(names):
        rows = frame[frame["strategy"] == strategy]
        places = rows["query_lang"].astype(str).map(languages.index).astype(float)
        marks(ax, rows, places + (i - (len(names) - 1) / 2) * 0.7 / len(names), LOOKS[strategy])
    ax.set_yticks(
        range(len(languages)), [f"{lang} ({remarks[lang]})" if lang in remarks else lang for lang in languages]
    )
    ax.set(ylabel="query language", ylim=(len(languages) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    first = next((i for i, lang in enumerate(languages) if lang in remarks), 0)
    for edge in range(1, len(languages)):
        ax.axhline(edge - 0.5, color="0.2" if edge == first else "0.9", linewidth=0.6)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(names), borderpad=0.2)
    return figure, ax


@styled
def mixing_ratio(
    summary: pd.DataFrame,
    seeds: pd.DataFrame,
    *,
    measure: str = "map",
    subset: str = "all",
    title: str = "",
    note: str = "",
) -> Figure:
    """A measure in mono, cross and multi, and rank distance, against alpha from 0 (X-Y) to 1 (X-X-mono).

    Each panel has its own scale, at least .05 wide for a measure of quality, so that noise is not blown up.

    Args:
        summary, seeds: as for `quality`; strategies that are not of the curve are left out.
    """
    figure, axes = new_figure("mixing_ratio", 2, 2, 4.9, title, note, sharex=True)
    panels = [*((setting, measure) for setting in SETTINGS), ("multi", "rank_distance")]
    for ax, (setting, name) in zip(axes.flat, panels, strict=True):
        keys = {"setting": setting, "measure": name, "subset": subset}
        rows = monolingual_share(select(summary, "summary", [*BY, *SPAN], **keys)).sort_values("monolingual_share")
        single = monolingual_share(select(seeds, "seeds", [*BY, "value"], **keys))
        ax.plot(rows["monolingual_share"], rows["mean"], color="0.6", linewidth=1, zorder=1)
        for strategy in strategies(rows):
            own = rows[rows["strategy"] == strategy]
            dots = single[single["strategy"] == strategy]
            beside = dots["monolingual_share"] + 0.025
            look = LOOKS[strategy]
            marks(ax, own, own["monolingual_share"], look, seeds=(beside, dots["value"]), upright=True)
        ax.set_title(f"{setting}: {MEASURES[name]}")
        _log_if_wide(ax.yaxis, rows[SPAN]) if name == "rank_distance" else _widen(ax, 0.05)
    ends = {0: f"0\n{LOOKS['x-y'].label}", 1: f"1\n{LOOKS['x-x-mono'].label}", 0.5: f"0.5\n{LOOKS['hybrid'].label}"}
    for ax in axes[1]:
        ax.set_xticks([0, 0.25, 0.5, 0.75, 1], [ends.get(x, f"{x:g}") for x in (0, 0.25, 0.5, 0.75, 1)])
        ax.set_xlabel("alpha, share of monolingual batches")
    return figure


@styled
def training_curves(log: pd.DataFrame, *, points: int = 50, title: str = "", note: str = "") -> Figure:
    """Training loss, apart for monolingual and X-Y batches (their losses do not compare), and validation loss.

    Lines are means over seeds, the training loss also over neighbouring steps; bands and bars reach from the lowest to
    the highest seed.

    Args:
        log: strategy, seed, step, mode, loss, and validation_loss (NaN where it was not measured).
        points: into how many means the training steps are put together.
    """
    require(log, "log", ["strategy", "seed", "step", "mode", "loss", "validation_loss"])
    log = log.reset_index(drop=True)
    width = max(1, -(-int(log["step"].max() + 1) // points))
    figure, ((left, right),) = new_figure("training_curves", 1, 2, 2.9, title, note)
    for name in strategies(log):
        own = log[log["strategy"] == name]
        modes = [mode for mode in LOOKS if mode in set(own["mode"])]
        for mode in modes:
            label = f"{LOOKS[name].label}, {LOOKS[mode].label} batches" if len(modes) > 1 else LOOKS[name].label
            _training_line(left, own[own["mode"] == mode], width, name, label, "--" if mode == "x-y" else "-")
        _validation_line(right, own.dropna(subset="validation_loss"), name)
    for ax, column, what in ((left, "loss", "training"), (right, "validation_loss", "validation")):
        ax.set(xlabel="step", ylabel=f"{what} loss (nats)")
        _log_if_wide(ax.yaxis, log[column])
        ax.legend(loc="upper right")
    return figure


def _strategy_panels(
    name: str, parts: dict[str, tuple[pd.DataFrame, pd.DataFrame | None]], measure: str, title: str, note: str
) -> Figure:
    """A row per strategy, a panel per part: (rows with mean, low, high; single seeds or None). One scale."""
    names = strategies(pd.concat([rows for rows, _ in parts.values()]))
    shape = (1, len(parts), 0.75 + 0.42 * len(names))
    figure, axes = new_figure(name, *shape, title, note, sharex=True, sharey=True)
    for ax, (heading, (rows, single)) in zip(axes[0], parts.items(), strict=True):
        for place, strategy in enumerate(names):
            own = rows[rows["strategy"] == strategy]
            dots = None
            if single is not None:
                values = single.loc[single["strategy"] == strategy, "value"]
                dots = (np.full(len(values), place + 0.27), values)
            marks(ax, own, np.full(len(own), place), LOOKS[strategy], seeds=dots)
            for mean in own["mean"].dropna():
                text = f"{mean:,.0f}" if measure == "rank_distance" else f"{mean:.3f}"
                ax.annotate(text, (mean, place), (0, 5), textcoords="offset points", ha="center", fontsize=7)
        ax.set_title(heading)
        ax.set_xlabel(MEASURES.get(measure, measure))
        ax.margins(x=0.14)
        ax.grid(axis="y", visible=False)
    axes[0][0].set_yticks(range(len(names)), [LOOKS[strategy].label for strategy in names])
    axes[0][0].set_ylim(len(names) - 0.5, -0.6)
    if measure == "rank_distance":
        _log_if_wide(axes[0][0].xaxis, pd.concat([rows for rows, _ in parts.values()])[SPAN])
    return figure


def _log_if_wide(axis: Axis, values: pd.DataFrame | pd.Series) -> None:
    """A logarithmic axis where the values differ more than eightfold."""
    values = values.to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    if len(values) and values.min() > 0 and values.max() > 8 * values.min():
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(StrMethodFormatter("{x:,g}"))


def _widen(ax: Axes, least: float) -> None:
    """Make the y axis span at least so much, around where it is."""
    low, high = ax.get_ylim()
    spare = max(0, least - (high - low)) / 2
    ax.set_ylim(low - spare, high + spare)


def _training_line(ax: Axes, own: pd.DataFrame, width: int, strategy: str, label: str, linestyle: str) -> None:
    """Training loss, averaged over `width` steps."""
    means = own.groupby([own["step"] // width, "seed"])["loss"].mean().unstack("seed")
    x, color = (means.index + 0.5) * width, LOOKS[strategy].color
    ax.fill_between(x, means.min(axis=1), means.max(axis=1), color=color, alpha=0.25, linewidth=0)
    ax.plot(x, means.mean(axis=1), linestyle, color=color, label=label)


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
