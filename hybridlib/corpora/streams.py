"""A part of a saved corpus, written from streams of its tables without holding their texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybridlib.corpora.base import ParallelPairs
from hybridlib.corpora.writer import write_pairs

CHUNK = 50_000  # rows of a table at a time


def part_of(corpus: ParallelPairs, folder: Path, *, queries: np.ndarray, passages: np.ndarray) -> ParallelPairs:
    """Write the pairs whose query and passage stay; what goes is taken out of the lists of negatives too.

    Args:
        queries, passages: of each row of the tables whether it stays, bool.

    Raises:
        ValueError: no pair stays.
    """
    if not np.any(queries[corpus.query_rows] & passages[corpus.passage_rows]):
        raise ValueError(f"{corpus.name}: no pair is left of {len(corpus)}")
    return write_pairs(
        folder,
        name=corpus.name,
        queries=_texts(corpus.queries.drop_columns(["positives"]), queries),
        passages=_texts(corpus.passages, passages),
        pairs=_pairs(corpus, queries, passages),
    )


def _texts(table: pa.Table, stays: np.ndarray) -> Iterator[pa.Table]:
    for start in range(0, len(table), CHUNK):
        some = table.slice(start, CHUNK).filter(pa.array(stays[start : start + CHUNK]))
        if len(some):
            yield some


def _pairs(corpus: ParallelPairs, queries: np.ndarray, passages: np.ndarray) -> Iterator[pa.Table]:
    for start in range(0, len(corpus), CHUNK):
        query, passage = (rows[start : start + CHUNK] for rows in (corpus.query_rows, corpus.passage_rows))
        stays = queries[query] & passages[passage]
        if not stays.any():
            continue
        some = corpus.pairs.slice(start, CHUNK).filter(pa.array(stays))
        yield pa.table(
            {
                "query_id": corpus.queries["query_id"].take(query[stays]),
                "passage_id": corpus.passages["passage_id"].take(passage[stays]),
                "negatives": _negatives(corpus, some["negatives"].combine_chunks(), passages),
                "source": some["source"].cast(pa.string()),
            }
        )


def _negatives(corpus: ParallelPairs, lists: pa.ListArray, passages: np.ndarray) -> pa.ListArray:
    rows = lists.flatten().to_numpy()
    owner = np.repeat(np.arange(len(lists)), pc.fill_null(pc.list_value_length(lists), 0).to_numpy())
    stays = passages[rows]
    lengths = np.bincount(owner[stays], minlength=len(lists))
    names = corpus.passages["passage_id"].take(rows[stays])
    return pa.ListArray.from_arrays(np.r_[0, np.cumsum(lengths)].astype(np.int32), names.combine_chunks())
