"""Evaluate an encoder on a benchmark: one row per query and setting, all settings from one encoding of each text.

Settings (arXiv 2408.10536, section 3): mono, a query against the candidates of its own language; cross, against the
candidates of one other language; multi, against the candidates of all languages. All settings are parts of one score
matrix, which is computed in blocks of queries and never held whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hybridlib import metrics
from hybridlib.corpora.base import Benchmark
from hybridlib.encoder import Encoder
from hybridlib.files import replace_file, write_json

BLOCK = 256  # queries scored at once: 256 x 13,014 scores are 13 MB
KEYS = ["setting", "query_lang", "pool", "query_id", "question_id", "cluster"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of one encoder on one benchmark.

    Attributes:
        benchmark: name of the benchmark.
        languages: its languages.
        counts: queries and candidates per language.
        ranks: a row per query and relevant candidate: query_id, question_id, cluster, query_lang, candidate_id,
            candidate_lang, gain, rank_in_language (among the candidates of that language), rank_in_pool (among all).
        rows: a row per query and setting with a relevant candidate: KEYS, then a column per measure. pool is the pool
            that was searched: a language, or "all" for multi. rank_distance has values for multi only.
        excluded: queries left out of a setting because no candidate in it is relevant (for rank_distance: in fewer than
            two languages): {"cross": {"de-en": 3}, ...}; zeros are left out.
    """

    benchmark: str
    languages: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    ranks: pd.DataFrame
    rows: pd.DataFrame
    excluded: dict[str, dict[str, int]]

    def save(self, folder: Path) -> None:
        """Write rows.parquet, ranks.parquet and excluded.json, each file whole or not at all."""
        for name in ("rows", "ranks"):
            with replace_file(Path(folder) / f"{name}.parquet") as new:
                getattr(self, name).to_parquet(new)
        write_json(Path(folder) / "excluded.json", self.excluded)


def evaluate(
    benchmark: Benchmark, encoder: Encoder, *, measures: Sequence[str] = metrics.MEASURES, **options
) -> Evaluation:
    """Encode every text of the benchmark once, rank and measure.

    Args:
        encoder: the encoder's query_prefix and passage_prefix are put before the texts.
        measures: names as `metrics.measure` takes them; rank_distance is always added.
        options: batch_tokens, dtype and progress, as in `Encoder.encode`.
    """
    return evaluate_vectors(benchmark, *encode_benchmark(benchmark, encoder, **options), measures=measures)


def encode_benchmark(benchmark: Benchmark, encoder: Encoder, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode all queries (Q, D) and candidates (C, D); the options are those of `evaluate`."""
    sides = ((benchmark.queries, encoder.query_prefix), (benchmark.candidates, encoder.passage_prefix))
    return tuple(encoder.encode(table["text"].to_pylist(), prefix=prefix, **options) for table, prefix in sides)


def evaluate_vectors(
    benchmark: Benchmark, queries: torch.Tensor, candidates: torch.Tensor, *, measures: Sequence[str] = metrics.MEASURES
) -> Evaluation:
    """Rank and measure from vectors (Q, D) and (C, D), in the order of the benchmark's queries and candidates."""
    ranks = rank_relevant(benchmark, queries, candidates)
    rows = rows_from_ranks(ranks, measures)
    excluded = _excluded(benchmark, rows)
    return Evaluation(benchmark.name, benchmark.languages, benchmark.counts(), ranks, rows, excluded)


def score_blocks(
    benchmark: Benchmark, queries: torch.Tensor, candidates: torch.Tensor
) -> tuple[np.ndarray, Iterator[tuple[int, np.ndarray]]]:
    """Compute cosine scores in blocks of queries; candidates are sorted by id, descending, as trec_eval breaks ties.

    Returns:
        order: (C,) row of `candidates` that each column of the scores holds.
        blocks: (first query row, scores (block, C) float32) pairs. Candidates with equal vectors have equal scores.

    Raises:
        ValueError: a vector is not finite.
    """
    if not (torch.isfinite(queries).all() and torch.isfinite(candidates).all()):
        raise ValueError(f"{benchmark.name}: a vector is not finite; encode again in float32 or check the weights")
    order = np.argsort(np.array(benchmark.candidates["candidate_id"].to_pylist()))[::-1].copy()
    distinct, column = torch.unique(candidates, dim=0, return_inverse=True)
    column = column[torch.from_numpy(order)]

    def blocks() -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, len(queries), BLOCK):
            # One product per distinct vector, so that equal texts tie exactly in all columns.
            yield start, (queries[start : start + BLOCK] @ distinct.T).index_select(1, column).numpy()

    return order, blocks()


def rank_relevant(benchmark: Benchmark, queries: torch.Tensor, candidates: torch.Tensor) -> pd.DataFrame:
    """Rank each relevant candidate among the candidates of its language and among all; see `Evaluation.ranks`."""
    table = _relevant_frame(benchmark)
    order, blocks = score_blocks(benchmark, queries, candidates)
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order))
    lang_of_column = np.array(benchmark.candidates["lang"].to_pylist())[order]
    # The columns of a language are adjacent: its first column, and one past its last.
    span = {lang: np.flatnonzero(lang_of_column == lang)[[0, -1]] + [0, 1] for lang in benchmark.languages}
    column = position[table["candidate_row"].to_numpy()]
    query_row = table["query_row"].to_numpy()
    candidate_lang = table["candidate_lang"].to_numpy()
    in_language, in_pool = np.empty(len(table)), np.empty(len(table))
    for start, scores in blocks:
        block = np.arange(*np.searchsorted(query_row, [start, start + len(scores)]))
        for lang in np.unique(candidate_lang[block].astype(str)):
            entries = block[candidate_lang[block] == lang]
            rows, first, last = query_row[entries] - start, *span[lang]
            in_pool[entries] = _ranks(scores, rows, column[entries])
            in_language[entries] = _ranks(scores[:, first:last], rows, column[entries] - first)
    ranks = table.drop(columns=["query_row", "candidate_row"])
    return ranks.assign(rank_in_language=in_language.astype(np.int64), rank_in_pool=in_pool.astype(np.int64))


def rows_from_ranks(ranks: pd.DataFrame, measures: Sequence[str] = metrics.MEASURES) -> pd.DataFrame:
    """Compute the measures per query and setting from the ranks of relevant candidates; see `Evaluation.rows`."""
    setting = np.where(ranks["query_lang"] == ranks["candidate_lang"], "mono", "cross")
    single = ranks.assign(setting=setting, pool=ranks["candidate_lang"], rank=ranks["rank_in_language"])
    multi = ranks.assign(setting="multi", pool="all", rank=ranks["rank_in_pool"])
    return pd.concat([_measured(part, measures) for part in (single, multi)], ignore_index=True)


def _relevant_frame(benchmark: Benchmark) -> pd.DataFrame:
    """A row per judgement, with the row numbers of its query and candidate, sorted by query."""
    queries = benchmark.queries.drop_columns(["text"]).to_pandas().rename(columns={"lang": "query_lang"})
    candidates = benchmark.candidates.drop_columns(["text"]).to_pandas().rename(columns={"lang": "candidate_lang"})
    queries["query_row"], candidates["candidate_row"] = np.arange(len(queries)), np.arange(len(candidates))
    table = benchmark.relevant.to_pandas().merge(queries, on="query_id").merge(candidates, on="candidate_id")
    return table.sort_values(["query_row", "candidate_id"], ignore_index=True)


def _ranks(scores: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """1 + number of columns with a higher score + number of earlier columns with an equal score; (entries,) int64."""
    relevant = scores[rows, columns][:, None]
    whole = np.array_equal(rows, np.arange(len(scores)))
    lines = scores if whole else scores[rows]  # copy only if some query has no entry or several
    rank, equal = 1 + np.count_nonzero(lines > relevant, axis=1), lines == relevant
    for i in np.flatnonzero(np.count_nonzero(equal, axis=1) > 1):
        rank[i] += np.count_nonzero(equal[i, : columns[i]])
    return rank


def _measured(frame: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """One row per query and pool with its measures; a pool of one language has no rank distance."""
    group = frame.groupby(KEYS, sort=False, observed=True).ngroup().to_numpy()
    order = np.argsort(group, kind="stable")
    frame, group = frame.iloc[order], group[order]
    n = int(group[-1]) + 1 if len(group) else 0
    rank = frame["rank"].to_numpy(dtype=np.float64)
    ranking = metrics.Ranking(group, rank, frame["gain"].to_numpy(dtype=np.float64), n)
    rows = frame[KEYS].iloc[np.unique(group, return_index=True)[1]].reset_index(drop=True)
    values = {name: metrics.measure(name, ranking) for name in measures}
    values["rank_distance"] = metrics.rank_distance(group, frame["candidate_lang"].to_numpy(), rank, n)
    return pd.concat([rows, pd.DataFrame(values)], axis=1)


def _excluded(benchmark: Benchmark, rows: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Queries without a row, per setting and pool; see `Evaluation.excluded`."""
    present = rows.groupby(["setting", "query_lang", "pool"]).size().to_dict()
    distances = rows[rows["rank_distance"].notna()].groupby("query_lang").size().to_dict()
    excluded: dict[str, dict[str, int]] = {"mono": {}, "cross": {}, "multi": {}, "rank_distance": {}}
    for a, count in benchmark.counts().items():
        for b in benchmark.languages:
            setting, name = ("mono", a) if a == b else ("cross", f"{a}-{b}")
            excluded[setting][name] = count["queries"] - present.get((setting, a, b), 0)
        excluded["multi"][a] = count["queries"] - present.get(("multi", a, "all"), 0)
        excluded["rank_distance"][a] = count["queries"] - distances.get(a, 0)
    return {setting: {name: n for name, n in part.items() if n} for setting, part in excluded.items()}
