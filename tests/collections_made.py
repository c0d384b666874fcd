"""What tests of collections share: files as published, an exact search, TREC files read and ranked by other code."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hybridlib.companion.search.search import Hits
from hybridlib.metrics import Ranking


def json_lines(rows: list[dict], *, packed: bool = False) -> bytes:
    """The rows as JSON Lines, gzipped if asked for."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    return gzip.compress(data, mtime=0) if packed else data


def parquet(rows: list[dict]) -> bytes:
    """The rows as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def beir_folder(folder, corpus: bytes, queries: bytes, judgements: str, split: str = "test") -> None:
    """A folder in BEIR's format."""
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_bytes(corpus)
    (folder / "queries.jsonl").write_bytes(queries)
    (folder / "qrels" / f"{split}.tsv").write_text(judgements, encoding="utf-8")


def exact_search(collection, queries: np.ndarray, passages: np.ndarray, k: int) -> Hits:
    """Best k rows by inner product of vectors (Q, D) and (N, D), equal scores by id descending; one query at a time."""
    ids = collection.passages.ids_at(range(len(collection.passages)))
    depth = min(k, len(ids))
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for i, vector in enumerate(queries):
        scored = [
            (float(np.float32(vector @ passage)), doc_id, row)
            for row, (passage, doc_id) in enumerate(zip(passages, ids, strict=True))
        ]
        best = sorted(scored, reverse=True)[:depth]
        rows[i, :depth] = [row for _, _, row in best]
        scores[i, :depth] = [score for score, _, _ in best]
    return Hits(rows, scores, collection.passages.ids_at(rows.ravel()).reshape(rows.shape))


def read_qrels(path: Path) -> pd.DataFrame:
    """query_id, candidate_id and gain of a TREC file, as ir_measures reads it."""
    rows = [(item.query_id, item.doc_id, item.relevance) for item in ir_measures.read_trec_qrels(str(path))]
    return pd.DataFrame(rows, columns=["query_id", "candidate_id", "gain"])


def read_run(path: Path) -> pd.DataFrame:
    """query_id, candidate_id and score of a TREC file; as in trec_eval what follows the tag is ignored."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    columns = [line.split() for line in data.splitlines()]  # bytes split at ASCII blanks only
    rows = [(query.decode(), doc.decode(), float(score)) for query, _, doc, _, score, *_ in columns]
    return pd.DataFrame(rows, columns=["query_id", "candidate_id", "score"])


def rank_run(
    qrels: pd.DataFrame, run: pd.DataFrame, *, relevance_level: int = 1, complete: bool = False
) -> tuple[list[str], Ranking]:
    """The queries, sorted, and their `Ranking` as trec_eval sees a run: by score, then by id, both descending.

    Queries are those in both frames; with complete (trec_eval -c) all of qrels.
    """
    ids = sorted(set(qrels["query_id"]) & (set(qrels["query_id"]) if complete else set(run["query_id"])))
    ranked = run.sort_values(["score", "candidate_id"], ascending=False)
    ranked = ranked.assign(rank=ranked.groupby("query_id").cumcount() + 1.0)
    judged = qrels[(qrels["gain"] > 0) & qrels["query_id"].isin(ids)].merge(
        ranked, "left", ["query_id", "candidate_id"]
    )
    judged = judged.assign(query=judged["query_id"].map({name: i for i, name in enumerate(ids)})).sort_values("query")
    columns = (judged["query"].to_numpy(int), judged["rank"].fillna(np.inf).to_numpy(), judged["gain"].to_numpy(float))
    return ids, Ranking(*columns, len(ids), relevance_level)
