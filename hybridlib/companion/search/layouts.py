"""Rows of the files that test collections are published in, read with care: every error names file and line.

A row of any file is a dict; what has queries, passages or judgements in its rows is read by the function of that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hybridlib.files import read_bytes, read_json_lines

IDS = ("_id", "id", "docid", "query_id")  # names of the column with a query's or passage's id
TOPICS = ("query_id", "query")
QRELS = ("query-id", "corpus-id", "score")  # of BEIR
TREC_QRELS = ("query-id", "iteration", "corpus-id", "score")

Row = tuple[str, dict[str, Any]]  # a row and its place, for errors: file and line


def rows(path: Path) -> Iterator[Row]:
    """Read JSON Lines, plain or .gz."""
    for number, row in read_json_lines(path):
        yield f"{path}, line {number}", row


def table(path: Path, columns: Sequence[str], *, blanks: bool = False, header: bool = False) -> Iterator[Row]:
    """Read a small text file, plain or .gz, with tabs, or blanks, between its columns; none is quoted.

    Args:
        header: the first line has the names of the columns.
    """
    for number, line in lines(path):
        place, values = f"{path}, line {number}", line.split(None if blanks else "\t")
        expected = f"expected {'with blanks' if blanks else 'with tabs'} between: {', '.join(columns)}; see DATA.md"
        if header and values != list(columns):
            raise ValueError(f"{place}: the header is {line!r}, {expected}")
        if len(values) != len(columns):
            raise ValueError(f"{place}: {len(values)} columns, {expected}")
        if not header:
            yield place, dict(zip(columns, values, strict=True))
        header = False


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give number (from 1) and content of each line of a small text file, plain or .gz, that is not blank."""
    data = read_bytes(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert the file") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def parsed(rows: Iterable[Row], parse: Callable[[dict], Iterable]) -> Iterator:
    """Give all that is made of each row; a ValueError names the place of a row that is not as `parse` expects it."""
    for place, row in rows:
        try:
            if not isinstance(row, dict):
                raise TypeError(f"{type(row).__name__} where an object is expected")
            yield from parse(row)
        except (LookupError, TypeError, AttributeError) as error:
            reason = f"there is no {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{place}: {reason}; this is another layout than the one in DATA.md") from error
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error


def queries(rows: Iterable[Row], lang: str) -> Iterator[tuple[str, str, str]]:
    """(query_id, language, text) of each row: an id under one of IDS, and text or query."""
    return parsed(rows, lambda row: [(identifier(value(row, *IDS)), lang, text(value(row, "text", "query")))])


def passages(rows: Iterable[Row], empty: str) -> Iterator[tuple[str, str]]:
    """(doc_id, text) of each row: an id under one of IDS; the text is title and text with a blank between.

    So BEIR and MTEB join them; without a title it is the text alone. `empty` is as in `sources.load`.
    """

    def passage(row: dict) -> Iterator[tuple[str, str]]:
        title = text(row.get("title") or "", "keep")
        yield identifier(value(row, *IDS)), text(f"{title} {text(value(row, 'text'), 'keep')}".strip(), empty)

    return parsed(rows, passage)


def judgements(rows: Iterable[Row]) -> Iterator[tuple[str, str, int]]:
    """(query_id, doc_id, gain) of each row with BEIR's columns."""

    def judgement(row: dict) -> Iterator[tuple[str, str, int]]:
        query_id, doc_id, score = (value(row, column) for column in QRELS)
        try:
            whole = float(score).is_integer()
        except ValueError:
            whole = False
        if not whole:
            raise ValueError(f"the score {score!r} is not a whole number")
        yield identifier(query_id), identifier(doc_id), int(float(score))

    return parsed(rows, judgement)


def value(row: dict, *names: str) -> Any:
    """Give the value under the first of the names that the row has."""
    for name in names:
        if name in row:
            return row[name]
    raise LookupError(f"there is no {' or '.join(map(repr, names))} among {', '.join(row)}")


def identifier(name: str | int) -> str:
    """Give an id as text; refuses one that is empty or holds a blank, which TREC files cannot."""
    if not isinstance(name, (str, int)) or not str(name) or re.search(r"\s", str(name)):
        raise ValueError(f"the id {name!r} is empty, holds a blank, or is no text; repair the file")
    return str(name)


def text(content: str, empty: str = "error") -> str:
    """Give the text; refuses one that is empty and may not be."""
    if not isinstance(content, str):
        raise TypeError(f"{type(content).__name__} where a text is expected")
    if empty == "error" and not content.strip():
        raise ValueError("the text is empty; repair the file, or load with empty='keep' to encode it as it is")
    return content
