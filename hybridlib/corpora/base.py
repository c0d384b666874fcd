"""The two kinds of corpus: ParallelPairs to train on, Benchmark to evaluate on.

Both hold texts in pyarrow tables, a text once, and identify them by ids that do not depend on the language.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybridlib.corpora.fingerprint import fingerprint
from hybridlib.files import replace_folder

LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?")
PARTS = ("queries", "passages", "pairs")  # the tables of ParallelPairs, each in a file <part>.arrow


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

    The tables may be memory-mapped (`load`) and their texts in many chunks (`corpora.writer`): only `build` copies
    whole columns. `pairs` is one chunk.
    """

    name: str
    languages: tuple[str, ...]
    queries: pa.Table
    passages: pa.Table
    pairs: pa.Table
    groups: tuple[PairGroup, ...]

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
        languages = sorted({*language_columns(queries, "query_id"), *language_columns(passages, "passage_id")})
        for table, key in ((queries, "query_id"), (passages, "passage_id")):
            _check_unique(table[key], f"{name}: {key}")
            check_not_empty(table, key, name)
        if not len(pairs):
            raise ValueError(f"{name}: there is no pair; give at least one row with query_id, passage_id and source")
        query = _rows(pairs["query_id"], queries["query_id"], f"{name}: pairs name the unknown query_id")
        passage = _rows(pairs["passage_id"], passages["passage_id"], f"{name}: pairs name the unknown passage_id")
        pairs = pa.table(
            {
                "query": query,
                "passage": passage,
                "negatives": _negative_rows(pairs, passages, name),
                "source": pairs["source"].cast(pa.string()).combine_chunks().dictionary_encode(),
            }
        )
        queries = queries.append_column("positives", _positives(query, passage, len(queries)))
        pairs, groups = _grouped(pairs, _presence(queries, languages), _presence(passages, languages), languages)
        return cls(name, tuple(languages), queries.combine_chunks(), passages.combine_chunks(), pairs, groups)

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
        rows = [int(row) for row, _, _ in keys]
        query, passage = self.query_rows[rows], self.passage_rows[rows]
        queries = self.query_texts(query, [q for _, q, _ in keys])
        passages = self.passage_texts(passage, [p for _, _, p in keys])
        negatives = self.negatives(rows, [p for _, _, p in keys])
        return [
            {
                "query": queries[i],
                "passage": passages[i],
                "negatives": self.passage_texts(negatives[i], [keys[i][2]] * len(negatives[i])),
            }
            for i in range(len(rows))
        ]

    def negatives(self, pair_rows: Sequence[int], languages: Sequence[str]) -> list[list[int]]:
        """Rows of each pair's explicit negatives that have a text in the given language, a list per pair."""
        lists = _values(self.pairs["negatives"], pair_rows)
        return [[row for row in rows if self._speaks(row, lang)] for rows, lang in zip(lists, languages, strict=True)]

    def _speaks(self, passage_row: int, lang: str) -> bool:
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

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything the corpus holds; equal corpora have equal fingerprints on every machine.

        A saved corpus has it in corpus.json: `load` takes it from there if the files have the sizes noted with it.
        """
        return fingerprint(self.name, self.queries, self.passages, self.pairs)

    def save(self, folder: Path) -> None:
        """Write the corpus as Arrow files, at once: the folder appears complete or not at all.

        Raises:
            ValueError: the folder holds something else than a corpus, which this would delete.
        """
        check_replaceable(folder)
        with replace_folder(folder) as new:
            for part in PARTS:
                with pa.ipc.new_file(new / f"{part}.arrow", getattr(self, part).schema) as writer:
                    writer.write_table(getattr(self, part))
            self.describe(new)

    def describe(self, folder: Path) -> None:
        """Write corpus.json beside the Arrow files of this corpus: names, groups, fingerprint, sizes of the files."""
        sizes = {f"{part}.arrow": (Path(folder) / f"{part}.arrow").stat().st_size for part in PARTS}
        groups = [vars(group) for group in self.groups]
        about = {"name": self.name, "languages": self.languages, "groups": groups}
        about |= {"fingerprint": self.fingerprint, "bytes": sizes}
        (Path(folder) / "corpus.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> ParallelPairs:
        """Open a saved corpus memory-mapped: in a moment, however large it is.

        Raises:
            FileNotFoundError: the folder holds no saved corpus.
            ValueError: a file has another size than when the corpus was saved.
        """
        folder = Path(folder)
        if not (folder / "corpus.json").exists():
            raise FileNotFoundError(f"{folder}: no saved corpus here; make one with ParallelPairs.save")
        about = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        for file, size in about.get("bytes", {}).items():
            if (folder / file).stat().st_size != size:
                raise ValueError(f"{folder / file}: not the {size} bytes that were saved; write the corpus again")
        groups = [
            PairGroup(g["source"], tuple(g["query_languages"]), tuple(g["passage_languages"]), g["start"], g["stop"])
            for g in about["groups"]
        ]
        corpus = cls(about["name"], tuple(about["languages"]), *mapped_tables(folder), tuple(groups))
        if "fingerprint" in about:
            vars(corpus)["fingerprint"] = about["fingerprint"]  # where cached_property keeps what it has computed
        return corpus


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds anything but a saved corpus."""
    folder = Path(folder)
    empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not empty and not (folder / "corpus.json").exists():
        raise ValueError(f"{folder}: holds something else than a saved corpus; give an empty or a new folder")


def mapped_tables(folder: Path) -> list[pa.Table]:
    """The tables of PARTS from a folder's Arrow files, memory-mapped."""
    return [pa.ipc.open_file(pa.memory_map(str(Path(folder) / f"{part}.arrow"))).read_all() for part in PARTS]


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
            _check_unique(table[key], f"{name}: {key}")
            _check_prefix(table, key, name)
        for lang in languages:
            for table, what in ((queries, "query"), (candidates, "candidate")):
                if not pc.any(pc.equal(table["lang"], lang)).as_py():
                    raise ValueError(f"{name}: there is no {what} in {lang!r}; drop the language or add texts")
        for table, key in ((queries, "query_id"), (candidates, "candidate_id")):
            _rows(relevant[key], table[key], f"{name}: a judgement names the unknown {key}")
        if len(relevant) and pc.min(relevant["gain"]).as_py() < 1:
            raise ValueError(f"{name}: a judgement has a gain below 1; leave out what is not relevant")
        tables = (table.combine_chunks() for table in (queries, candidates, relevant))
        return cls(name, tuple(languages), *tables)

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of queries and candidates per language."""
        return {
            lang: {
                "queries": pc.sum(pc.equal(self.queries["lang"], lang)).as_py(),
                "candidates": pc.sum(pc.equal(self.candidates["lang"], lang)).as_py(),
            }
            for lang in self.languages
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything the benchmark holds; equal benchmarks have equal fingerprints on every machine."""
        return fingerprint(self.name, self.queries, self.candidates, self.relevant)


def language_columns(table: pa.Table, key: str) -> list[str]:
    """The columns beside `key`, each a language code; ValueError names one that is not."""
    columns = [column for column in table.column_names if column != key]
    wrong = [column for column in columns if not LANGUAGE.fullmatch(column)]
    if wrong:
        raise ValueError(f"column {wrong[0]!r} beside {key} is no language code; name text columns 'en', 'de', ...")
    return columns


def _check_unique(column: pa.ChunkedArray, what: str) -> None:
    if column.null_count:
        raise ValueError(f"{what} is null in {column.null_count} rows; give every row an id")
    counts = pc.value_counts(column).flatten()
    double = counts[0].filter(pc.greater(counts[1], 1))
    if len(double):
        raise ValueError(f"{what} {double[0].as_py()!r} occurs more than once; ids must be unique")


def check_not_empty(table: pa.Table, key: str, name: str) -> None:
    """Refuse texts of nothing but white space, by a ValueError that names the row's id."""
    for lang in language_columns(table, key):
        empty = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(table[lang])), 0)
        if pc.any(empty).as_py():
            culprit = table[key].filter(empty)[0].as_py()
            raise ValueError(f"{name}: {key} {culprit!r} has an empty text in {lang!r}; leave it out (null) instead")


def _check_prefix(table: pa.Table, key: str, name: str) -> None:
    prefix = pc.binary_join_element_wise(table["lang"], ":", "")
    length = pc.max(pc.utf8_length(prefix)).as_py() or 0
    start = pc.utf8_slice_codeunits(table[key], 0, length)
    wrong = [
        key
        for key, lang in zip(start.to_pylist(), table["lang"].to_pylist(), strict=True)
        if not key.startswith(f"{lang}:")
    ]
    if wrong:
        raise ValueError(f"{name}: the {key} starting {wrong[0]!r} must begin with its language and a colon")


def _rows(values: pa.ChunkedArray, ids: pa.ChunkedArray, message: str) -> pa.Array:
    rows = pc.index_in(values, value_set=ids.combine_chunks())
    if rows.null_count:
        raise ValueError(f"{message} {values.filter(pc.is_null(rows))[0].as_py()!r}")
    rows = rows.cast(pa.int64())
    return rows.combine_chunks() if isinstance(rows, pa.ChunkedArray) else rows


def _negative_rows(pairs: pa.Table, passages: pa.Table, name: str) -> pa.Array:
    if "negatives" not in pairs.column_names:
        return pa.array([[]] * len(pairs), pa.list_(pa.int64()))
    lists = pairs["negatives"].combine_chunks().cast(pa.list_(pa.string()))
    unknown = f"{name}: negatives name the unknown passage_id"
    rows = _rows(pa.chunked_array([lists.flatten()]), passages["passage_id"], unknown)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return pa.ListArray.from_arrays(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), rows)


def _positives(query: pa.Array, passage: pa.Array, n_queries: int) -> pa.Array:
    both = np.unique(np.stack([query.to_numpy(), passage.to_numpy()], axis=1), axis=0)
    offsets = np.searchsorted(both[:, 0], np.arange(n_queries + 1))
    return pa.ListArray.from_arrays(offsets.astype(np.int32), pa.array(both[:, 1]))


def _presence(table: pa.Table, languages: Sequence[str]) -> np.ndarray:
    """Bit i of entry r is set where row r has a text in language i."""
    if len(languages) > 63:
        raise ValueError(
            f"{len(languages)} languages are more than the 63 that a corpus can have; write several corpora"
        )
    bits = np.zeros(len(table), dtype=np.int64)
    for i, lang in enumerate(languages):
        if lang in table.column_names:
            bits |= table[lang].is_valid().to_numpy().astype(np.int64) << i
    return bits


def _grouped(
    pairs: pa.Table, in_query: np.ndarray, in_passage: np.ndarray, languages: Sequence[str]
) -> tuple[pa.Table, tuple[PairGroup, ...]]:
    source = pairs["source"].chunk(0)
    keys = np.stack(
        [in_passage[pairs["passage"].to_numpy()], in_query[pairs["query"].to_numpy()], source.indices.to_numpy()]
    )
    order = np.lexsort(keys)
    pairs, keys = pairs.take(order).combine_chunks(), keys[:, order]
    starts = np.flatnonzero(np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)])
    stops = np.r_[starts[1:], len(pairs)]
    names = source.dictionary.to_pylist()

    def spoken(bits: int) -> tuple[str, ...]:
        return tuple(lang for i, lang in enumerate(languages) if bits >> i & 1)

    groups = [
        PairGroup(names[keys[2, a]], spoken(keys[1, a]), spoken(keys[0, a]), int(a), int(b))
        for a, b in zip(starts, stops, strict=True)
    ]
    return pairs, tuple(groups)


def _texts(table: pa.Table, rows: Sequence[int], languages: Sequence[str], key: str) -> list[str]:
    rows, spoken = np.asarray(rows, dtype=np.int64), np.asarray(languages)
    texts = np.empty(len(rows), dtype=object)
    for lang in np.unique(spoken):
        places = np.flatnonzero(spoken == lang)
        found = _values(table[lang], rows[places]) if lang in table.column_names else [None] * len(places)
        if None in found:
            culprit = table[key][int(rows[places][found.index(None)])].as_py()
            raise ValueError(f"{key} {culprit!r} has no text in {str(lang)!r}")
        texts[places] = found
    return texts.tolist()


def _values(column: pa.ChunkedArray, rows: Sequence[int]) -> list:
    """Values of a few rows. Value by value, since `take` first copies a column of several chunks into one."""
    return [column[int(row)].as_py() for row in rows]
