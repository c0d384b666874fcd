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
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from hybridlib.corpora.base import ParallelPairs
from hybridlib.corpora.write import concatenate, write_pairs
from hybridlib.files import cache_folder, make_parent, read_json_lines, sha256_of

logger = logging.getLogger(__name__)

CHUNK = 10_000  # rows held as Python objects before they go into Arrow tables
NO_TEXTS = ("query_id", "passage_id", "negatives", "source")


def open_pairs(*names: str | Path | ParallelPairs) -> ParallelPairs:
    """Pairs from saved corpora (folders) or files that `load_pairs` reads; errors are those of either.

    Several become one, "<name>+<name>", which `corpora.write.concatenate` writes into the cache.
    """
    corpora = [name if isinstance(name, ParallelPairs) else _open(Path(name)) for name in names]
    if len(corpora) == 1:
        return corpora[0]
    name = "+".join(corpus.name for corpus in corpora)
    return _kept([corpus.fingerprint for corpus in corpora], lambda folder: concatenate(folder, corpora, name))


def _open(path: Path) -> ParallelPairs:
    return ParallelPairs.load(path) if path.is_dir() else load_pairs(path)


def load_pairs(path: Path, *, name: str | None = None) -> ParallelPairs:
    """Read a file of the schema above, each text held once, or open what an earlier call has kept of it in the cache.

    Logs a line where texts stand under more than one id (`ParallelPairs.repeats`).

    Args:
        name: name of the corpus; default the file's name without its suffixes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is torn or empty, or a row does not keep to the schema; the text names file and line
            (Parquet: row, from 1).
        OSError: the cache's folder cannot be written; the text names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    name = name or Path(path.name.removesuffix(".gz")).stem
    content = [sha256_of(path), path.suffixes, name]
    corpus = _kept(content, lambda folder: write_pairs(folder, name=name, **_read(path, name)))
    if corpus.repeats_in_words:
        logger.warning(corpus.repeats_in_words)
    return corpus


def _kept(content: list[Any], make: Callable[[Path], Any]) -> ParallelPairs:
    """The corpus that the present code of this package makes of this content; who asks second waits and opens it."""
    code = [sha256_of(file) for file in sorted(Path(__file__).parent.glob("*.py"))]
    folder = cache_folder() / "pairs" / hashlib.sha256(json.dumps([content, code]).encode()).hexdigest()[:32]
    make_parent(folder)
    with FileLock(f"{folder}.lock"):
        if not (folder / "corpus.json").exists():
            make(folder)
        return ParallelPairs.load(folder)


def _read(path: Path, name: str) -> dict[str, list[pa.Table]]:
    """The tables of a file, for `write_pairs`."""
    unit = "row" if path.suffix == ".parquet" else "line"
    reader = _Reader(name, unit)
    for number, row in _rows(path):
        try:
            reader.add(number, row)
        except ValueError as error:
            raise ValueError(f"{path}, {unit} {number}: {error}") from error
    try:
        return reader.finished()
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


class _Reader:
    """Takes the rows of a file one by one, checks them and gathers the tables of a corpus.

    Attributes:
        seen: of queries and passages, id (digest of the texts where the file has no ids) -> number of the row in which
            it stands first, digest of its texts.
        has_ids: of queries and passages, whether the file has their ids.
        ahead: negatives that were named before they stood as a passage -> number of the row that names them.
        rows, tables: what is gathered; rows become Arrow tables CHUNK at a time.
    """

    def __init__(self, name: str, unit: str) -> None:
        self.name, self.unit = name, unit
        self.seen: dict[str, dict[str | bytes, tuple[int, bytes]]] = {"query": {}, "passage": {}}
        self.has_ids: dict[str, bool] = {}
        self.ahead: dict[str, int] = {}
        self.rows: dict[str, list[dict]] = {"query": [], "passage": [], "pair": []}
        self.tables: dict[str, list[pa.Table]] = {"query": [], "passage": [], "pair": []}

    def add(self, number: int, row: Any) -> None:
        """Check a row and keep what is new in it."""
        if not isinstance(row, dict):
            raise ValueError(f"{_kind(row)} is no object; write one object per line")
        values: dict[str, dict[str, Any]] = {"query": {}, "passage": {}, "pair": {}}
        for column, value in row.items():
            part, name = _place(column)
            if value is not None:
                values[part][name] = _texts(value) if name == "negatives" else _text(value, column)
        pair = {"negatives": [], "source": self.name, **values["pair"]}
        for side in ("query", "passage"):
            pair[f"{side}_id"] = self._identified(number, side, pair.get(f"{side}_id"), values[side])
        self._check_negatives(number, pair["negatives"], pair["passage_id"])
        self.rows["pair"].append(pair)
        if len(self.rows["pair"]) == CHUNK:
            self._flush()

    def _identified(self, number: int, side: str, identifier: str | None, texts: dict[str, str]) -> str:
        """Keep the texts if they are new. Gives their id; where there is none, the first row that has them."""
        if self.has_ids.setdefault(side, identifier is not None) != (identifier is not None):
            raise ValueError(f"{side}_id is given in some rows only; give it in every row or in none")
        if not texts:
            raise ValueError(f"the {side} has no text in any language; give at least one {side}_<lang>")
        digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).digest()
        first, known = self.seen[side].setdefault(digest if identifier is None else identifier, (number, digest))
        if known != digest:
            raise ValueError(
                f"{side}_id {identifier!r} has other texts, or other languages, than in {self.unit} {first}; "
                "repeat them all unchanged or give it another id"
            )
        identifier = str(first) if identifier is None else identifier
        if first == number:
            self.rows[side].append({f"{side}_id": identifier, **texts})
        return identifier

    def _check_negatives(self, number: int, negatives: list[str], passage: str) -> None:
        if negatives and not self.has_ids["passage"]:
            raise ValueError("negatives name passage_ids, but the rows have none; add the column passage_id")
        if passage in negatives:
            raise ValueError(f"passage {passage!r} is among its own negatives; remove it there")
        for identifier in negatives:
            if identifier not in self.seen["passage"]:
                self.ahead.setdefault(identifier, number)

    def _flush(self) -> None:
        for part, rows in self.rows.items():
            if rows:
                self.tables[part].append(pa.Table.from_struct_array(pa.array(rows)))
            self.rows[part] = []

    def finished(self) -> dict[str, list[pa.Table]]:
        """Give what `write_pairs` takes, after the last row."""
        self._flush()
        if not self.tables["pair"]:
            raise ValueError("empty; give at least one row with a query and a passage")
        for identifier, number in self.ahead.items():
            if identifier not in self.seen["passage"]:
                raise ValueError(
                    f"negatives in {self.unit} {number} name {identifier!r}, which is the passage_id of no row; "
                    "add its passage or remove it"
                )
        return {"queries": self.tables["query"], "passages": self.tables["passage"], "pairs": self.tables["pair"]}


@cache
def language_codes() -> frozenset[str]:
    """The codes that texts may have: CLDR's, of two or three letters."""
    return frozenset(tomllib.loads((files("hybridlib") / "data" / "languages.toml").read_text())["codes"].split())


@cache
def _place(column: str) -> tuple[str, str]:
    """Where a column belongs: ("query", "de") for query_de, ("pair", "source") for source."""
    if column in NO_TEXTS:
        return "pair", column
    side, _, code = column.partition("_")
    if side not in ("query", "passage"):
        raise ValueError(
            f"unknown column {column!r}; the columns are {', '.join(NO_TEXTS)}, query_<lang> and passage_<lang>: "
            "rename or remove it"
        )
    lang = "id" if code == "ind" else code
    if lang not in language_codes():
        raise ValueError(f"the column {column!r}: {code!r} is no ISO 639 language code; use en, de, ...")
    return side, lang


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"negatives is {_kind(value)}, not a list of passage_ids; write a list")
    return [_text(identifier, "negatives") for identifier in value]


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
