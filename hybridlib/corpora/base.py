"""The two kinds of corpus: ParallelPairs to train on, Benchmark to evaluate on.

Both hold texts in pyarrow tables, a text once, and identify them by ids that do not depend on the language.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hybridlib.corpora.fingerprint import fingerprint
from hybridlib.files import parse_json, replace_folder

LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?")
PARTS = ("queries", "passages", "pairs")  # the tables of ParallelPairs, each in a file <part>.arrow
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


@dataclass(frozen=True, eq=False)
class ParallelPairs:
    """Questions and passages that answer them, each in one or more languages.

    Attributes:
        name: name of the corpus.
        languages: ISO 639-1 codes, sorted.
        queries: query_id, positives (rows of `passages` known to answer the query), then a text column per language.
        passages: passage_id, then a text column per language; null where the text does not exist in a language.
        pairs: query and passage (rows of the tables above), negatives (rows of `passages`), source; sorted by group.
        groups: where in `pairs` each combination of source and languages lies; all that the sampler needs.
        repeats: {"queries": n, "passages": m}, the numbers of texts that stand under more than one id, summed over the
            languages. Such texts are masked where they meet in a batch.
        fingerprint: SHA-256 of everything the corpus holds; equal corpora have equal ones on every machine.

    The tables may be memory-mapped (`load`) and their texts in many chunks (`corpora.write`): only `build` copies whole
    columns. `pairs` is one chunk.
    """

    name: str
    languages: tuple[str, ...]
    queries: pa.Table
    passages: pa.Table
    pairs: pa.Table
    groups: tuple[PairGroup, ...]
    repeats: dict[str, int]
    fingerprint: str

    @classmethod
    def build(cls, queries: pa.Table, passages: pa.Table, pairs: pa.Table, *, name: str) -> ParallelPairs:
        """Check the tables, replace ids by rows and sort the pairs by source and languages.

        Args:
            queries: query_id and a string column per language; null where a language is lacking.
            passages: passage_id and a string column per language.
            pairs: query_id, passage_id, source, and optionally negatives (lists of passage_ids).

        Raises:
            ValueError: an id occurs twice or is unknown, a text is empty, a column is no language, nothing is left.
        """
        queries, passages = checked_texts(queries, "query_id", name), checked_texts(passages, "passage_id", name)
        for table, key in ((queries, "query_id"), (passages, "passage_id")):
            check_unique(table[key], f"{name}: {key}")
        languages = sorted({*language_columns(queries, "query_id"), *language_columns(passages, "passage_id")})
        pairs = checked_pairs(pairs, name)
        if not len(pairs):
            raise ValueError(f"{name}: {NO_PAIR}")
        pairs = with_rows(pairs, queries["query_id"], passages["passage_id"], name)
        keys = positive_keys(pairs, len(passages))
        queries = queries.append_column("positives", positive_lists(keys, len(queries), len(passages)))
        bits = text_languages(queries, languages, name), text_languages(passages, languages, name)
        pairs, groups = grouped(pairs, *bits, languages)
        return cls.of_tables(name, languages, queries.combine_chunks(), passages.combine_chunks(), pairs, groups)

    @classmethod
    def of_tables(
        cls,
        name: str,
        languages: Sequence[str],
        queries: pa.Table,
        passages: pa.Table,
        pairs: pa.Table,
        groups: Sequence[PairGroup],
    ) -> ParallelPairs:
        """The corpus of tables that are checked and sorted; counts its repeats and takes its fingerprint."""
        repeats = {"queries": count_repeats(queries, languages), "passages": count_repeats(passages, languages)}
        digest = fingerprint(name, queries, passages, pairs)
        return cls(name, tuple(languages), queries, passages, pairs, tuple(groups), repeats, digest)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def query_rows(self) -> np.ndarray:
        """Row of `queries` of each pair, (pairs,) int64; a view of the table where it is memory-mapped."""
        return self.pairs["query"].chunk(0).to_numpy()

    @property
    def passage_rows(self) -> np.ndarray:
        """Row of `passages` of each pair, (pairs,) int64; a view of the table where it is memory-mapped."""
        return self.pairs["passage"].chunk(0).to_numpy()

    def __getitem__(self, key: tuple[int, str, str]) -> dict:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[tuple[int, str, str]]) -> list[dict]:
        """Texts of (pair row, query language, passage language) triples; what a DataLoader asks for."""
        rows, query_languages, passage_languages = zip(*keys, strict=True)
        rows = [int(row) for row in rows]
        queries = self.query_texts(self.query_rows[rows], query_languages)
        passages = self.passage_texts(self.passage_rows[rows], passage_languages)
        negatives = [
            self.passage_texts(negative_rows, [lang] * len(negative_rows))
            for negative_rows, lang in zip(self.negatives(rows, passage_languages), passage_languages, strict=True)
        ]
        columns = zip(queries, passages, negatives, strict=True)
        return [{"query": query, "passage": passage, "negatives": texts} for query, passage, texts in columns]

    def negatives(self, pair_rows: Sequence[int], languages: Sequence[str]) -> list[list[int]]:
        """Rows of each pair's explicit negatives that have a text in the given language, a list per pair."""
        lists = _values(self.pairs["negatives"], pair_rows)
        return [[row for row in rows if self._has_text(row, lang)] for rows, lang in zip(lists, languages, strict=True)]

    def _has_text(self, passage_row: int, lang: str) -> bool:
        return lang in self.passages.column_names and self.passages[lang][passage_row].is_valid

    def query_texts(self, rows: Sequence[int], languages: Sequence[str]) -> list[str]:
        """Texts of the given rows of `queries`, each in its language."""
        return _texts(self.queries, rows, languages, "query_id")

    def passage_texts(self, rows: Sequence[int], languages: Sequence[str]) -> list[str]:
        """Texts of the given rows of `passages`, each in its language."""
        return _texts(self.passages, rows, languages, "passage_id")

    def positives(self, query_rows: np.ndarray) -> list[np.ndarray]:
        """Rows of the passages known to answer each query, a sorted array per query."""
        return [np.asarray(rows, dtype=np.int64) for rows in _values(self.queries["positives"], query_rows)]

    @property
    def repeats_in_words(self) -> str:
        """A line on `repeats`, or "" where there are none."""
        counts = [f"{n} texts of {what}" for what, n in self.repeats.items() if n]
        line = f"{self.name}: {' and '.join(counts)} stand under more than one id; in a batch they never count as wrong"
        return line if counts else ""

    def save(self, folder: Path) -> None:
        """Write the corpus as Arrow files, at once: the folder appears complete or not at all.

        Raises:
            ValueError: the folder holds something else than a corpus, which this would delete.
        """
        check_replaceable(folder)
        with replace_folder(folder) as new:
            for part in PARTS:
                write_table(new / f"{part}.arrow", getattr(self, part))
            self.describe(new)

    def describe(self, folder: Path) -> None:
        """Write corpus.json beside the Arrow files of this corpus: what is not in them, and the sizes they have."""
        about = {name: getattr(self, name) for name in ("name", "languages", "repeats", "fingerprint")}
        about["groups"] = [vars(group) for group in self.groups]
        about["bytes"] = {f"{part}.arrow": (Path(folder) / f"{part}.arrow").stat().st_size for part in PARTS}
        (Path(folder) / "corpus.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> ParallelPairs:
        """Open a saved corpus memory-mapped: in a moment, however large it is.

        Raises:
            FileNotFoundError: the folder holds no saved corpus.
            ValueError: a file has another size than when the corpus was saved, or an older version saved the corpus.
        """
        path = Path(folder) / "corpus.json"
        if not path.exists():
            raise FileNotFoundError(f"{folder}: no saved corpus here; make one with ParallelPairs.save")
        about = parse_json(path.read_bytes(), path)
        if "repeats" not in about:
            raise ValueError(f"{folder}: saved by a version before 0.2; write the corpus again")
        for file, size in about["bytes"].items():
            if (path.parent / file).stat().st_size != size:
                raise ValueError(f"{path.parent / file}: not the {size} bytes that were saved; write the corpus again")
        groups = [
            PairGroup(g["source"], tuple(g["query_languages"]), tuple(g["passage_languages"]), g["start"], g["stop"])
            for g in about["groups"]
        ]
        tables = [mapped(path.parent / f"{part}.arrow") for part in PARTS]
        languages = tuple(about["languages"])
        return cls(about["name"], languages, *tables, tuple(groups), about["repeats"], about["fingerprint"])


def _texts(table: pa.Table, rows: Sequence[int], languages: Sequence[str], key: str) -> list[str]:
    rows, languages = np.asarray(rows, dtype=np.int64), np.asarray(languages)
    texts = np.empty(len(rows), dtype=object)
    for lang in np.unique(languages):
        places = np.flatnonzero(languages == lang)
        values = _values(table[lang], rows[places]) if lang in table.column_names else [None] * len(places)
        if None in values:
            culprit = table[key][int(rows[places][values.index(None)])].as_py()
            raise ValueError(f"{key} {culprit!r} has no text in {str(lang)!r}")
        texts[places] = values
    return texts.tolist()


def _values(column: pa.ChunkedArray, rows: Sequence[int]) -> list:
    """Values of a few rows. Value by value, since `take` first copies a column of several chunks into one."""
    return [column[int(row)].as_py() for row in rows]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """Queries, candidates and judgements in several languages.

    Attributes:
        queries: query_id "<lang>:<question id>", lang, question_id, cluster, text. The cluster is what statistics
            resample (paragraph or subject); it is the same for a question in every language.
        candidates: candidate_id "<lang>:...", lang, text.
        relevant: query_id, candidate_id, gain (1 or more), over all languages: mono and cross use a part of it.
    """

    name: str
    languages: tuple[str, ...]
    queries: pa.Table
    candidates: pa.Table
    relevant: pa.Table

    @classmethod
    def build(
        cls, name: str, languages: Sequence[str], queries: pa.Table, candidates: pa.Table, relevant: pa.Table
    ) -> Benchmark:
        """Check the tables against each other.

        Raises:
            ValueError: an id is double, unknown or lacks its language; a gain is below 1; a language is empty.
        """
        for table, key in ((queries, "query_id"), (candidates, "candidate_id")):
            check_unique(table[key], f"{name}: {key}")
            _check_prefix(table, key, name)
        for lang in languages:
            for table, what in ((queries, "query"), (candidates, "candidate")):
                if not pc.any(pc.equal(table["lang"], lang)).as_py():
                    raise ValueError(f"{name}: there is no {what} in {lang!r}; drop the language or add texts")
        for table, key in ((queries, "query_id"), (candidates, "candidate_id")):
            _known_rows([relevant[key]], table[key], [f"{name}: a judgement names the unknown {key}"])
        if len(relevant) and pc.min(relevant["gain"]).as_py() < 1:
            raise ValueError(f"{name}: a judgement has a gain below 1; leave out what is not relevant")
        tables = (table.combine_chunks() for table in (queries, candidates, relevant))
        return cls(name, tuple(languages), *tables)

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of queries and candidates per language."""
        tables = {"queries": self.queries, "candidates": self.candidates}
        return {
            lang: {what: pc.sum(pc.equal(table["lang"], lang)).as_py() for what, table in tables.items()}
            for lang in self.languages
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything the benchmark holds; equal benchmarks have equal fingerprints on every machine."""
        return fingerprint(self.name, self.queries, self.candidates, self.relevant)


def _check_prefix(table: pa.Table, key: str, name: str) -> None:
    for identifier, lang in zip(table[key].to_pylist(), table["lang"].to_pylist(), strict=True):
        if not identifier.startswith(f"{lang}:"):
            raise ValueError(f"{name}: the {key} {identifier!r} must begin with its language, {lang!r}, and a colon")


# ---- checks of tables; errors are ValueErrors that name the corpus

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


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds anything but a saved corpus."""
    folder = Path(folder)
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / "corpus.json").exists():
        raise ValueError(f"{folder}: holds something else than a saved corpus; give an empty or a new folder")


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
    passage, negatives = _known_rows([pairs["passage_id"], negatives], passage_ids, unknown)
    (query,) = _known_rows([pairs["query_id"]], query_ids, [f"{name}: pairs name the unknown query_id"])
    columns = {
        "query": query,
        "passage": passage,
        "negatives": pa.ListArray.from_arrays(np.r_[0, np.cumsum(lengths)].astype(np.int32), negatives),
        "source": pairs["source"].combine_chunks().dictionary_encode(),
    }
    return pa.table(columns)


def _known_rows(columns: Sequence[pa.ChunkedArray], ids: pa.ChunkedArray, unknown: Sequence[str]) -> list[pa.Array]:
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
