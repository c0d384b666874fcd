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
from itertools import islice
from pathlib import Path

import pyarrow as pa

from hybridlib.corpora.base import ParallelPairs
from hybridlib.corpora.write import write_pairs
from hybridlib.files import make_parent, parse_json, write_json

CHUNK = 10_000  # rows held as Python objects before they go into an Arrow file
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
class TextLimits:
    """What the filters let through.

    Attributes:
        query, passage: characters, fewest and most, both included.
        answer_within: characters from the start of the passage in which the answer must lie, as an encoder sees only
            a beginning; None: anywhere.
    """

    query: tuple[int, int] = (3, 1_000)
    passage: tuple[int, int] = (3, 50_000)
    answer_within: int | None = None


DEFAULT = TextLimits()


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
        """Read the counts of a corpus written by this package.

        Raises:
            FileNotFoundError: the folder has none.
        """
        path = Path(folder) / COUNTS
        if not path.exists():
            raise FileNotFoundError(f"{path}: no counts here; the folder was not written by `python -m hybridlib data`")
        content = parse_json(path.read_bytes(), path)
        return cls(**content | {name: Counter(content[name]) for name in ("dropped", "more")})


def reason_to_drop(row: Row, limits: TextLimits) -> str | None:
    """Name the first filter that takes a row out; None: it stays.

    "empty": question or passage has nothing but white space. "no UTF-8": half of a surrogate pair in one of them.
    "no answer": the data set marks the question as one that the passage does not answer. "query length", "passage
    length": outside the limits. "answer not in passage": no short answer stands in the passage, or near enough to its
    start; case and spacing aside.
    """
    answers = None if row.answers is None else [_folded(answer) for answer in row.answers if answer.strip()]
    if not row.query.strip() or not row.passage.strip():
        return "empty"
    if not (_is_unicode(row.query) and _is_unicode(row.passage)):
        return "no UTF-8"
    if answers == []:
        return "no answer"
    for part in ("query", "passage"):
        if not _within(getattr(row, part), getattr(limits, part)):
            return f"{part} length"
    beginning = _folded(row.passage[: limits.answer_within]) if answers else ""
    return "answer not in passage" if answers and not any(answer in beginning for answer in answers) else None


def filtered(rows: Iterable[Row], limits: TextLimits, counts: Counts, limit: int | None = None) -> Iterator[Row]:
    """Let through the rows that no filter takes, each pair of question and passage once; fills `counts`.

    limit: rows to let through at most; reading stops there.
    """
    seen: set[int] = set()
    for row in rows:
        counts.read += 1
        reason = reason_to_drop(row, limits)
        if reason is None:
            pair = digest(f"{row.query}\0{row.passage}")
            reason = "duplicate" if pair in seen else None
            seen.add(pair)
        if reason:
            counts.dropped[reason] += 1
            continue
        counts.kept += 1
        yield row
        if counts.kept == limit:
            return


def write_rows(
    folder: Path, rows: Iterable[Row], *, name: str, limits: TextLimits = DEFAULT, limit: int | None = None
) -> ParallelPairs:
    """Filter the rows, all English, and write them as a corpus; a question or passage that recurs is stored once.

    Ids are `<name>:<16 hexadecimal digits of the text's BLAKE2>`: they depend neither on the order nor on the filters.
    The counts are written beside the corpus.

    Args:
        limit: pairs to keep at most; reading stops there. None: all.

    Raises:
        ValueError: no row is left; the text says which filter took how many.
    """
    counts = Counts()
    make_parent(Path(folder))
    with tempfile.TemporaryDirectory(prefix=".rows-", dir=Path(folder).parent) as temporary:
        records = _records(filtered(rows, limits, counts, limit), name, limits, counts)
        batches = _spooled(Path(temporary) / "records.arrow", records)
        if not counts.kept:
            raise ValueError(f"{name}: none of {counts.read} rows is left, dropped were {dict(counts.dropped)}")
        corpus = write_pairs(
            folder,
            name=name,
            queries=(pa.table(batch.select(["query_id", "en"])).drop_null() for batch in batches),
            passages=(pa.Table.from_struct_array(batch["new_passages"].flatten()) for batch in batches),
            pairs=(pa.table(batch.select(["query_id", "passage_id", "negatives", "source"])) for batch in batches),
        )
    counts.save(folder)
    return corpus


def _records(rows: Iterable[Row], name: str, limits: TextLimits, counts: Counts) -> Iterator[dict]:
    """The rows with ids for texts; a text stands only where it comes for the first time, as query or as passage."""
    queries: set[int] = set()
    passages: set[int] = set()
    for row in rows:
        good = [text for text in dict.fromkeys(row.negatives) if text != row.passage and _is_passage(text, limits)]
        counts.more["negatives left out"] += len(row.negatives) - len(good)
        query, texts = digest(row.query), {digest(text): text for text in (row.passage, *good)}
        ids = [f"{name}:{number:016x}" for number in texts]
        new = [(id, text) for id, (number, text) in zip(ids, texts.items(), strict=True) if number not in passages]
        yield {
            "query_id": f"{name}:{query:016x}",
            "passage_id": ids[0],
            "negatives": ids[1:],
            "source": name,
            "en": None if query in queries else row.query,
            "new_passages": [{"passage_id": id, "en": text} for id, text in new],
        }
        queries.add(query)
        passages.update(texts)


def _spooled(path: Path, records: Iterator[dict]) -> list[pa.RecordBatch]:
    """Write the records to a file, some thousands at a time, and map it."""
    text, passage = pa.string(), pa.struct({"passage_id": pa.string(), "en": pa.string()})
    pair = {"query_id": text, "passage_id": text, "negatives": pa.list_(text), "source": text, "en": text}
    schema = pa.schema(pair | {"new_passages": pa.list_(passage)})
    with pa.ipc.new_file(path, schema) as writer:
        while chunk := list(islice(records, CHUNK)):
            writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=schema))
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all().to_batches()


def digest(text: str) -> int:
    """64 bits of a text: among ten million texts two share them with a chance of 3 in a million."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _is_passage(text: str, limits: TextLimits) -> bool:
    return bool(text.strip()) and _is_unicode(text) and _within(text, limits.passage)


def _within(text: str, bounds: tuple[int, int]) -> bool:
    return bounds[0] <= len(text.strip()) <= bounds[1]


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _is_unicode(text: str) -> bool:
    """False for a text with half of a surrogate pair, which cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
