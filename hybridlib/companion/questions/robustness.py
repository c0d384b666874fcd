"""How even is a retriever over languages, and what does noise in the queries cost it?

Rows are those of `Study.search_rows`. Intervals are 95 % cluster bootstrap intervals over the queries of all seeds
together; what is compared is measured on the same resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybridlib import statistics
from hybridlib.companion.questions.noise import CLEAN
from hybridlib.companion.questions.shared import CONTRAST
from hybridlib.companion.report.claims import MEASURES
from hybridlib.companion.report.drawing import INTERVAL, LOOKS, captioned, marks, new_figure, require, strategies
from hybridlib.companion.report.summaries import PAIRS

LOW_RESOURCE = ("bn", "sw", "te")  # of TyDi QA's languages those with the smallest corpora in Table 11
Function = Callable[[np.ndarray], np.ndarray]  # of cell means (N, cells), NaN where there is none, to (N,)

MEAN, WORST, SPREAD = "mean", "worst language", "largest - smallest"
OVER_LANGUAGES: dict[str, Function] = {
    MEAN: lambda means: np.nanmean(means, axis=1),
    WORST: lambda means: np.nanmin(means, axis=1),
    SPREAD: lambda means: np.nanmax(means, axis=1) - np.nanmin(means, axis=1),
}
QUERY = ["strategy", "seed", "query_lang", "pool", "query_id"]
KINDS = {"typos": "typos: swapped, dropped, doubled letters", "letters": "letters: others of the same script"}


def groups(languages: Sequence[str]) -> dict[str, list[str]]:
    """The languages, all together and in two groups: group -> languages; a group that has none is not there."""
    low = [lang for lang in languages if lang in LOW_RESOURCE]
    parts = {"low-resource": low, "other": [lang for lang in languages if lang not in low], "all": list(languages)}
    return {name: inside for name, inside in parts.items() if inside and (low or name == "all")}


def by_group(frame: pd.DataFrame, function: Callable[..., pd.DataFrame], *arguments: str) -> pd.DataFrame:
    """What a function of this module gives for the languages of each of `groups`, with the column group."""
    parts = [
        function(frame[frame["query_lang"].isin(inside)], *arguments).assign(group=group)
        for group, inside in groups(sorted(set(frame["query_lang"]))).items()
    ]
    return pd.concat(parts, ignore_index=True)


# ---- even over languages


def over_languages(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Mean, worst language and spread between languages of each strategy; one language has no spread.

    Returns:
        strategy, statistic, value, low, high, lowest (the worst language), languages (their number).
    """
    lines = []
    for strategy, part in rows.groupby("strategy", observed=True):
        sums = statistics.cluster_sums(part, measure, cell="query_lang")
        (lowest,) = statistics.cell_means(sums).idxmin()
        for name in _statistics(part):
            interval = statistics.interval_of(sums, OVER_LANGUAGES[name])
            lines.append((strategy, name, *interval, lowest, len(sums.cells)))
    return pd.DataFrame(lines, columns=["strategy", "statistic", "value", "low", "high", "lowest", "languages"])


def compare_over_languages(rows: pd.DataFrame, measure: str, pairs: Sequence[tuple[str, str]] = PAIRS) -> pd.DataFrame:
    """The statistics over languages of strategy a minus those of b, for the pairs whose rows are there.

    Returns:
        statistic and CONTRAST; seed_min, seed_max: the differences of single seeds.
    """
    lines = [
        (name, *pair, *_contrast(both, measure, pair, OVER_LANGUAGES[name]))
        for pair, both in _present(rows, pairs)
        for name in _statistics(both)
    ]
    return pd.DataFrame(lines, columns=["statistic", *CONTRAST])


# ---- noise


def drops(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """What each noisy query loses.

    Args:
        rows: of `noise.split`.

    Returns:
        A row per noisy query: QUERY, setting, cluster, variant, kind, rate, clean and noisy (the measure), drop (clean
        minus noisy).

    Raises:
        ValueError: clean and noisy rows are not of the same queries.
    """
    texts = [column for column in QUERY if column != "seed"]
    rows = rows[[*QUERY, "setting", "cluster", "variant", "kind", "rate", measure]].astype(dict.fromkeys(texts, str))
    clean = rows[rows["variant"] == CLEAN].set_index(QUERY)[measure].rename("clean")
    noisy = rows[rows["variant"] != CLEAN].rename(columns={measure: "noisy"})
    paired = noisy.join(clean, on=QUERY, how="inner", validate="many_to_one")
    variants = noisy["variant"].nunique()
    if not len(paired) == len(noisy) == variants * len(clean):
        raise ValueError(f"{len(clean)} clean rows, {len(noisy)} of {variants} variants: search the same queries")
    return paired.assign(drop=paired["clean"] - paired["noisy"]).reset_index(drop=True)


def lost(drops: pd.DataFrame) -> pd.DataFrame:
    """What noise costs each strategy, as macro means over languages.

    Returns:
        strategy, kind, rate, clean, noisy, drop and share (of clean that is lost), each followed by its interval, such
        as clean_low and clean_high.
    """
    lines = []
    for keys, part in drops.groupby(["strategy", "kind", "rate"], observed=True):
        sums = {name: statistics.cluster_sums(part, name, cell="query_lang") for name in ("clean", "noisy", "drop")}
        intervals = {name: statistics.bootstrap_interval(column) for name, column in sums.items()}
        both = statistics.cluster_sums(_stacked(part), "value", cell=["part", "query_lang"])
        intervals["share"] = statistics.interval_of(both, _share)
        lines.append((*keys, *(number for interval in intervals.values() for number in interval)))
    names = [name + end for name in ("clean", "noisy", "drop", "share") for end in ("", "_low", "_high")]
    return pd.DataFrame(lines, columns=["strategy", "kind", "rate", *names])


def compare_shares(drops: pd.DataFrame, pairs: Sequence[tuple[str, str]] = PAIRS) -> pd.DataFrame:
    """The share of its clean macro mean that strategy a loses minus that of b: kind, rate and CONTRAST."""
    lines = [
        (*keys, *pair, *_contrast(_stacked(both), "value", pair, _share))
        for keys, part in drops.groupby(["kind", "rate"], observed=True)
        for pair, both in _present(part, pairs)
    ]
    return pd.DataFrame(lines, columns=["kind", "rate", *CONTRAST])


def _statistics(rows: pd.DataFrame) -> list[str]:
    return list(OVER_LANGUAGES) if rows["query_lang"].nunique() > 1 else [MEAN]


def _present(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The pairs whose rows are there, with them."""
    present = set(rows["strategy"])
    return [(pair, rows[rows["strategy"].isin(pair)]) for pair in pairs if set(pair) <= present]


def _contrast(
    rows: pd.DataFrame, value: str, pair: tuple[str, str], function: Function
) -> tuple[float, float, float, float, float]:
    """A function of a's cell means minus that of b's: difference, low, high, least and largest of single seeds."""
    cell = ["side", *(["part"] if "part" in rows else []), "query_lang"]
    rows = rows.assign(side=rows["strategy"].astype(str).map({pair[0]: 0, pair[1]: 1}))  # a's cells come first

    def gap(means: np.ndarray) -> np.ndarray:
        a, b = np.split(means, 2, axis=1)
        return function(a) - function(b)

    interval = statistics.interval_of(statistics.cluster_sums(rows, value, cell=cell), gap)
    seeds = [statistics.cluster_sums(part, value, cell=cell) for _, part in rows.groupby("seed")]
    gaps = [float(gap(statistics.cell_means(sums).to_numpy()[None])[0]) for sums in seeds]
    return *interval, min(gaps), max(gaps)


def _stacked(drops: pd.DataFrame) -> pd.DataFrame:
    """The clean and the noisy values of `drops` below each other, as part and value."""
    keys = ["strategy", "seed", "query_lang", "cluster"]
    return drops.melt(keys, ["clean", "noisy"], var_name="part", value_name="value")


def _share(means: np.ndarray) -> np.ndarray:
    """The share of the clean macro mean that is lost; the cells are first the clean, then the noisy ones."""
    clean, noisy = (np.nanmean(half, axis=1) for half in np.split(means, 2, axis=1))
    return 1 - np.divide(noisy, clean, out=np.full(len(means), np.nan), where=clean > 0)


# ---- figure


@captioned(f"Marker: macro mean over the languages of the group, moved a little apart. {INTERVAL}")
def noise_rates(losses: pd.DataFrame, *, measure: str) -> Figure:
    """Draw a measure of each strategy against the share of letters hit: a column per kind of noise, a row per group.

    Bars are the intervals of the frame. All panels share their scales.

    Args:
        losses: of `lost`, with a column group; what is clean stands at rate 0.
    """
    require(losses, "losses", ["group", "kind", "strategy", "rate", "clean", "noisy", "noisy_low", "noisy_high"])
    names, kinds = list(dict.fromkeys(losses["group"])), [kind for kind in KINDS if kind in set(losses["kind"])]
    figure, axes = new_figure(len(names), len(kinds), 0.6 + 1.75 * len(names), sharex=True, sharey=True)
    for line, group in zip(axes, names, strict=True):
        for ax, kind in zip(line, kinds, strict=True):
            _curves(ax, losses[(losses["group"] == group) & (losses["kind"] == kind)], losses["rate"].max())
            ax.set_title(f"{group}\n{KINDS[kind]}")
        line[0].set_ylabel(MEASURES.get(measure, measure))
    for ax in axes[-1]:
        rates = [0.0, *sorted(losses["rate"].unique())]
        ax.set_xticks(rates, [f"{100 * rate:g} %" for rate in rates])
        ax.set_xlabel("share of letters hit")
    axes[0][0].legend(loc="lower left")
    return figure


def _curves(ax: Axes, losses: pd.DataFrame, widest: float) -> None:
    """Draw a line per strategy, moved a little apart so that no bar hides another."""
    names = strategies(losses)
    for i, name in enumerate(names):
        part = losses[losses["strategy"] == name].sort_values("rate")
        means = {"mean": "noisy", "low": "noisy_low", "high": "noisy_high"}
        noisy = part[list(means.values())].set_axis(list(means), axis=1)
        clean = part[["clean", "clean_low", "clean_high"]].set_axis(list(means), axis=1)[:1]
        rows, shift = pd.concat([clean, noisy]), (i - (len(names) - 1) / 2) * 0.008 * widest
        places = np.array([0.0, *part["rate"]]) + shift
        ax.plot(places, rows["mean"], color=LOOKS[name].color, linewidth=1.2, label=f"_curve {LOOKS[name].label}")
        marks(ax, rows, places, LOOKS[name], upright=True)
