"""mMARCO: MS MARCO's passages and queries in 14 languages under the same ids, and its training triples of ids.

Files of unicamp-dl/mmarco (Bonifacio et al. 2021, arXiv 2108.13897; version 2, Google Translate), tab-separated and
without header: `data/google/collections/<language>_collection.tsv` (id, passage), `data/google/queries/train/
<language>_queries.train.tsv` (id, query), `data/triples.train.ids.small.tsv` (query, positive, negative). Table 9
counts triples; here a query and its positive are one pair, with its negatives in a list.

Texts go from the files to the corpus as Arrow tables, a language after the other: memory holds ids (some 60 bytes for
each triple while they are grouped, 2.4 GB for all of them), never the texts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from hybridlib.companion.sources.filters import DEFAULT, Counts, Limits
from hybridlib.corpora.base import ParallelPairs
from hybridlib.corpora.write import write_pairs
from hybridlib.files import make_parent

NAME = "mmarco"
REPO = "unicamp-dl/mmarco"
REVISION = "6d039c4638c0ba3e46a9cb7b498b145e7edc6230"
TRIPLES = "data/triples.train.ids.small.tsv"
LANGUAGES = {
    "ar": "arabic",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fr": "french",
    "hi": "hindi",
    "id": "indonesian",
    "it": "italian",
    "ja": "japanese",
    "nl": "dutch",
    "pt": "portuguese",
    "ru": "russian",
    "vi": "vietnamese",
    "zh": "chinese",
}
TABLE_9 = ("ar", "de", "en", "es", "hi", "ru", "zh")
# Bytes of the files, as ir_datasets states them (its registry of mMARCO version 2; no entry for English).
TRIPLES_BYTES = 905_211_990
QUERIES_BYTES = {"ar": 51_869_220, "de": 39_404_290, "es": 41_464_870, "hi": 82_511_017, "ru": 62_396_828}
QUERIES_BYTES |= {"zh": 31_567_548}
PASSAGES_BYTES = {"ar": 4_664_307_196, "de": 3_488_187_566, "es": 3_571_559_558, "hi": 7_649_320_531}
PASSAGES_BYTES |= {"ru": 5_769_514_997, "zh": 2_720_255_044}
BLOCK = 1 << 24  # bytes of a file read at once
CHUNK = 50_000  # texts written at once


def files(languages: Sequence[str]) -> tuple[str, ...]:
    """Paths in the repository of what these languages need."""
    return (TRIPLES, *(path(lang) for lang in languages for path in (queries_file, passages_file)))


def queries_file(lang: str) -> str:
    """Path of the training queries in a language."""
    return f"data/google/queries/train/{LANGUAGES[lang]}_queries.train.tsv"


def passages_file(lang: str) -> str:
    """Path of the passages in a language."""
    return f"data/google/collections/{LANGUAGES[lang]}_collection.tsv"


def known_sizes() -> dict[str, int]:
    """Bytes of those files whose size is known without asking the hub."""
    sizes = {queries_file(lang): size for lang, size in QUERIES_BYTES.items()}
    return {TRIPLES: TRIPLES_BYTES, **sizes, **{passages_file(lang): size for lang, size in PASSAGES_BYTES.items()}}


def write(
    output: Path,
    paths: Mapping[str, Path],
    languages: Sequence[str],
    *,
    limit: int | None = None,
    limits: Limits = DEFAULT,
    negatives: int = 8,
) -> ParallelPairs:
    """Write the pairs of the triples with their texts in every language that has them.

    Args:
        paths: of each of `files(languages)`, the local file.
        limit: triples to read, from the start of their file; None: all.
        limits: a text outside of them is lacking in its language; a pair needs a query and a passage in some language.
        negatives: explicit negatives kept per pair, the first ones.

    Raises:
        ValueError: a file is not tab-separated as it should be; no pair is left.
    """
    counts = Counts()
    pairs, lists = _grouped(_triples(paths[TRIPLES], limit), negatives)
    counts.read = len(pairs)
    query_ids, passage_ids = np.unique(pairs[:, 0]), np.unique(np.r_[pairs[:, 1], lists.ravel()])
    passage_ids = passage_ids[passage_ids >= 0]  # -1 fills the lists
    make_parent(Path(output))
    with tempfile.TemporaryDirectory(prefix=".mmarco-", dir=Path(output).parent) as temporary:
        queries = _Texts(query_ids, "query_id", Path(temporary) / "q", limits.query, counts)
        passages = _Texts(passage_ids, "passage_id", Path(temporary) / "p", limits.passage, counts)
        for lang in languages:
            queries.read(lang, paths[queries_file(lang)])
            passages.read(lang, paths[passages_file(lang)])
        whole = queries.has(pairs[:, 0]) & passages.has(pairs[:, 1])
        counts.dropped["no text"] = int(np.count_nonzero(~whole))
        counts.kept = int(np.count_nonzero(whole))
        if not counts.kept:
            raise ValueError(f"{NAME}: none of {counts.read} pairs has its texts, dropped were {dict(counts.more)}")
        lists = np.where(passages.has(lists), lists, -1)
        tables = {"queries": queries.tables(), "passages": passages.tables()}
        corpus = write_pairs(output, name=NAME, **tables, pairs=_pair_tables(pairs[whole], lists[whole]))
    counts.save(output)
    return corpus


# ---- triples


def _triples(path: Path, limit: int | None) -> np.ndarray:
    """Ids of query, positive and negative, (triples, 3) int32."""
    kinds = {name: pa.int32() for name in ("query", "positive", "negative")}
    parts, n = [], 0
    for batch in _tsv(path, kinds):
        parts.append(np.stack([column.to_numpy() for column in batch.columns], axis=1))
        n += len(batch)
        if limit is not None and n >= limit:
            break
    if not n:
        raise ValueError(f"{path}: there is no triple in it; get it again")
    return np.concatenate(parts)[:limit]


def _grouped(triples: np.ndarray, negatives: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (pairs, 2) in ascending order and their first negatives (pairs, negatives), -1 where there are fewer."""
    keys = triples[:, 0].astype(np.int64) << 32 | triples[:, 1]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    place = np.arange(len(keys)) - np.repeat(starts, np.diff(np.r_[starts, len(keys)]))
    kept = place < negatives
    lists = np.full((len(starts), negatives), -1, dtype=np.int32)
    group = np.cumsum(np.r_[0, keys[1:] != keys[:-1]])
    lists[group[kept], place[kept]] = triples[order[kept], 2]
    return triples[order[starts], :2], lists


def _pair_tables(pairs: np.ndarray, lists: np.ndarray) -> Iterator[pa.Table]:
    for start in range(0, len(pairs), CHUNK):
        some, others = pairs[start : start + CHUNK], lists[start : start + CHUNK]
        others = np.where(others == some[:, 1:], -1, others)  # a positive among its own negatives
        lengths = (others >= 0).sum(axis=1)
        offsets = np.r_[0, np.cumsum(lengths)].astype(np.int32)
        yield pa.table(
            {
                "query_id": _names(some[:, 0]),
                "passage_id": _names(some[:, 1]),
                "negatives": pa.ListArray.from_arrays(offsets, _names(others[others >= 0])),
                "source": pa.array([NAME] * len(some)),
            }
        )


def _names(ids: np.ndarray) -> pa.Array:
    """Ids as they stand in the corpus, `mmarco:<number>`; a query's and a passage's number have nothing in common."""
    return pc.binary_join_element_wise(pa.scalar(NAME), pa.array(ids).cast(pa.string()), ":")


# ---- texts


class _Texts:
    """The needed queries or passages: a file of Arrow per language, and where in it the text of each id lies."""

    def __init__(self, ids: np.ndarray, key: str, stem: Path, bounds: tuple[int, int], counts: Counts) -> None:
        self.ids, self.key, self.stem, self.bounds, self.counts = ids, key, stem, bounds, counts
        self.rows: dict[str, np.ndarray] = {}  # language -> row of each id in its file, -1: it has none

    def read(self, lang: str, path: Path) -> None:
        """Copy the needed texts of a language that are within bounds."""
        rows = np.full(len(self.ids), -1, dtype=np.int32)
        wanted, n, found = pa.array(self.ids), 0, np.zeros(len(self.ids), dtype=bool)
        schema = pa.schema([("text", pa.string())])
        with pa.ipc.new_file(self._path(lang), schema) as writer:
            for batch in _tsv(path, {"id": pa.int32(), "text": pa.string()}):
                batch = batch.filter(pc.is_in(batch["id"], value_set=wanted))
                found[np.searchsorted(self.ids, batch["id"].to_numpy())] = True
                batch = batch.filter(self._good(batch["text"]))
                rows[np.searchsorted(self.ids, batch["id"].to_numpy())] = np.arange(n, n + len(batch))
                n += len(batch)
                if len(batch):
                    writer.write_batch(pa.record_batch([batch["text"]], schema=schema))
        self.rows[lang] = rows
        what = self.key.removesuffix("_id")
        self.counts.more[f"{what} not in the file, {lang}"] += int(np.count_nonzero(~found))
        self.counts.more[f"{what} length, {lang}"] += int(np.count_nonzero(found & (rows < 0)))

    def _good(self, texts: pa.Array) -> pa.Array:
        lengths = pc.utf8_length(pc.utf8_trim_whitespace(texts))
        return pc.and_(pc.greater_equal(lengths, max(1, self.bounds[0])), pc.less_equal(lengths, self.bounds[1]))

    def _path(self, lang: str) -> str:
        return f"{self.stem}-{lang}.arrow"

    def has(self, ids: np.ndarray) -> np.ndarray:
        """True where an id has a text in some language; the shape of `ids`."""
        spoken = np.any([rows >= 0 for rows in self.rows.values()], axis=0)
        place = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return (self.ids[place] == ids) & spoken[place]

    def tables(self) -> Iterator[pa.Table]:
        """Id and a column per language, of the ids that have a text."""
        spoken = np.flatnonzero(np.any([rows >= 0 for rows in self.rows.values()], axis=0))
        columns = {lang: self._column(lang) for lang in self.rows}
        for start in range(0, len(spoken), CHUNK):
            some = spoken[start : start + CHUNK]
            table = {self.key: _names(self.ids[some])}
            for lang, column in columns.items():
                rows = self.rows[lang][some]
                table[lang] = column.take(pa.array(rows, mask=rows < 0))
            yield pa.table(table)

    def _column(self, lang: str) -> pa.ChunkedArray:
        return pa.ipc.open_file(pa.memory_map(self._path(lang))).read_all()["text"]


def _tsv(path: Path, kinds: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """Batches of a tab-separated file without header or quoting.

    Raises:
        ValueError: a line has another number of columns, an id is no number, the text is not UTF-8; names the file.
    """
    try:
        yield from csv.open_csv(
            path,
            read_options=csv.ReadOptions(column_names=list(kinds), block_size=BLOCK),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=True),
            convert_options=csv.ConvertOptions(column_types=dict(kinds), null_values=[]),
        )
    except pa.ArrowException as error:
        raise ValueError(f"{path}: not as mMARCO's files are ({error}); remove it and get it again") from error
