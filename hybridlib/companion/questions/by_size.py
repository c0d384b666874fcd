"""Do hybrid batches cost high-resource languages: gains on MIRACL against the size of a language's corpus.

The sizes are those of the paper's Table 11; a language is high-resource above their median.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import permutation_test

from hybridlib.companion.questions import shared
from hybridlib.companion.questions.by_language import TABLES, languages_of
from hybridlib.companion.questions.shared import NDCG
from hybridlib.companion.report import paper
from hybridlib.companion.report.claims import CHECKPOINTS, MEASURES, NAMES
from hybridlib.companion.report.drawing import GREY, LOOKS, Look, captioned, marks, new_figure, require
from hybridlib.companion.report.summaries import PAIRS

HIGH, OTHER = "high-resource", "other"
RELABELLINGS = 20_000  # of languages, for p; all of them where there are no more
UNCLEAR = "0.45"


def corpus_sizes() -> pd.Series:
    """Passages of each language's MIRACL corpus as the paper's Table 11 has them: language -> number, largest first."""
    sizes = paper.reported(11, measure="candidates").set_index("language")["value"].astype(int)
    return sizes.sort_values(ascending=False)


def groups() -> dict[str, list[str]]:
    """The languages of Table 11 in two groups and all together: group -> languages, the largest corpus first."""
    sizes = corpus_sizes()
    high = sizes > sizes.median()
    return {HIGH: list(sizes.index[high]), OTHER: list(sizes.index[~high]), "all": list(sizes.index)}


def compare(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare strategies in nDCG@10 in each language of Table 11, and within each of `groups`.

    A language's interval resamples its own queries, as many as it has; a group's those of all its languages together.
    Holm's correction is over all tests of a frame.

    Returns:
        Two frames of `shared.compare`: one with language, one with group and languages (their number).
    """
    parts = {name: rows[rows["query_lang"].isin(languages)] for name, languages in groups().items()}
    by_group = shared.compare(parts, "group", PAIRS)
    numbers = {name: part["query_lang"].nunique() for name, part in parts.items()}
    by_group.insert(1, "languages", by_group["group"].map(numbers))
    parts = {lang: rows[rows["query_lang"] == lang] for lang in corpus_sizes().index}
    return shared.compare(parts, "language", PAIRS), by_group


def between_groups(rows: pd.DataFrame) -> pd.DataFrame:
    """The mean difference in nDCG@10 in high-resource languages minus that in the others, with seeds and queries.

    There is no line where a group is empty or there are fewer than 3 languages.

    Returns:
        CONTRAST, whose interval holds for other queries in these languages, and p of `relabelled`, which is about other
        languages.
    """
    rows = rows[rows["query_lang"].isin(corpus_sizes().index)]
    languages = sorted(set(rows["query_lang"]))
    high = np.isin(languages, groups()[HIGH])
    parts = {(): rows} if len(languages) > 2 and high.any() and not high.all() else {}
    functions = {"difference": lambda means: means[:, high].mean(axis=1) - means[:, ~high].mean(axis=1)}
    frame = shared.contrasts(parts, [], functions, NDCG, ["query_lang"])
    means = rows.groupby(["query_lang", "strategy"], observed=True)[NDCG].mean().unstack()
    p = [relabelled(means[a] - means[b]) for a, b in zip(frame["a"], frame["b"], strict=True)]
    return frame[shared.CONTRAST].assign(p=p)


def relabelled(gaps: pd.Series) -> float:
    """How probable so large a difference between the groups is by chance, of gaps indexed by language.

    Returns:
        The share of the ways to choose as many high-resource languages that give a difference as far from 0 (all ways,
        or RELABELLINGS of them).
    """
    high = np.isin(gaps.index, groups()[HIGH])
    weights, gaps = np.where(high, 1 / high.sum(), -1 / (~high).sum()), gaps.to_numpy()
    options = {"permutation_type": "pairings", "n_resamples": RELABELLINGS, "alternative": "greater"}
    return permutation_test((weights,), lambda rows, axis: abs(rows @ gaps), vectorized=True, rng=0, **options).pvalue


def printed(base: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hybrid minus X-X-mono in the numbers printed in Table 12 or 13, as `compare` has it.

    Printed numbers have no queries: there is no interval.

    Returns:
        Two frames with checkpoint, a, b, difference, low, high (NaN): one with language, one with group and p of
        `relabelled`, which holds for the two groups together.
    """
    cells = paper.reported(TABLES[base], measure=NDCG, language=languages_of(TABLES[base]))
    wide = cells.pivot(index="language", columns="strategy", values="value")
    gaps = (wide["hybrid"] - wide["x-x-mono"]).rename("difference")
    labels = {"checkpoint": CHECKPOINTS[base], "a": "hybrid", "b": "x-x-mono", "low": np.nan, "high": np.nan}
    means = {group: gaps[gaps.index.isin(inside)].mean() for group, inside in groups().items()}
    by_group = pd.DataFrame({"group": means.keys(), "difference": means.values(), **labels, "p": relabelled(gaps)})
    return gaps.reset_index().assign(**labels), by_group


@captioned(
    "Marker: difference of the means over the queries in one language. Bar: 95 % paired bootstrap interval, queries of "
    "all seeds together, not corrected for the number of languages; none: printed numbers. Dots: lowest and highest "
    "seed. Dashed line and band: mean over a group's languages and its interval."
)
def gain_by_size(by_language: pd.DataFrame, by_group: pd.DataFrame) -> Figure:
    """Draw the difference in nDCG@10 between two strategies in each language, the smallest corpus first.

    High-resource languages stand on a shaded ground. A marker has the colour of the strategy that is ahead; grey: the
    interval holds 0, or there is none. A panel for each checkpoint, where they are named, and pair; one scale.

    Args:
        by_language, by_group: of `compare` or `printed`.
    """
    require(by_language, "by_language", ["a", "b", "language", "difference", "low", "high"])
    require(by_group, "by_group", ["a", "b", "group", "difference", "low", "high"])
    keys = [key for key in ("checkpoint", "a", "b") if key in by_language]
    panels, means = by_language.groupby(keys, sort=False), by_group.groupby(keys, sort=False)
    sizes = corpus_sizes()[lambda sizes: sizes.index.isin(by_language["language"])][::-1]
    figure, axes = new_figure(panels.ngroups, 1, 0.5 + 2.2 * panels.ngroups, sharex=True, sharey=True)
    for ax, (names, part) in zip(axes[:, 0], panels, strict=True):
        _languages(ax, part, part["language"].map(list(sizes.index).index))
        _groups(ax, list(sizes.index), means.get_group(names).set_index("group"))
        *checkpoint, a, b = names
        ax.set_title("".join(f"{name}: " for name in checkpoint) + f"{NAMES[a]} minus {NAMES[b]}")
        ax.set_ylabel(f"difference in {MEASURES[NDCG]}")
        ax.grid(axis="x", visible=False)
    low, high = axes[0][0].get_ylim()
    axes[0][0].set_ylim(low, high + 0.15 * (high - low))  # room for the groups' names
    axes[-1][0].set_xticks(range(len(sizes)), [f"{lang}\n{size / 1e6:.1f}" for lang, size in sizes.items()])
    axes[-1][0].set_xlabel("query language, millions of passages in its MIRACL corpus (Table 11)")
    return figure


def _languages(ax: Axes, rows: pd.DataFrame, places: pd.Series) -> None:
    """Draw a bar, a marker in the colour of who is ahead, and dots of seeds for each language."""
    ax.axhline(0, color="0.2", linewidth=0.9)
    a, b = (LOOKS[rows[side].iloc[0]] for side in ("a", "b"))
    ahead = np.select([rows["low"] > 0, rows["high"] < 0], [a.color, b.color], UNCLEAR)
    for color, words in ((a.color, f"{a.label} ahead"), (b.color, f"{b.label} ahead"), (UNCLEAR, "interval holds 0")):
        part, x = rows[ahead == color], places[ahead == color]
        seeds = (x + 0.2, part.reindex(columns=["seed_min", "seed_max"]))  # beside the bar, which would hide them
        marks(ax, part, x, Look(words, color, "o"), value="difference", seeds=seeds, upright=True)
    if rows["low"].notna().any():
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0.1, markerscale=0.9)


def _groups(ax: Axes, languages: list[str], means: pd.DataFrame) -> None:
    """Draw each group's name, mean and interval over its languages, high-resource on a shaded ground."""
    for group in (OTHER, HIGH):
        x = [place for place, lang in enumerate(languages) if lang in groups()[group]]
        if not x:
            continue
        ends, row = [x[0] - 0.5, x[-1] + 0.5], means.loc[group]
        ax.fill_between(ends, row["low"], row["high"], color="#56B4E9", alpha=0.35, linewidth=0, zorder=1)
        ax.plot(ends, [row["difference"]] * 2, "--", color="0.2", linewidth=1, zorder=2, label=f"_mean {group}")
        if group == HIGH:
            ax.axvspan(*ends, color="0.94", zorder=0, linewidth=0)
        interval = "" if pd.isna(row["low"]) else f" [{row['low']:+.3f}, {row['high']:+.3f}]"
        words = f"{group}: mean {row['difference']:+.3f}{interval}".replace("-0", "\N{MINUS SIGN}0")
        style = {"transform": ax.get_xaxis_transform(), "color": GREY, "fontsize": 7, "va": "top"}
        ax.text(ends[0] + 0.1, 0.985, words, **style)
