"""TREC run and relevance files: read, write, and rank a run as trec_eval does.

Frames: qrels have the columns query_id, candidate_id, gain (whole number; 0 or less = judged not relevant); runs have
query_id, candidate_id, score. A name that ends in .gz is read and written compressed.
Formats: https://github.com/usnistgov/trec_eval (fields between ASCII blanks; of a run, the columns iteration, rank and
tag are ignored, as is what follows the tag).
"""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from hybridlib.files import replace_file
from hybridlib.metrics import Ranking

KEY = ["query_id", "candidate_id"]
_QRELS_LINE = "query_id iteration candidate_id judgement"
_RUN_LINE = "query_id Q0 candidate_id rank score tag"
_INTEGER = re.compile(rb"[+-]?[0-9]{1,9}")
_BLANK = r"[ \t\n\r\x0b\x0c]"


def read_qrels(path: str | Path) -> pd.DataFrame:
    """Relevance judgements as a frame (query_id, candidate_id, gain), in the order of the file.

    Errors: FileNotFoundError; ValueError that names file and line for anything but four columns, a judgement that is
    no whole number, a candidate judged twice for a query, bytes that are not UTF-8.
    """
    return _read(Path(path), "gain", _QRELS_LINE, 3, _integer, longer=False)


def read_run(path: str | Path) -> pd.DataFrame:
    """A run as a frame (query_id, candidate_id, score float64), in the order of the file.

    Errors: FileNotFoundError; ValueError that names file and line for fewer than six columns, a score that is no
    number, a candidate twice for a query, bytes that are not UTF-8.
    """
    return _read(Path(path), "score", _RUN_LINE, 4, _number, longer=True)


def write_qrels(path: str | Path, qrels: pd.DataFrame) -> None:
    """Write judgements (query_id, candidate_id, gain) as a TREC qrels file, whole or not at all.

    Errors: ValueError for an id that is empty or holds a blank, a candidate judged twice; OSError if not writable.
    """
    _check_frame(qrels, "gain", "qrels")
    _check_ids(qrels, "qrels")
    gains = qrels["gain"].astype("int64")
    if not np.array_equal(gains, qrels["gain"]):
        raise ValueError("qrels: column gain must hold whole numbers; round or rescale them")
    rows = zip(qrels["query_id"], qrels["candidate_id"], gains, strict=True)
    _write(Path(path), (f"{query} 0 {candidate} {gain}\n" for query, candidate, gain in rows))


def write_run(path: str | Path, run: pd.DataFrame, *, tag: str = "hybridlib") -> None:
    """Write a run (query_id, candidate_id, score) as a TREC run file, sorted and ranked, whole or not at all.

    Scores are written as the shortest decimals that give back the same float32. trec_eval 9 compares scores in
    float32 and trec_eval 10 in float64: so every reader sees the same ranking and the same ties.
    Errors: ValueError for a NaN score, an id that is empty or holds a blank, a candidate twice; OSError if not
    writable.
    """
    _check_frame(run, "score", "run")
    _check_ids(run, "run")
    if not tag or re.search(_BLANK, tag):
        raise ValueError(f"write_run: tag {tag!r} must be one word")
    ranked = _rank(run.assign(score=run["score"].astype("float32")))
    columns = (ranked["query_id"], ranked["candidate_id"], ranked["rank"], ranked["score"].to_numpy())
    rows = zip(*columns, strict=True)
    _write(Path(path), (f"{query} Q0 {candidate} {rank} {score!s} {tag}\n" for query, candidate, rank, score in rows))


def rank_run(
    qrels: pd.DataFrame, run: pd.DataFrame, *, relevance_level: int = 1, complete: bool = False
) -> tuple[np.ndarray, Ranking]:
    """The queries and their `Ranking`, as trec_eval sees a run: by score, ties by candidate id in descending order.

    Returns (query_ids sorted, Ranking). Queries: those in both frames; with complete (trec_eval -c) every query of
    qrels, one that the run lacks counting as nothing retrieved. relevance_level (trec_eval -l): the smallest gain
    that counts as relevant; nDCG goes on counting all gains above 0, as in trec_eval.
    One difference: trec_eval gives a query with nothing relevant 0, here it is NaN.
    Errors: ValueError for a missing column, a NaN, a candidate twice for a query, a relevance_level below 1.
    """
    if relevance_level < 1:
        raise ValueError(f"rank_run: relevance_level must be 1 or more, got {relevance_level!r}")
    _check_frame(qrels, "gain", "qrels")
    _check_frame(run, "score", "run")
    judged = pd.Index(qrels["query_id"].unique())
    queries = (judged if complete else judged.intersection(run["query_id"].unique())).sort_values()
    entries = qrels[(qrels["gain"] > 0) & qrels["query_id"].isin(queries)]
    entries = entries[[*KEY, "gain"]].merge(_rank(run)[[*KEY, "rank"]], how="left", on=KEY)
    query = queries.get_indexer(entries["query_id"])
    order = np.argsort(query, kind="stable")
    rank = entries["rank"].to_numpy(dtype="float64", na_value=np.inf)
    gain = entries["gain"].to_numpy(dtype="float64")
    return queries.to_numpy(), Ranking(query[order], rank[order], gain[order], len(queries), relevance_level)


def _rank(run: pd.DataFrame) -> pd.DataFrame:
    ordered = run.sort_values(["query_id", "score", "candidate_id"], ascending=[True, False, False])
    return ordered.assign(rank=ordered.groupby("query_id").cumcount() + 1)


def _check_frame(frame: pd.DataFrame, value: str, what: str) -> None:
    missing = [column for column in [*KEY, value] if column not in frame.columns]
    if missing:
        raise ValueError(f"{what}: column {missing[0]} is missing; needed are {', '.join([*KEY, value])}")
    if frame[[*KEY, value]].isna().any(axis=None):
        raise ValueError(f"{what}: an id or {value} is missing or NaN; drop or repair these rows")
    twice = frame.duplicated(KEY).to_numpy()
    if twice.any():
        query, candidate = frame[KEY].iloc[twice.argmax()]
        raise ValueError(f"{what}: candidate {candidate!r} stands twice for query {query!r}; keep one")


def _check_ids(frame: pd.DataFrame, what: str) -> None:
    for column in KEY:
        ids = pd.Series(frame[column].unique()).astype(str)
        bad = ids[(ids == "") | ids.str.contains(_BLANK)]
        if len(bad):
            raise ValueError(f"{what}: {column} {bad.iloc[0]!r} is empty or holds a blank; TREC files cannot hold it")


def _read(
    path: Path, value: str, line_format: str, value_column: int, convert: Callable, *, longer: bool
) -> pd.DataFrame:
    """Split, check and convert every line; `longer` allows columns after the last named one."""
    needed = len(line_format.split())
    numbers, rows = [], []
    for number, line in enumerate(_bytes(path).split(b"\n"), start=1):
        fields = line.split()  # bytes split at ASCII blanks only: ids may hold any other character
        if not fields:
            continue
        if len(fields) < needed or (len(fields) > needed and not longer):
            raise ValueError(f"{path}, line {number}: {len(fields)} columns, expected {needed}: {line_format}")
        try:
            rows.append((fields[0].decode(), fields[2].decode(), convert(fields[value_column])))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        numbers.append(number)
    frame = pd.DataFrame(rows, columns=[*KEY, value])
    return _without_duplicates(frame, numbers, path)


def _without_duplicates(frame: pd.DataFrame, numbers: list[int], path: Path) -> pd.DataFrame:
    twice = frame.duplicated(KEY).to_numpy()
    if twice.any():
        row = int(twice.argmax())
        query, candidate = frame[KEY].iloc[row]
        raise ValueError(f"{path}, line {numbers[row]}: candidate {candidate!r} again for query {query!r}; keep one")
    return frame


def _bytes(path: Path) -> bytes:
    """The file's content, unpacked; ValueError with the line if it is not UTF-8."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: torn or no gzip file ({error}); fetch or write it again") from error
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8 ({error.reason}); convert the file") from error
    return data


def _integer(field: bytes) -> int:
    if not _INTEGER.fullmatch(field):
        raise ValueError(f"judgement {field.decode()!r} is not a whole number")
    return int(field)


def _number(field: bytes) -> float:
    try:
        number = math.nan if b"_" in field else float(field)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"score {field.decode()!r} is not a number")
    return number


def _write(path: Path, lines: Iterable[str]) -> None:
    """Write all lines or leave what was there."""
    with replace_file(path) as new, new.open("wb") as raw:
        encoded = (line.encode() for line in lines)
        if path.suffix == ".gz":
            options = {"filename": "", "mode": "wb", "compresslevel": 6, "mtime": 0}  # same rows, same bytes
            with gzip.GzipFile(fileobj=raw, **options) as packed, io.BufferedWriter(packed, 1 << 20) as buffered:
                buffered.writelines(encoded)  # line by line a gzip file takes four times as long
        else:
            raw.writelines(encoded)
