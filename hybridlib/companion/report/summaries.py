"""From rows (one value per query, setting and pool) to the frames that tables and figures show, and to files.

Every average says over what: a macro mean is the mean over languages (or language pairs) of the means over queries.
Intervals are 95 % cluster bootstrap intervals over the queries of all seeds together; seeds are shown apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hybridlib import statistics
from hybridlib.companion.experiment.runs import commit, device
from hybridlib.companion.search import trec
from hybridlib.companion.sources.languages import scripts
from hybridlib.corpora.base import Benchmark
from hybridlib.evaluation import KEYS, Evaluation, score_blocks
from hybridlib.files import write_json
from hybridlib.training.card import read_labels

SUBSETS = ("all", "trained", "zero-shot")
SETTINGS = ("mono", "cross", "multi")
BY = ["strategy", "alpha"]
PART = ["setting", "measure", "subset"]
PAPER_KEYS = ["benchmark", "checkpoint", "strategy", "setting", "measure", "language"]  # what names a cell of a table
MEASURES = ("map", "rank_distance")  # of the paper's claims
PAIRS = (("hybrid", "x-x-mono"), ("hybrid", "x-y"))


def subset(rows: pd.DataFrame, name: str, trained: Sequence[str]) -> pd.DataFrame:
    """Rows of "all" languages, of "trained" ones (query and candidate) or "zero-shot" (at least one was not trained).

    For multi, whose candidates are in all languages, the query's language decides. ValueError for another name.
    """
    if name not in SUBSETS:
        raise ValueError(f"subset must be one of {', '.join(SUBSETS)}, not {name!r}")
    if name == "all":
        return rows
    inside = rows["query_lang"].isin(trained) & rows["pool"].isin([*trained, "all"])
    return rows[inside] if name == "trained" else rows[~inside]


def intervals(rows: pd.DataFrame, by: Sequence[str], measures: Sequence[str]) -> pd.DataFrame:
    """Macro mean, 95 % interval and spread over seeds of each measure in each group of rows that has a value of it.

    by: columns that make the groups. Returns `by`, measure, mean, low, high, sd (over seeds, NaN for one), n_seeds,
    n_queries.
    """
    lines = []
    for keys, part in rows.groupby(list(by), observed=True, dropna=False):
        for measure in _measured(part, measures):
            interval = statistics.bootstrap_interval(statistics.cluster_sums(part, measure))
            seeds = seed_means(part, measure)
            lines.append((*keys, measure, *interval, seeds.std(), len(seeds), len(part)))
    return pd.DataFrame(lines, columns=[*by, "measure", "mean", "low", "high", "sd", "n_seeds", "n_queries"])


def _measured(rows: pd.DataFrame, measures: Sequence[str]) -> list[str]:
    """Those measures that have a value: rank distance is there for multi only."""
    return [measure for measure in measures if rows[measure].notna().any()]


def seed_means(part: pd.DataFrame, measure: str) -> pd.Series:
    """Macro mean of each seed, indexed by seed."""
    return statistics.macro_means(part, [measure], by=["seed"])[measure]


def summary(rows: pd.DataFrame, trained: Sequence[str], *, measures: Sequence[str] = MEASURES) -> pd.DataFrame:
    """`intervals` of each strategy, alpha, setting, measure and subset of languages."""
    parts = [intervals(subset(rows, name, trained), [*BY, "setting"], measures).assign(subset=name) for name in SUBSETS]
    frame, order = pd.concat(parts), [*SUBSETS, *SETTINGS]
    keys = [*BY, "subset", "setting"]
    frame = frame.sort_values(keys, key=lambda names: names.map(order.index) if names.name in PART else names)
    return frame[[*BY, *PART, *frame.columns.drop([*BY, *PART])]].reset_index(drop=True)


def by_seed(rows: pd.DataFrame, trained: Sequence[str], *, measures: Sequence[str] = MEASURES) -> pd.DataFrame:
    """Macro mean of every single seed: strategy, alpha, setting, measure, subset, seed, value."""
    keys = [*BY, "setting", "seed"]
    parts = [
        statistics.macro_means(subset(rows, name, trained), measures, by=keys).reset_index().assign(subset=name)
        for name in SUBSETS
    ]
    values = pd.concat(parts).melt([*keys, "subset"], list(measures), var_name="measure").dropna(subset="value")
    return values[[*BY, *PART, "seed", "value"]].reset_index(drop=True)


def by_language(rows: pd.DataFrame, measure: str = "map", *, group: str = "query_lang") -> pd.DataFrame:
    """`intervals` of each strategy, setting and language, without the seeds' columns.

    group: "query_lang": "cross of ar" are queries in ar against each other language; "pool" turns it round. The paper
    does not say which it means. ValueError for another column.
    """
    if group not in statistics.CELL:
        raise ValueError(f"group must be 'query_lang' or 'pool', not {group!r}")
    return intervals(rows, ["strategy", "setting", group], [measure]).drop(columns=["sd", "n_seeds"])


def by_script(rows: pd.DataFrame) -> pd.DataFrame:
    """Cross-lingual mAP by whether query and candidate share a script: strategy, group, mean, low, high."""
    part = rows[rows["setting"] == "cross"]
    query, candidate = (part[column].astype(str).map(scripts) for column in statistics.CELL)
    part = part.assign(group=np.where(query == candidate, "same script", "different script"))
    return intervals(part, ["strategy", "group"], ["map"])[["strategy", "group", "mean", "low", "high"]]


def compare(
    rows: pd.DataFrame,
    trained: Sequence[str],
    *,
    pairs: Sequence[tuple[str, str]] = PAIRS,
    measures: Sequence[str] = MEASURES,
    subsets: Sequence[str] = ("all",),
) -> pd.DataFrame:
    """Paired randomisation tests between strategies, corrected by Holm over all tests of the returned frame.

    Returns setting, measure, subset, a, b, difference (a - b), low, high, p, seed_min and seed_max (the differences of
    single seeds), p_holm.
    """
    lines = []
    for name, setting in itertools.product(subsets, SETTINGS):
        part = subset(rows[rows["setting"] == setting], name, trained)
        for measure, pair in itertools.product(_measured(part, measures), pairs):
            a, b = (part[part["strategy"] == strategy] for strategy in pair)
            sums = [statistics.cluster_sums(side, measure) for side in (a, b)]
            test = statistics.paired_test(*sums)
            gaps = seed_means(a, measure) - seed_means(b, measure)
            lines.append((setting, measure, name, *pair, *test, gaps.min(), gaps.max()))
    columns = [*PART, "a", "b", "difference", "low", "high", "p", "seed_min", "seed_max"]
    frame = pd.DataFrame(lines, columns=columns)
    return frame.assign(p_holm=statistics.holm(frame["p"]))


def wins(rows: pd.DataFrame, a: str, b: str, setting: str, measure: str = "map") -> pd.DataFrame:
    """Wins, ties and losses of strategy a over b in each language (or pair) of a setting; see `statistics`."""
    part = rows[rows["setting"] == setting]
    sums = [statistics.cluster_sums(part[part["strategy"] == s], measure) for s in (a, b)]
    return statistics.wins_ties_losses(*sums, lower_is_better=measure == "rank_distance")


def monolingual_share(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the strategies of the curve over alpha and add `monolingual_share`, the share of monolingual batches.

    It is 0 for X-Y and 1 for X-X-mono, whose alpha is NaN, and alpha for hybrid. ValueError for no row of these
    strategies, or a row of hybrid without alpha.
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


# ---- an evaluation as numbers and files


def macro_table(result: Evaluation, trained: Sequence[str] | None = None) -> pd.DataFrame:
    """Macro means of every measure: a row per subset of languages (only "all" without `trained`) and setting."""
    measures, parts = [name for name in result.rows.columns if name not in KEYS], {}
    for name in ("all",) if trained is None else SUBSETS:
        means = statistics.macro_means(subset(result.rows, name, trained or ()), measures, by=["setting"])
        parts[name] = means.reindex(list(SETTINGS)).dropna(how="all")
    return pd.concat(parts, names=["languages", "setting"])


def to_json(result: Evaluation) -> dict:
    """All numbers of an evaluation: counts, settings, macro (mean over languages or pairs), rank_distance, excluded."""
    macro = macro_table(result).loc["all"]
    cells = result.rows.groupby(["setting", *statistics.CELL], observed=True)[list(macro.columns)].mean()
    distances = cells.loc["multi", "rank_distance"].droplevel("pool").dropna().to_dict()
    distances["mean"] = float(macro.loc["multi", "rank_distance"]) if distances else None
    settings: dict[str, dict] = {setting: {} for setting in SETTINGS}
    for (setting, query, pool), values in cells.drop(columns="rank_distance").iterrows():
        settings[setting][f"{query}-{pool}" if setting == "cross" else query] = values.to_dict()
    return {
        "benchmark": result.benchmark,
        "counts": result.counts,
        "settings": settings,
        "macro": macro.drop(columns="rank_distance").to_dict("index"),
        "rank_distance": distances,
        "excluded": result.excluded,
    }


def macro_scores(result: Evaluation) -> dict[str, float]:
    """What goes into a model card: mAP in each setting and the rank distance, means over languages or pairs."""
    macro = macro_table(result).loc["all"]
    scores = {f"map {setting}": float(mean) for setting, mean in macro["map"].items()} if "map" in macro else {}
    distance = float(macro.loc["multi", "rank_distance"])
    return scores if np.isnan(distance) else scores | {"rank distance": distance}


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
    setting: str,
    depth: int,
    run: Path | None,
    qrels: Path | None,
) -> None:
    """Write the run and the judgements of one setting, so that trec_eval can confirm its numbers.

    setting: as `language_pairs` takes it. depth: candidates per query in the run.
    """
    pairs = language_pairs(benchmark, setting)
    if run is not None:
        trec.write_run(run, _run_frame(benchmark, queries, candidates, pairs, depth))
    if qrels is not None:
        judged = benchmark.relevant.to_pandas()
        languages = [judged[column].str.split(":").str[0] for column in ("query_id", "candidate_id")]
        trec.write_qrels(qrels, judged[[pair in pairs for pair in zip(*languages, strict=True)]])


def language_pairs(benchmark: Benchmark, setting: str) -> set[tuple[str, str]]:
    """(query, candidate) languages of "multi", "mono" or a pair such as "de-en", query first; else ValueError."""
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
    ids, languages = (np.array(benchmark.candidates[name].to_pylist())[order] for name in ("candidate_id", "lang"))
    allowed = {a: np.flatnonzero(np.isin(languages, [b for x, b in pairs if x == a])) for a in benchmark.languages}
    names, lines = benchmark.queries.select(["query_id", "lang"]).to_pylist(), []
    for start, block in blocks:
        for query, scores in zip(names[start : start + len(block)], block, strict=True):
            inside = allowed[query["lang"]]
            best = inside[np.argsort(-scores[inside], kind="stable")[:depth]]
            lines.append(
                pd.DataFrame({"query_id": query["query_id"], "candidate_id": ids[best], "score": scores[best]})
            )
    return pd.concat(lines, ignore_index=True)
