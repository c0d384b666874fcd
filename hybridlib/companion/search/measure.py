"""A test collection searched and measured: a row per query, means per language, TREC files.

A search gives each query its best k passages (`Hits`). A relevant passage that is not among them counts as not found,
as in trec_eval. So a measure with a cutoff of k or less is exact; any other is that of the list cut at k, a lower bound
of the full ranking's (`Retrieval.exact` says which), and again what trec_eval gives for the run file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hybridlib import metrics, statistics
from hybridlib.companion.search import trec
from hybridlib.companion.search.collection import Collection, Passages
from hybridlib.companion.search.search import Hits, search
from hybridlib.encoder import Encoder
from hybridlib.files import replace_file, write_json
from hybridlib.training.processes import all_processes

MEASURES = ("ndcg@10", "recall@100", "mrr@10", "map", "precision@1", "precision@10", "recall@10")
KEYS = ["setting", "query_lang", "pool", "query_id", "cluster"]
MACRO = "macro"  # the row of means over languages


@dataclass(frozen=True, eq=False)
class Retrieval:
    """A search, measured.

    Attributes:
        collection: name of the collection.
        languages: of its queries.
        depth: k, passages that each query was given.
        passages: number of passages searched.
        rows: a row per query with something relevant: KEYS, then a column per measure. setting: "mono" where the
            passages are in the query's language, "cross" where they are in one other, "multi" where in several; pool:
            the collection. The cluster, what statistics resample, is the query: "<collection>:<query_id>", since the
            same id in two collections (MIRACL's languages) is not the same question.
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
        """Average over queries in each language, and over the languages in a last row where there are several.

        Returns:
            lang (MACRO in the last row), queries, excluded, and a column per measure. A language whose queries are all
            excluded has NaN and is left out of the last row.
        """
        measures, by_language = list(self.exact), self.rows.groupby("query_lang")
        table = by_language[measures].mean().reindex(pd.Index(self.languages, name="lang"))
        table.insert(0, "queries", by_language.size().reindex(table.index, fill_value=0))
        table.insert(1, "excluded", [self.excluded.get(lang, 0) for lang in table.index])
        if len(table) > 1:
            counts = table[["queries", "excluded"]].sum()
            sums = {name: statistics.cluster_sums(self.rows, name, cell="query_lang") for name in measures}
            table.loc[MACRO] = {**counts, **{name: statistics.macro_mean(part) for name, part in sums.items()}}
        return table.astype({"queries": int, "excluded": int}).reset_index()


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
    """Search a collection, measure the hits, and write rows.parquet, retrieval.json, run.gz and qrels.gz.

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
    queries = collection.queries["text"].to_pylist()
    hits = search(_passages(collection), encoder, queries, depth + (collection.own is not None), shards, **options)
    hits = without_own(collection, hits) if collection.own else hits
    result = measure(collection, hits, measures)
    if all_processes(encoder.device).is_main_process:
        save(folder, collection, hits, result)
    return result


def save(folder: Path, collection: Collection, hits: Hits, result: Retrieval) -> None:
    """Write rows.parquet, retrieval.json (the result without its rows) and the TREC files run.gz and qrels.gz.

    trec_eval gives the same numbers for the TREC files as the rows have; the judgements of gain 0 are among them.
    """
    with replace_file(folder / "rows.parquet") as new:
        result.rows.to_parquet(new)
    write_json(folder / "retrieval.json", {name: value for name, value in vars(result).items() if name != "rows"})
    query, place = np.nonzero(hits.rows >= 0)
    query_ids = collection.queries["query_id"].to_numpy()[query]
    run = {"query_id": query_ids, "candidate_id": hits.ids[query, place], "score": hits.scores[query, place]}
    trec.write_run(folder / "run.gz", pd.DataFrame(run))
    qrels = collection.judgements.to_pandas().rename(columns={"doc_id": "candidate_id"})
    trec.write_qrels(folder / "qrels.gz", qrels)


def without_own(collection: Collection, hits: Hits) -> Hits:
    """Take the passage that is the query itself (`Collection.own`) out of the hits, which get one place less."""
    own = hits.ids == np.array(collection.own, dtype=object)[:, None]
    order = np.argsort(own, axis=1, kind="stable")[:, :-1]  # what falls off is the query itself, else the last hit
    return Hits(*(np.take_along_axis(table, order, axis=1) for table in (hits.rows, hits.scores, hits.ids)))


def measure(collection: Collection, hits: Hits, measures: Sequence[str] = MEASURES) -> Retrieval:
    """Measure the hits of the collection's queries, in the order of its table `queries`.

    Args:
        measures: names as `metrics.measure` takes them.

    Raises:
        ValueError: the hits do not fit the collection, a passage stands twice for a query, or a measure is unknown.
    """
    _check(collection, hits)
    rows, table = hits.rows, collection.queries.drop_columns(["text"]).to_pandas()
    judged = collection.judgements.to_pandas()
    judged = judged[judged["gain"] > 0]
    judged = judged.assign(query=pd.Index(table["query_id"]).get_indexer(judged["query_id"]))
    judged = judged.sort_values("query", kind="stable")
    rank = _ranks(rows, judged)
    gain = judged["gain"].to_numpy(dtype="float64")
    ranking = metrics.Ranking(judged["query"].to_numpy(), rank, gain, len(table))
    same = table["lang"] == collection.passage_lang
    setting = np.where(same, "mono", "cross") if collection.passage_lang else "multi"
    cluster = f"{collection.name}:" + table["query_id"]
    table = table.rename(columns={"lang": "query_lang"}).assign(setting=setting, pool=collection.name, cluster=cluster)
    table = table.assign(**{name: metrics.measure(name, ranking) for name in measures})
    has = table.index.isin(judged["query"])
    depth, passages = rows.shape[1], len(collection.passages)
    return Retrieval(
        collection.name,
        collection.languages,
        depth,
        passages,
        table[has].reset_index(drop=True)[[*KEYS, *measures]],
        {lang: int(n) for lang, n in table["query_lang"][~has].value_counts().items()},
        {name: _is_exact(name, depth, passages) for name in measures},
    )


def _passages(collection: Collection) -> Passages:
    if collection.passages is None:
        raise ValueError(f"{collection.name}: it was loaded without passages; load it with them")
    return collection.passages


def _check(collection: Collection, hits: Hits) -> None:
    """Refuse hits that cannot be of this collection."""
    rows, scores, queries, passages = hits.rows, hits.scores, len(collection.queries), len(_passages(collection))
    if rows.shape != scores.shape or rows.shape != (queries, rows.shape[-1]):
        raise ValueError(f"{collection.name}: hits of shape {rows.shape} for {queries} queries; search its queries")
    filled = rows >= 0
    falling = ~(scores[:, 1:] > scores[:, :-1]) | ~filled[:, 1:]
    for right, reason in (
        ((rows >= -1) & (rows < passages), f"a hit lies outside the {passages} passages"),
        (filled[:, 1:] <= filled[:, :-1], "a hit stands behind a place without one; -1 belongs at the end"),
        (falling, "a query's scores do not fall; order the hits by score"),
        (np.isfinite(scores) | ~filled, "a score is not finite; encode again or score in float32"),
    ):
        if not right.all():
            raise ValueError(f"{collection.name}: {reason}")


def _ranks(rows: np.ndarray, judged: pd.DataFrame) -> np.ndarray:
    """Rank of each judged passage (query, row) among its query's hits, np.inf where it is not there; (M,) float64."""
    query, place = np.nonzero(rows >= 0)
    hits = pd.Series(place + 1.0, pd.MultiIndex.from_arrays([query, rows[query, place]]))
    if hits.index.has_duplicates:
        raise ValueError("a passage stands twice among the hits of a query; keep the better one")
    return hits.reindex(pd.MultiIndex.from_frame(judged[["query", "row"]]), fill_value=np.inf).to_numpy()


def _is_exact(name: str, depth: int, passages: int) -> bool:
    _, at, cutoff = name.partition("@")
    return depth >= passages or bool(at and int(cutoff) <= depth)
