"""TREC run and relevance files, as trec_eval and its kin read them; ir_measures and pytrec_eval read them back.

Formats: https://github.com/usnistgov/trec_eval. A name that ends in .gz is written compressed, and the same rows give
the same bytes. Files are written whole or not at all.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd

from hybridlib.files import replace_file

KEY = ["query_id", "candidate_id"]
BLANK = r"[ \t\n\r\x0b\x0c]"  # what separates the columns of a TREC file; ids may hold any other character


def write_qrels(path: str | Path, qrels: pd.DataFrame) -> None:
    """Write judgements (query_id, candidate_id, gain) as a TREC qrels file.

    Raises:
        ValueError: an id is empty or holds a blank, a gain is no whole number, or a candidate is judged twice.
        OSError: the file cannot be written.
    """
    _check(qrels, "gain", "qrels")
    gains = qrels["gain"].astype("int64")
    if not np.array_equal(gains, qrels["gain"]):
        raise ValueError("qrels: column gain must hold whole numbers; round or rescale them")
    _write(Path(path), qrels.assign(iteration=0, gain=gains)[["query_id", "iteration", "candidate_id", "gain"]])


def write_run(path: str | Path, run: pd.DataFrame) -> None:
    """Write a run (query_id, candidate_id, score) as a TREC run file, sorted and ranked.

    Within a query candidates stand by score, equal scores by id descending, as trec_eval ranks them. Scores are
    written as the shortest decimals that give back the same float32: trec_eval 9 compares scores in float32 and
    trec_eval 10 in float64, so that every reader sees the same ranking and the same ties.

    Raises:
        ValueError: a score is NaN, an id is empty or holds a blank, or a candidate stands twice.
        OSError: the file cannot be written.
    """
    _check(run, "score", "run")
    ranked = run.assign(score=run["score"].astype("float32"), q0="Q0", tag="hybridlib")
    ranked = ranked.sort_values(["query_id", "score", "candidate_id"], ascending=[True, False, False])
    ranked["rank"] = ranked.groupby("query_id").cumcount() + 1
    ranked["score"] = ranked["score"].to_numpy().astype("U16")  # pandas 2 would write the digits of a float64
    _write(Path(path), ranked[["query_id", "q0", "candidate_id", "rank", "score", "tag"]])


def _check(frame: pd.DataFrame, value: str, what: str) -> None:
    missing = [column for column in [*KEY, value] if column not in frame.columns]
    if missing:
        raise ValueError(f"{what}: column {missing[0]} is missing; needed are {', '.join([*KEY, value])}")
    if frame[[*KEY, value]].isna().any(axis=None):
        raise ValueError(f"{what}: an id or {value} is missing or NaN; drop or repair these rows")
    for query, candidate in frame.loc[frame.duplicated(KEY), KEY].to_numpy():
        raise ValueError(f"{what}: candidate {candidate!r} stands twice for query {query!r}; keep one")
    for column in KEY:
        ids = pd.Series(frame[column].unique()).astype(str)
        for name in ids[(ids == "") | ids.str.contains(BLANK)]:
            raise ValueError(f"{what}: {column} {name!r} is empty or holds a blank; TREC files cannot hold it")


def _write(path: Path, columns: pd.DataFrame) -> None:
    packing = {"method": "gzip", "compresslevel": 6, "mtime": 0} if path.suffix == ".gz" else None
    form = {"sep": " ", "header": False, "index": False, "quoting": csv.QUOTE_NONE, "lineterminator": "\n"}
    with replace_file(path) as new, new.open("wb") as file:
        columns.to_csv(file, compression=packing, **form)
