"""From rows (one value per query and setting) to the frames that tables and figures show.

Every average says over what: a macro mean is the mean over languages (or language pairs) of the means over queries.
Intervals are 95 % cluster bootstrap intervals over the queries of all seeds together; seeds are shown apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from hybridlib import statistics

SUBSETS = ("all", "trained", "zero-shot")
SETTINGS = ("mono", "cross", "multi")
BY = ["strategy", "alpha"]
PAIRS = (("hybrid", "x-x-mono"), ("hybrid", "x-y"))
SCRIPTS = {"ar": "Arab", "el": "Grek", "hi": "Deva", "ru": "Cyrl", "th": "Thai", "zh": "Hans"}  # else Latin


def subset(rows: pd.DataFrame, name: str, trained: Sequence[str]) -> pd.DataFrame:
    """Rows of "all" languages, of "trained" ones (query and candidate) or "zero-shot" (at least one was not trained).

    For multi, whose candidates are in all languages, the query's language decides.

    Raises:
        ValueError: no such subset.
    """
    if name not in SUBSETS:
        raise ValueError(f"subset must be one of {', '.join(SUBSETS)}, not {name!r}")
    if name == "all":
        return rows
    inside = rows["query_lang"].isin(trained) & rows["candidate_lang"].isin([*trained, "all"])
    return rows[inside] if name == "trained" else rows[~inside]


def settings_of(rows: pd.DataFrame, measures: Iterable[str]) -> Iterable[tuple[str, str, pd.DataFrame]]:
    """(setting, measure, rows) of each combination that exists: rank distance is there for multi only."""
    for setting in SETTINGS:
        part = rows[rows["setting"] == setting]
        for measure in measures:
            if len(part) and part[measure].notna().any():
                yield setting, measure, part


def summary(
    rows: pd.DataFrame, trained: Sequence[str], *, measures: Sequence[str] = ("map", "rank_distance"), seed: int = 0
) -> pd.DataFrame:
    """Macro mean, 95 % interval and spread over seeds of each strategy, setting, measure and subset.

    Returns:
        strategy, alpha, setting, measure, subset, mean, low, high, sd (over seeds, NaN for one), n_seeds, n_queries.
    """
    lines = []
    for (strategy, alpha), own in rows.groupby(BY, observed=True, dropna=False):
        for name in SUBSETS:
            for setting, measure, part in settings_of(subset(own, name, trained), measures):
                interval = statistics.bootstrap_interval(statistics.cluster_sums(part, measure), seed=seed)
                spread = statistics.seed_spread(_seed_means(part, measure))
                lines.append((strategy, alpha, setting, measure, name, *interval, spread.sd, spread.n, len(part)))
    columns = [*BY, "setting", "measure", "subset", "mean", "low", "high", "sd", "n_seeds", "n_queries"]
    return pd.DataFrame(lines, columns=columns)


def by_seed(
    rows: pd.DataFrame, trained: Sequence[str], *, measures: Sequence[str] = ("map", "rank_distance")
) -> pd.DataFrame:
    """Macro mean of every single seed: strategy, alpha, setting, measure, subset, seed, value."""
    lines = []
    for (strategy, alpha), own in rows.groupby(BY, observed=True, dropna=False):
        for name in SUBSETS:
            for setting, measure, part in settings_of(subset(own, name, trained), measures):
                for seed, value in _seed_means(part, measure).items():
                    lines.append((strategy, alpha, setting, measure, name, seed, value))
    return pd.DataFrame(lines, columns=[*BY, "setting", "measure", "subset", "seed", "value"])


def by_language(rows: pd.DataFrame, measure: str = "map", *, group: str = "query_lang", seed: int = 0) -> pd.DataFrame:
    """Mean and interval per strategy, setting and language.

    Args:
        group: "query_lang": "cross of ar" are queries in ar against each other language. "candidate_lang" turns it
            round (not for multi). The paper does not say which it means.

    Returns:
        strategy, setting, measure, the group's column, mean, low, high, n_queries.
    """
    if group not in ("query_lang", "candidate_lang"):
        raise ValueError(f"group must be 'query_lang' or 'candidate_lang', not {group!r}")
    lines = []
    for keys, part in rows.groupby(["strategy", "setting", group], observed=True):
        if part[measure].notna().any():
            interval = statistics.bootstrap_interval(statistics.cluster_sums(part, measure), seed=seed)
            lines.append((*keys, measure, *interval, len(part)))
    columns = ["strategy", "setting", group, "measure", "mean", "low", "high", "n_queries"]
    return pd.DataFrame(lines, columns=columns)


def compare(
    rows: pd.DataFrame,
    trained: Sequence[str],
    *,
    pairs: Sequence[tuple[str, str]] = PAIRS,
    measures: Sequence[str] = ("map", "rank_distance"),
    subsets: Sequence[str] = ("all",),
    seed: int = 0,
) -> pd.DataFrame:
    """Paired randomisation tests between strategies, corrected by Holm over all tests of the returned frame.

    Returns:
        setting, measure, subset, a, b, difference (a - b), low, high, p, seed_min and seed_max (the differences of
        single seeds), p_holm.
    """
    lines = []
    for name in subsets:
        for setting, measure, part in settings_of(subset(rows, name, trained), measures):
            for pair in pairs:
                both = [part[part["strategy"] == strategy] for strategy in pair]
                sums = [statistics.cluster_sums(one, measure) for one in both]
                gaps = _seed_means(both[0], measure) - _seed_means(both[1], measure)
                test = statistics.paired_test(*sums, seed=seed)
                lines.append((setting, measure, name, *pair, *test, gaps.min(), gaps.max()))
    frame = pd.DataFrame(
        lines,
        columns=["setting", "measure", "subset", "a", "b", "difference", "low", "high", "p", "seed_min", "seed_max"],
    )
    return frame.assign(p_holm=statistics.holm(frame["p"]))


def wins(rows: pd.DataFrame, a: str, b: str, setting: str, measure: str = "map", *, seed: int = 0) -> pd.DataFrame:
    """Wins, ties and losses of strategy a over b in each language (or pair) of a setting; see `statistics`."""
    part = rows[rows["setting"] == setting]
    sums = [statistics.cluster_sums(part[part["strategy"] == s], measure) for s in (a, b)]
    return statistics.wins_ties_losses(*sums, lower_is_better=measure == "rank_distance", seed=seed)


def first_ranked(ranks: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Who is ranked first by whom: per strategy a query language x candidate language matrix, rows adding up to 1.

    An entry is the share of queries whose best-ranked relevant candidate, in the pool of all languages, is in that
    language. Without bias every entry would be 1 / number of languages. Seeds are averaged.
    """
    keys = ["strategy", "alpha", "seed", "query_id"]
    first = ranks.loc[ranks.groupby(keys, observed=True, dropna=False)["rank_in_pool"].idxmin()]
    first = first.astype({"query_lang": str, "candidate_lang": str})
    languages = sorted(first["query_lang"].unique())
    matrices = {}
    for strategy, part in first.groupby("strategy", observed=True):
        shares = pd.crosstab(part["query_lang"], part["candidate_lang"], normalize="index")
        matrices[str(strategy)] = shares.reindex(columns=languages, fill_value=0.0)  # some may never be first
    return matrices


def by_script(rows: pd.DataFrame, measure: str = "map", *, seed: int = 0) -> pd.DataFrame:
    """Cross-lingual quality by whether query and candidate share a script: strategy, group, mean, low, high."""
    part = rows[rows["setting"] == "cross"]
    query, candidate = (_script(part[column]) for column in ("query_lang", "candidate_lang"))
    part = part.assign(group=np.where(query == candidate, "same script", "different script"))
    lines = []
    for (strategy, group), own in part.groupby(["strategy", "group"], observed=True):
        interval = statistics.bootstrap_interval(statistics.cluster_sums(own, measure), seed=seed)
        lines.append((strategy, group, *interval))
    return pd.DataFrame(lines, columns=["strategy", "group", "mean", "low", "high"])


def _script(languages: pd.Series) -> pd.Series:
    return languages.astype(str).map(lambda lang: SCRIPTS.get(lang, "Latn"))


def _seed_means(part: pd.DataFrame, measure: str) -> pd.Series:
    """Macro mean of each seed, indexed by seed."""
    cells = part.groupby(["seed", "query_lang", "candidate_lang"], observed=True)[measure].mean()
    return cells.groupby("seed").mean()
