"""Corpora larger than memory: streams of Arrow tables into the folder that `ParallelPairs.load` opens memory-mapped.

Texts go to disk as they come. In memory are the ids, a table to look them up in, and a block of pairs at a time; the
blocks, sorted by source and languages, lie in working files until they are joined group by group.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybridlib.corpora import tables
from hybridlib.corpora.base import PARTS, ParallelPairs, check_replaceable
from hybridlib.corpora.tables import PairGroup
from hybridlib.files import replace_folder

MAX_PAIRS = 2**31 - 1  # and of negatives: what the 32-bit offsets of Arrow's lists reach
BLOCK = 2_000_000  # pairs whose ids are looked up at once: the table of ids is made for each block anew
# Chunks of the texts' files: Arrow's strings take 2 GB a chunk and language, and opening a file reads some MB of each
# chunk ahead, of small ones all, so that a corpus in small chunks would be read whole before the first batch.
CHUNK_ROWS, CHUNK_BYTES = 262_144, 2**27
PIECE = 16_384  # rows of the pieces that chunks and blocks are made of


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
    check_replaceable(folder)
    with replace_folder(folder) as new, tempfile.TemporaryDirectory(dir=new, prefix="work-") as work:
        texts = [_spooled(queries, "query_id", Path(work), name), _spooled(passages, "passage_id", Path(work), name)]
        languages = sorted({lang for table in texts for lang in table.column_names[1:]})
        writer = _PairWriter(Path(work), name, languages, *texts)
        for block in _recut((tables.checked_pairs(table, name) for table in pairs), BLOCK):
            writer.add(block)
        groups = writer.write(new / "pairs.arrow")
        tables.write_table(new / "queries.arrow", texts[0].append_column("positives", writer.positives()))
        _move_or_write(texts[1], Path(work), new / "passages.arrow")
        parts = [tables.mapped(new / f"{part}.arrow") for part in PARTS]
        ParallelPairs.of_tables(name, languages, *parts, groups).describe(new)
    return ParallelPairs.load(folder)


# ---- texts


def _spooled(stream: Iterable[pa.Table], key: str, work: Path, name: str) -> pa.Table:
    """Write a stream of texts into working files, one for each run of tables in the same languages.

    Returns:
        All of them as one memory-mapped table, its languages sorted.
    """
    chunks = _recut((tables.checked_texts(table, key, name) for table in stream), CHUNK_ROWS, CHUNK_BYTES)
    parts = []
    for columns, run in groupby(chunks, key=lambda chunk: sorted(set(chunk.column_names) - {key})):
        path = work / f"{key}-{len(parts)}.arrow"
        schema = pa.schema([(column, pa.string()) for column in (key, *columns)])
        with pa.ipc.new_file(path, schema) as writer:
            for chunk in run:
                writer.write_table(chunk.select(schema.names))
        parts.append(tables.mapped(path))
    if not parts:
        raise ValueError(f"{name}: there is no row with a {key}; give at least one")
    table = pa.concat_tables(parts, promote_options="default")
    tables.check_unique(table[key], f"{name}: {key}")
    return table.select([key, *sorted(set(table.column_names) - {key})])


def _move_or_write(passages: pa.Table, work: Path, path: Path) -> None:
    """Make the file of the passages: where they are all in one working file, that is it already."""
    files = list(work.glob("passage_id-*.arrow"))
    if len(files) == 1:
        files[0].rename(path)
    else:
        tables.write_table(path, passages)


def _recut(stream: Iterable[pa.Table], rows: int, size: float = np.inf) -> Iterator[pa.Table]:
    """The rows of tables, in tables of one chunk that end where `rows` rows or `size` bytes are reached."""
    held: list[pa.Table] = []
    for table in stream:
        for start in range(0, len(table), PIECE):
            held.append(table.slice(start, PIECE))
            if sum(map(len, held)) >= rows or sum(piece.nbytes for piece in held) >= size:
                whole, held = pa.concat_tables(held, promote_options="default").combine_chunks(), []
                yield whole
    if held:
        yield pa.concat_tables(held, promote_options="default").combine_chunks()


# ---- pairs


class _PairWriter:
    """Takes pairs block by block and joins them, sorted as `ParallelPairs.build` sorts them.

    Attributes:
        sources: names in the order they first occur -> their numbers.
        groups: (number of the source, bits of the query's languages, bits of the passage's) -> the pair group as the
            first block has it, and its rows in each block, memory-mapped.
        keys: of each block the different pairs of query and passage (`tables.positive_keys`).
    """

    def __init__(self, work: Path, name: str, languages: Sequence[str], queries: pa.Table, passages: pa.Table):
        self.work, self.name, self.languages = work, name, list(languages)
        self.ids = queries["query_id"], passages["passage_id"]
        self.bits = [tables.text_languages(table, languages, name) for table in (queries, passages)]
        self.sources: dict[str, int] = {}
        self.groups: dict[tuple[int, int, int], tuple[PairGroup, list[pa.Table]]] = {}
        self.keys: list[np.ndarray] = []

    def add(self, block: pa.Table) -> None:
        """Look up the ids of a block, sort it, and put it into a working file."""
        pairs = tables.with_rows(block, *self.ids, self.name)
        self.keys.append(tables.positive_keys(pairs, len(self.ids[1])))
        pairs, groups = tables.grouped(pairs, *self.bits, self.languages)
        path = self.work / f"pairs-{len(self.keys)}.arrow"
        tables.write_table(path, pairs)
        pairs = tables.mapped(path)
        for source in pairs["source"].chunk(0).dictionary.to_pylist():
            self.sources.setdefault(source, len(self.sources))
        for group in groups:
            key = self.sources[group.source], self._bits(group.query_languages), self._bits(group.passage_languages)
            rows = pairs.slice(group.start, group.stop - group.start)
            self.groups.setdefault(key, (group, []))[1].append(rows)

    def _bits(self, languages: Sequence[str]) -> int:
        return sum(1 << self.languages.index(lang) for lang in languages)

    def write(self, path: Path) -> list[PairGroup]:
        """Write the table `pairs`, in one chunk, from memory-mapped numbers; gives its groups."""
        keys = sorted(self.groups)
        if not keys:
            raise ValueError(f"{self.name}: {tables.NO_PAIR}")
        counts = [sum(map(len, self.groups[key][1])) for key in keys]
        whole = pa.concat_tables([rows for key in keys for rows in self.groups[key][1]])
        sources = np.repeat(np.array([source for source, _, _ in keys], dtype=np.int32), counts)
        columns = {
            "query": self._joined("query", whole["query"].chunks),
            "passage": self._joined("passage", whole["passage"].chunks),
            "negatives": self._lists(whole["negatives"].chunks),
            "source": pa.DictionaryArray.from_arrays(sources, list(self.sources)),
        }
        tables.write_table(path, pa.table(columns))
        stops = np.cumsum(counts).tolist()
        groups = zip(keys, counts, stops, strict=True)
        return [replace(self.groups[key][0], start=stop - count, stop=stop) for key, count, stop in groups]

    def _lists(self, chunks: Sequence[pa.ListArray]) -> pa.ListArray:
        lengths = np.concatenate([pc.list_value_length(chunk).to_numpy() for chunk in chunks])
        if max(len(lengths), lengths.sum(dtype=np.int64)) > MAX_PAIRS:
            raise ValueError(f"{self.name}: over {MAX_PAIRS} pairs or negatives; write several corpora")
        offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
        np.cumsum(lengths, out=offsets[1:])
        return pa.ListArray.from_arrays(offsets, self._joined("negatives", [chunk.flatten() for chunk in chunks]))

    def _joined(self, name: str, chunks: Sequence[pa.Array]) -> pa.Array:
        """The numbers of all chunks in one array, memory-mapped from a working file."""
        path = self.work / f"{name}.int64"
        with path.open("wb") as file:
            for chunk in chunks:
                chunk.to_numpy().tofile(file)
        return pa.array(np.memmap(path, np.int64, mode="r") if path.stat().st_size else np.empty(0, np.int64))

    def positives(self) -> pa.ListArray:
        """The different passages of each query, ascending."""
        return tables.positive_lists(tables.distinct(np.concatenate(self.keys)), *map(len, self.ids))


# ---- corpora made of others


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
    return write_pairs(
        folder,
        name=name,
        queries=(table for corpus in corpora for table in _texts(corpus.queries, prefix=f"{corpus.name}/")),
        passages=(table for corpus in corpora for table in _texts(corpus.passages, prefix=f"{corpus.name}/")),
        pairs=(table for corpus in corpora for table in pairs_with_ids(corpus, prefix=f"{corpus.name}/")),
    )


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
        queries=_texts(corpus.queries, queries),
        passages=_texts(corpus.passages, passages),
        pairs=pairs_with_ids(corpus, queries, passages),
    )


def _texts(table: pa.Table, stays: np.ndarray | None = None, prefix: str = "") -> Iterator[pa.Table]:
    """The rows of a corpus' queries or passages that stay, without positives; their ids get the prefix."""
    key = table.column_names[0]
    table = table.select([column for column in table.column_names if column != "positives"])
    for start in range(0, len(table), CHUNK_ROWS):
        part = table.slice(start, CHUNK_ROWS)
        part = part if stays is None else part.filter(pa.array(stays[start : start + CHUNK_ROWS]))
        yield part.set_column(0, key, pc.binary_join_element_wise(prefix, part[key], ""))


def pairs_with_ids(
    corpus: ParallelPairs, queries: np.ndarray | None = None, passages: np.ndarray | None = None, prefix: str = ""
) -> Iterator[pa.Table]:
    """Give the pairs whose query and passage stay, with ids in the place of rows; the ids get the prefix."""
    queries = np.ones(len(corpus.queries), dtype=bool) if queries is None else queries
    passages = np.ones(len(corpus.passages), dtype=bool) if passages is None else passages
    columns = corpus.queries["query_id"], corpus.passages["passage_id"]
    # In one chunk: `take` would make one of several at each call.
    query_ids, passage_ids = (pc.binary_join_element_wise(prefix, ids.combine_chunks(), "") for ids in columns)
    for start in range(0, len(corpus), CHUNK_ROWS):
        part = corpus.pairs.slice(start, CHUNK_ROWS)
        stays = queries[part["query"].to_numpy()] & passages[part["passage"].to_numpy()]
        part = part.filter(pa.array(stays)).combine_chunks()
        yield pa.table(
            {
                "query_id": query_ids.take(part["query"]),
                "passage_id": passage_ids.take(part["passage"]),
                "negatives": _negatives(part["negatives"].combine_chunks(), passages, passage_ids),
                "source": part["source"],
            }
        )


def _negatives(lists: pa.ListArray, stays: np.ndarray, passage_ids: pa.StringArray) -> pa.ListArray:
    """Lists of the ids of the passages that stay, from lists of their rows."""
    rows = lists.flatten().to_numpy()
    owner = np.repeat(np.arange(len(lists)), pc.list_value_length(lists).to_numpy())
    lengths = np.bincount(owner[stays[rows]], minlength=len(lists))
    offsets = np.r_[0, np.cumsum(lengths)].astype(np.int32)
    return pa.ListArray.from_arrays(offsets, passage_ids.take(pa.array(rows[stays[rows]])))
