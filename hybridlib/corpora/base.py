"""The two kinds of corpus: ParallelPairs to train on, Benchmark to evaluate on.

Both hold texts in pyarrow tables, a text once, and identify them by ids that do not depend on the language.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybridlib.corpora import tables
from hybridlib.corpora.tables import PARTS, WINDOW, PairGroup, fingerprint, write_files
from hybridlib.files import parse_json


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
            ValueError, TypeError: as `corpora.write.write_pairs`, which makes the same of streams of tables.
        """
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), name=name, queries=[queries], passages=[passages], pairs=[pairs])
            return cls.load(folder, in_memory=True)

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
        negatives = self.negatives(rows, passage_languages)
        columns = zip(queries, passages, negatives, passage_languages, strict=True)
        return [
            {"query": query, "passage": passage, "negatives": self.passage_texts(more, [lang] * len(more))}
            for query, passage, more, lang in columns
        ]

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
        write_files(folder, name=self.name, **self.streams())

    @classmethod
    def load(cls, folder: Path, *, in_memory: bool = False) -> ParallelPairs:
        """Open a saved corpus memory-mapped: in a moment, however large it is. Or read it into memory.

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
        groups = tuple(
            PairGroup(source, tuple(query_languages), tuple(passage_languages), start, stop)
            for source, query_languages, passage_languages, start, stop in about["groups"]
        )
        parts = [tables.opened(path.parent / f"{part}.arrow", in_memory=in_memory) for part in PARTS]
        languages = tuple(about["languages"])
        return cls(about["name"], languages, *parts, groups, about["repeats"], about["fingerprint"])

    def streams(
        self, *, queries: np.ndarray | None = None, passages: np.ndarray | None = None, prefix: str = ""
    ) -> dict[str, Iterator[pa.Table]]:
        """Give the corpus, or a part of it, as the streams `queries`, `passages` and `pairs` that `write_pairs` takes.

        Args:
            queries, passages: of each row of the tables whether it stays, bool; pairs stay whose query and passage do,
                and of the negatives those that do. None: all.
            prefix: put before every id.
        """
        queries = np.ones(len(self.queries), dtype=bool) if queries is None else queries
        passages = np.ones(len(self.passages), dtype=bool) if passages is None else passages
        return {
            "queries": _rows(self.queries.drop_columns("positives"), queries, prefix),
            "passages": _rows(self.passages, passages, prefix),
            "pairs": self._named_pairs(queries, passages, prefix),
        }

    def _named_pairs(self, queries: np.ndarray, passages: np.ndarray, prefix: str) -> Iterator[pa.Table]:
        columns = self.queries["query_id"], self.passages["passage_id"]
        # In one chunk: `take` would make one of several at each call.
        query_ids, passage_ids = (pc.binary_join_element_wise(prefix, ids.combine_chunks(), "") for ids in columns)
        for start in range(0, len(self), WINDOW):
            part = self.pairs.slice(start, WINDOW)
            stays = queries[part["query"].to_numpy()] & passages[part["passage"].to_numpy()]
            part = part.filter(pa.array(stays)).combine_chunks()
            negatives = part["negatives"].combine_chunks()
            rows = negatives.flatten().to_numpy()
            stays = passages[rows]
            offsets = np.r_[0, np.cumsum(stays)][negatives.offsets].astype(np.int32)
            named = {
                "query_id": query_ids.take(part["query"]),
                "passage_id": passage_ids.take(part["passage"]),
                "negatives": pa.ListArray.from_arrays(offsets, passage_ids.take(pa.array(rows[stays]))),
            }
            yield pa.table(named | {"source": part["source"]})


def _rows(table: pa.Table, stays: np.ndarray, prefix: str) -> Iterator[pa.Table]:
    """The rows of a corpus' queries or passages that stay, their ids with the prefix."""
    for start in range(0, len(table), WINDOW):
        part = table.slice(start, WINDOW).filter(pa.array(stays[start : start + WINDOW]))
        yield part.set_column(0, table.column_names[0], pc.binary_join_element_wise(prefix, part.column(0), ""))


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
            tables.check_unique(table, key, name)
            _check_prefix(table, key, name)
        for lang in languages:
            for table, what in ((queries, "query"), (candidates, "candidate")):
                if not pc.any(pc.equal(table["lang"], lang)).as_py():
                    raise ValueError(f"{name}: there is no {what} in {lang!r}; drop the language or add texts")
        for table, key in ((queries, "query_id"), (candidates, "candidate_id")):
            tables.rows_of(relevant[key], table[key], f"{name}: a judgement names the unknown {key}")
        if len(relevant) and pc.min(relevant["gain"]).as_py() < 1:
            raise ValueError(f"{name}: a judgement has a gain below 1; leave out what is not relevant")
        return cls(name, tuple(languages), *(table.combine_chunks() for table in (queries, candidates, relevant)))

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of queries and candidates per language."""
        texts = {"queries": self.queries, "candidates": self.candidates}
        return {
            lang: {what: pc.sum(pc.equal(table["lang"], lang)).as_py() for what, table in texts.items()}
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
