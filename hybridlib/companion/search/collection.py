"""Test collections: queries, judgements, and passages that may be more than memory holds.

A collection in a folder is three Arrow files and collection.json. Its passages are written piece by piece and opened
memory-mapped, so that memory does not depend on how many there are; queries and judgements are held.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from hybridlib.corpora.tables import check_unique, fingerprint, opened, write_arrow
from hybridlib.files import make_parent, read_json, replace_folder, write_json

ABOUT = "collection.json"
FORM = 4  # of what lies in a folder; raised when that changes
NOT_THERE = -1  # row of a judged passage that the collection does not hold
BATCH = 16_384  # passages written together
FULL_DISK = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)

QUERIES = pa.schema([("query_id", pa.string()), ("lang", pa.string()), ("text", pa.string())])
JUDGEMENTS = pa.schema([("query_id", pa.string()), ("doc_id", pa.string()), ("gain", pa.int32())])
PASSAGES = pa.schema([("doc_id", pa.string()), ("text", pa.string())])


@dataclass(frozen=True, eq=False)
class Passages:
    """The passages of a collection: a table of doc_id and text, in memory or memory-mapped.

    `fingerprint` is the SHA-256 of ids and texts in their order, the same on every machine.
    """

    table: pa.Table
    fingerprint: str

    def __len__(self) -> int:
        return len(self.table)

    def texts(self, start: int, stop: int) -> list[str]:
        """Give the texts of the rows [start, stop)."""
        return self.table["text"].slice(start, stop - start).to_pylist()

    def ids_at(self, rows: Sequence[int]) -> np.ndarray:
        """Give the ids of any rows, (N,) objects, "" for -1: `take` would first copy the whole column."""
        column = self.table["doc_id"]
        return np.array(["" if row == NOT_THERE else column[int(row)].as_py() for row in rows], dtype=object)


@dataclass(frozen=True, eq=False)
class Collection:
    """Queries, judgements, and the passages they are judged on.

    Attributes:
        name: name of the collection; its full and its sub-sampled form have different ones.
        queries: query_id, lang, text; those with at least one judgement.
        judgements: query_id, doc_id, gain (whole number, 1 or more is relevant), row (of the passage, or NOT_THERE).
        passages: None where the collection was loaded without.
        counts: what was left out, such as {"queries without judgements": 2914}; zeros are not listed.
        passage_lang: language of the passages; None where they have several.
        own: of each query the id of the passage that is the query itself and so no hit, as in BEIR's ArguAna; such a
            passage need not be there. None: the collection has none.
    """

    name: str
    queries: pa.Table
    judgements: pa.Table
    passages: Passages | None
    counts: dict[str, int]
    passage_lang: str | None = None
    own: tuple[str, ...] | None = None

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the queries' languages, as they first occur."""
        return tuple(self.queries["lang"].unique().to_pylist())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything the collection holds."""
        about = {"passages": self.passages.fingerprint if self.passages else "", "language": self.passage_lang or ""}
        tables = (self.queries, self.judgements, pa.table({name: [value] for name, value in about.items()}))
        return fingerprint(self.name, *tables, *([pa.table({"own": self.own})] if self.own else []))

    def sizes(self) -> dict[str, int | None]:
        """Count queries, judgements, those that are relevant, and passages (None: loaded without)."""
        relevant = pc.sum(pc.greater(self.judgements["gain"], 0)).as_py() or 0
        sizes = {"queries": len(self.queries), "judgements": len(self.judgements), "relevant": relevant}
        return {**sizes, "passages": len(self.passages) if self.passages else None}

    @classmethod
    def build(
        cls,
        name: str,
        *,
        queries: Iterable[tuple[str, str, str]],
        judgements: Iterable[tuple[str, str, int]],
        passages: Iterable[tuple[str, str]] | pa.Table | None,
        sampled: bool = False,
        passage_lang: str | None = None,
        drop_own: bool = False,
    ) -> Collection:
        """Put a collection together in memory, and check that its parts fit together.

        Args:
            queries: (query_id, language, text). Those without a judgement are left out and counted.
            judgements: (query_id, doc_id, gain).
            passages: (doc_id, text), or a table of them that may be memory-mapped; None: without passages.
            sampled: the passages are a part of the full corpus: judgements of gain 0 or less whose passage is not
                among them are left out and counted. A relevant passage that is missing is an error in any case.
            passage_lang: language of the passages; default that of the queries, where they have only one.
            drop_own: a passage with the id of a query is that query itself; see `own`.

        Raises:
            ValueError: an id is double, a judgement names an unknown query or passage or is double, there is no query,
                no judgement or no passage, or a text is no Unicode.
        """
        asked, judged = (_to_arrow(name, *part).to_pandas() for part in ((queries, QUERIES), (judgements, JUDGEMENTS)))
        _check_judgements(name, asked, judged)
        with_judgement = asked["query_id"].isin(judged["query_id"])
        counts = {"queries without judgements": int((~with_judgement).sum())}
        asked, judged["row"] = asked[with_judgement], NOT_THERE
        if passages is not None:
            if not isinstance(passages, pa.Table):
                passages = pa.Table.from_batches(_batches(name, passages), PASSAGES)
            if not len(passages):
                raise ValueError(f"{name}: there is no passage; check the corpus files")
            check_unique(passages, "doc_id", name)
            judged["row"] = _rows_of(judged["doc_id"], passages["doc_id"])
            missing = judged["row"] == NOT_THERE
            _check_missing(name, judged[missing & (judged["gain"] > 0) if sampled else missing], len(passages))
            judged, counts["judgements of passages not sampled"] = judged[~missing], int(missing.sum())
            passages = Passages(passages, fingerprint("passages", passages))
        languages = asked["lang"].unique()
        return cls(
            name,
            pa.Table.from_pandas(asked, QUERIES, preserve_index=False),
            pa.Table.from_pandas(judged, JUDGEMENTS.append(pa.field("row", pa.int64())), preserve_index=False),
            passages,
            {what: n for what, n in counts.items() if n},
            passage_lang or (languages[0] if len(languages) == 1 else None),
            tuple(asked["query_id"]) if drop_own else None,
        )

    @classmethod
    def load(cls, folder: Path) -> Collection:
        """Open a collection that `prepared` wrote, its passages memory-mapped.

        Raises:
            FileNotFoundError: the folder holds none.
            ValueError: a file is torn or lacking, or all are of another version's form.
        """
        folder = Path(folder)
        if not (folder / ABOUT).exists():
            raise FileNotFoundError(f"{folder}: no collection here; load one by name or from a folder in BEIR's format")
        about = read_json(folder / ABOUT)
        if about.get("form") != FORM:
            raise ValueError(f"{folder / ABOUT}: written by another version of hybridlib; remove the folder, load anew")
        queries, judgements, passages = (_mapped(folder, part) for part in ("queries", "judgements", "passages"))
        own = tuple(queries["query_id"].to_pylist()) if about["drop_own"] else None
        passages = Passages(passages, about["passages"])
        return cls(about["name"], queries, judgements, passages, about["counts"], about["passage_lang"], own)


def prepared(
    folder: Path, name: str, made_of: dict, read: Callable[[], tuple[Iterable, Iterable, Iterable]], **options
) -> Collection:
    """Open the collection in a folder if it was made of the same things, else write it there piece by piece.

    While the passages are checked, 8 bytes of each are held.

    Args:
        folder: an older collection there is replaced.
        made_of: all that decides the content, such as files with their sizes and times of change; as JSON has it.
        read: gives queries, judgements and passages as `Collection.build` takes them; called only to write.
        options: of `Collection.build`.

    Raises:
        ValueError: as `Collection.build`, or the folder holds something else than a collection.
        OSError: the folder cannot be written; what was there stays.
    """
    folder = Path(folder)
    make_parent(folder)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (folder / ABOUT).exists():
            about = read_json(folder / ABOUT)
            if [about.get(key) for key in ("name", "form", "made_of")] == [name, FORM, made_of]:
                return Collection.load(folder)
        elif folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder}: holds something else than a collection; give an empty or a new folder")
        try:
            with replace_folder(folder) as new:
                _write(new, name, made_of, *read(), options)
        except OSError as error:
            if error.errno not in FULL_DISK:
                raise
            reason = f"{folder}: not written ({error}); make room or choose another folder, nothing half is kept"
            raise OSError(error.errno, reason) from error
    return Collection.load(folder)


def _write(
    folder: Path, name: str, made_of: dict, queries: Iterable, judgements: Iterable, passages: Iterable, options: dict
) -> None:
    with pa.ipc.new_file(folder / "passages.arrow", PASSAGES) as writer:
        for batch in _batches(name, passages):
            writer.write_batch(batch)
    table = _mapped(folder, "passages")
    made = Collection.build(name, queries=queries, judgements=judgements, passages=table, **options)
    write_arrow(folder / "queries.arrow", [made.queries])
    write_arrow(folder / "judgements.arrow", [made.judgements])
    about = {"form": FORM, "name": name, "made_of": made_of, "counts": made.counts, "passage_lang": made.passage_lang}
    about |= {"drop_own": made.own is not None, "passages": made.passages.fingerprint}
    write_json(folder / ABOUT, about)


def _mapped(folder: Path, part: str) -> pa.Table:
    path = folder / f"{part}.arrow"
    try:
        return opened(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: torn or no Arrow file ({error}); remove the folder, load anew") from error


def _batches(name: str, passages: Iterable[tuple[str, str]]) -> Iterator[pa.RecordBatch]:
    passages = iter(passages)
    while rows := list(islice(passages, BATCH)):
        yield from _to_arrow(name, rows, PASSAGES).to_batches()


def _to_arrow(name: str, rows: Iterable[tuple], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    try:
        return pa.table([pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema)
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: a text or an id holds half a character ({error}); repair the files") from error


def _rows_of(wanted: pd.Series, ids: pa.ChunkedArray) -> pd.Series:
    """Find the row of each wanted id among all, NOT_THERE where there is none."""
    among = pc.is_in(ids, value_set=pa.array(wanted.unique(), pa.string()))
    rows = pd.Series(np.flatnonzero(among.to_numpy()), index=ids.filter(among).to_pylist(), dtype="int64")
    return wanted.map(rows).fillna(NOT_THERE).astype("int64")


def _check_judgements(name: str, queries: pd.DataFrame, judgements: pd.DataFrame) -> None:
    for frame, what in ((queries, "query"), (judgements, "judgement")):
        if frame.empty:
            raise ValueError(f"{name}: there is no {what}; check the files and the split")
    for query in queries["query_id"][queries["query_id"].duplicated()]:
        raise ValueError(f"{name}: query_id {query!r} occurs more than once; ids must be unique")
    pairs = judgements[["query_id", "doc_id"]]
    for query, doc in pairs[pairs.duplicated()].to_numpy():
        raise ValueError(f"{name}: query {query!r} has two judgements of document {doc!r}; keep one")
    for query, doc in pairs[~pairs["query_id"].isin(queries["query_id"])].to_numpy():
        raise ValueError(f"{name}: a judgement of document {doc!r} names the unknown query {query!r}")


def _check_missing(name: str, judgements: pd.DataFrame, passages: int) -> None:
    for query, doc in judgements[["query_id", "doc_id"]].to_numpy():
        raise ValueError(
            f"{name}: query {query!r} has a judgement of document {doc!r}, which is not among the {passages} passages "
            f"({len(judgements)} such judgements); the corpus is cut off or another version"
        )
