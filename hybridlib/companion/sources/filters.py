"""Questions and passages in one language, filtered and counted, written as ParallelPairs without holding them all.

The paper gives sizes after filtering (Table 9) and does not say how it filtered; these filters are ours, each with a
name that the counts carry.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from hybridlib.corpora.base import ParallelPairs
from hybridlib.corpora.write import write_pairs
from hybridlib.files import make_parent, parse_json, write_json

CHUNK = 10_000  # rows held as Python objects before they go into an Arrow table
COUNTS = "counts.json"


@dataclass(frozen=True)
class Row:
    """A question, a passage that answers it, and what a data set says besides.

    Attributes:
        answers: short answers, of which the passage must hold one; none: the data set says that there is no answer;
            None: the data set has no short answers.
        negatives: passages that do not answer the question.
    """

    query: str
    passage: str
    answers: tuple[str, ...] | None = None
    negatives: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What the filters let through.

    Attributes:
        query, passage: characters, fewest and most, both included.
        answer_within: characters from the start of the passage in which the answer must lie, as an encoder sees only
            a beginning; None: anywhere.
    """

    query: tuple[int, int] = (3, 1_000)
    passage: tuple[int, int] = (3, 50_000)
    answer_within: int | None = None


DEFAULT = Limits()


@dataclass
class Counts:
    """How many rows a filter took: read = kept + the sum of dropped.

    Attributes:
        dropped: name of the filter -> rows it took; a row counts for the first filter that takes it.
        more: what else is worth knowing, such as negatives left out.
        leaks: "queries in en = xquad-r question" -> texts also in an evaluation set; None: not looked for.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    more: Counter[str] = field(default_factory=Counter)
    leaks: dict[str, int] | None = None

    def save(self, folder: Path) -> None:
        """Write the counts beside a corpus."""
        write_json(Path(folder) / COUNTS, vars(self))

    @classmethod
    def load(cls, folder: Path) -> Counts:
        """Counts of a corpus written by this package.

        Raises:
            FileNotFoundError: the folder has none.
        """
        path = Path(folder) / COUNTS
        if not path.exists():
            raise FileNotFoundError(f"{path}: no counts here; the folder was not written by `python -m hybridlib data`")
        content = parse_json(path.read_bytes(), path)
        return cls(
            content["read"], content["kept"], Counter(content["dropped"]), Counter(content["more"]), content["leaks"]
        )


# ---- the filters, each true for a row that has to go


def is_empty(row: Row, limits: Limits) -> bool:
    """The question or the passage has nothing but white space."""
    return not row.query.strip() or not row.passage.strip()


def is_broken(row: Row, limits: Limits) -> bool:
    """A text holds half of a surrogate pair and cannot be written as UTF-8."""
    return not (is_unicode(row.query) and is_unicode(row.passage))


def has_no_answer(row: Row, limits: Limits) -> bool:
    """The data set marks the question as one that the passage does not answer."""
    return row.answers is not None and not any(answer.strip() for answer in row.answers)


def query_is_off_limits(row: Row, limits: Limits) -> bool:
    """The question is shorter or longer than allowed."""
    return not _within(row.query, limits.query)


def passage_is_off_limits(row: Row, limits: Limits) -> bool:
    """The passage is shorter or longer than allowed."""
    return not _within(row.passage, limits.passage)


def answer_is_missing(row: Row, limits: Limits) -> bool:
    """None of the short answers stands in the passage, or not near enough to its start; case and spacing aside."""
    if row.answers is None:
        return False
    passage = _folded(row.passage[: limits.answer_within])
    return not any(_folded(answer) in passage for answer in row.answers if answer.strip())


FILTERS = {
    "empty": is_empty,
    "no UTF-8": is_broken,
    "no answer": has_no_answer,
    "query length": query_is_off_limits,
    "passage length": passage_is_off_limits,
    "answer not in passage": answer_is_missing,
}
DUPLICATE = "duplicate"


def filtered(rows: Iterable[Row], limits: Limits, counts: Counts) -> Iterator[Row]:
    """The rows that every filter lets through, each pair of question and passage once; fills `counts`."""
    seen: set[int] = set()
    for row in rows:
        counts.read += 1
        reason = next((name for name, takes in FILTERS.items() if takes(row, limits)), None)
        if reason is None:
            pair = _digest(f"{row.query}\0{row.passage}")
            reason = DUPLICATE if pair in seen else None
            seen.add(pair)
        if reason:
            counts.dropped[reason] += 1
        else:
            counts.kept += 1
            yield row


def write_rows(
    folder: Path,
    rows: Iterable[Row],
    *,
    name: str,
    lang: str = "en",
    limits: Limits = DEFAULT,
    limit: int | None = None,
) -> tuple[ParallelPairs, Counts]:
    """Filter the rows and write them as a corpus; a question or passage that recurs is stored once.

    Ids are `<name>:<16 hexadecimal digits of the text's BLAKE2>`: they depend neither on the order nor on the filters.

    Args:
        limit: pairs to keep at most; reading stops there. None: all.

    Raises:
        ValueError: no row is left; the text says which filter took how many.
    """
    counts = Counts()
    make_parent(Path(folder))
    with tempfile.TemporaryDirectory(prefix=".rows-", dir=Path(folder).parent) as temporary:
        spool = _Spool(Path(temporary), name, lang)
        for row in filtered(rows, limits, counts):
            counts.more["negatives left out"] += spool.add(row, limits)
            if counts.kept == limit:
                break
        spool.close()
        if not counts.kept:
            raise ValueError(f"{name}: none of {counts.read} rows is left, dropped were {dict(counts.dropped)}")
        corpus = write_pairs(folder, name=name, **{part: spool.read(part) for part in ("queries", "passages", "pairs")})
    counts.save(folder)
    return corpus, counts


class _Spool:
    """Three Arrow files that grow by a chunk of rows at a time."""

    def __init__(self, folder: Path, name: str, lang: str) -> None:
        self.folder, self.name = folder, name
        text, ids = pa.string(), pa.list_(pa.string())
        self.schemas = {
            "queries": pa.schema([("query_id", text), (lang, text)]),
            "passages": pa.schema([("passage_id", text), (lang, text)]),
            "pairs": pa.schema([("query_id", text), ("passage_id", text), ("negatives", ids), ("source", text)]),
        }
        self.rows: dict[str, list[tuple]] = {part: [] for part in self.schemas}
        self.seen: dict[str, set[int]] = {"queries": set(), "passages": set()}
        self.writers = {part: pa.ipc.new_file(self._path(part), schema) for part, schema in self.schemas.items()}

    def _path(self, part: str) -> str:
        return str(self.folder / f"{part}.arrow")

    def add(self, row: Row, limits: Limits) -> int:
        """Take a row; gives how many of its negatives were no passage to keep."""
        query, passage = self._text("queries", row.query), self._text("passages", row.passage)
        good = {
            text: None
            for text in row.negatives
            if text != row.passage and text.strip() and is_unicode(text) and _within(text, limits.passage)
        }
        self._append("pairs", (query, passage, [self._text("passages", text) for text in good], self.name))
        return len(row.negatives) - len(good)

    def _text(self, part: str, text: str) -> str:
        digest = _digest(text)
        identifier = f"{self.name}:{digest:016x}"
        if digest not in self.seen[part]:
            self.seen[part].add(digest)
            self._append(part, (identifier, text))
        return identifier

    def _append(self, part: str, row: tuple) -> None:
        self.rows[part].append(row)
        if len(self.rows[part]) == CHUNK:
            self._flush(part)

    def _flush(self, part: str) -> None:
        schema = self.schemas[part]
        if self.rows[part]:
            arrays = [
                pa.array(column, kind)
                for column, kind in zip(zip(*self.rows[part], strict=True), schema.types, strict=True)
            ]
            self.writers[part].write_table(pa.table(arrays, schema=schema))
            self.rows[part] = []

    def close(self) -> None:
        """Write what is left."""
        for part, writer in self.writers.items():
            self._flush(part)
            writer.close()

    def read(self, part: str) -> Iterator[pa.Table]:
        """The chunks written, memory-mapped."""
        with pa.memory_map(self._path(part)) as mapped:
            reader = pa.ipc.open_file(mapped)
            for i in range(reader.num_record_batches):
                yield pa.Table.from_batches([reader.get_batch(i)])


def _digest(text: str) -> int:
    """64 bits: among ten million texts two share one with a chance of 3 in a million."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _within(text: str, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= len(text.strip()) <= bounds[1]


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def is_unicode(text: str) -> bool:
    """False for a text with half of a surrogate pair, which cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
