"""Queries or passages on their way to disk: texts go there as they come, of an id only a hash stays in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from hybridlib.corpora.base import check_not_empty, language_columns

# Chunks of the files: Arrow's strings take 2 GB a chunk and language, and opening a file reads some MB of each chunk
# ahead, of small ones all, so that a corpus in small chunks would be read whole before the first batch.
CHUNK_ROWS, CHUNK_BYTES = 262_144, 2**27
TEXTS = 16_384  # rows of the pieces that chunks are made of


class TextFile:
    """The queries or the passages of a corpus, written once and then looked up by id; 16 bytes a row in memory.

    Attributes:
        work: folder of the working files.
        name: of the corpus, for messages.
        key: "query_id" or "passage_id".
        languages: codes as they first occur.
        pattern: (rows,) int32, which of `patterns` each row has.
        patterns: sets of languages that rows have, as bits over `languages`.
    """

    def __init__(self, work: Path, name: str, key: str):
        self.work, self.name, self.key = work, name, key
        self.languages: list[str] = []
        self.patterns: dict[int, int] = {}
        self.files: dict[Path, list[str]] = {}  # one for each run of tables with the same columns; these columns

    def __len__(self) -> int:
        return len(self.pattern)

    def read(self, tables: Iterable[pa.Table]) -> None:
        """Take the whole stream."""
        hashes, pattern = [], []
        chunks = _rechunked(map(self._checked, tables))
        for columns, run in groupby(chunks, key=lambda table: table.column_names):
            path = self.work / f"{self.key}{len(self.files)}.arrow"
            self.files[path] = columns
            with pa.ipc.new_file(path, _schema(columns)) as writer:
                for table in run:
                    check_not_empty(table, self.key, self.name)
                    hashes.append(_hashes(table[self.key]))
                    pattern.append(self._patterns(table))
                    writer.write_table(table)
        if not hashes:
            raise ValueError(f"{self.name}: there is no row with a {self.key}; give at least one")
        self.pattern = np.concatenate(pattern)
        del pattern
        hashes = np.concatenate(hashes)  # the pieces go before the sort takes its memory
        self._sort(hashes)

    def _checked(self, table: pa.Table) -> pa.Table:
        """The table with its columns in order and as strings; its languages are noted."""
        check_columns(table, (self.key,), self.name)
        languages = sorted(language_columns(table, self.key))
        self.languages += [lang for lang in languages if lang not in self.languages]
        if len(self.languages) > 63:
            raise ValueError(f"{self.name}: over 63 languages beside {self.key}; write several corpora")
        if nulls := table[self.key].null_count:
            raise ValueError(f"{self.name}: {self.key} is null in {nulls} rows; give every row an id")
        columns = [self.key, *languages]
        return table.select(columns).cast(_schema(columns))

    def _patterns(self, table: pa.Table) -> np.ndarray:
        bits = np.zeros(len(table), dtype=np.int64)
        for lang in table.column_names[1:]:
            bits |= table[lang].is_valid().to_numpy().astype(np.int64) << self.languages.index(lang)
        found, which = np.unique(bits, return_inverse=True)
        return np.array([self.patterns.setdefault(int(b), len(self.patterns)) for b in found], dtype=np.int32)[which]

    def _sort(self, hashes: np.ndarray) -> None:
        order = np.argsort(hashes, kind="stable")
        self.order, self.hashes = order.astype(np.int32), hashes[order]
        double = np.flatnonzero(self.hashes[1:] == self.hashes[:-1])
        if len(double):
            first, second = (self._id(int(row)) for row in self.order[double[0] : double[0] + 2])
            if first != second:  # one corpus in 400,000 of ten million ids
                raise ValueError(f"{self.name}: {self.key} {first!r} and {second!r} have the same hash; rename one")
            raise ValueError(f"{self.name}: {self.key} {first!r} occurs more than once; ids must be unique")

    def _id(self, row: int) -> str:
        for batch in self._batches():
            if row < len(batch):
                return batch[self.key][row].as_py()
            row -= len(batch)
        raise IndexError(row)

    def rows(self, ids: pa.ChunkedArray, what: str) -> np.ndarray:
        """Rows of these ids; ValueError names one that there is not, after `what`. Hashes stand for the ids."""
        if ids.null_count:
            raise ValueError(f"{self.name}: {what} None")
        wanted = _hashes(ids.cast(pa.string()))
        order = np.argsort(wanted)  # neighbours are then looked up one after the other: several times faster
        at = np.minimum(np.searchsorted(self.hashes, wanted[order]), len(self.hashes) - 1)
        wrong = order[self.hashes[at] != wanted[order]]
        if len(wrong):
            raise ValueError(f"{self.name}: {what} {ids[int(wrong.min())].as_py()!r}")
        rows = np.empty(len(ids), dtype=np.int32)
        rows[order] = self.order[at]
        return rows

    def ranked_patterns(self, languages: Sequence[str]) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        """Rank of each pattern in the order of `build`, and the languages of the pattern of each rank."""
        bit = [1 << languages.index(lang) for lang in self.languages]
        values = [sum(b for i, b in enumerate(bit) if pattern >> i & 1) for pattern in self.patterns]
        spoken = [tuple(lang for i, lang in enumerate(languages) if v >> i & 1) for v in sorted(values)]
        return np.argsort(np.argsort(values)), spoken

    def write(self, path: Path, positives: Callable[[int, int], pa.Array] | None = None) -> None:
        """The table as `ParallelPairs` has it, with the column `positives` of rows [start, stop) where it is given.

        Without it, what `read` wrote is the table already if all tables of the stream had the same columns.
        """
        columns = [self.key, *sorted(self.languages)]
        if positives is None and list(self.files.values()) == [columns]:
            next(iter(self.files)).rename(path)
            return
        schema, row = _schema(columns), 0
        schema = schema if positives is None else schema.append(pa.field("positives", pa.list_(pa.int64())))
        with pa.ipc.new_file(path, schema) as writer:
            for batch in self._batches():
                arrays = [batch[c] if c in batch.schema.names else pa.nulls(len(batch), pa.string()) for c in columns]
                arrays += [] if positives is None else [positives(row, row + len(batch))]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
                row += len(batch)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            reader = pa.ipc.open_file(pa.memory_map(str(file)))
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches))


def _schema(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([(column, pa.string()) for column in columns])


def _rechunked(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of one chunk, cut where a chunk has reached CHUNK_ROWS or CHUNK_BYTES."""
    held, rows, size = [], 0, 0
    for table in tables:
        for start in range(0, len(table), TEXTS):
            held.append(table.slice(start, TEXTS))
            rows, size = rows + len(held[-1]), size + held[-1].nbytes
            if rows >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield pa.concat_tables(held, promote_options="default").combine_chunks()
                held, rows, size = [], 0, 0
    if held:
        yield pa.concat_tables(held, promote_options="default").combine_chunks()


def _hashes(ids: pa.ChunkedArray) -> np.ndarray:
    """SipHash of each id, (N,) uint64."""
    return pd.util.hash_array(ids.to_numpy().astype(object), categorize=False)


def check_columns(table: pa.Table, columns: Sequence[str], name: str) -> None:
    """Refuse what is no table (TypeError) or lacks one of these columns (ValueError)."""
    if not isinstance(table, pa.Table):
        raise TypeError(f"{name}: a stream gives {type(table).__name__}, not tables; put a single table in a list")
    for column in columns:
        if column not in table.column_names:
            raise ValueError(f"{name}: a table lacks the column {column}; it has {', '.join(table.column_names)}")
