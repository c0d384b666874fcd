"""The numbers the paper reports (arXiv 2408.10536, Tables 1 to 13) and where the paper disagrees with itself.

`data/paper_cells.csv` has one row per printed cell, 1,169 in all, with our strategy ids: what Tables 1 and 2 print as
X-X is the paper's X-X-mono, `x-x-mono` here. Decimals are those of the table: the paper's typesetting drops trailing
zeros (0.487 in a table of four decimals), here they are back (0.4870).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from importlib.resources import files

import pandas as pd

TABLES = range(1, 14)
NUMBERS = ("table", "value", "decimals", "printed")  # columns that name no cell


def reported(table: int | None = None, **filters: str | Iterable[str]) -> pd.DataFrame:
    """The paper's cells of one table (None: of all), in the order of the print.

    Args:
        table: 1 to 13.
        **filters: column = value or values to keep, such as `strategy="hybrid"` or `language=["el", "vi"]`. Columns:
            benchmark, checkpoint ("xlm-r", "labse"), strategy, setting, measure, language (ISO 639-1, "mean" or
            "median"), dataset and languages (space between; Table 9 only). What a table has not is "".

    Returns:
        Those columns and table (int), value (float; 0 to 1 except rank distances and counts), decimals (int, as
        printed: with 2 a value is meant ± .005), printed (str). Never empty.

    Raises:
        ValueError: table, column or value unknown, or not among the cells that the filters before it leave.
    """
    cells = _cells()
    if table is not None:
        _check_table(table)
        cells = cells[cells["table"] == table]
    for column, values in filters.items():
        names = [name for name in cells.columns if name not in NUMBERS]
        if column not in names:
            raise ValueError(f"{column!r} is no column of the paper's cells; choose from {', '.join(names)}")
        wanted, known = [values] if isinstance(values, str) else list(values), cells[column].unique().tolist()
        if not wanted or not set(wanted) <= set(known):
            lacking = [value for value in wanted if value not in known] or "value from an empty list"
            raise ValueError(f"{column}: the cells chosen so far have no {lacking}; choose from {known}")
        cells = cells[cells[column].isin(wanted)]
    return cells.reset_index(drop=True)


def notes(table: int | None = None) -> list[str]:
    """Where the paper's text, tables and sources disagree, for one table (None: all 25). Show them beside its numbers.

    Raises:
        ValueError: no such table.
    """
    rows = read("paper_notes.csv")
    if table is not None:
        _check_table(table)
        rows = rows[[str(table) in tables.split() for tables in rows["tables"]]]
    return rows["note"].tolist()


def _check_table(table: int) -> None:
    if table not in TABLES:
        raise ValueError(f"the paper has no table {table!r}; choose from 1 to 13")


@lru_cache
def _cells() -> pd.DataFrame:
    cells = read("paper_cells.csv").rename(columns={"value": "printed"})
    cells["table"] = cells["table"].astype(int)
    cells["value"] = cells["printed"].astype(float)
    cells["decimals"] = [len(text.partition(".")[2]) for text in cells["printed"]]
    return cells


@lru_cache
def read(name: str) -> pd.DataFrame:
    """A csv of `companion/data`, as text; not to be changed."""
    with files("hybridlib").joinpath("companion", "data", name).open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, keep_default_na=False)
