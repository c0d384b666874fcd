"""The files of a corpus, made from streams of Arrow tables: checked, ids replaced by rows, pairs sorted into groups.

Texts and ids go to disk as they come and are memory-mapped from there, so that a corpus may be larger than memory.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hybridlib.files import replace_folder, write_json

PARTS = ("queries", "passages", "pairs")  # the tables of ParallelPairs, each in a file <part>.arrow
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?")
PAIRS = pa.schema(
    {"query_id": pa.string(), "passage_id": pa.string(), "negatives": pa.list_(pa.string()), "source": pa.string()}
)
MAX_PAIRS = 2**31 - 1  # and of negatives: what the 32-bit offsets of Arrow's lists reach
WINDOW = 16_384  # rows that are copied, hashed or made Python objects at once
# Bytes of a chunk in a file. Opening a file reads some MB of each chunk ahead, so of many small ones all there is.
CHUNK = 2**27
ID_PART = 4_000_000  # ids that are in a table to look them up at the same time


class PairGroup(NamedTuple):
    """Consecutive pairs, rows [start, stop), of one source whose texts exist in the same languages."""

    source: str
    query_languages: tuple[str, ...]
    passage_languages: tuple[str, ...]
    start: int
    stop: int


def write_files(
    folder: Path, *, name: str, queries: Iterable[pa.Table], passages: Iterable[pa.Table], pairs: Iterable[pa.Table]
) -> None:
    """Write the tables of a corpus, and corpus.json with what is not in them and the sizes that their files have.

    Arguments and errors are those of `corpora.write.write_pairs`. The folder appears complete or not at all.
    """
    folder = Path(folder)
    if (
        folder.exists()
        and not (folder / "corpus.json").exists()
        and not (folder.is_dir() and not any(folder.iterdir()))
    ):
        raise ValueError(f"{folder}: holds something else than a saved corpus; give an empty or a new folder")
    with replace_folder(folder) as new, tempfile.TemporaryDirectory(dir=new, prefix="work-") as temporary:
        work = Path(temporary)
        queries = _spooled((_checked_texts(table, "query_id", name) for table in queries), "query", work, name)
        passages = _spooled((_checked_texts(table, "passage_id", name) for table in passages), "passage", work, name)
        check_unique(queries, "query_id", name)
        check_unique(passages, "passage_id", name)
        pairs = _spooled((_checked_pairs(table, name) for table in pairs), "pair", work, name)
        languages = sorted({*queries.column_names[1:], *passages.column_names[1:]})
        query, passage, negatives = _ids_to_rows(pairs, queries["query_id"], passages["passage_id"], work, name)
        positives = _positives(query, passage, len(queries), len(passages))
        bits = [_language_bits(table, languages, name) for table in (queries, passages)]
        pairs, groups = _grouped(query, passage, negatives, pairs["source"], bits, languages, work)
        write_arrow(new / "queries.arrow", [queries.append_column("positives", positives)])
        write_arrow(new / "pairs.arrow", [pairs])
        files = list(work.glob("passage-*.arrow"))
        if len(files) == 1:  # the passages as they shall be, perhaps tens of gigabytes
            files[0].rename(new / "passages.arrow")
        else:
            write_arrow(new / "passages.arrow", [passages])
        _describe(new, name, languages, groups)


def _describe(folder: Path, name: str, languages: Sequence[str], groups: Sequence[PairGroup]) -> None:
    files = {part: folder / f"{part}.arrow" for part in PARTS}
    tables = {part: opened(file) for part, file in files.items()}
    repeats = {
        part: sum(len(_repeated(tables[part][lang])) for lang in languages if lang in tables[part].column_names)
        for part in ("queries", "passages")
    }
    about = {"name": name, "languages": languages, "repeats": repeats, "groups": groups}
    about["fingerprint"] = fingerprint(name, *tables.values())
    write_json(folder / "corpus.json", about | {"bytes": {file.name: file.stat().st_size for file in files.values()}})


# ---- checks


def _checked_texts(table: pa.Table, key: str, name: str) -> pa.Table:
    """Ids and texts as strings, the ids first; refuses empty texts and columns of no language."""
    _check_columns(table, (key,), name)
    columns = [key, *(column for column in table.column_names if column != key)]
    table = table.select(columns).cast(pa.schema([(column, pa.string()) for column in columns]))
    for lang in columns[1:]:
        if not LANGUAGE.fullmatch(lang):
            raise ValueError(f"column {lang!r} beside {key} is no language code; name text columns 'en', 'de', ...")
        empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(table[lang])), 0)
        if pc.any(empty).as_py():
            culprit = table[key].filter(empty)[0].as_py()
            raise ValueError(f"{name}: {key} {culprit!r} has an empty text in {lang!r}; leave it out (null) instead")
    return table


def _checked_pairs(table: pa.Table, name: str) -> pa.Table:
    """Pairs with the columns of PAIRS, `negatives` null where they are not given; refuses null sources."""
    _check_columns(table, ("query_id", "passage_id", "source"), name)
    if "negatives" not in table.column_names:
        table = table.append_column("negatives", pa.nulls(len(table), PAIRS.field("negatives").type))
    if nulls := table["source"].null_count:
        raise ValueError(f"{name}: source is null in {nulls} pairs; name their data set")
    return table.select(PAIRS.names).cast(PAIRS)


def _check_columns(table: pa.Table, columns: Sequence[str], name: str) -> None:
    if not isinstance(table, pa.Table):
        raise TypeError(f"{name}: a stream gives {type(table).__name__}, not tables; put a single table in a list")
    for column in columns:
        if column not in table.column_names:
            raise ValueError(f"{name}: a table lacks the column {column}; it has {', '.join(table.column_names)}")


def check_unique(table: pa.Table, key: str, name: str) -> None:
    """Refuse ids that are null or occur twice."""
    if nulls := table[key].null_count:
        raise ValueError(f"{name}: {key} is null in {nulls} rows; give every row an id")
    if len(double := _repeated(table[key])):
        raise ValueError(f"{name}: {key} {double[0].as_py()!r} occurs more than once; ids must be unique")


def _repeated(column: pa.ChunkedArray) -> pa.Array:
    """The values that occur more than once, nulls aside.

    Of each value a hash of 8 bytes is held, not the value; only values whose hashes are equal are compared.
    """
    windows = (window.to_numpy(zero_copy_only=False).astype(object) for window in _windows(column))
    hashes = np.concatenate([np.empty(0, np.uint64), *(pd.util.hash_array(w, categorize=False) for w in windows)])
    order = np.argsort(hashes)
    equal = hashes[order[1:]] == hashes[order[:-1]]
    suspect = np.zeros(len(hashes), dtype=bool)
    suspect[order[1:][equal]] = suspect[order[:-1][equal]] = True
    values, counts = pc.value_counts(column.filter(pa.array(suspect)).drop_null()).flatten()
    return values.filter(pc.greater(counts, 1))


def _windows(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    return (chunk.slice(start, WINDOW) for chunk in column.chunks for start in range(0, len(chunk), WINDOW))


# ---- to disk and back


def _spooled(stream: Iterable[pa.Table], what: str, work: Path, name: str) -> pa.Table:
    """Write tables into working files, one for each run of tables with the same columns.

    Returns:
        All of them as one memory-mapped table; columns are null where a table lacks them, and sorted but for the first.
    """
    parts = []
    for _, tables in groupby(map(_ordered, _rechunked(stream)), key=lambda table: table.column_names):
        parts.append(work / f"{what}-{len(parts)}.arrow")
        write_arrow(parts[-1], tables)
    if not parts:
        raise ValueError(f"{name}: there is no {what}; give at least one row")
    return _ordered(pa.concat_tables(map(opened, parts), promote_options="default"))


def _ordered(table: pa.Table) -> pa.Table:
    first, *rest = table.column_names
    return table.select([first, *sorted(rest)])


def _rechunked(stream: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables in tables of one chunk, of about CHUNK bytes."""
    held, size = [], 0
    for table in stream:
        for start in range(0, len(table), WINDOW):
            held.append(table.slice(start, WINDOW))
            size += held[-1].nbytes
            if size >= CHUNK:
                yield pa.concat_tables(held, promote_options="default").combine_chunks()
                held, size = [], 0
    if held:
        yield pa.concat_tables(held, promote_options="default").combine_chunks()


def write_arrow(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables, one or more of one schema, one after the other into an Arrow file."""
    writer = None
    for table in tables:
        writer = writer or pa.ipc.new_file(path, table.schema)
        writer.write_table(table)
    writer.close()


def opened(path: Path, *, in_memory: bool = False) -> pa.Table:
    """The table of an Arrow file, memory-mapped or read into memory."""
    return pa.ipc.open_file(pa.OSFile(str(path)) if in_memory else pa.memory_map(str(path))).read_all()


def _kept(path: Path, n: int, part: Callable[[slice], np.ndarray]) -> np.ndarray:
    """The numbers that `part` gives for windows of n rows, int64, memory-mapped from a working file."""
    with path.open("wb") as file:
        for start in range(0, n, WINDOW):
            part(slice(start, start + WINDOW)).astype(np.int64).tofile(file)
    return np.asarray(np.memmap(path, np.int64, mode="r")) if path.stat().st_size else np.empty(0, np.int64)


# ---- ids to rows, pairs to groups


def rows_of(values: pa.ChunkedArray, ids: pa.ChunkedArray, unknown: str) -> np.ndarray:
    """Row of each value among the ids, int32; ValueError, begun as told, names a value that is not among them."""
    rows = pa.nulls(len(values), pa.int32())
    for start in range(0, len(ids), ID_PART):  # the table of millions of ids takes much memory
        part = pc.index_in(values, value_set=ids.slice(start, ID_PART).combine_chunks())
        rows = pc.coalesce(rows, pc.add(part, pa.scalar(start, pa.int32())))
    pa.default_memory_pool().release_unused()
    if rows.null_count:
        raise ValueError(f"{unknown} {values.filter(pc.is_null(rows))[0].as_py()!r}")
    return rows.to_numpy()


def _ids_to_rows(
    pairs: pa.Table, query_ids: pa.ChunkedArray, passage_ids: pa.ChunkedArray, work: Path, name: str
) -> tuple[np.ndarray, np.ndarray, pa.ListArray]:
    """Rows of each pair's query, passage and negatives."""
    negatives = pa.chunked_array([chunk.flatten() for chunk in pairs["negatives"].chunks])
    if max(len(pairs), len(negatives)) > MAX_PAIRS:
        raise ValueError(f"{name}: over {MAX_PAIRS} pairs or negatives; write several corpora")

    def kept(what: str, key: str, values: pa.ChunkedArray, ids: pa.ChunkedArray) -> np.ndarray:
        rows = rows_of(values, ids, f"{name}: {what} name the unknown {key}")
        return _kept(work / f"{what}-{key}", len(rows), rows.__getitem__)

    query = kept("pairs", "query_id", pairs["query_id"], query_ids)
    passage = kept("pairs", "passage_id", pairs["passage_id"], passage_ids)
    negatives = kept("negatives", "passage_id", negatives, passage_ids)
    lengths = (pc.fill_null(pc.list_value_length(chunk), 0) for chunk in pairs["negatives"].chunks)
    return query, passage, _lists(np.concatenate([part.to_numpy() for part in lengths]), negatives)


def _positives(query: np.ndarray, passage: np.ndarray, n_queries: int, n_passages: int) -> pa.ListArray:
    """The different passages of each query, ascending."""
    keys = query * n_passages
    keys += passage
    keys.sort()
    keys = keys[np.r_[True, keys[1:] != keys[:-1]]]  # numpy's `unique` is ten times slower on millions
    offsets = np.searchsorted(keys, np.arange(n_queries + 1) * n_passages)
    return pa.ListArray.from_arrays(offsets.astype(np.int32), keys % n_passages)


def _language_bits(table: pa.Table, languages: Sequence[str], name: str) -> np.ndarray:
    """In which languages each row has a text: bit i of its number is set for languages[i], (rows,) int64."""
    if len(languages) > 63:
        raise ValueError(f"{name}: {len(languages)} languages are more than the 63 of a corpus; write several corpora")
    bits = np.zeros(len(table), dtype=np.int64)
    for i, lang in enumerate(languages):
        if lang in table.column_names:
            bits |= table[lang].is_valid().to_numpy().astype(np.int64) << i
    return bits


def _grouped(
    query: np.ndarray,
    passage: np.ndarray,
    negatives: pa.ListArray,
    source: pa.ChunkedArray,
    bits: Sequence[np.ndarray],
    languages: Sequence[str],
    work: Path,
) -> tuple[pa.Table, list[PairGroup]]:
    """The table `pairs`, in one chunk, sorted by source (as they first occur), query's and passage's languages; groups.

    Args:
        bits: of each query and of each passage what `_language_bits` gives.
    """
    names = pc.unique(source)
    (query_bits, query_set), (passage_bits, passage_set) = (np.unique(each, return_inverse=True) for each in bits)
    shape = len(names), len(query_bits), len(passage_bits)

    def numbers(at: slice) -> np.ndarray:
        sources = pc.index_in(source.slice(at.start, WINDOW), value_set=names).to_numpy()
        return np.ravel_multi_index((sources, query_set[query[at]], passage_set[passage[at]]), shape)

    def languages_of(bits: int) -> tuple[str, ...]:
        return tuple(lang for i, lang in enumerate(languages) if bits >> i & 1)

    n = len(query)
    group = _kept(work / "group", n, numbers)
    present, counts = np.unique(group, return_counts=True)
    in_source, in_query, in_passage = np.unravel_index(present, shape)
    columns = in_source.tolist(), query_bits[in_query].tolist(), passage_bits[in_passage].tolist()
    stops = np.cumsum(counts)
    groups = [
        PairGroup(names[s].as_py(), languages_of(q), languages_of(p), start, stop)
        for s, q, p, start, stop in zip(*columns, (stops - counts).tolist(), stops.tolist(), strict=True)
    ]
    order = np.argsort(group, kind="stable").astype(np.int32)
    values = _kept(work / "negatives", n, lambda at: negatives.take(pa.array(order[at])).flatten().to_numpy())
    pairs = {
        "query": _kept(work / "query", n, lambda at: query[order[at]]),
        "passage": _kept(work / "passage", n, lambda at: passage[order[at]]),
        "negatives": _lists(pc.list_value_length(negatives).to_numpy()[order], values),
        "source": pa.DictionaryArray.from_arrays(np.repeat(in_source.astype(np.int32), counts), names),
    }
    return pa.table(pairs), groups


def _lists(lengths: np.ndarray, values: np.ndarray) -> pa.ListArray:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.ListArray.from_arrays(offsets, values)


# ---- fingerprint


def fingerprint(name: str, *tables: pa.Table) -> str:
    """SHA-256 of a name and of what tables hold, as 64 hexadecimal digits.

    The order of the rows counts. What does not: the order of the columns, how rows are cut into chunks, which of
    Arrow's string types or dictionary holds a text, and the width of an integer.

    Raises:
        TypeError: a column holds something else than texts, whole numbers, or lists of them.
    """
    content = [{column: _digests(table[column]) for column in table.column_names} for table in tables]
    return hashlib.sha256(json.dumps([name, content], sort_keys=True).encode()).hexdigest()


def _digests(column: pa.ChunkedArray) -> dict[str, str]:
    """A digest of each of the streams that a column consists of: which values are null, lengths, text, numbers."""
    streams = defaultdict(hashlib.sha256)
    for window in _windows(column):
        _update(streams, "", window)
    return {name: stream.hexdigest() for name, stream in streams.items()}


def _update(streams: defaultdict, level: str, values: pa.Array) -> None:
    values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    streams[f"{level}valid"].update(np.asarray(values.is_valid()).tobytes())
    values = values.drop_null()
    if not len(values):
        return
    if pa.types.is_list(values.type):
        streams[f"{level}lengths"].update(_bytes(pc.list_value_length(values)))
        _update(streams, f"{level}item ", values.flatten())
    elif pa.types.is_integer(values.type):
        streams[f"{level}numbers"].update(_bytes(values))
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        streams[f"{level}lengths"].update(_bytes(pc.binary_length(values)))
        text = pc.binary_join(pa.ListArray.from_arrays([0, len(values)], values.cast(pa.string())), "")[0].as_buffer()
        if text.size:
            streams[f"{level}text"].update(text)
    else:
        raise TypeError(f"a column of {values.type} has no fingerprint; use strings, whole numbers or lists of them")


def _bytes(numbers: pa.Array) -> bytes:
    return numbers.to_numpy(zero_copy_only=False).astype("<i8").tobytes()
