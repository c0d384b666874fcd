"""Do hybrid batches cost high-resource languages: gains on MIRACL against the size of a language's corpus.

The sizes are those of the paper's Table 11; a language is high-resource above their median.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.optimize import isotonic_regression
from scipy.stats import permutation_test, rankdata

from hybridlib import statistics
from hybridlib.companion.questions import shared
from hybridlib.companion.questions.by_language import TABLES, languages_of
from hybridlib.companion.questions.shared import NDCG
from hybridlib.companion.report import paper
from hybridlib.companion.report.claims import CHECKPOINTS, MEASURES, NAMES
from hybridlib.companion.report.drawing import GREY, LOOKS, Look, captioned, marks, new_figure, require
from hybridlib.companion.report.summaries import PAIRS
from hybridlib.statistics import ClusterSums

HIGH, OTHER = "high-resource", "other"
RELATION = ["difference", "low", "high", "p", "rho", "rho_low", "rho_high", "rho_p"]
RELABELLINGS = 20_000  # of languages, for p; all of them where there are no more
GAP = 0.07  # least distance of two languages on the size axis, as a power of ten
UNCLEAR = "0.45"
HALO = [withStroke(linewidth=1.8, foreground="white")]  # so that a line behind a letter does not strike it out


def corpus_sizes() -> pd.Series:
    """Passages of each language's MIRACL corpus as the paper's Table 11 has them: language -> number, largest first."""
    sizes = paper.reported(11, measure="candidates").set_index("language")["value"].astype(int)
    return sizes.sort_values(ascending=False)


def high_resource() -> tuple[str, ...]:
    """Languages above the median of Table 11's corpus sizes."""
    sizes = corpus_sizes()
    return tuple(sizes.index[sizes > sizes.median()])


def groups() -> dict[str, list[str]]:
    """The languages of Table 11 in two groups and all together: group -> languages, the largest corpus first."""
    sizes, high = list(corpus_sizes().index), high_resource()
    return {HIGH: list(high), OTHER: [lang for lang in sizes if lang not in high], "all": sizes}


def compare(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]] = PAIRS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare strategies in nDCG@10 in each language of Table 11, and within each of `groups`.

    Holm's correction is over all tests of a frame.

    Returns:
        Two frames with panel (the two strategies in words) and what `shared.compare` returns: one with language, one
        with group and languages (their number).
    """
    by_language = _compare(rows, {lang: [lang] for lang in corpus_sizes().index}, pairs)
    by_group = _compare(rows, groups(), pairs)
    return by_language.rename(columns={"part": "language"}), by_group.rename(columns={"part": "group"})


def _compare(rows: pd.DataFrame, parts: Mapping[str, list[str]], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    frames = []
    for name, languages in parts.items():
        part = rows[rows["query_lang"].isin(languages)]
        frames.append(shared.compare(part, pairs).assign(part=name, languages=part["query_lang"].nunique()))
    frame = shared.family(frames)
    panels = [f"{NAMES[a]} minus {NAMES[b]}" for a, b in zip(frame["a"], frame["b"], strict=True)]
    return frame.assign(panel=panels)[["panel", "part", "languages", *shared.COMPARISON]]


def between_groups(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]] = PAIRS) -> pd.DataFrame:
    """How differences in nDCG@10 depend on size; no line where a group is empty or there are fewer than 3 languages.

    Returns:
        a, b, RELATION (see `relation`), and seed_min and seed_max of the difference.
    """
    rows, lines = rows[rows["query_lang"].isin(corpus_sizes().index)], []
    by_group = rows["query_lang"].isin(high_resource()).map({True: HIGH, False: OTHER})
    for a, b in pairs:
        if rows["query_lang"].nunique() < 3 or by_group.nunique() < 2 or not {a, b} <= set(rows["strategy"]):
            continue
        sums = [statistics.cluster_sums(rows[rows["strategy"] == name], NDCG, cell="query_lang") for name in (a, b)]
        means = rows.groupby(["strategy", by_group, "seed", "query_lang"], observed=True)[NDCG].mean()
        means = means.groupby(level=[0, 1, 2]).mean()
        seeds = (means[a] - means[b])[HIGH] - (means[a] - means[b])[OTHER]
        found = relation(statistics.difference(*sums))
        lines.append({"a": a, "b": b, **found, "seed_min": seeds.min(), "seed_max": seeds.max()})
    return pd.DataFrame(lines, columns=["a", "b", *RELATION, "seed_min", "seed_max"])


def relation(gaps: ClusterSums) -> dict[str, float]:
    """How differences in languages of both groups, at least 3, depend on the size of their corpus: RELATION.

    difference: mean of the high-resource languages minus mean of the others. rho: Spearman's rank correlation with the
    size. Their intervals resample clusters: they hold for other queries in these languages; rho's leans towards 0,
    since a resample adds noise to the means. p and rho_p are about other languages: the share of the ways to choose as
    many high-resource languages, or to give out the sizes, that give a value as far from 0 (`permutation_test` of
    scipy, all ways or RELABELLINGS of them).
    """
    languages = gaps.cells.get_level_values("query_lang").astype(str)
    inside, sizes = np.isin(languages, high_resource()), corpus_sizes()[languages].rank().to_numpy()
    weights = np.where(inside, 1 / inside.sum(), -1 / (~inside).sum())
    means = statistics.cell_means(gaps).to_numpy()
    difference = statistics.interval_of(gaps, lambda rows: rows @ weights)
    rho = statistics.interval_of(gaps, lambda rows: _rank_correlations(rows, sizes))
    options = {"permutation_type": "pairings", "n_resamples": RELABELLINGS, "alternative": "greater"}
    options |= {"vectorized": True, "rng": 0}
    p = permutation_test((weights,), lambda rows, axis: abs(rows @ means), **options)
    rho_p = permutation_test((means,), lambda rows, axis: abs(_rank_correlations(rows, sizes)), **options)
    return dict(zip(RELATION, (*difference, p.pvalue, *rho, rho_p.pvalue), strict=True))


def _rank_correlations(means: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Correlation of the ranks of rows (..., cells) with `ranks` (cells,), (...,); NaN where a mean is."""
    rows = rankdata(means, axis=-1, nan_policy="propagate")
    rows, ranks = rows - rows.mean(axis=-1, keepdims=True), ranks - ranks.mean()
    with np.errstate(invalid="ignore"):  # all cells alike: there is no correlation
        return rows @ ranks / np.sqrt((rows**2).sum(axis=-1) * (ranks**2).sum())


def printed(base: str, a: str = "hybrid", b: str = "x-x-mono") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Differences of the numbers printed in Table 12 or 13 as `compare` gives them, and their `relation`.

    Printed numbers have no queries: intervals and seeds are NaN.

    Returns:
        Two frames with panel, a, b, difference, low, high: one with language, one with group and RELATION's p, rho and
        rho_p, which hold for the two groups together.
    """
    cells = paper.reported(TABLES[base], measure=NDCG, language=languages_of(TABLES[base]))
    wide = cells.pivot(index="language", columns="strategy", values="value")
    gaps = (wide[a] - wide[b]).sort_index()
    index = pd.MultiIndex.from_frame(gaps.index.to_frame(index=False, name="query_lang"))
    found = relation(ClusterSums(gaps.to_numpy()[None], np.ones((1, len(gaps))), pd.Index([base]), index))
    panel = {
        "panel": f"{CHECKPOINTS[base]}: {NAMES[a]} minus {NAMES[b]}",
        "a": a,
        "b": b,
        "low": np.nan,
        "high": np.nan,
    }
    by_group = pd.Series({group: gaps[gaps.index.isin(inside)].mean() for group, inside in groups().items()})
    by_group = by_group.rename("difference").rename_axis("group").reset_index().assign(**panel)
    by_group = by_group.assign(**{name: found[name] for name in ("p", "rho", "rho_p")})
    return gaps.rename("difference").reset_index().assign(**panel), by_group


# ---- figure


@captioned(
    "Marker: difference of the means over the queries in one language. Bar: 95 % paired bootstrap interval, queries of "
    "all seeds together, not corrected for the number of languages; none: printed numbers. Dots: lowest and highest "
    "seed. Dashed line and band: mean over a group's languages and its interval. Languages of nearly the same size are "
    "moved apart."
)
def gain_by_size(by_language: pd.DataFrame, by_group: pd.DataFrame) -> Figure:
    """Draw the difference in nDCG@10 between two strategies in each language against the size of its corpus.

    High-resource languages stand on a shaded ground. A marker has the colour of the strategy that is ahead; grey: the
    interval holds 0, or there is none. Panels share their scale.

    Args:
        by_language, by_group: of `compare` or `printed`, of one or several panels.
    """
    require(by_language, "by_language", ["panel", "a", "b", "language", "difference", "low", "high"])
    require(by_group, "by_group", ["panel", "group", "difference", "low", "high"])
    panels = list(by_language["panel"].unique())
    figure, axes = new_figure(len(panels), 1, 0.4 + 2.3 * len(panels), sharex=True, sharey=True)
    for ax, panel in zip(axes[:, 0], panels, strict=True):
        part = by_language[by_language["panel"] == panel]
        part = part.assign(passages=part["language"].map(corpus_sizes())).sort_values("passages")
        part = part.assign(x=10 ** _apart(np.log10(part["passages"].to_numpy(dtype=float))))
        _groups(ax, part, by_group[by_group["panel"] == panel].set_index("group"))
        _languages(ax, part)
        ax.set_title(panel)
        ax.set(xscale="log", ylabel=f"difference in {MEASURES[NDCG]}")
        ax.margins(x=0.04, y=0.14)
        ax.grid(axis="x", visible=False)
    low, high = axes[0][0].get_ylim()
    axes[0][0].set_ylim(low, high + 0.12 * (high - low))  # room for the groups' names
    axes[-1][0].set_xlabel("passages of the language's MIRACL corpus (Table 11)")
    return figure


def _languages(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw a bar, a marker in the colour of who is ahead, dots of seeds, and the code above, for each language."""
    a, b = (LOOKS[rows[side].iloc[0]] for side in ("a", "b"))
    ahead = np.select([rows["low"] > 0, rows["high"] < 0], [a.color, b.color], UNCLEAR)
    for color, words in ((a.color, f"{a.label} ahead"), (b.color, f"{b.label} ahead"), (UNCLEAR, "interval holds 0")):
        part = rows[ahead == color]
        dots = part.reindex(columns=["seed_min", "seed_max"])
        seeds = (part["x"] * 10 ** (GAP / 3), dots)  # beside the bar, which would hide them
        marks(ax, part, part["x"], Look(words, color, "o"), value="difference", seeds=seeds, upright=True)
    for row in rows.itertuples():
        top = np.nanmax([row.difference, row.high])
        style = {"textcoords": "offset points", "ha": "center", "va": "bottom", "fontsize": 7}
        ax.annotate(row.language, (row.x, top), (0, 3), **style).set_path_effects(HALO)
    if rows["low"].notna().any():
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0.1, markerscale=0.9)


def _groups(ax: Axes, rows: pd.DataFrame, means: pd.DataFrame) -> None:
    """Draw the line of no difference, and each group's name, mean and interval, high-resource on a shaded ground."""
    ax.axhline(0, color="0.2", linewidth=0.9, label="_zero")
    high = rows["language"].isin(high_resource())
    for group, x in ((HIGH, rows["x"][high]), (OTHER, rows["x"][~high])):
        if x.empty:
            continue
        ends = [x.min() / 10 ** (GAP / 2), x.max() * 10 ** (GAP / 2)]
        row = means.loc[group]
        ax.fill_between(ends, row["low"], row["high"], color="#56B4E9", alpha=0.35, linewidth=0, zorder=1)
        ax.plot(ends, [row["difference"]] * 2, "--", color="0.2", linewidth=1, zorder=2, label=f"_mean {group}")
        if group == HIGH:
            ax.axvspan(*ends, color="0.94", zorder=0, linewidth=0, label="_high-resource")
        interval = "" if pd.isna(row["low"]) else f" [{row['low']:+.3f}, {row['high']:+.3f}]"
        words = f"{group}: mean {row['difference']:+.3f}{interval}".replace("-0", "\N{MINUS SIGN}0")
        style = {"transform": ax.get_xaxis_transform(), "color": GREY, "fontsize": 7, "va": "top"}
        ax.text(ends[0] * 10 ** (GAP / 5), 0.985, words, **style)


def _apart(places: np.ndarray) -> np.ndarray:
    """Move rising numbers as little as possible (least squares), so that neighbours are at least GAP apart."""
    steps = GAP * np.arange(len(places))
    return isotonic_regression(places - steps).x + steps
