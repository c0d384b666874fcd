"""Making test collections from streams of passages: in memory, or piece by piece into a folder.

Passages go to disk as they come, and nothing that grows with them stays in memory; queries and judgements are held.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from hybridlib.companion.search.collection import ABOUT, FORM, NOT_THERE, PARTS, Collection, Passages, mapped
from hybridlib.companion.sources.filters import is_unicode
from hybridlib.corpora.fingerprint import fingerprint
from hybridlib.files import cache_folder, make_parent, parse_json, replace_folder, write_json

ROWS, CHARACTERS = 131_072, 2**26  # a chunk of passages is closed at the one or the other

QUERIES = pa.schema([("query_id", pa.string()), ("lang", pa.string()), ("text", pa.string())])
JUDGEMENTS = pa.schema([("query_id", pa.string()), ("doc_id", pa.string()), ("gain", pa.int32())])
PASSAGES = pa.schema([("doc_id", pa.string()), ("text", pa.string())])

Part = tuple[str, Iterable[tuple[str, str]]]  # the name of a file, and its (doc_id, text) pairs


def build_collection(
    name: str,
    *,
    queries: Iterable[tuple[str, str, str]],
    judgements: Iterable[tuple[str, str, int]],
    passages: Iterable[Part] | None,
    sampled: bool = False,
    passage_lang: str | None = None,
    drop_own: bool = False,
) -> Collection:
    """A collection in memory; arguments and errors as `write_collection`'s. No passages: None."""
    tables = _Tables(name, queries, judgements, passage_lang, drop_own)
    if passages is None:
        return tables.collection(None, {})
    batches, hashes, places = [], [np.empty(0, np.uint64)], _Places()
    for batch in places.batches(name, passages):
        tables.look_up(batch)
        batches.append(batch)
        hashes.append(_hashes(batch))
    table = pa.Table.from_batches(batches, PASSAGES)
    _check_unique(name, np.sort(np.concatenate(hashes)), table, places)
    counts = tables.settle(sampled)
    return tables.collection(Passages(table, fingerprint("passages", table)), counts)


def write_collection(
    folder: Path,
    name: str,
    *,
    queries: Iterable[tuple[str, str, str]],
    judgements: Iterable[tuple[str, str, int]],
    passages: Iterable[Part],
    sampled: bool = False,
    passage_lang: str | None = None,
    drop_own: bool = False,
    about: dict | None = None,
) -> Collection:
    """Write a collection piece by piece and open it; no part of it that grows with the passages stays in memory.

    While it is written, 8 bytes a passage lie in a working file beside it.

    Args:
        folder: where it will lie; an older collection there is replaced.
        queries: (query_id, language, text). Those without a judgement are left out and counted.
        judgements: (query_id, doc_id, gain).
        passages: for each file its name and an iterator of (doc_id, text).
        sampled: the passages are a part of the full corpus: judgements of gain 0 or less whose passage is not among
            them are left out and counted. A relevant passage that is missing is an error in any case.
        passage_lang: language of the passages; default that of the queries, where they have only one.
        drop_own: a passage with the id of a query is that query itself; see `Collection.own`.
        about: more to note in collection.json.

    Raises:
        ValueError: an id is double, a judgement names an unknown query or passage or is double, there is no query, no
            judgement or no passage, a text is no Unicode, or the folder holds something else than a collection.
        OSError: the folder cannot be written; what was there stays.
    """
    folder = Path(folder)
    check_replaceable(folder)
    tables, places = _Tables(name, queries, judgements, passage_lang, drop_own), _Places()
    with _room_in(folder), replace_folder(folder) as new, tempfile.TemporaryDirectory(dir=new, prefix="work-") as work:
        hashes = Path(work) / "hashes"
        with pa.OSFile(str(new / "passages.arrow"), "wb") as sink, open(hashes, "wb") as hash_file:
            with pa.ipc.new_file(sink, PASSAGES) as writer:
                for batch in places.batches(name, passages):
                    tables.look_up(batch)
                    writer.write_batch(batch)
                    hash_file.write(_hashes(batch).tobytes())
        table = mapped(new / "passages.arrow")
        in_order = np.memmap(hashes, np.uint64, mode="r+")
        in_order.sort()
        _check_unique(name, in_order, table, places)
        counts = tables.settle(sampled)
        made = tables.collection(Passages(table, fingerprint("passages", table)), counts)
        for part in ("queries", "judgements"):
            with pa.ipc.new_file(new / f"{part}.arrow", getattr(made, part).schema) as writer:
                writer.write_table(getattr(made, part))
        write_json(new / ABOUT, {**_description(made, new), **(about or {})})
    return Collection.load(folder)


@contextmanager
def _room_in(folder: Path) -> Iterator[None]:
    """Name the folder where the disk is full, which Arrow does not."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            raise
        text = f"{folder}: not written ({error}); make room or choose another folder, nothing half written is kept"
        raise OSError(error.errno, text) from error


def check_replaceable(folder: Path) -> None:
    """Refuse, by a ValueError, a folder that holds anything but a collection."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / ABOUT).exists():
        raise ValueError(f"{folder}: holds something else than a collection; give an empty or a new folder")


def prepared(
    name: str, files: Sequence[Path], options: dict, output: Path | None, write: Callable[..., Collection]
) -> Collection:
    """The collection made of these files if it lies in `output` already, else a new one written there.

    It is the same if name, options, and each file's name, size and time of change are, and the form of the folder.

    Args:
        output: default a folder of the package's cache, `collections/<name>`.
        write: called with folder and about, as `write_collection` takes them.
    """
    folder = Path(output) if output else cache_folder() / "collections" / name
    stats = [(Path(file).name, Path(file).stat()) for file in files]
    made_of = {"options": options, "files": [[file, stat.st_size, stat.st_mtime_ns] for file, stat in stats]}
    make_parent(folder)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (folder / ABOUT).exists():
            about = parse_json((folder / ABOUT).read_bytes(), folder / ABOUT)
            if (about.get("name"), about.get("form"), about.get("made_of")) == (name, FORM, made_of):
                return Collection.load(folder)
        return write(folder=folder, about={"made_of": made_of})


class _Tables:
    """Queries and judgements, checked against each other; then the rows of the judged passages as these come by."""

    def __init__(
        self,
        name: str,
        queries: Iterable[tuple[str, str, str]],
        judgements: Iterable[tuple[str, str, int]],
        passage_lang: str | None = None,
        drop_own: bool = False,
    ) -> None:
        self.name, self.drop_own = name, drop_own
        self.queries = _frame(queries, QUERIES)
        spoken = self.queries["lang"].unique()
        self.passage_lang = passage_lang or (spoken[0] if len(spoken) == 1 else None)
        self.judgements = _frame(judgements, JUDGEMENTS)
        self._check()
        judged = self.queries["query_id"].isin(self.judgements["query_id"])
        self.unjudged = int((~judged).sum())
        self.queries = self.queries[judged]
        self.seen = 0
        self.ids = pa.array(self.judgements["doc_id"].unique(), pa.string())
        self.rows = np.full(len(self.ids), NOT_THERE, dtype=np.int64)

    def _check(self) -> None:
        queries, judgements = self.queries, self.judgements
        for frame, what in ((queries, "query"), (judgements, "judgement")):
            if frame.empty:
                raise ValueError(f"{self.name}: there is no {what}; check the files and the split")
        double = queries["query_id"].duplicated().to_numpy()
        if double.any():
            culprit = queries["query_id"].iloc[double.argmax()]
            raise ValueError(f"{self.name}: query_id {culprit!r} occurs more than once; ids must be unique")
        double = judgements.duplicated(["query_id", "doc_id"]).to_numpy()
        if double.any():
            query, doc = judgements[["query_id", "doc_id"]].iloc[double.argmax()]
            raise ValueError(f"{self.name}: query {query!r} has two judgements of document {doc!r}; keep one")
        unknown = ~judgements["query_id"].isin(queries["query_id"]).to_numpy()
        if unknown.any():
            query, doc = judgements[["query_id", "doc_id"]].iloc[unknown.argmax()]
            raise ValueError(f"{self.name}: a judgement of document {doc!r} names the unknown query {query!r}")

    def look_up(self, batch: pa.RecordBatch) -> None:
        """Note the rows of the judged passages among the next ones."""
        found = pc.index_in(batch["doc_id"], value_set=self.ids)
        at = np.flatnonzero(found.is_valid().to_numpy(zero_copy_only=False))
        self.rows[found.drop_null().to_numpy()] = self.seen + at
        self.seen += len(batch)

    def settle(self, sampled: bool) -> dict[str, int]:
        """Put the rows beside the judgements; says how many judgements a sampled corpus does not reach."""
        row = self.rows[pc.index_in(pa.array(self.judgements["doc_id"]), value_set=self.ids).to_numpy()]
        missing = row == NOT_THERE
        fatal = missing & (self.judgements["gain"].to_numpy() > 0) if sampled else missing
        if fatal.any():
            query, doc = self.judgements[["query_id", "doc_id"]].iloc[fatal.argmax()]
            raise ValueError(
                f"{self.name}: query {query!r} has a judgement of document {doc!r}, which is not among the "
                f"{self.seen} passages ({fatal.sum()} such judgements); the corpus is cut off or another version"
            )
        self.judgements = self.judgements.assign(row=row)[~missing]
        return {"judgements of passages not sampled": int(missing.sum())}

    def collection(self, passages: Passages | None, counts: dict[str, int]) -> Collection:
        """The collection, once `settle` was called or where there are no passages."""
        judgements = self.judgements if "row" in self.judgements else self.judgements.assign(row=NOT_THERE)
        counts = {"queries without judgements": self.unjudged, **counts}
        return Collection(
            self.name,
            tuple(dict.fromkeys(self.queries["lang"])),
            pa.Table.from_pandas(self.queries, QUERIES, preserve_index=False),
            pa.Table.from_pandas(judgements, JUDGEMENTS.append(pa.field("row", pa.int64())), preserve_index=False),
            passages,
            {what: n for what, n in counts.items() if n},
            self.passage_lang,
            tuple(self.queries["query_id"]) if self.drop_own else None,
        )


class _Places:
    """Cuts streams of passages into chunks and remembers at which row each file started."""

    def __init__(self) -> None:
        self.starts: list[tuple[int, str]] = []
        self.row = 0

    def batches(self, name: str, parts: Iterable[Part]) -> Iterator[pa.RecordBatch]:
        """Chunks of at most ROWS passages and about CHARACTERS characters."""
        ids, texts, size = [], [], 0
        for label, documents in parts:
            self.starts.append((self.row + len(ids), label))
            for doc_id, text in documents:
                ids.append(doc_id)
                texts.append(text)
                size += len(text)
                if len(ids) == ROWS or size >= CHARACTERS:
                    yield self._batch(ids, texts)
                    ids, texts, size = [], [], 0
        if ids:
            yield self._batch(ids, texts)
        if not self.row:
            raise ValueError(f"{name}: there is no passage; check the corpus files")

    def _batch(self, ids: list[str], texts: list[str]) -> pa.RecordBatch:
        try:
            batch = pa.record_batch([pa.array(ids, pa.string()), pa.array(texts, pa.string())], schema=PASSAGES)
        except UnicodeEncodeError as error:
            wrong = next(i for i, text in enumerate(texts) if not is_unicode(ids[i] + text))
            raise ValueError(
                f"{self.place(self.row + wrong)}: {ids[wrong]!r} holds half a character ({error}); repair the file"
            ) from error
        self.row += len(ids)
        return batch

    def place(self, row: int) -> str:
        """The file a passage came from and its number there, from 1."""
        start, label = next(entry for entry in reversed(self.starts) if entry[0] <= row)
        return f"{label}, document {row - start + 1}"


def _frame(rows: Iterable[Sequence], schema: pa.Schema) -> pd.DataFrame:
    """Query and judgement rows as a frame with the columns of a schema."""
    return pd.DataFrame(list(rows), columns=schema.names)


def _hashes(batch: pa.RecordBatch) -> np.ndarray:
    """SipHash of each id, (N,) uint64."""
    return pd.util.hash_array(np.array(batch["doc_id"].to_pylist(), dtype=object), categorize=False)


def _check_unique(name: str, hashes: np.ndarray, table: pa.Table, places: _Places) -> None:
    """ValueError for an id that stands twice. `hashes` are sorted; ids that share one are compared themselves."""
    shared = {
        int(value)
        for start in range(0, len(hashes), ROWS)
        for window in [hashes[start : start + ROWS + 1]]
        for value in window[1:][window[1:] == window[:-1]]
    }
    if not shared:
        return
    first: dict[str, int] = {}
    row = 0
    for batch in table.select(["doc_id"]).to_batches():
        for i in np.flatnonzero(np.isin(_hashes(batch), np.array(list(shared), dtype=np.uint64))):
            doc_id = batch["doc_id"][int(i)].as_py()
            if doc_id in first:
                raise ValueError(
                    f"{name}: document {doc_id!r} stands twice: {places.place(first[doc_id])}, and "
                    f"{places.place(row + int(i))}; ids must be unique"
                )
            first[doc_id] = row + int(i)
        row += len(batch)


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
