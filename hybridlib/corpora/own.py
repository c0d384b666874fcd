"""The user's own parallel questions and passages: JSON Lines (.jsonl, .jsonl.gz) or Parquet files as ParallelPairs.

One row per pair of a question and a passage that answers it. Columns (keys):

    query_<lang>     the question in a language, text; a language is lacking where it is null or absent
    passage_<lang>   the passage in a language; queries and passages may be in different languages
    query_id         text, optional: in every row or in none
    passage_id       text, optional: in every row or in none
    negatives        list of passage_ids of this file that do not answer the question, optional; used in the
                     passage's language, so they want its languages
    source           name of the data set the pair is from, optional; default the name of the corpus

<lang> is an ISO 639 code as CLDR uses it (en, de, zh, yue). Indonesian is written query_ind and passage_ind, since
query_id is the identifier. A query or passage that recurs repeats its id and its texts in every language, unchanged.
Ids that are left out are made: queries, or passages, with equal texts in all languages share one. DATA.md has two
rows as an example.

Rows are read one by one and not by `datasets`: its JSON reader turns texts that look like dates into dates, refuses a
language that first occurs after some megabytes, and names no line. What was read is kept in the cache as Arrow files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from hybridlib.corpora.base import ParallelPairs
from hybridlib.corpora.tables import PAIRS_SCHEMA
from hybridlib.corpora.write import concatenate
from hybridlib.files import cache_folder, make_parent, read_json_lines, sha256_of

logger = logging.getLogger(__name__)

CHUNK = 10_000  # rows held as Python objects before they go into an Arrow table
NO_TEXTS = ("query_id", "passage_id", "negatives", "source")

_ALIASES = {"ind": "id"}


def open_pairs(*names: str | Path) -> ParallelPairs:
    """Pairs from saved corpora (folders) or files that `load_pairs` reads; errors are those of either.

    Several become one, "<name>+<name>", which `corpora.write.concatenate` writes into the cache.
    """
    corpora = [ParallelPairs.load(Path(name)) if Path(name).is_dir() else load_pairs(Path(name)) for name in names]
    if len(corpora) == 1:
        return corpora[0]
    folder = _cached([corpus.fingerprint for corpus in corpora])
    name = "+".join(corpus.name for corpus in corpora)
    return _kept(folder, lambda: concatenate(folder, corpora, name))


def load_pairs(
    path: Path, *, name: str | None = None, query_prefix: str = "query_", passage_prefix: str = "passage_"
) -> ParallelPairs:
    """Read a file of the schema above, each text held once, or open what an earlier call has kept of it in the cache.

    Logs a line where texts stand under more than one id (`ParallelPairs.repeats`).

    Args:
        name: name of the corpus; default the file's name without its suffixes.
        query_prefix, passage_prefix: what the text columns' names begin with.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is torn or empty, or a row does not keep to the schema; the text names file and line
            (Parquet: row, from 1).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    name = name or Path(path.name.removesuffix(".gz")).stem
    folder = _cached([sha256_of(path), path.suffixes, name, query_prefix, passage_prefix])

    def read() -> ParallelPairs:
        return _read(path, name, query_prefix, passage_prefix)

    try:
        corpus = _kept(folder, lambda: read().save(folder))
    except OSError:  # nowhere to keep it: it is read each time
        corpus = read()
    if corpus.repeats_in_words:
        logger.warning(corpus.repeats_in_words)
    return corpus


def _cached(content: list) -> Path:
    """Folder of the cache for what is made of this content by the present code of this package's corpora."""
    code = [sha256_of(file) for file in sorted(Path(__file__).parent.glob("*.py"))]
    return cache_folder() / "pairs" / hashlib.sha256(json.dumps([content, code]).encode()).hexdigest()[:32]


def _kept(folder: Path, make: Callable[[], Any]) -> ParallelPairs:
    """The corpus in a folder, made there if it is not; who asks second waits."""
    make_parent(folder)
    with FileLock(f"{folder}.lock"):
        if not (folder / "corpus.json").exists():
            make()
        return ParallelPairs.load(folder)


def _read(path: Path, name: str, query_prefix: str, passage_prefix: str) -> ParallelPairs:
    unit = "row" if path.suffix == ".parquet" else "line"
    reader = _Reader(name, unit, _Side("query", query_prefix, unit), _Side("passage", passage_prefix, unit))
    for number, row in _rows(path):
        try:
            reader.add(number, row)
        except ValueError as error:
            raise ValueError(f"{path}, {unit} {number}: {error}") from error
    try:
        return reader.build()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Number (from 1) and content of each row."""
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        return read_json_lines(path)
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    raise ValueError(f"{path}: unknown kind of file; name it .jsonl, .jsonl.gz or .parquet after what it holds")


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict]]:
    number = 0
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(batch_size=CHUNK):
                batch.validate(full=True)  # UTF-8 too
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}, after row {number}: torn or invalid Parquet ({error}); write it again") from error


@dataclass
class _Table:
    """An Arrow table that grows by rows; columns are null in rows that lack them."""

    rows: list[dict] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)

    def add(self, row: dict) -> None:
        self.rows.append(row)
        if len(self.rows) == CHUNK:
            self._flush()

    def _flush(self) -> None:
        columns = sorted({column for row in self.rows for column in row})
        types = {"negatives": PAIRS_SCHEMA.field("negatives").type}
        schema = pa.schema([(column, types.get(column, pa.string())) for column in columns])
        self.tables.append(pa.Table.from_pylist(self.rows, schema))
        self.rows = []

    def whole(self) -> pa.Table:
        self._flush()
        return pa.concat_tables(self.tables, promote_options="default")


@dataclass
class _Side:
    """The queries or the passages of the file."""

    what: str
    prefix: str
    unit: str
    has_ids: bool | None = None
    seen: dict[str | bytes, tuple[int, bytes]] = field(default_factory=dict)  # id or digest -> (row number, digest)
    table: _Table = field(default_factory=_Table)

    @property
    def key(self) -> str:
        return f"{self.what}_id"

    def add(self, number: int, identifier: str | None, texts: dict[str, str]) -> str:
        """Keep the texts if they are new. Gives their id; where there is none, the first row that has them."""
        if self.has_ids is None:
            self.has_ids = identifier is not None
        if self.has_ids != (identifier is not None):
            raise ValueError(f"{self.key} is given in some rows only; give it in every row or in none")
        if not texts:
            raise ValueError(f"the {self.what} has no text in any language; give at least one {self.prefix}<lang>")
        digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).digest()
        first, known = self.seen.setdefault(digest if identifier is None else identifier, (number, digest))
        if known != digest:
            raise ValueError(
                f"{self.key} {identifier!r} has other texts, or other languages, than in {self.unit} {first}; "
                "repeat them all unchanged or give it another id"
            )
        identifier = str(first) if identifier is None else identifier
        if first == number:
            self.table.add({self.key: identifier, **texts})
        return identifier


@dataclass
class _Reader:
    """Takes the rows one by one, checks them and gathers the three tables."""

    name: str
    unit: str
    queries: _Side
    passages: _Side
    pairs: _Table = field(default_factory=_Table)
    ahead: dict[str, int] = field(default_factory=dict)  # negatives not yet seen as passages -> row that names them

    def add(self, number: int, row: Any) -> None:
        if not isinstance(row, dict):
            raise ValueError(f"{_kind(row)} is no object; write one object per line")
        texts: dict[str, dict[str, str]] = {"query": {}, "passage": {}}
        for column, value in row.items():
            side, lang = _column(column, self.queries.prefix, self.passages.prefix)
            if side and value is not None:
                texts[side][lang] = _text(value, column)
        query = self.queries.add(number, _optional(row, "query_id"), texts["query"])
        passage = self.passages.add(number, _optional(row, "passage_id"), texts["passage"])
        negatives = self._negatives(number, row.get("negatives"), passage)
        source = _optional(row, "source") or self.name
        self.pairs.add({"query_id": query, "passage_id": passage, "negatives": negatives, "source": source})

    def _negatives(self, number: int, negatives: Any, passage: str) -> list[str]:
        if negatives is None:
            return []
        if not isinstance(negatives, list):
            raise ValueError(f"negatives is {_kind(negatives)}, not a list of passage_ids; write a list")
        if negatives and not self.passages.has_ids:
            raise ValueError("negatives name passage_ids, but the rows have none; add the column passage_id")
        for identifier in negatives:
            if _text(identifier, "negatives") == passage:
                raise ValueError(f"passage {identifier!r} is among its own negatives; remove it there")
            if identifier not in self.passages.seen:
                self.ahead.setdefault(identifier, number)
        return negatives

    def build(self) -> ParallelPairs:
        if not self.queries.seen:
            raise ValueError("empty; give at least one row with a query and a passage")
        for identifier, number in self.ahead.items():
            if identifier not in self.passages.seen:
                raise ValueError(
                    f"negatives in {self.unit} {number} name {identifier!r}, which is the passage_id of no row; "
                    "add its passage or remove it"
                )
        tables = self.queries.table.whole(), self.passages.table.whole(), self.pairs.whole()
        return ParallelPairs.build(*tables, name=self.name)


@cache
def language_codes() -> frozenset[str]:
    """The codes that texts may have: CLDR's, of two or three letters."""
    return frozenset(tomllib.loads((files("hybridlib") / "data" / "languages.toml").read_text())["codes"].split())


@cache
def _column(column: str, query_prefix: str, passage_prefix: str) -> tuple[str | None, str]:
    """("query", "de") for query_de; (None, name) for a column that holds no text."""
    if column in NO_TEXTS:
        return None, column
    for side, prefix in (("query", query_prefix), ("passage", passage_prefix)):
        if column.startswith(prefix):
            code = column.removeprefix(prefix)
            lang = _ALIASES.get(code, code)
            if lang in language_codes():
                return side, lang
            raise ValueError(f"the column {column!r}: {code!r} is no ISO 639 language code; use en, de, ...")
    raise ValueError(
        f"unknown column {column!r}; the columns are {', '.join(NO_TEXTS)}, "
        f"{query_prefix}<lang> and {passage_prefix}<lang>: rename or remove it"
    )


def _optional(row: dict, column: str) -> str | None:
    return None if row.get(column) is None else _text(row[column], column)


def _text(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{column} is {_kind(value)}, not text; write it as a string")
    if not value.strip():
        raise ValueError(f"{column} is an empty text; write null or leave it out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{column} holds half of a surrogate pair at character {error.start}; repair it") from error
    return value


def _kind(value: Any) -> str:
    return f"{value!r:.40} ({type(value).__name__})"
