"""Rows of the files that test collections are published in, read with care: every error names file and line.

JSON Lines, tab-separated topics, TREC and BEIR judgements. A passage's text is its title, a space, its text, as BEIR
and MTEB join them; without a title the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hybridlib.files import read_bytes, read_json_lines

IDS = ("_id", "id", "docid", "query_id")  # names of the column with a query's or passage's id
QRELS = ("query-id", "corpus-id", "score")  # the header of BEIR's judgements

Row = tuple[str, dict[str, Any]]  # a row and its place, for errors: file and line


def rows(path: Path) -> Iterator[Row]:
    for number, row in read_json_lines(path):
        yield f"{path}, line {number}", row


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and content of each line of a small text file, plain or .gz; blank ones are left out."""
    data = read_bytes(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert the file") from error
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.rstrip("\r")


def field(row: Any, names: Sequence[str], place: str, kinds: tuple[type, ...] = (str,)) -> Any:
    """The value under the first of the names that the row has; ValueError where it is lacking or of another kind."""
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


def identifier(row: Any, names: Sequence[str], place: str) -> str:
    """An id as text; ValueError for one that is empty or holds a blank, which TREC files cannot."""
    text = str(field(row, names, place, (str, int)))
    if not text or re.search(r"\s", text):
        raise ValueError(f"{place}: the {names[0].strip('_')} {text!r} is empty or holds a blank; repair the file")
    return text


def checked_text(text: str, place: str, empty: str = "error") -> str:
    """The text; ValueError where it is empty and may not be."""
    if empty == "error" and not text.strip():
        raise ValueError(
            f"{place}: the text is empty; repair the file, or load with empty='keep' to encode it as it is"
        )
    return text


def passages(rows: Iterable[Row]) -> Iterator[tuple[str, str, str]]:
    """(place, doc_id, text) of each row: an id under one of IDS, a text, a title if there is one."""
    for place, row in rows:
        doc_id, text = identifier(row, IDS, place), field(row, ("text",), place)
        title = field({"title": "", **row}, ("title",), place, (str, type(None)))
        yield place, doc_id, f"{title} {text}".strip() if title else text.strip()


def queries(rows: Iterable[Row], lang: str) -> Iterator[tuple[str, str, str]]:
    """(query_id, language, text) of each row: an id under one of IDS, and text or query."""
    for place, row in rows:
        yield identifier(row, IDS, place), lang, checked_text(field(row, ("text", "query"), place), place)


def judgements(rows: Iterable[Row]) -> Iterator[tuple[str, str, int]]:
    """(query_id, doc_id, gain) of each row with BEIR's columns."""
    for place, row in rows:
        query_id, doc_id = (identifier(row, (name,), place) for name in QRELS[:2])
        yield query_id, doc_id, whole(field(row, QRELS[2:], place, (int, float, str)), place)


def topics(path: Path, lang: str) -> Iterator[tuple[str, str, str]]:
    """(query_id, language, text) of each line of a file of `id<TAB>query`."""
    for number, line in lines(path):
        place, (query_id, tab, text) = f"{path}, line {number}", line.partition("\t")
        if not tab:
            raise ValueError(f"{place}: no tab between id and query; get the file again")
        yield identifier({"query id": query_id}, ("query id",), place), lang, checked_text(text, place)


def trec_judgements(path: Path) -> Iterator[tuple[str, str, int]]:
    """(query_id, doc_id, gain) of each line of a TREC file."""
    for number, line in lines(path):
        place, columns = f"{path}, line {number}", line.split()
        if len(columns) != 4:
            raise ValueError(f"{place}: {len(columns)} columns, expected 4: query_id iteration doc_id judgement")
        yield columns[0], columns[2], whole(columns[3], place)


def tab_separated(path: Path) -> Iterator[Row]:
    """Rows of a .tsv file with BEIR's header."""
    header, expected = None, " ".join(QRELS)
    for number, line in lines(path):
        place, columns = f"{path}, line {number}", line.split("\t")
        if header is None and (header := tuple(columns)) != QRELS:
            raise ValueError(
                f"{place}: the header is {' '.join(columns)!r}, expected is {expected!r} with tabs between; BEIR's "
                "judgements begin with it"
            )
        if len(columns) != len(QRELS):
            raise ValueError(f"{place}: {len(columns)} columns, expected {len(QRELS)}; see DATA.md")
        if tuple(columns) != QRELS:
            yield place, dict(zip(QRELS, columns, strict=True))


def whole(score: str | float, place: str) -> int:
    try:
        number = float(score)
        if number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{place}: the score {score!r} is not a whole number")
