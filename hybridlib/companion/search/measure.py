"""A test collection searched and measured: one row per query, means per language, TREC files.

A search gives each query its best k passages (`Hits`). A relevant passage that is not among them counts as not found,
as in trec_eval. So a measure with a cutoff of k or less is exact; any other is that of the list cut at k, a lower bound
of the full ranking's (`Retrieval.exact` says which), and again what trec_eval gives for the run file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from hybridlib import metrics
from hybridlib.companion.search import trec
from hybridlib.companion.search.collection import Collection
from hybridlib.companion.search.search import search
from hybridlib.companion.search.topk import Hits as HitsWithIds
from hybridlib.encoder import Encoder
from hybridlib.files import replace_file, write_json
from hybridlib.training.processes import all_processes

MEASURES = ("ndcg@10", "recall@100", "mrr@10", "map", "precision@1", "precision@10", "recall@10")
KEYS = ["collection", "query_id", "lang", "cluster"]
MACRO = "macro"  # the row of means over languages


class Hits(Protocol):
    """What a search finds: for each of Q queries its best k passages, best first, equal scores by id descending.

    rows: (Q, k) int64, row of the passage, -1 where there is none (only at the end). scores: (Q, k) float32.
    """

    rows: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True, eq=False)
class Retrieval:
    """A search, measured.

    Attributes:
        collection: name of the collection.
        languages: of its queries.
        depth: k, passages that each query was given.
        passages: number of passages searched.
        rows: a row per query with something relevant: collection, query_id, lang, cluster, then a column per measure.
            The cluster, what statistics resample, is the query: "<collection>:<query_id>", since the same id in two
            collections (MIRACL's languages) is not the same question.
        excluded: queries left out because no judgement of theirs is relevant, per language; zeros are not listed.
        exact: of each measure whether the full ranking would give the same.
    """

    collection: str
    languages: tuple[str, ...]
    depth: int
    passages: int
    rows: pd.DataFrame
    excluded: dict[str, int]
    exact: dict[str, bool]

    def means(self) -> pd.DataFrame:
        """Mean over queries in each language, and over the languages in a last row where there are several.

        Returns:
            lang (MACRO in the last row), queries, excluded, and a column per measure. A language whose queries are all
            excluded has NaN and is left out of the last row.
        """
        measures = list(self.exact)
        table = self.rows.groupby("lang")[measures].mean().reindex(list(self.languages))
        counts = self.rows.groupby("lang").size().reindex(table.index, fill_value=0)
        table.insert(0, "queries", counts)
        table.insert(1, "excluded", [self.excluded.get(lang, 0) for lang in table.index])
        table = table.reset_index()
        if len(table) > 1:
            last = {**table[["queries", "excluded"]].sum(), **table[measures].mean(), "lang": MACRO}
            table = pd.concat([table, pd.DataFrame([last])], ignore_index=True)[table.columns]
        return table

    def save(self, folder: Path) -> None:
        """Write rows.parquet and retrieval.json (all but the rows), each whole or not at all."""
        with replace_file(Path(folder) / "rows.parquet") as new:
            self.rows.to_parquet(new)
        write_json(Path(folder) / "retrieval.json", {k: v for k, v in vars(self).items() if k != "rows"})


def search_collection(
    collection: Collection,
    encoder: Encoder,
    depth: int,
    folder: Path,
    *,
    shards: Path,
    measures: Sequence[str] = MEASURES,
    **options,
) -> Retrieval:
    """Search a collection, measure what is found, and write rows.parquet, retrieval.json, run.gz and qrels.gz.

    Under `accelerate launch` or torchrun every process calls it, and the main process writes.

    Args:
        depth: passages that each query is given.
        folder: where the files lie.
        shards: where `search` keeps what it has finished.
        options: of `search`.

    Raises:
        ValueError, OSError: as `search`, or a measure is unknown.
    """
    metrics.check(measures)
    if depth < 1:
        raise ValueError(f"depth is {depth}: give at least 1")
    texts = collection.queries["text"].to_pylist()
    hits = search(collection.passages, encoder, texts, depth + (collection.own is not None), shards, **options)
    hits = without_own(collection, hits) if collection.own else hits
    result = measure(collection, hits, measures)
    if all_processes(encoder.device).is_main_process:
        result.save(folder)
        write_run(collection, hits, folder / "run.gz")
        write_qrels(collection, folder / "qrels.gz")
    return result


def without_own(collection: Collection, hits: HitsWithIds) -> HitsWithIds:
    """The hits without the passage that is the query itself (`Collection.own`), in one place less."""
    own = hits.ids == np.array(collection.own, dtype=object)[:, None]
    others_first = np.argsort(own, axis=1, kind="stable")
    order = others_first[:, :-1]  # what falls off is the own one, else the last
    rows, scores, ids = (np.take_along_axis(x, order, axis=1) for x in (hits.rows, hits.scores, hits.ids))
    return replace(hits, rows=rows, scores=scores, ids=ids)


def measure(collection: Collection, hits: Hits, measures: Sequence[str] = MEASURES) -> Retrieval:
    """Measure what a search found for the collection's queries, in the order of its table `queries`.

    Args:
        measures: names as `metrics.measure` takes them.

    Raises:
        ValueError: the hits do not fit the collection, a passage stands twice for a query, or a measure is unknown.
    """
    metrics.check(measures)
    rows = _checked(collection, hits)
    frame = collection.judgements.to_pandas()
    query = pd.Index(collection.queries["query_id"].to_pylist()).get_indexer(frame["query_id"])
    relevant = np.flatnonzero(frame["gain"].to_numpy() > 0)
    relevant = relevant[np.argsort(query[relevant], kind="stable")]
    rank = _ranks(rows, query[relevant], frame["row"].to_numpy()[relevant], len(collection.passages))
    gain = frame["gain"].to_numpy()[relevant].astype(np.float64)
    ranking = metrics.Ranking(query[relevant], rank, gain, len(collection.queries))
    table = collection.queries.drop_columns(["text"]).to_pandas()
    table = table.assign(collection=collection.name, cluster=f"{collection.name}:" + table["query_id"])
    table = table.assign(**{name: metrics.measure(name, ranking) for name in measures})
    has = np.bincount(query[relevant], minlength=len(table)) > 0
    excluded = {lang: int(n) for lang, n in table["lang"][~has].value_counts().items()}
    depth, passages = rows.shape[1], len(collection.passages)
    return Retrieval(
        collection.name,
        collection.languages,
        depth,
        passages,
        table[has].reset_index(drop=True)[[*KEYS, *measures]],
        excluded,
        {name: _is_exact(name, depth, passages) for name in measures},
    )


def run_frame(collection: Collection, hits: Hits) -> pd.DataFrame:
    """The hits as a run: query_id, candidate_id, score, best first within a query."""
    rows = _checked(collection, hits)
    query, place = np.nonzero(rows >= 0)
    ids = np.array(collection.queries["query_id"].to_pylist(), dtype=object)
    found = collection.passages.ids_at(rows[query, place])
    return pd.DataFrame({"query_id": ids[query], "candidate_id": found, "score": hits.scores[query, place]})


def write_run(collection: Collection, hits: Hits, path: Path, *, tag: str = "hybridlib") -> None:
    """Write the hits as a TREC run file; trec_eval gives the same numbers for it as `measure`."""
    trec.write_run(path, run_frame(collection, hits), tag=tag)


def write_qrels(collection: Collection, path: Path) -> None:
    """Write the judgements as a TREC qrels file, those of gain 0 too."""
    judgements = collection.judgements.select(["query_id", "doc_id", "gain"])
    trec.write_qrels(path, judgements.rename_columns(["query_id", "candidate_id", "gain"]).to_pandas())


def _checked(collection: Collection, hits: Hits) -> np.ndarray:
    """The rows of the hits, if they can be of this collection."""
    if collection.passages is None:
        raise ValueError(f"{collection.name}: it was loaded without passages; load it with them")
    rows, scores = np.asarray(hits.rows), np.asarray(hits.scores)
    wanted = (len(collection.queries), rows.shape[-1])
    if rows.shape != wanted or scores.shape != wanted:
        raise ValueError(f"{collection.name}: hits of shape {rows.shape} for {wanted[0]} queries; search its queries")
    if rows.size and not -1 <= rows.min() <= rows.max() < len(collection.passages):
        raise ValueError(f"{collection.name}: a hit lies outside the {len(collection.passages)} passages")
    found = rows >= 0
    if (found[:, 1:] > found[:, :-1]).any():
        raise ValueError(f"{collection.name}: a hit stands behind a place without one; -1 belongs at the end")
    falling = scores[:, 1:] <= scores[:, :-1]
    if not (falling[found[:, 1:]].all() and np.isfinite(scores[found]).all()):
        raise ValueError(
            f"{collection.name}: a query's scores do not fall, or one is not finite; order the hits by score"
        )
    return rows


def _ranks(rows: np.ndarray, query: np.ndarray, row: np.ndarray, passages: int) -> np.ndarray:
    """Rank of each judged passage among its query's hits, np.inf where it is not there; (M,) float64."""
    of, place = np.nonzero(rows >= 0)
    keys = of * np.int64(passages) + rows[of, place]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    if (keys[1:] == keys[:-1]).any():
        raise ValueError("a passage stands twice among the hits of a query; keep the better one")
    wanted = query * np.int64(passages) + row
    at = np.searchsorted(keys, wanted)
    found = np.zeros(len(wanted), dtype=bool)
    inside = at < len(keys)
    found[inside] = keys[at[inside]] == wanted[inside]
    rank = np.full(len(wanted), np.inf)
    rank[found] = place[order[at[found]]] + 1
    return rank


def _is_exact(name: str, depth: int, passages: int) -> bool:
    _, at, cutoff = name.partition("@")
    return depth >= passages or bool(at and int(cutoff) <= depth)
