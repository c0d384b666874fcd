"""Test collections: queries, judgements, and passages that may be more than memory holds.

A collection in a folder is three Arrow files and collection.json. Its passages are written piece by piece and opened
memory-mapped, so that memory does not depend on how many there are; queries and judgements are held.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from hybridlib.corpora.tables import fingerprint
from hybridlib.files import cache_folder, make_parent, parse_json, replace_folder, write_json

ABOUT = "collection.json"
FORM = 3  # of what lies in a folder; raised when that changes
PARTS = ("queries", "judgements", "passages")  # each in a file <part>.arrow
NOT_THERE = -1  # row of a judged passage that the collection does not hold
BATCH = 16_384  # passages written together

QUERIES = pa.schema([("query_id", pa.string()), ("lang", pa.string()), ("text", pa.string())])
JUDGEMENTS = pa.schema([("query_id", pa.string()), ("doc_id", pa.string()), ("gain", pa.int32())])
PASSAGES = pa.schema([("doc_id", pa.string()), ("text", pa.string())])
_JUDGED_ROWS = JUDGEMENTS.append(pa.field("row", pa.int64()))


@dataclass(frozen=True, eq=False)
class Passages:
    """The passages of a collection: a table of doc_id and text, in memory or memory-mapped.

    `fingerprint` is the SHA-256 of ids and texts in their order, the same on every machine.
    """

    table: pa.Table
    fingerprint: str

    def __len__(self) -> int:
        return len(self.table)

    def ids(self, start: int, stop: int) -> list[str]:
        """Ids of the rows [start, stop)."""
        return self.table["doc_id"].slice(start, stop - start).to_pylist()

    def texts(self, start: int, stop: int) -> list[str]:
        """Texts of the rows [start, stop)."""
        return self.table["text"].slice(start, stop - start).to_pylist()

    def ids_at(self, rows: np.ndarray) -> np.ndarray:
        """Ids of any rows, (N,) objects."""
        rows = np.asarray(rows, dtype=np.int64)
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows must lie in [0, {len(self)}), not {rows.min()} to {rows.max()}")
        ids, start = np.empty(len(rows), dtype=object), 0
        for chunk in self.table["doc_id"].chunks:  # `take` on the whole column would first copy all of it
            places = np.flatnonzero((rows >= start) & (rows < start + len(chunk)))
            ids[places] = chunk.take(pa.array(rows[places] - start)).to_pylist()
            start += len(chunk)
        return ids


@dataclass(frozen=True, eq=False)
class Collection:
    """Queries, judgements, and the passages they are judged on.

    Attributes:
        name: name of the collection; its full and its sub-sampled form have different ones.
        languages: codes of the queries' languages, as they first occur.
        queries: query_id, lang, text; those with at least one judgement.
        judgements: query_id, doc_id, gain (whole number, 1 or more is relevant), row (of the passage, or NOT_THERE).
        passages: None where the collection was loaded without.
        counts: what was left out, such as {"queries without judgements": 2914}; zeros are not listed.
        passage_lang: language of the passages; None where they have several.
        own: of each query the id of the passage that is the query itself and so no hit, as in BEIR's ArguAna; such a
            passage need not be there. None: the collection has none.
    """

    name: str
    languages: tuple[str, ...]
    queries: pa.Table
    judgements: pa.Table
    passages: Passages | None
    counts: dict[str, int]
    passage_lang: str | None = None
    own: tuple[str, ...] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything the collection holds."""
        about = {"passages": self.passages.fingerprint if self.passages else "", "language": self.passage_lang or ""}
        tables = (self.queries, self.judgements, pa.table({name: [value] for name, value in about.items()}))
        return fingerprint(self.name, *tables, *([pa.table({"own": self.own})] if self.own else []))

    def sizes(self) -> dict[str, int | None]:
        """Numbers of queries, of judgements, of those that are relevant, and of passages (None: loaded without)."""
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
            _check_unique(name, passages["doc_id"])
            judged["row"] = _rows_of(judged["doc_id"], passages["doc_id"])
            missing = judged["row"] == NOT_THERE
            _check_missing(name, judged[missing & (judged["gain"] > 0) if sampled else missing], len(passages))
            judged, counts["judgements of passages not sampled"] = judged[~missing], int(missing.sum())
            passages = Passages(passages, fingerprint("passages", passages))
        languages = tuple(dict.fromkeys(asked["lang"]))
        return cls(
            name,
            languages,
            pa.Table.from_pandas(asked, QUERIES, preserve_index=False),
            pa.Table.from_pandas(judged, _JUDGED_ROWS, preserve_index=False),
            passages,
            {what: n for what, n in counts.items() if n},
            passage_lang or (languages[0] if len(languages) == 1 else None),
            tuple(asked["query_id"]) if drop_own else None,
        )

    @classmethod
    def load(cls, folder: Path) -> Collection:
        """Open a collection that `write_collection` wrote, its passages memory-mapped.

        Raises:
            FileNotFoundError: the folder holds none.
            ValueError: a file has another size than when it was written, or all are of another version's form.
        """
        folder = Path(folder)
        if not (folder / ABOUT).exists():
            raise FileNotFoundError(f"{folder}: no collection here; write one with write_collection or a loader")
        about = parse_json((folder / ABOUT).read_bytes(), folder / ABOUT)
        if about.get("form") != FORM:
            raise ValueError(f"{folder / ABOUT}: written by another version of hybridlib; remove the folder, load anew")
        for file, written in about["bytes"].items():
            size = (folder / file).stat().st_size if (folder / file).exists() else 0
            if size != written:
                raise ValueError(
                    f"{folder / file}: {size} bytes, not the {written} written; remove the folder, load anew"
                )
        queries, judgements, passages = (_mapped(folder / f"{part}.arrow") for part in PARTS)
        own = tuple(queries["query_id"].to_pylist()) if about["drop_own"] else None
        more = (Passages(passages, about["passages"]), about["counts"], about["passage_lang"], own)
        return cls(about["name"], tuple(about["languages"]), queries, judgements, *more)


def write_collection(
    folder: Path, name: str, *, passages: Iterable[tuple[str, str]], about: dict | None = None, **parts
) -> Collection:
    """Write a collection piece by piece and open it; passages go to disk as they come.

    While they are checked, 8 bytes for each passage are held.

    Args:
        folder: where it will lie; an older collection there is replaced.
        passages: (doc_id, text).
        about: more to note in collection.json.
        parts: queries, judgements and the other arguments of `Collection.build`.

    Raises:
        ValueError: as `Collection.build`, or the folder holds something else than a collection.
        OSError: the folder cannot be written; what was there stays.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ABOUT).exists():
        raise ValueError(f"{folder}: holds something else than a collection; give an empty or a new folder")
    with _full_disk_named(folder), replace_folder(folder) as new:
        with pa.OSFile(str(new / "passages.arrow"), "wb") as sink, pa.ipc.new_file(sink, PASSAGES) as writer:
            for batch in _batches(name, passages):
                writer.write_batch(batch)
        made = Collection.build(name, passages=_mapped(new / "passages.arrow"), **parts)
        for part in ("queries", "judgements"):
            with pa.ipc.new_file(new / f"{part}.arrow", getattr(made, part).schema) as writer:
                writer.write_table(getattr(made, part))
        write_json(new / ABOUT, _description(made, new) | (about or {}))
    return Collection.load(folder)


def prepared(name: str, made_of: dict, write: Callable[..., Collection], output: Path | None = None) -> Collection:
    """Open the collection made of the same things if it lies in `output` already, else write it there.

    Args:
        made_of: all that decides the content, such as files with their sizes and times of change; as JSON has it.
        write: called with folder and about, as `write_collection` takes them.
        output: default a folder of the package's cache, `collections/<name>`.
    """
    folder = Path(output) if output else cache_folder() / "collections" / name
    make_parent(folder)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (folder / ABOUT).exists():
            about = parse_json((folder / ABOUT).read_bytes(), folder / ABOUT)
            if (about.get("name"), about.get("form"), about.get("made_of")) == (name, FORM, made_of):
                return Collection.load(folder)
        return write(folder=folder, about={"made_of": made_of})


# ---- checks


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


def _check_unique(name: str, ids: pa.ChunkedArray) -> None:
    """Refuse an id that stands twice. Only ids whose hashes are equal are compared themselves."""
    hashes = np.concatenate([_hashes(chunk) for chunk in ids.chunks])
    ordered = np.sort(hashes)
    rows = np.flatnonzero(np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]]))
    suspects = sorted((ids[int(row)].as_py(), int(row)) for row in rows)
    for (doc_id, first), (other, second) in pairwise(suspects):
        if doc_id == other:
            raise ValueError(
                f"{name}: document {doc_id!r} stands twice, as passages {first + 1} and {second + 1} of its files "
                "together; ids must be unique"
            )


def _hashes(ids: pa.Array) -> np.ndarray:
    """SipHash of each id, (N,) uint64."""
    return pd.util.hash_array(np.array(ids.to_pylist(), dtype=object), categorize=False)


def _rows_of(wanted: pd.Series, ids: pa.ChunkedArray) -> np.ndarray:
    """The row of each wanted id among all, NOT_THERE where there is none."""
    names, place = np.unique(wanted.to_numpy(dtype=object), return_inverse=True)
    rows, start = np.full(len(names), NOT_THERE, dtype=np.int64), 0
    for chunk in ids.chunks:
        at = pc.index_in(chunk, value_set=pa.array(names, pa.string()))
        rows[at.drop_null().to_numpy()] = start + np.flatnonzero(at.is_valid().to_numpy(zero_copy_only=False))
        start += len(chunk)
    return rows[place]


# ---- Arrow


def _batches(name: str, passages: Iterable[tuple[str, str]]) -> Iterator[pa.RecordBatch]:
    passages = iter(passages)
    while rows := list(islice(passages, BATCH)):
        yield from _to_arrow(name, rows, PASSAGES).to_batches()


def _to_arrow(name: str, rows: Iterable[tuple], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    try:
        return pa.table(
            [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema=schema
        )
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: a text or an id holds half a character ({error}); repair the files") from error


def _mapped(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except pa.ArrowException as error:
        raise ValueError(f"{path}: torn or no Arrow file ({error}); remove the folder, load anew") from error


@contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Name the folder where the disk is full, which Arrow does not."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        text = f"{folder}: not written ({error}); make room or choose another folder, nothing half written is kept"
        raise OSError(error.errno, text) from error


def _description(made: Collection, folder: Path) -> dict:
    return {
        "form": FORM,
        "name": made.name,
        "languages": made.languages,
        "counts": made.counts,
        "passage_lang": made.passage_lang,
        "drop_own": made.own is not None,
        "sizes": made.sizes(),
        "passages": made.passages.fingerprint,
        "fingerprint": made.fingerprint,
        "bytes": {f"{part}.arrow": (folder / f"{part}.arrow").stat().st_size for part in PARTS},
    }
