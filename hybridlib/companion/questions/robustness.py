"""How even a retriever is over languages, and what noise in the queries costs it: from rows to tables.

Rows are those of `Study.search_rows`, a language's queries in one collection. Intervals are 95 % cluster bootstrap
intervals over the queries of all seeds together; what is compared is measured on the same resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from hybridlib import statistics
from hybridlib.companion.questions.noise import CLEAN
from hybridlib.companion.report import summaries
from hybridlib.companion.report.summaries import PAIRS

Function = Callable[[np.ndarray], np.ndarray]  # of cell means (N, cells), NaN where there is none, to (N,)

MEAN, WORST, SPREAD, DEVIATION = "mean", "worst language", "largest - smallest", "standard deviation"
OVER_LANGUAGES: dict[str, Function] = {
    MEAN: lambda means: np.nanmean(means, axis=1),
    WORST: lambda means: np.nanmin(means, axis=1),
    SPREAD: lambda means: np.nanmax(means, axis=1) - np.nanmin(means, axis=1),
    DEVIATION: lambda means: np.nanstd(means, axis=1, ddof=1),
}
CONTRAST = ["a", "b", "difference", "low", "high", "seed_min", "seed_max"]
QUERY = ["strategy", "seed", "query_lang", "candidate_lang", "query_id"]


def over_languages(rows: pd.DataFrame, measure: str, *, seed: int = 0) -> pd.DataFrame:
    """Mean, worst language and spread between languages of each strategy; one language has no spread.

    Returns:
        strategy, statistic, mean (its value), low, high, lowest (the worst language), languages (their number).
    """
    lines = []
    for strategy, own in rows.groupby("strategy", observed=True):
        cs = statistics.cluster_sums(own, measure, cell="query_lang")
        (lowest,) = statistics.cell_means(cs).idxmin()
        for name in _statistics(own):
            interval = statistics.interval_of(cs, OVER_LANGUAGES[name], seed=seed)
            lines.append((strategy, name, *interval, lowest, len(cs.cells)))
    return pd.DataFrame(lines, columns=["strategy", "statistic", "mean", "low", "high", "lowest", "languages"])


def compare_over_languages(
    rows: pd.DataFrame, measure: str, pairs: Sequence[tuple[str, str]] = PAIRS, *, seed: int = 0
) -> pd.DataFrame:
    """These statistics of strategy a minus those of b, for the pairs whose rows are there.

    Returns:
        statistic, a, b, difference, low, high, seed_min, seed_max (the differences of single seeds).
    """
    lines = [
        (name, *pair, *_contrast(both, measure, pair, OVER_LANGUAGES[name], seed))
        for pair, both in _there(rows, pairs)
        for name in _statistics(both)
    ]
    return pd.DataFrame(lines, columns=["statistic", *CONTRAST])


def drops(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    """What each noisy query loses.

    Args:
        rows: of `noise.split`.

    Returns:
        A row per noisy query: strategy, seed, query_lang, candidate_lang, query_id, setting, cluster, variant, kind,
        rate, clean and noisy (the measure), drop (clean - noisy).

    Raises:
        ValueError: clean and noisy rows are not of the same queries.
    """
    texts = [column for column in QUERY if column != "seed"]
    rows = rows[[*QUERY, "setting", "cluster", "variant", "kind", "rate", measure]].astype(dict.fromkeys(texts, str))
    clean = rows[rows["variant"] == CLEAN].set_index(QUERY)[measure].rename("clean")
    noisy = rows[rows["variant"] != CLEAN].rename(columns={measure: "noisy"})
    found = noisy.join(clean, on=QUERY, how="inner", validate="many_to_one")
    variants = noisy["variant"].nunique()
    if not len(found) == len(noisy) == variants * len(clean):
        raise ValueError(f"{len(clean)} clean rows, {len(noisy)} of {variants} variants: search the same queries")
    return found.assign(drop=found["clean"] - found["noisy"]).reset_index(drop=True)


def lost(found: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """What noise costs each strategy, as macro means over languages.

    Args:
        found: of `drops`.

    Returns:
        strategy, kind, rate, clean, noisy, noisy_low, noisy_high, drop, low, high, share (of clean that is lost),
        share_low, share_high.
    """
    lines = []
    for keys, own in found.groupby(["strategy", "kind", "rate"], observed=True):
        noisy, drop = (
            statistics.bootstrap_interval(statistics.cluster_sums(own, part), seed=seed) for part in ("noisy", "drop")
        )
        parts = statistics.cluster_sums(_parts(own), "value", cell=["part", "query_lang"])
        share = statistics.interval_of(parts, _share, seed=seed)
        lines.append((*keys, noisy.mean + drop.mean, *noisy, *drop, *share))
    columns = ["strategy", "kind", "rate", "clean", "noisy", "noisy_low", "noisy_high", "drop", "low", "high"]
    return pd.DataFrame(lines, columns=[*columns, "share", "share_low", "share_high"])


def compare_lost(
    found: pd.DataFrame, pairs: Sequence[tuple[str, str]] = PAIRS, *, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Does strategy a lose more than b? Differences of drops, and of the shares of clean that are lost.

    Args:
        found: of `drops`.

    Returns:
        Of the drops kind, rate, a, b, difference, low, high, seed_min, seed_max, p (paired randomisation test on each
        query's drop) and p_holm (over all tests of the frame); of the shares the same without tests.
    """
    drop_lines, share_lines = [], []
    for keys, part in found.groupby(["kind", "rate"], observed=True):
        for pair, both in _there(part, pairs):
            test = summaries.compare(both, (), pairs=[pair], measures=("drop",), seed=seed).iloc[0]
            drop_lines.append((*keys, *test[[*CONTRAST, "p"]]))
            share_lines.append((*keys, *pair, *_contrast(_parts(both), "value", pair, _share, seed)))
    tests = pd.DataFrame(drop_lines, columns=["kind", "rate", *CONTRAST, "p"])
    return tests.assign(p_holm=statistics.holm(tests["p"])), pd.DataFrame(
        share_lines, columns=["kind", "rate", *CONTRAST]
    )


def _statistics(rows: pd.DataFrame) -> list[str]:
    return list(OVER_LANGUAGES) if rows["query_lang"].nunique() > 1 else [MEAN]


def _there(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The pairs whose rows are there, with them."""
    there = set(rows["strategy"])
    return [(pair, rows[rows["strategy"].isin(pair)]) for pair in pairs if set(pair) <= there]


def _contrast(
    rows: pd.DataFrame, value: str, pair: tuple[str, str], function: Function, seed: int
) -> tuple[float, float, float, float, float]:
    """Of a function of one strategy's cell means: difference, low, high, and the least and largest of single seeds."""
    cell = ["strategy", *(["part"] if "part" in rows else []), "query_lang"]
    rows = rows.assign(strategy=rows["strategy"].astype(str).map({pair[0]: 0, pair[1]: 1}))  # a's cells come first

    def gap(means: np.ndarray) -> np.ndarray:
        a, b = np.split(means, 2, axis=1)
        return function(a) - function(b)

    interval = statistics.interval_of(statistics.cluster_sums(rows, value, cell=cell), gap, seed=seed)
    means = [statistics.cell_means(statistics.cluster_sums(own, value, cell=cell)) for _, own in rows.groupby("seed")]
    gaps = [float(gap(one.to_numpy()[None])[0]) for one in means]
    return *interval, min(gaps), max(gaps)


def _parts(found: pd.DataFrame) -> pd.DataFrame:
    """The clean and the noisy values of `drops` below each other, as part and value."""
    keys = ["strategy", "seed", "query_lang", "cluster"]
    return found.melt(keys, ["clean", "noisy"], var_name="part", value_name="value")


def _share(means: np.ndarray) -> np.ndarray:
    """The share of the clean macro mean that is lost; the cells are first the clean, then the noisy ones."""
    clean, noisy = (np.nanmean(half, axis=1) for half in np.split(means, 2, axis=1))
    return 1 - np.divide(noisy, clean, out=np.full(len(means), np.nan), where=clean > 0)
