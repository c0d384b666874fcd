"""Small test collections that several tests make, the files they are published in, and an exact search over one."""

from __future__ import annotations

import gzip
import io
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


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


def exact_search(collection, queries: np.ndarray, passages: np.ndarray, k: int) -> SimpleNamespace:
    """Best k rows by inner product of vectors (Q, D) and (N, D), equal scores by id descending; one query at a time."""
    ids = collection.passages.ids(0, len(collection.passages))
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
    return SimpleNamespace(rows=rows, scores=scores)
