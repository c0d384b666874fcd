"""Queries, passages and judgements in the layouts that test collections are published in, read with care.

JSON Lines (plain or .gz) and Parquet, tab-separated topics, TREC and BEIR judgements. Every error names file and line
(in Parquet the row, counted from 1). A passage's text is its title, a space, its text, as BEIR and MTEB join them
(beir's `encode_corpus`, MTEB's dataloaders); without a title the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hybridlib.companion.search import trec
from hybridlib.files import read_bytes, read_json_lines

ROWS_AT_ONCE = 5_000  # rows of a Parquet file turned into Python objects at a time
IDS = ("_id", "id", "docid", "query_id")  # names of the column with a query's or passage's id
BEIR_HEADER = ("query-id", "corpus-id", "score")
EMPTY = ("error", "keep")  # what may become of a text of nothing but white space

_BLANK = re.compile(r"\s")


def rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of each row of a .jsonl, .jsonl.gz or .parquet file; the place names file and line for errors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: torn, no file of that kind, or a line is no object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    prefix = f"{path}, line "
    for number, value in read_json_lines(path):
        if not isinstance(value, dict):
            raise ValueError(f"{prefix}{number}: {type(value).__name__} where an object is expected; see DATA.md")
        yield f"{prefix}{number}", value


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches(batch_size=ROWS_AT_ONCE))
            for number, row in enumerate(chain.from_iterable(batches), 1):
                yield f"{path}, row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: torn or no Parquet file ({error}); remove it and get it again") from error


def field(row: Any, names: Sequence[str], place: str, kinds: tuple[type, ...] = (str,)) -> Any:
    """The value under the first of the names that the row has.

    Raises:
        ValueError: the row is no object, has none of them, or something else than one of the kinds.
    """
    if not isinstance(row, dict):
        raise ValueError(f"{place}: {type(row).__name__} where an object with {names[0]!r} is expected; see DATA.md")
    name = next((name for name in names if name in row), None)
    if name is None:
        raise ValueError(
            f"{place}: there is no {' or '.join(map(repr, names))} among {', '.join(row)}; this is another layout "
            "than the one in DATA.md"
        )
    if type(row[name]) not in kinds:
        raise ValueError(f"{place}: {name!r} is {type(row[name]).__name__}, not {kinds[0].__name__}; see DATA.md")
    return row[name]


def identifier(value: str | int, place: str, what: str) -> str:
    """An id as text; ValueError for one that is empty or holds a blank, which TREC files cannot."""
    text = str(value)
    if not text or _BLANK.search(text):
        raise ValueError(f"{place}: the {what} {text!r} is empty or holds a blank; repair the file")
    return text


def check_text(text: str, place: str, empty: str = "error") -> str:
    """The text; ValueError where it is empty and may not be."""
    if empty not in EMPTY:
        raise ValueError(f"empty is {empty!r}; choose one of {', '.join(EMPTY)}")
    if empty == "error" and not text.strip():
        raise ValueError(
            f"{place}: the text is empty; repair the file, or load with empty='keep' to encode it as it is"
        )
    return text


def joined(title: str | None, text: str) -> str:
    """Title, a space, text, without white space at the ends; the text alone where there is no title."""
    return f"{title} {text}".strip() if title else text.strip()


def passages(path: Path, *, empty: str = "error") -> Iterator[tuple[str, str]]:
    """(doc_id, text) of each row: an id under one of IDS, a text, a title if there is one."""
    for place, row in rows(path):
        doc_id = identifier(field(row, IDS, place, (str, int)), place, "id")
        title = row.get("title")
        if title is not None and type(title) is not str:
            raise ValueError(f"{place}: 'title' is {type(title).__name__}, not str; see DATA.md")
        yield doc_id, check_text(joined(title, field(row, ("text",), place)), place, empty)


def queries(path: Path, lang: str) -> Iterator[tuple[str, str, str]]:
    """(query_id, language, text) of each row: an id under one of IDS, and text or query."""
    for place, row in rows(path):
        query_id = identifier(field(row, IDS, place, (str, int)), place, "id")
        yield query_id, lang, check_text(field(row, ("text", "query"), place), place)


def topics(path: Path, lang: str) -> Iterator[tuple[str, str, str]]:
    """(query_id, language, text) of each line of a file of `id<TAB>query`, plain or .gz."""
    for number, line in lines(path):
        place = f"{path}, line {number}"
        query_id, tab, text = line.partition("\t")
        if not tab:
            raise ValueError(f"{place}: no tab between id and query; get the file again")
        yield identifier(query_id, place, "query id"), lang, check_text(text, place)


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and content of each line of a small text file, plain or .gz; blank ones are left out.

    Raises:
        ValueError: a torn gzip file, or bytes that are not UTF-8.
    """
    data = read_bytes(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert the file") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def trec_judgements(path: Path) -> Iterator[tuple[str, str, int]]:
    """(query_id, doc_id, gain) of a TREC file; errors as `trec.read_qrels`'s."""
    frame = trec.read_qrels(path)
    return zip(frame["query_id"], frame["candidate_id"], frame["gain"].tolist(), strict=True)


def beir_judgements(path: Path) -> Iterator[tuple[str, str, int]]:
    """(query_id, doc_id, gain) of a BEIR file: .tsv (plain or .gz) with its header, .jsonl or .parquet.

    Raises:
        ValueError: the header is another; a line has not three columns; a score is no whole number.
    """
    names = path.name.removesuffix(".gz")
    given = _tab_separated(path) if names.endswith(".tsv") else _named(rows(path))
    for place, query_id, doc_id, score in given:
        query_id, doc_id = identifier(query_id, place, "query-id"), identifier(doc_id, place, "corpus-id")
        yield query_id, doc_id, _whole(score, place)


def _tab_separated(path: Path) -> Iterator[tuple[str, str, str, str]]:
    header = None
    for number, line in lines(path):
        columns = tuple(line.split("\t"))
        if header is None:
            header = columns
            if header != BEIR_HEADER:
                raise ValueError(
                    f"{path}, line {number}: the header is {' '.join(columns)!r}, expected is "
                    f"{' '.join(BEIR_HEADER)!r} with tabs between; BEIR's judgements begin with it"
                )
        elif len(columns) != len(BEIR_HEADER):
            raise ValueError(f"{path}, line {number}: {len(columns)} columns, expected {len(BEIR_HEADER)}; see DATA.md")
        else:
            yield f"{path}, line {number}", *columns


def _named(records: Iterable[tuple[str, dict]]) -> Iterator[tuple[str, Any, Any, Any]]:
    for place, row in records:
        ids = (field(row, (name,), place, (str, int)) for name in BEIR_HEADER[:2])
        yield place, *ids, field(row, BEIR_HEADER[2:], place, (int, float, str))


def _whole(score: str | float, place: str) -> int:
    try:
        number = float(score)
        if number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{place}: the score {score!r} is not a whole number")
