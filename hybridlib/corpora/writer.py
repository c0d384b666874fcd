"""Corpora larger than memory: streams of Arrow tables into the folder that `ParallelPairs.load` opens memory-mapped.

Texts go to disk as they come. Of each query and passage 16 bytes stay in memory, a 64-bit hash of its id among them.
Pairs are integers in memory-mapped working files, which a counting sort brings into their groups.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybridlib.corpora.base import PairGroup, ParallelPairs, check_replaceable, mapped_tables
from hybridlib.corpora.textfile import TEXTS, TextFile, check_columns
from hybridlib.files import replace_folder

PAIRS = 262_144  # pairs held in memory at once
MAX_PAIRS = 2**31 - 1  # of pairs, and of negatives: what the 32-bit offsets of Arrow's lists reach


def write_pairs(
    folder: Path,
    *,
    name: str,
    queries: Iterable[pa.Table],
    passages: Iterable[pa.Table],
    pairs: Iterable[pa.Table],
) -> ParallelPairs:
    """Write a corpus piece by piece and open it: `ParallelPairs.build` and `save` for more than memory holds.

    The streams are read once, in the order queries, passages, pairs. Each gives tables with the columns that `build`
    takes, of any number of rows; texts are null where a table lacks a language that another one has. The corpus is the
    same, fingerprint included, however the streams are cut. The folder appears complete or not at all and takes the
    place of an older one. While it is written, working files of about 80 bytes a pair (one negative each) and the
    texts of the queries lie beside it.

    Args:
        folder: where the corpus will lie.
        name: name of the corpus.
        queries: query_id and a string column per language.
        passages: passage_id and a string column per language.
        pairs: query_id, passage_id, source, and optionally negatives (lists of passage_ids).

    Raises:
        ValueError: an id is null, occurs twice or is unknown, a text is empty, a column is no language or lacking,
            there is no query, no passage or no pair, there are over two billion pairs or negatives, or the folder holds
            something else than a corpus.
        TypeError: a stream gives something else than tables.
    """
    return _write(folder, name, queries, passages, partial(_resolved, name, pairs))


def concatenate(folder: Path, corpora: Sequence[ParallelPairs], name: str) -> ParallelPairs:
    """Write several corpora into one, in their order, and open it. Memory and folder as for `write_pairs`.

    Ids become "<name of their corpus>/<id>"; sources stay as they are.

    Raises:
        ValueError: there is no corpus, or two have the same name, or the folder holds something else.
    """
    names = [corpus.name for corpus in corpora]
    double = sorted({corpus for corpus in names if names.count(corpus) > 1})
    if double or not corpora:
        culprit = f"two corpora are named {double[0]!r}" if double else "there is no corpus"
        raise ValueError(f"corpora: {culprit}; give corpora with different names")
    queries = (table for corpus in corpora for table in _prefixed(corpus.queries, "query_id", corpus.name))
    passages = (table for corpus in corpora for table in _prefixed(corpus.passages, "passage_id", corpus.name))
    return _write(folder, name, queries, passages, lambda *_: _shifted(corpora))


class _Rows(NamedTuple):
    """P pairs as rows of the tables: query, passage, lengths, source (P,); negatives, `lengths` of each pair."""

    query: np.ndarray
    passage: np.ndarray
    lengths: np.ndarray
    negatives: np.ndarray
    source: pa.Array


def _write(
    folder: Path,
    name: str,
    queries: Iterable[pa.Table],
    passages: Iterable[pa.Table],
    pairs: Callable[[TextFile, TextFile], Iterable[_Rows]],
) -> ParallelPairs:
    check_replaceable(folder)
    with replace_folder(folder) as new, tempfile.TemporaryDirectory(dir=new, prefix="work-") as work:
        sides = (TextFile(Path(work), name, "query_id"), TextFile(Path(work), name, "passage_id"))
        for side, tables in zip(sides, (queries, passages), strict=True):
            side.read(tables)
        sorter = _PairSorter(Path(work), *sides)
        sorter.read(pairs(*sides))
        groups = sorter.write(new / "pairs.arrow")
        sides[0].write(new / "queries.arrow", sorter.positives().array)
        sides[1].write(new / "passages.arrow")
        ParallelPairs(name, _languages(sides), *mapped_tables(new), groups).describe(new)
    return ParallelPairs.load(folder)


def _languages(sides: Sequence[TextFile]) -> tuple[str, ...]:
    return tuple(sorted({lang for side in sides for lang in side.languages}))


# ---- pairs


class _PairSorter:
    """The pairs as they come, in working files, then sorted by source and languages.

    A pair's group is one number, (source * query patterns + query pattern) * passage patterns + passage pattern, whose
    order is that of the groups in `ParallelPairs.build`.
    """

    FILES = {"query": np.int32, "passage": np.int32, "group": np.int64, "lengths": np.int32, "negatives": np.int32}

    def __init__(self, work: Path, queries: TextFile, passages: TextFile):
        self.work, self.queries, self.passages = work, queries, passages
        self.sources: dict[str, int] = {}
        self.counts: dict[int, np.ndarray] = {}  # group -> number of pairs, number of negatives
        languages = _languages((queries, passages))
        self.query_rank, self.query_languages = queries.ranked_patterns(languages)
        self.passage_rank, self.passage_languages = passages.ranked_patterns(languages)

    def read(self, parts: Iterable[_Rows]) -> None:
        """Write the working files."""
        files = {part: open(self.work / part, "wb") for part in self.FILES}
        try:
            for rows in parts:
                columns = {**rows._asdict(), "group": self._groups(rows)}
                for part, dtype in self.FILES.items():
                    files[part].write(columns[part].astype(dtype, copy=False).tobytes())
        finally:
            for file in files.values():
                file.close()
        if not self.counts:
            raise ValueError(
                f"{self.queries.name}: there is no pair; give at least one row with query_id, passage_id and source"
            )
        if max(sum(self.counts.values())) > MAX_PAIRS:
            raise ValueError(f"{self.queries.name}: over {MAX_PAIRS} pairs or negatives; write several corpora")

    def _groups(self, rows: _Rows) -> np.ndarray:
        if nulls := rows.source.null_count:
            raise ValueError(f"{self.queries.name}: source is null in {nulls} pairs; name their data set")
        source = rows.source.dictionary_encode()
        codes = [self.sources.setdefault(s, len(self.sources)) for s in source.dictionary.to_pylist()]
        group = np.array(codes, dtype=np.int64)[source.indices.to_numpy()] * len(self.query_rank)
        group = (group + self.query_rank[self.queries.pattern[rows.query]]) * len(self.passage_rank)
        group += self.passage_rank[self.passages.pattern[rows.passage]]
        found, which = np.unique(group, return_inverse=True)
        counts = np.bincount(which), np.bincount(which, weights=rows.lengths).astype(np.int64)
        for key, *count in zip(found.tolist(), *counts, strict=True):
            self.counts[key] = self.counts.get(key, 0) + np.array(count)
        return group

    def write(self, path: Path) -> tuple[PairGroup, ...]:
        """The table `pairs`, in one chunk, from memory-mapped arrays; gives its groups."""
        keys = np.array(sorted(self.counts))
        counts = np.array([self.counts[key] for key in keys.tolist()])  # (groups, 2)
        ends = np.cumsum(counts, axis=0)
        n, n_negatives = ends[-1].tolist()
        new = {part: _map(self.work / f"sorted {part}", np.int64, n) for part in ("query", "passage")}
        new |= {part: _map(self.work / f"sorted {part}", np.int32, n) for part in ("lengths", "source")}
        new["negatives"] = _map(self.work / "sorted negatives", np.int64, n_negatives)
        self._place(new, keys, ends - counts)
        lists = _Lists.of(new["lengths"], new["negatives"], self.work / "offsets")
        source = pa.DictionaryArray.from_arrays(pa.array(new["source"]), pa.array(list(self.sources), pa.string()))
        columns = {
            "query": pa.array(new["query"]),
            "passage": pa.array(new["passage"]),
            "negatives": lists.array(0, n),
            "source": source,
        }
        table = pa.table(columns)
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
        return tuple(self._group(*args) for args in zip(keys.tolist(), counts[:, 0], ends[:, 0], strict=True))

    def _place(self, new: dict[str, np.ndarray], keys: np.ndarray, at: np.ndarray) -> None:
        """Copy the pairs, in their order, to where their groups lie; `at` is a group's next pair and next negative."""
        old = {part: _map(self.work / part, dtype) for part, dtype in self.FILES.items()}
        seen = 0  # negatives
        for start in range(0, len(old["group"]), PAIRS):
            part = {name: column[start : start + PAIRS] for name, column in old.items() if name != "negatives"}
            lengths = part["lengths"].astype(np.int64)
            order = np.argsort(part["group"], kind="stable")
            found, first, n = np.unique(part["group"][order], return_index=True, return_counts=True)
            places = np.searchsorted(keys, found)
            to = _ranges(at[places, 0], n)
            for name in ("query", "passage", "lengths"):
                new[name][to] = part[name][order]
            new["source"][to] = np.repeat(found // (len(self.query_rank) * len(self.passage_rank)), n)
            n_negatives = np.add.reduceat(lengths[order], first)
            values = old["negatives"][seen : seen + lengths.sum()]
            source = _ranges((np.cumsum(lengths) - lengths)[order], lengths[order])
            new["negatives"][_ranges(at[places, 1], n_negatives)] = values[source]
            at[places] += np.stack([n, n_negatives], axis=1)
            seen += len(values)

    def _group(self, key: int, count: int, stop: int) -> PairGroup:
        rest, passage = divmod(key, len(self.passage_rank))
        source, query = divmod(rest, len(self.query_rank))
        spoken = self.query_languages[query], self.passage_languages[passage]
        return PairGroup(list(self.sources)[source], *spoken, int(stop - count), int(stop))

    def positives(self) -> _Lists:
        """The different passages of each query, ascending."""
        query, passage = (_map(self.work / part, np.int32) for part in ("query", "passage"))
        both = _map(self.work / "both", np.int64, len(query))
        for start in range(0, len(both), PAIRS):
            window = slice(start, start + PAIRS)
            both[window] = query[window].astype(np.int64) * len(self.passages) + passage[window]
        both.sort()
        lengths, last = np.zeros(len(self.queries), dtype=np.int64), -1
        with open(self.work / "positives", "wb") as file:
            for start in range(0, len(both), PAIRS):
                window = both[start : start + PAIRS]
                new = window[np.diff(window, prepend=last) != 0]
                found, counts = np.unique(new // len(self.passages), return_counts=True)
                lengths[found] += counts
                file.write((new % len(self.passages)).tobytes())
                last = window[-1]
        return _Lists.of(lengths, _map(self.work / "positives", np.int64), self.work / "positive offsets")


class _Lists(NamedTuple):
    """Lists of rows, list i being values[offsets[i] : offsets[i + 1]]; int32 and int64, both memory-mapped."""

    offsets: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, lengths: np.ndarray, values: np.ndarray, path: Path) -> _Lists:
        offsets = _map(path, np.int32, len(lengths) + 1)
        np.cumsum(lengths, dtype=np.int32, out=offsets[1:])
        return cls(offsets, values)

    def array(self, start: int, stop: int) -> pa.ListArray:
        """Lists start to stop; nothing is copied."""
        return pa.ListArray.from_arrays(pa.array(self.offsets[start : stop + 1]), pa.array(self.values))


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The integers of [start, start + length) of each range, one after the other."""
    return np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())


def _map(path: Path, dtype: type, size: int | None = None) -> np.ndarray:
    """A file as an array: a new one of `size` zeros, or what it holds."""
    if size == 0 or (size is None and not path.stat().st_size):
        return np.empty(0, dtype)
    return np.asarray(np.memmap(path, dtype, mode="r" if size is None else "w+", shape=size))


def _resolved(name: str, tables: Iterable[pa.Table], queries: TextFile, passages: TextFile) -> Iterator[_Rows]:
    """Ids to rows."""
    for whole in tables:
        check_columns(whole, ("query_id", "passage_id", "source"), name)
        for start in range(0, len(whole), PAIRS):
            table = whole.slice(start, PAIRS)
            query = queries.rows(table["query_id"], "pairs name the unknown query_id")
            passage = passages.rows(table["passage_id"], "pairs name the unknown passage_id")
            lengths, negatives = np.zeros(len(table), np.int32), np.empty(0, np.int32)
            if "negatives" in table.column_names:
                lengths, ids = _list_parts(table["negatives"].cast(pa.list_(pa.string())))
                negatives = passages.rows(pa.chunked_array([ids]), "negatives name the unknown passage_id")
            source = table["source"].cast(pa.string()).combine_chunks()
            yield _Rows(query, passage, lengths, negatives, source)


def _list_parts(lists: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Lengths of the lists, 0 where null, and all their values."""
    whole = lists.combine_chunks()
    return pc.fill_null(pc.list_value_length(whole), 0).to_numpy(zero_copy_only=False), whole.flatten()


# ---- several corpora


def _prefixed(table: pa.Table, key: str, name: str) -> Iterator[pa.Table]:
    table = table.drop_columns(["positives"]) if "positives" in table.column_names else table
    for batch in table.to_batches(max_chunksize=TEXTS):
        ids = pc.binary_join_element_wise(name, batch[key], "/")
        yield pa.Table.from_batches([batch]).set_column(table.column_names.index(key), key, ids)


def _shifted(corpora: Sequence[ParallelPairs]) -> Iterator[_Rows]:
    """Pairs of the corpora as rows of the tables that follow one another."""
    n_queries = n_passages = 0
    for corpus in corpora:
        for start in range(0, len(corpus), PAIRS):
            window = slice(start, start + PAIRS)
            table = corpus.pairs.slice(start, PAIRS)
            lengths, negatives = _list_parts(table["negatives"])
            yield _Rows(
                corpus.query_rows[window] + n_queries,
                corpus.passage_rows[window] + n_passages,
                lengths,
                negatives.to_numpy() + n_passages,
                table["source"].cast(pa.string()).combine_chunks(),
            )
        n_queries, n_passages = n_queries + len(corpus.queries), n_passages + len(corpus.passages)
