"""The Arrow tables of a corpus: checked, their ids replaced by rows, their pairs sorted into groups, mapped from files.

Errors are ValueErrors that begin with the name of the corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?")
WINDOW = 65_536  # texts that are Python objects at the same time
ID_PART = 2_000_000  # ids that are in a table to look them up at the same time


@dataclass(frozen=True)
class PairGroup:
    """Consecutive pairs, rows [start, stop), of one source whose texts exist in the same languages."""

    source: str
    query_languages: tuple[str, ...]
    passage_languages: tuple[str, ...]
    start: int
    stop: int


# ---- checks

NO_PAIR = "there is no pair; give at least one row with query_id, passage_id and source"
PAIRS_SCHEMA = pa.schema(
    {"query_id": pa.string(), "passage_id": pa.string(), "negatives": pa.list_(pa.string()), "source": pa.string()}
)


def checked_texts(table: pa.Table, key: str, name: str) -> pa.Table:
    """Ids and texts as strings, the languages sorted; refuses null ids, empty texts and columns of no language."""
    _check_columns(table, (key,), name)
    columns = [key, *sorted(language_columns(table, key))]
    table = table.select(columns).cast(pa.schema([(column, pa.string()) for column in columns]))
    if nulls := table[key].null_count:
        raise ValueError(f"{name}: {key} is null in {nulls} rows; give every row an id")
    for lang in columns[1:]:
        empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(table[lang])), 0)
        if pc.any(empty).as_py():
            culprit = table[key].filter(empty)[0].as_py()
            raise ValueError(f"{name}: {key} {culprit!r} has an empty text in {lang!r}; leave it out (null) instead")
    return table


def checked_pairs(table: pa.Table, name: str) -> pa.Table:
    """Pairs with the columns of PAIRS_SCHEMA, `negatives` null where they are not given; refuses null sources."""
    _check_columns(table, ("query_id", "passage_id", "source"), name)
    if "negatives" not in table.column_names:
        table = table.append_column("negatives", pa.nulls(len(table), pa.list_(pa.string())))
    if nulls := table["source"].null_count:
        raise ValueError(f"{name}: source is null in {nulls} pairs; name their data set")
    return table.select(PAIRS_SCHEMA.names).cast(PAIRS_SCHEMA)


def language_columns(table: pa.Table, key: str) -> list[str]:
    """The columns beside `key`, each a language code; ValueError names one that is not."""
    columns = [column for column in table.column_names if column != key]
    wrong = [column for column in columns if not LANGUAGE.fullmatch(column)]
    if wrong:
        raise ValueError(f"column {wrong[0]!r} beside {key} is no language code; name text columns 'en', 'de', ...")
    return columns


def check_unique(column: pa.ChunkedArray, what: str) -> None:
    """Refuse ids that are null or occur twice."""
    if column.null_count:
        raise ValueError(f"{what} is null in {column.null_count} rows; give every row an id")
    double = repeated(column)
    if len(double):
        raise ValueError(f"{what} {double[0].as_py()!r} occurs more than once; ids must be unique")


def _check_columns(table: pa.Table, columns: Sequence[str], name: str) -> None:
    if not isinstance(table, pa.Table):
        raise TypeError(f"{name}: a stream gives {type(table).__name__}, not tables; put a single table in a list")
    for column in columns:
        if column not in table.column_names:
            raise ValueError(f"{name}: a table lacks the column {column}; it has {', '.join(table.column_names)}")


def repeated(column: pa.ChunkedArray) -> pa.Array:
    """The values that occur more than once, nulls aside.

    Of each value a hash of 8 bytes is held, not the value; only values whose hashes are equal are compared.
    """
    hashes = np.concatenate([np.empty(0, np.uint64), *_hashes(column)])
    order = np.argsort(hashes)
    equal = hashes[order[1:]] == hashes[order[:-1]]
    suspect = np.zeros(len(hashes), dtype=bool)
    suspect[order[1:][equal]] = suspect[order[:-1][equal]] = True
    values, counts = pc.value_counts(column.filter(pa.array(suspect)).drop_null()).flatten()
    return values.filter(pc.greater(counts, 1))


def _hashes(column: pa.ChunkedArray) -> Iterator[np.ndarray]:
    for chunk in column.chunks:
        for start in range(0, len(chunk), WINDOW):
            values = chunk.slice(start, WINDOW).to_numpy(zero_copy_only=False)
            yield pd.util.hash_array(values.astype(object), categorize=False)


def count_repeats(table: pa.Table, languages: Sequence[str]) -> int:
    """Number of texts that stand in more than one row of a language, summed over the languages."""
    return sum(len(repeated(table[lang])) for lang in languages if lang in table.column_names)


# ---- ids to rows, pairs to groups


def with_rows(pairs: pa.Table, query_ids: pa.ChunkedArray, passage_ids: pa.ChunkedArray, name: str) -> pa.Table:
    """Pairs with rows in the place of ids: query, passage, negatives (null is an empty list), source."""
    lists = pairs["negatives"].combine_chunks()
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    negatives = pa.chunked_array([lists.flatten()])
    unknown = f"{name}: pairs name the unknown passage_id", f"{name}: negatives name the unknown passage_id"
    passage, negatives = known_rows([pairs["passage_id"], negatives], passage_ids, unknown)
    (query,) = known_rows([pairs["query_id"]], query_ids, [f"{name}: pairs name the unknown query_id"])
    columns = {
        "query": query,
        "passage": passage,
        "negatives": pa.ListArray.from_arrays(np.r_[0, np.cumsum(lengths)].astype(np.int32), negatives),
        "source": pairs["source"].combine_chunks().dictionary_encode(),
    }
    return pa.table(columns)


def known_rows(columns: Sequence[pa.ChunkedArray], ids: pa.ChunkedArray, unknown: Sequence[str]) -> list[pa.Array]:
    """Rows, int64, of the values of each column among the ids; ValueError, begun as told, names a value not among them.

    All columns are looked up at once, in parts of the ids: the table of millions of ids takes seconds and much memory.
    """
    values = pa.chunked_array([chunk for column in columns for chunk in column.chunks], pa.string())
    rows = pa.chunked_array([pa.nulls(len(values), pa.int64())])
    for start in range(0, len(ids), ID_PART):
        places = pc.index_in(values, value_set=ids.slice(start, ID_PART).combine_chunks())
        rows = pc.coalesce(rows, pc.add(places.cast(pa.int64()), start))
    parts, start = [], 0
    for column, message in zip(columns, unknown, strict=True):
        part = rows.slice(start, len(column))
        if part.null_count:
            raise ValueError(f"{message} {column.filter(pc.is_null(part))[0].as_py()!r}")
        parts.append(part.combine_chunks())
        start += len(column)
    return parts


def positive_keys(pairs: pa.Table, n_passages: int) -> np.ndarray:
    """query row · n_passages + passage row of each different pair, ascending, int64."""
    return distinct(pairs["query"].to_numpy() * n_passages + pairs["passage"].to_numpy())


def distinct(numbers: np.ndarray) -> np.ndarray:
    """The different numbers, ascending (numpy's `unique` is ten times slower on millions)."""
    numbers = np.sort(numbers)
    return numbers[np.diff(numbers, prepend=-1) != 0]


def positive_lists(keys: np.ndarray, n_queries: int, n_passages: int) -> pa.ListArray:
    """The passage rows of each query, from the keys of `positive_keys`."""
    offsets = np.searchsorted(keys, np.arange(n_queries + 1) * n_passages)
    return pa.ListArray.from_arrays(offsets.astype(np.int32), pa.array(keys % n_passages))


def text_languages(table: pa.Table, languages: Sequence[str], name: str) -> np.ndarray:
    """In which languages each row has a text: bit i of its number is set for languages[i], (rows,) int64."""
    if len(languages) > 63:
        raise ValueError(f"{name}: {len(languages)} languages are more than the 63 of a corpus; write several corpora")
    bits = np.zeros(len(table), dtype=np.int64)
    for i, lang in enumerate(languages):
        if lang in table.column_names:
            bits |= table[lang].is_valid().to_numpy().astype(np.int64) << i
    return bits


def grouped(
    pairs: pa.Table, query_bits: np.ndarray, passage_bits: np.ndarray, languages: Sequence[str]
) -> tuple[pa.Table, list[PairGroup]]:
    """Pairs sorted by source (in the order they first occur), languages of the query, languages of the passage.

    Args:
        query_bits, passage_bits: of each query and passage what `text_languages` gives.
    """
    source = pairs["source"].chunk(0)
    query, passage = pairs["query"].to_numpy(), pairs["passage"].to_numpy()
    keys = np.stack([passage_bits[passage], query_bits[query], source.indices.to_numpy()])
    order = np.lexsort(keys)
    pairs, keys = pairs.take(order).combine_chunks(), keys[:, order]
    starts = np.flatnonzero(np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)])
    stops = np.r_[starts[1:], len(pairs)].tolist()

    def of_bits(bits: int) -> tuple[str, ...]:
        return tuple(lang for i, lang in enumerate(languages) if bits >> i & 1)

    names = source.dictionary.to_pylist()
    groups = [
        PairGroup(names[keys[2, start]], of_bits(keys[1, start]), of_bits(keys[0, start]), start, stop)
        for start, stop in zip(starts.tolist(), stops, strict=True)
    ]
    return pairs, groups


# ---- files


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as an Arrow file."""
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def mapped(path: Path) -> pa.Table:
    """The table of an Arrow file, memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
