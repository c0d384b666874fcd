"""From rows (one value per query, setting and pool) to the frames that tables and figures show, and to files.

Every average says over what: a macro mean is the mean over languages (or language pairs) of the means over queries.
Intervals are 95 % cluster bootstrap intervals over the queries of all seeds together; seeds are shown apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hybridlib import statistics
from hybridlib.companion.experiment.runs import commit, device
from hybridlib.companion.search import trec
from hybridlib.corpora.base import Benchmark
from hybridlib.evaluation import KEYS, Evaluation, score_blocks
from hybridlib.files import write_json
from hybridlib.training.card import read_labels

SUBSETS = ("all", "trained", "zero-shot")
SETTINGS = ("mono", "cross", "multi")
BY = ["strategy", "alpha"]
PART = ["setting", "measure", "subset"]
PAPER_KEYS = ["benchmark", "checkpoint", "strategy", "setting", "measure", "language"]  # what names a cell of a table
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
    inside = rows["query_lang"].isin(trained) & rows["pool"].isin([*trained, "all"])
    return rows[inside] if name == "trained" else rows[~inside]


def settings_of(rows: pd.DataFrame, measures: Iterable[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
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
    for keys, own in rows.groupby(BY, observed=True, dropna=False):
        for name in SUBSETS:
            for setting, measure, part in settings_of(subset(own, name, trained), measures):
                interval = statistics.bootstrap_interval(statistics.cluster_sums(part, measure), seed=seed)
                spread = statistics.seed_spread(seed_means(part, measure))
                lines.append((*keys, setting, measure, name, *interval, spread.sd, spread.n, len(part)))
    return pd.DataFrame(lines, columns=[*BY, *PART, "mean", "low", "high", "sd", "n_seeds", "n_queries"])


def by_seed(
    rows: pd.DataFrame, trained: Sequence[str], *, measures: Sequence[str] = ("map", "rank_distance")
) -> pd.DataFrame:
    """Macro mean of every single seed: strategy, alpha, setting, measure, subset, seed, value."""
    keys = [*BY, "setting", "seed"]
    parts = [
        statistics.macro_means(subset(rows, name, trained), measures, by=keys).reset_index().assign(subset=name)
        for name in SUBSETS
    ]
    values = pd.concat(parts).melt([*keys, "subset"], list(measures), var_name="measure").dropna(subset="value")
    return values[[*BY, *PART, "seed", "value"]].reset_index(drop=True)


def seed_means(part: pd.DataFrame, measure: str) -> pd.Series:
    """Macro mean of each seed, indexed by seed."""
    return statistics.macro_means(part, [measure], by=["seed"])[measure]


def by_language(rows: pd.DataFrame, measure: str = "map", *, group: str = "query_lang", seed: int = 0) -> pd.DataFrame:
    """Mean and interval per strategy, setting and language.

    Args:
        group: "query_lang": "cross of ar" are queries in ar against each other language. "pool" turns it round. The
            paper does not say which it means.

    Returns:
        strategy, setting, measure, the group's column, mean, low, high, n_queries.
    """
    if group not in statistics.CELL:
        raise ValueError(f"group must be 'query_lang' or 'pool', not {group!r}")
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
                a, b = (part[part["strategy"] == strategy] for strategy in pair)
                sums = [statistics.cluster_sums(side, measure) for side in (a, b)]
                test = statistics.paired_test(*sums, seed=seed)
                gaps = seed_means(a, measure) - seed_means(b, measure)
                lines.append((setting, measure, name, *pair, *test, gaps.min(), gaps.max()))
    columns = [*PART, "a", "b", "difference", "low", "high", "p", "seed_min", "seed_max"]
    frame = pd.DataFrame(lines, columns=columns)
    return frame.assign(p_holm=statistics.holm(frame["p"]))


def wins(rows: pd.DataFrame, a: str, b: str, setting: str, measure: str = "map", *, seed: int = 0) -> pd.DataFrame:
    """Wins, ties and losses of strategy a over b in each language (or pair) of a setting; see `statistics`."""
    part = rows[rows["setting"] == setting]
    sums = [statistics.cluster_sums(part[part["strategy"] == s], measure) for s in (a, b)]
    return statistics.wins_ties_losses(*sums, lower_is_better=measure == "rank_distance", seed=seed)


def monolingual_share(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the strategies of the curve over alpha and add `monolingual_share`, the share of monolingual batches.

    It is 0 for X-Y and 1 for X-X-mono, whose alpha is NaN, and alpha for hybrid.

    Raises:
        ValueError: no row of these strategies, or a row of hybrid without alpha.
    """
    frame = frame[frame["strategy"].isin(["x-x-mono", "x-y", "hybrid"])]
    ends = frame["strategy"].astype(object).map({"x-x-mono": 1.0, "x-y": 0.0})
    share = ends.fillna(frame["alpha"].astype(float))
    if frame.empty or share.isna().any():
        raise ValueError("the curve over alpha needs rows of x-x-mono, x-y or hybrid, and an alpha in those of hybrid")
    return frame.assign(monolingual_share=share)


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
    query, candidate = (
        part[column].astype(str).map(lambda lang: SCRIPTS.get(lang, "Latn")) for column in statistics.CELL
    )
    part = part.assign(group=np.where(query == candidate, "same script", "different script"))
    lines = []
    for (strategy, group), own in part.groupby(["strategy", "group"], observed=True):
        interval = statistics.bootstrap_interval(statistics.cluster_sums(own, measure), seed=seed)
        lines.append((strategy, group, *interval))
    return pd.DataFrame(lines, columns=["strategy", "group", "mean", "low", "high"])


# ---- an evaluation as numbers and files


def to_json(result: Evaluation) -> dict:
    """All numbers of an evaluation: counts, settings, macro (mean over languages or pairs), rank_distance, excluded."""
    rows, names = result.rows, measures_of(result.rows)
    cells = rows.groupby(["setting", *statistics.CELL], observed=True)[names].mean()
    macro = statistics.macro_means(rows, names, by=["setting"])
    distances = cells.loc["multi", "rank_distance"].droplevel("pool").dropna().to_dict()
    distances["mean"] = float(macro.loc["multi", "rank_distance"]) if distances else None
    settings: dict[str, dict] = {setting: {} for setting in SETTINGS}
    for (setting, query, pool), values in cells.drop(columns="rank_distance").iterrows():
        settings[setting][f"{query}-{pool}" if setting == "cross" else query] = values.to_dict()
    macro = macro.drop(columns="rank_distance")
    return {
        "benchmark": result.benchmark,
        "counts": result.counts,
        "settings": settings,
        "macro": {setting: macro.loc[setting].to_dict() for setting in SETTINGS if setting in macro.index},
        "rank_distance": distances,
        "excluded": result.excluded,
    }


def macro_scores(result: Evaluation) -> dict[str, float]:
    """What goes into a model card: mAP in each setting and the rank distance, means over languages or pairs."""
    numbers = to_json(result)
    scores = {f"map {setting}": values["map"] for setting, values in numbers["macro"].items() if "map" in values}
    distance = numbers["rank_distance"]["mean"]
    return scores | ({} if distance is None else {"rank distance": distance})


def write_rows(result: Evaluation, folder: Path, checkpoint: str) -> None:
    """Write rows.parquet, ranks.parquet, excluded.json and labels.json (what was measured, with what)."""
    result.save(folder)
    trained = read_labels(Path(checkpoint))
    trained.pop("scores", None)
    labels = {"benchmark": result.benchmark, "checkpoint": checkpoint, "device": device(), "evaluated_at": commit()}
    write_json(folder / "labels.json", {**labels, **trained})


def write_trec(
    benchmark: Benchmark,
    queries: torch.Tensor,
    candidates: torch.Tensor,
    *,
    setting: str,
    depth: int,
    run: Path | None,
    qrels: Path | None,
) -> None:
    """Write the run and the judgements of one setting, so that trec_eval can confirm its numbers.

    Args:
        setting: "multi", "mono" or an ordered pair of languages such as "de-en" (query language first).
        depth: candidates per query in the run.

    Raises:
        ValueError: the setting is none of the benchmark's.
    """
    pairs = language_pairs(benchmark, setting)
    if run is not None:
        trec.write_run(run, _run_frame(benchmark, queries, candidates, pairs, depth))
    if qrels is not None:
        judged = benchmark.relevant.to_pandas()
        languages = [judged[column].str.split(":").str[0] for column in ("query_id", "candidate_id")]
        inside = [pair in pairs for pair in zip(*languages, strict=True)]
        trec.write_qrels(qrels, judged[inside])


def language_pairs(benchmark: Benchmark, setting: str) -> set[tuple[str, str]]:
    """(query language, candidate language) pairs of "multi", "mono" or a pair such as "de-en"; else ValueError."""
    every = set(itertools.product(benchmark.languages, repeat=2))
    known = {"multi": every, "mono": {(a, b) for a, b in every if a == b}}
    known |= {f"{a}-{b}": {(a, b)} for a, b in every if a != b}
    if setting not in known:
        raise ValueError(f"{benchmark.name} has no setting {setting!r}; use multi, mono or a pair such as de-en")
    return known[setting]


def _run_frame(
    benchmark: Benchmark, queries: torch.Tensor, candidates: torch.Tensor, pairs: set[tuple[str, str]], depth: int
) -> pd.DataFrame:
    """The best `depth` candidates of each query among those that `pairs` allow: query_id, candidate_id, score."""
    order, blocks = score_blocks(benchmark, queries, candidates)
    ids = np.array(benchmark.candidates["candidate_id"].to_pylist(), dtype=object)[order]
    candidate_lang = np.array(benchmark.candidates["lang"].to_pylist())[order]
    query_ids, query_lang = (benchmark.queries[column].to_pylist() for column in ("query_id", "lang"))
    inside = {a: np.flatnonzero(np.isin(candidate_lang, [b for x, b in pairs if x == a])) for a in benchmark.languages}
    lines = []
    for start, scores in blocks:
        for i, line in enumerate(scores, start=start):
            columns = inside[query_lang[i]]
            best = columns[np.argsort(-line[columns], kind="stable")[:depth]]
            lines.append(pd.DataFrame({"query_id": query_ids[i], "candidate_id": ids[best], "score": line[best]}))
    return pd.concat(lines, ignore_index=True)


def measures_of(rows: pd.DataFrame) -> list[str]:
    """The columns of an evaluation's rows that hold a measure."""
    return [name for name in rows.columns if name not in KEYS]
