"""BEIR's average over data sets (Thakur et al. 2021, arXiv 2104.08663), from rows of searches.

CQADupStack, twelve collections, counts as one data set, and MS MARCO is not in the average. A measure is averaged over
queries, then over data sets.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hybridlib.companion.report import summaries
from hybridlib.companion.search.measure import MEASURES

PARTED = "cqadupstack"
NOT_AVERAGED = ("msmarco",)  # what the models of BEIR's paper were trained on, and mMARCO translates
AVERAGE = "average"


def data_sets(rows: pd.DataFrame, measures: Sequence[str] = MEASURES) -> pd.DataFrame:
    """Rows of `Study.search_rows` with data sets in candidate_lang: no split in the name, CQADupStack as one.

    BEIR averages over CQADupStack's parts, whatever their sizes. So each value there is weighed by (queries in all its
    parts) / (number of parts x queries in its part): then the mean over queries is the mean over the parts.
    """
    names = rows["candidate_lang"].astype(str).str.replace(r"-(test|dev|train)$", "", regex=True)
    parts = names.where(names.str.startswith(f"{PARTED}-"))
    queries = rows["cluster"].astype(str).groupby(parts).nunique()
    weights = parts.map(queries.sum() / (len(queries) * queries)).fillna(1.0).astype(float)
    weighed = rows[list(measures)].multiply(weights, axis=0)
    return rows.assign(candidate_lang=names.where(parts.isna(), PARTED), **weighed)


def averaged(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows (of `data_sets`) of the data sets that BEIR's average is over; all rows where there are no others."""
    kept = rows[~rows["candidate_lang"].isin(NOT_AVERAGED)]
    return kept if len(kept) else rows


def differences(rows: pd.DataFrame, baseline: str, measures: Sequence[str]) -> pd.DataFrame:
    """Each strategy minus `baseline`, per data set and on average, with 95 % paired bootstrap intervals.

    Args:
        rows: of `data_sets`.

    Returns:
        strategy, measure, dataset (AVERAGE last, where several are averaged), difference, low, high, seed_min,
        seed_max. No line where `baseline` or every other strategy is missing.
    """
    columns = ["strategy", "measure", "dataset", "difference", "low", "high", "seed_min", "seed_max"]
    there = list(dict.fromkeys(rows["strategy"].astype(str)))
    parts = list(rows.groupby("candidate_lang"))
    if averaged(rows)["candidate_lang"].nunique() > 1:
        parts.append((AVERAGE, averaged(rows)))
    pairs = [(other, baseline) for other in there if other != baseline and baseline in there]
    lines = []
    for name, part in parts if pairs else []:
        found = summaries.compare(part, (), pairs=pairs, measures=measures)
        lines.append(found.rename(columns={"a": "strategy"}).assign(dataset=name))
    return pd.concat(lines, ignore_index=True)[columns] if lines else pd.DataFrame(columns=columns)
