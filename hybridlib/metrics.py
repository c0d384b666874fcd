"""Retrieval measures: one value per query, vectorised over all queries.

Every function takes a `Ranking` and returns an array (n_queries,) of float64. Ranks start at 1. A query without a
relevant candidate gets NaN, never 0: the caller leaves the query out and counts it. Averages are made by `statistics`.

The numbers agree with trec_eval's for the same ranks (https://github.com/usnistgov/trec_eval); trec_eval itself
prints 0 for a query that has judgements but no relevant candidate.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

MEASURES = ("map", "map@20", "recall@1", "recall@10", "precision@1", "precision@10", "ndcg@10", "mrr")
KNOWN_FORMS = "map, map@K, mrr, mrr@K, ndcg, ndcg@K, recall@K, precision@K (K a whole number from 1)"

_NAME = re.compile(r"(map|mrr|ndcg|recall|precision)(?:@([1-9][0-9]*))?")


@dataclass(frozen=True, eq=False)
class Ranking:
    """The ranks of the relevant candidates of each query: one entry per relevant candidate.

    Attributes:
        query: (M,) integers in [0, n_queries), sorted.
        rank: (M,) float64; the first rank is 1, and np.inf means relevant but not retrieved. The finite ranks of a
            query are all different.
        gain: (M,) float64 > 0.
        n_queries: number of queries, including queries without an entry.
        relevance_level: entries with a smaller gain are not relevant for the binary measures; nDCG still counts them
            (as trec_eval -l does). The default makes every entry relevant.

    Raises:
        ValueError: one of these does not hold.
    """

    query: np.ndarray
    rank: np.ndarray
    gain: np.ndarray
    n_queries: int
    relevance_level: float = 0.0

    def __post_init__(self) -> None:
        if not self.query.shape == self.rank.shape == self.gain.shape == (len(self.query),):
            raise ValueError("Ranking: query, rank and gain must be one-dimensional and equally long")
        _check_queries(self.query, self.n_queries, "Ranking")
        if np.any(np.diff(self.query) < 0):
            raise ValueError("Ranking: query must be sorted; reorder all three arrays by it")
        _check_ranks(self.query, self.rank)
        if not np.all(self.gain > 0):
            raise ValueError("Ranking: gain must be above 0; leave out what is not relevant")

    def relevant(self) -> tuple[np.ndarray, np.ndarray]:
        """(query, rank) of the entries that count as relevant, sorted by query, then by rank."""
        keep = self.gain >= self.relevance_level
        query, rank = self.query[keep], self.rank[keep]
        order = np.lexsort((rank, query))
        return query[order], rank[order]


def average_precision(ranking: Ranking, cutoff: int | None = None) -> np.ndarray:
    """Average precision (AP): sum of the precisions at the ranks of the relevant, divided by the number of relevant.

    Its mean over queries is mAP. cutoff: candidates ranked below it count as not retrieved (AP@20 in XTREME-R's
    LAReQA).
    Usual confusion: the denominator is the number of ALL relevant candidates, as in trec_eval's map and map_cut_k.
    Others divide by the number of relevant candidates retrieved, or by min(k, relevant), which gives larger values.
    Source: Buckley and Voorhees 2005, Retrieval System Evaluation, in: TREC, MIT Press, chapter 3.
    """
    query, rank = ranking.relevant()
    retrieved = rank <= _limit(cutoff)
    precision_at_rank = np.where(retrieved, _position(query, ranking.n_queries) / rank, 0.0)
    return _per_relevant(query, precision_at_rank, ranking.n_queries)


def recall(ranking: Ranking, cutoff: int) -> np.ndarray:
    """Recall at k (R@k): number of relevant in the first k ranks, divided by the number of ALL relevant.

    Usual confusion: success at k (or hit rate) is 1 if at least one relevant candidate is in the first k ranks. Some
    retrieval papers call it recall; both agree where a query has one relevant candidate.
    Source: trec_eval, recall_k.
    """
    query, rank = ranking.relevant()
    return _per_relevant(query, rank <= _limit(cutoff, "recall"), ranking.n_queries)


def precision(ranking: Ranking, cutoff: int) -> np.ndarray:
    """Precision at k (P@k): number of relevant in the first k ranks, divided by k.

    Usual confusion: the denominator is k even where fewer than k were retrieved or are relevant, so a query with r < k
    relevant candidates cannot exceed r / k. Source: trec_eval, P_k.
    """
    limit = _limit(cutoff, "precision")
    query, rank = ranking.relevant()
    hits = _sum(query, rank <= limit, ranking.n_queries)
    return np.where(_count(query, ranking.n_queries) > 0, hits / limit, np.nan)


def reciprocal_rank(ranking: Ranking, cutoff: int | None = None) -> np.ndarray:
    """Reciprocal rank (RR): 1 / rank of the first relevant candidate, 0 if none is within the cutoff.

    Its mean over queries is MRR, mean reciprocal rank. Source: Voorhees 1999, The TREC-8 Question Answering Track
    Report; trec_eval, recip_rank.
    """
    query, rank = ranking.relevant()
    best = np.full(ranking.n_queries, np.inf)
    np.minimum.at(best, query, rank)
    value = np.where(best <= _limit(cutoff), 1 / best, 0.0)
    return np.where(_count(query, ranking.n_queries) > 0, value, np.nan)


def ndcg(ranking: Ranking, cutoff: int | None = None) -> np.ndarray:
    """Normalised discounted cumulative gain (nDCG), linear gains: sum of gain / log2(1 + rank), over the ideal sum.

    The ideal sum is that of the order which ranks all entries by gain, cut at the same k.
    Usual confusion: gains here are the judgements themselves, as in Järvelin and Kekäläinen 2002
    (doi:10.1145/582415.582418) and trec_eval's ndcg and ndcg_cut_k; others (Burges et al. 2005) use 2^gain - 1. Both
    agree for binary judgements. relevance_level does not apply here.
    """
    limit, n_queries = _limit(cutoff), ranking.n_queries
    by_rank = np.lexsort((ranking.rank, ranking.query))
    by_gain = np.lexsort((-ranking.gain, ranking.query))
    query = ranking.query  # sorted: the same in both orders
    ideal = _discounted(query, _position(query, n_queries), ranking.gain[by_gain], limit, n_queries)
    return _divide(_discounted(query, ranking.rank[by_rank], ranking.gain[by_rank], limit, n_queries), ideal)


def rank_distance(query: np.ndarray, lang: np.ndarray, rank: np.ndarray, n_queries: int) -> np.ndarray:
    """Rank distance (language bias of a query): largest minus smallest of the best ranks in each language.

    query: (M,) integers in [0, n_queries), any order. lang: (M,) language of the relevant candidate. rank: (M,) finite
    rank of the relevant candidate in the pool of all languages. Returns (n_queries,); NaN for fewer than two languages.
    The least value is the number of languages - 1, not 0: different candidates have different ranks.
    Usual confusion: the paper has one relevant passage per language; where a language has several, its
    best-ranked one counts.
    Source: arXiv 2408.10536, language bias (Tables 2, 7, 8). Errors: ValueError for ranks that are not finite.
    """
    _check_queries(query, n_queries, "rank_distance")
    if not np.all(np.isfinite(rank)):
        raise ValueError("rank_distance: every rank must be finite; rank the whole pool, without a cutoff")
    languages, code = np.unique(lang, return_inverse=True)
    best = np.full((n_queries, len(languages)), np.inf)
    np.minimum.at(best, (query, code), rank)
    has = np.isfinite(best)
    spread = best.max(axis=1, where=has, initial=-np.inf) - best.min(axis=1, initial=np.inf)
    return np.where(has.sum(axis=1) >= 2, spread, np.nan)


def measure(name: str, ranking: Ranking) -> np.ndarray:
    """Compute the measure called `name`, (n_queries,). KNOWN_FORMS lists the names; another name is a ValueError."""
    match = _NAME.fullmatch(name)
    if match is None or (match[1] in ("recall", "precision") and match[2] is None):
        raise ValueError(f"unknown measure {name!r}; known: {KNOWN_FORMS}")
    return _FUNCTIONS[match[1]](ranking, int(match[2]) if match[2] else None)


def check(names: Sequence[str]) -> None:
    """Raise ValueError for a name that `measure` does not know; to be called before any work is done."""
    nothing = Ranking(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0), 0)
    for name in names:
        measure(name, nothing)


_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "map": average_precision,
    "mrr": reciprocal_rank,
    "ndcg": ndcg,
    "recall": recall,
    "precision": precision,
}


def _check_queries(query: np.ndarray, n_queries: int, who: str) -> None:
    if len(query) and not (0 <= query.min() and query.max() < n_queries):
        raise ValueError(f"{who}: query must lie in [0, {n_queries})")


def _check_ranks(query: np.ndarray, rank: np.ndarray) -> None:
    if not np.all(rank >= 1):
        raise ValueError("Ranking: rank must be 1 or more (np.inf where not retrieved)")
    order = np.lexsort((rank, query))
    same = (np.diff(query[order]) == 0) & (rank[order][1:] == rank[order][:-1]) & np.isfinite(rank[order][1:])
    if same.any():
        raise ValueError("Ranking: two candidates of one query have the same rank; break ties first")


def _limit(cutoff: int | None, needed_by: str | None = None) -> float:
    """The last rank that counts; ValueError unless cutoff is a whole number from 1 (or None, where allowed)."""
    if cutoff is None and needed_by is None:
        return np.inf
    try:
        limit = operator.index(cutoff)
    except TypeError:
        limit = 0
    if limit < 1:
        raise ValueError(f"cutoff must be a whole number from 1, got {cutoff!r}; known measures: {KNOWN_FORMS}")
    return limit


def _count(query: np.ndarray, n_queries: int) -> np.ndarray:
    return np.bincount(query, minlength=n_queries)


def _sum(query: np.ndarray, values: np.ndarray, n_queries: int) -> np.ndarray:
    return np.bincount(query, weights=values, minlength=n_queries)


def _position(query: np.ndarray, n_queries: int) -> np.ndarray:
    """1, 2, 3, ... within each query of a sorted query array."""
    count = _count(query, n_queries)
    return np.arange(1, len(query) + 1) - (np.cumsum(count) - count)[query]


def _discounted(query: np.ndarray, rank: np.ndarray, gain: np.ndarray, limit: float, n_queries: int) -> np.ndarray:
    return _sum(query, np.where(rank <= limit, gain / np.log2(1 + rank), 0.0), n_queries)


def _per_relevant(query: np.ndarray, values: np.ndarray, n_queries: int) -> np.ndarray:
    return _divide(_sum(query, values, n_queries), _count(query, n_queries))


def _divide(values: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """values / totals, NaN where the total is 0 (a query with nothing relevant)."""
    return np.divide(values, totals, out=np.full(len(values), np.nan), where=totals > 0)
