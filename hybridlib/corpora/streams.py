"""A saved corpus as streams of tables: to write a part of it, or several as one, without holding their texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybridlib.corpora.base import ParallelPairs
from hybridlib.corpora.writer import write_pairs

CHUNK = 50_000  # rows of a table at a time


def combine(corpora: Sequence[ParallelPairs], folder: Path, *, name: str | None = None) -> ParallelPairs:
    """Write several corpora as one; sources stay as they are, ids get the corpus's name in front.

    Args:
        name: of the whole; default the names with a plus between them.

    Raises:
        ValueError: there is none, or two have the same name.
    """
    double = [corpus for corpus, n in Counter(corpus.name for corpus in corpora).items() if n > 1]
    if double or not corpora:
        raise ValueError(f"corpora: {f'two are named {double[0]!r}' if double else 'none given'}; give each one once")
    parts = [streams(corpus, prefix=f"{corpus.name}/") for corpus in corpora]
    joined = {part: chain(*(some[part] for some in parts)) for part in ("queries", "passages", "pairs")}
    return write_pairs(folder, name=name or "+".join(corpus.name for corpus in corpora), **joined)


def part_of(corpus: ParallelPairs, folder: Path, *, queries: np.ndarray, passages: np.ndarray) -> ParallelPairs:
    """Write the pairs whose query and passage stay; what goes is taken out of the lists of negatives too.

    Args:
        queries, passages: of each row of the tables whether it stays, bool.

    Raises:
        ValueError: no pair stays.
    """
    if not np.any(queries[corpus.query_rows] & passages[corpus.passage_rows]):
        raise ValueError(f"{corpus.name}: no pair is left of {len(corpus)}")
    return write_pairs(folder, name=corpus.name, **streams(corpus, queries=queries, passages=passages))


def streams(
    corpus: ParallelPairs, *, queries: np.ndarray | None = None, passages: np.ndarray | None = None, prefix: str = ""
) -> dict[str, Iterator[pa.Table]]:
    """Tables of queries, passages and pairs as `write_pairs` takes them; of the rows that stay (None: all)."""
    queries = np.ones(len(corpus.queries), dtype=bool) if queries is None else queries
    passages = np.ones(len(corpus.passages), dtype=bool) if passages is None else passages
    return {
        "queries": _texts(corpus.queries.drop_columns(["positives"]), "query_id", queries, prefix),
        "passages": _texts(corpus.passages, "passage_id", passages, prefix),
        "pairs": _pairs(corpus, queries, passages, prefix),
    }


def _texts(table: pa.Table, key: str, stays: np.ndarray, prefix: str) -> Iterator[pa.Table]:
    for start in range(0, len(table), CHUNK):
        some = table.slice(start, CHUNK).filter(pa.array(stays[start : start + CHUNK]))
        if len(some):
            yield some.set_column(some.schema.get_field_index(key), key, _with_prefix(some[key], prefix))


def _pairs(corpus: ParallelPairs, queries: np.ndarray, passages: np.ndarray, prefix: str) -> Iterator[pa.Table]:
    for start in range(0, len(corpus), CHUNK):
        query, passage = (rows[start : start + CHUNK] for rows in (corpus.query_rows, corpus.passage_rows))
        stays = queries[query] & passages[passage]
        if not stays.any():
            continue
        some = corpus.pairs.slice(start, CHUNK).filter(pa.array(stays))
        yield pa.table(
            {
                "query_id": _with_prefix(corpus.queries["query_id"].take(query[stays]), prefix),
                "passage_id": _with_prefix(corpus.passages["passage_id"].take(passage[stays]), prefix),
                "negatives": _negatives(corpus, some["negatives"].combine_chunks(), passages, prefix),
                "source": some["source"].cast(pa.string()),
            }
        )


def _negatives(corpus: ParallelPairs, lists: pa.ListArray, passages: np.ndarray, prefix: str) -> pa.ListArray:
    rows = lists.flatten().to_numpy()
    owner = np.repeat(np.arange(len(lists)), pc.fill_null(pc.list_value_length(lists), 0).to_numpy())
    stays = passages[rows]
    lengths = np.bincount(owner[stays], minlength=len(lists))
    names = _with_prefix(corpus.passages["passage_id"].take(rows[stays]), prefix)
    return pa.ListArray.from_arrays(np.r_[0, np.cumsum(lengths)].astype(np.int32), names.combine_chunks())


def _with_prefix(names: pa.ChunkedArray, prefix: str) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(prefix, names, "") if prefix else names
