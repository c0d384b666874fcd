"""mMARCO: MS MARCO's passages and queries in 14 languages under the same ids, and its training triples of ids.

Files of unicamp-dl/mmarco (Bonifacio et al. 2021, arXiv 2108.13897; version 2, Google Translate), tab-separated and
without header: passages (id, passage) and queries (id, query) of each language, and triples (query, positive,
negative). Table 9 counts triples; here a query and its positive are one pair, with its negatives in a list.

Texts go from the files to the corpus as Arrow tables, a language after the other: memory holds ids, never the texts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from hybridlib.companion.sources.filters import DEFAULT, Counts, TextLimits
from hybridlib.corpora.base import ParallelPairs
from hybridlib.corpora.write import write_pairs
from hybridlib.files import make_parent

NAME = "mmarco"
BLOCK = 1 << 20  # bytes of a file read at once; Arrow reads some dozen blocks ahead
TRIPLES = 4_000_000  # triples held until they are cut to the first negatives of each pair
CHUNK = 50_000  # texts written at once


def write(
    output: Path,
    triples: Path,
    texts: Mapping[str, Sequence[Path]],
    *,
    limit: int | None = None,
    limits: TextLimits = DEFAULT,
    negatives: int = 8,
) -> ParallelPairs:
    """Write the pairs of the triples with their texts in every language that has them.

    Args:
        triples: the file of triples.
        texts: language -> the files of its queries and of its passages.
        limit: triples to read, from the start of their file; None: all.
        limits: a text outside of them is lacking in its language; a pair needs a query and a passage in some language.
        negatives: explicit negatives kept per pair, the first ones.

    Raises:
        ValueError: a file is not tab-separated as it should be; no pair is left.
    """
    rows = first_negatives(_triples(triples, limit), negatives)
    if not len(rows):
        raise ValueError(f"{triples}: there is no triple in it; get it again")
    counts = Counts(read=len(rows.drop_duplicates(["query", "positive"])))
    make_parent(Path(output))
    with tempfile.TemporaryDirectory(prefix=".mmarco-", dir=Path(output).parent) as temporary:
        queries = _Texts("query", np.unique(rows["query"]), Path(temporary))
        passages = _Texts("passage", np.unique(rows[["positive", "negative"]]), Path(temporary))
        for lang, (query_file, passage_file) in texts.items():
            queries.read(lang, query_file, limits.query, counts)
            passages.read(lang, passage_file, limits.passage, counts)
        known_queries, known_passages = queries.ids[queries.present], passages.ids[passages.present]
        rows = rows[rows["query"].isin(known_queries) & rows["positive"].isin(known_passages)]
        counts.kept = len(rows.drop_duplicates(["query", "positive"]))
        counts.dropped["no text"] = counts.read - counts.kept
        if not counts.kept:
            raise ValueError(f"{NAME}: none of {counts.read} pairs has its texts, dropped were {dict(counts.more)}")
        useful = rows["negative"].isin(known_passages) & (rows["negative"] != rows["positive"])
        pairs = [_pair_table(rows, useful)]
        corpus = write_pairs(output, name=NAME, queries=queries.tables(), passages=passages.tables(), pairs=pairs)
    counts.save(output)
    return corpus


# ---- triples


def _triples(path: Path, limit: int | None) -> Iterator[pd.DataFrame]:
    left = np.inf if limit is None else limit
    for batch in _tsv(path, {"query": pa.int32(), "positive": pa.int32(), "negative": pa.int32()}):
        yield batch.slice(0, min(left, len(batch))).to_pandas()
        left -= len(batch)
        if left <= 0:
            return


def first_negatives(triples: Iterator[pd.DataFrame], count: int) -> pd.DataFrame:
    """Keep the first `count` triples of each query and positive: query, positive, negative, sorted by the first two.

    mMARCO has some 75 triples for each pair, so what is kept stays small beside the file.
    """
    parts: list[pd.DataFrame] = []
    held = 0
    for part in triples:
        parts.append(part)
        held += len(part)
        if held >= TRIPLES:
            parts = [_first(parts, count)]
            held = 0
    return _first(parts, count).sort_values(["query", "positive"], kind="stable", ignore_index=True)


def _first(parts: list[pd.DataFrame], count: int) -> pd.DataFrame:
    triples = pd.concat(parts, ignore_index=True)
    pairs = triples["query"].to_numpy(np.int64) << 32 | triples["positive"]  # one key needs half the memory of two
    return triples[triples.groupby(pairs, sort=False).cumcount() < count]


def _pair_table(rows: pd.DataFrame, useful: pd.Series) -> pa.Table:
    """Make the pairs that `write_pairs` takes; rows of a pair lie together, its list has the `useful` negatives."""
    starts = np.flatnonzero(~rows.duplicated(["query", "positive"]))
    offsets = np.r_[0, np.cumsum(useful)][np.r_[starts, len(rows)]]
    pairs = rows.iloc[starts]
    return pa.table(
        {
            "query_id": _ids(pairs["query"]),
            "passage_id": _ids(pairs["positive"]),
            "negatives": pa.ListArray.from_arrays(offsets.astype(np.int32), _ids(rows["negative"][useful])),
            "source": [NAME] * len(pairs),
        }
    )


def _ids(numbers: np.ndarray | pd.Series) -> pa.Array:
    """Ids as they stand in the corpus, `mmarco:<number>`; a query's and a passage's number have nothing in common."""
    return pc.binary_join_element_wise(NAME, pa.array(numbers).cast(pa.string()), ":")


# ---- texts


class _Texts:
    """The needed queries or passages: a file of Arrow per language, and the row in it of each id's text."""

    def __init__(self, kind: str, ids: np.ndarray, folder: Path) -> None:
        self.kind, self.ids, self.folder = kind, ids, folder
        self.rows: dict[str, np.ndarray] = {}  # language -> row of each id in its file, -1: it has none

    def read(self, lang: str, path: Path, bounds: tuple[int, int], counts: Counts) -> None:
        """Copy the needed texts of a language that are within bounds."""
        rows, needed, kept = np.full(len(self.ids), -1, dtype=np.int32), 0, 0
        with pa.ipc.new_file(self._path(lang), pa.schema({"text": pa.string()})) as writer:
            for batch in _tsv(path, {"id": pa.int32(), "text": pa.string()}):
                ids = batch["id"].to_numpy()
                places = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
                wanted = self.ids[places] == ids
                good = wanted & _within(batch["text"], bounds)
                rows[places[good]] = np.arange(kept, kept + good.sum())
                writer.write_batch(batch.select(["text"]).filter(pa.array(good)))
                needed, kept = needed + int(wanted.sum()), kept + int(good.sum())
        self.rows[lang] = rows
        counts.more[f"{self.kind} not in the file, {lang}"] += len(self.ids) - needed
        counts.more[f"{self.kind} length, {lang}"] += needed - kept

    @property
    def present(self) -> np.ndarray:
        """Whether each id has a text in some language."""
        return np.any([rows >= 0 for rows in self.rows.values()], axis=0)

    def tables(self) -> Iterator[pa.Table]:
        """Give id and a column per language, of the ids that have a text."""
        places = np.flatnonzero(self.present)
        columns = {lang: pa.ipc.open_file(pa.memory_map(self._path(lang))).read_all()["text"] for lang in self.rows}
        for start in range(0, len(places), CHUNK):
            some = places[start : start + CHUNK]
            texts = {lang: _taken(column, self.rows[lang][some]) for lang, column in columns.items()}
            yield pa.table({f"{self.kind}_id": _ids(self.ids[some]), **texts})

    def _path(self, lang: str) -> str:
        return str(self.folder / f"{self.kind}-{lang}.arrow")


def _within(texts: pa.Array, bounds: tuple[int, int]) -> np.ndarray:
    lengths = pc.utf8_length(pc.utf8_trim_whitespace(texts)).to_numpy()
    return (lengths >= max(1, bounds[0])) & (lengths <= bounds[1])


def _taken(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    """Values of these rows, null for -1. Only the stretch between them is touched: `take` copies it into one chunk."""
    present = rows[rows >= 0]
    start, stop = (present.min(), present.max() + 1) if len(present) else (0, 0)
    return column.slice(start, stop - start).take(pa.array(rows - start, mask=rows < 0))


def _tsv(path: Path, kinds: Mapping[str, pa.DataType]) -> Iterator[pa.RecordBatch]:
    """Read batches of a tab-separated file without header or quoting.

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
