"""Tables: reported beside reproduced, strategies side by side, the paper's own, as Markdown, LaTeX and CSV.

A number is compared with the paper's only on the paper's benchmark; of what was measured elsewhere `claims`
judges the direction. What was not run is blank, never 0.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from hybridlib.companion.report import paper, summaries
from hybridlib.companion.report.summaries import PAPER_KEYS
from hybridlib.evaluation import Evaluation
from hybridlib.files import replace_file

CLOSE = 0.005  # how near is "close" where no spread over seeds is known; on the 0-to-1 scale of the quality measures
PAPER_MEASURES = ("map", "recall@1", "recall@10", "rank_distance")  # of Tables 1 to 8
ROW = ["setting", "measure", "language"]  # what names a row of `side_by_side`
ALIKE = ["alpha", "steps", "batch_size", "pairs", "start"]  # labels in which seeds of one strategy agree

# Table of the paper -> what its rows and its columns are.
LAYOUT = {
    1: (("checkpoint", "strategy"), ("benchmark", "setting")),
    2: (("checkpoint", "strategy"), ("benchmark",)),
    **dict.fromkeys((3, 4, 5, 6), (("language",), ("measure", "setting", "strategy"))),
    **dict.fromkeys((7, 8), (("language",), ("checkpoint", "strategy"))),
    9: (("dataset", "languages"), ("measure",)),
    10: (("language",), ("benchmark", "measure")),
    11: (("language",), ("measure",)),
    **dict.fromkeys((12, 13), (("language",), ("measure", "strategy"))),
}


def verdict(reported: float, reproduced: float, decimals: int, sd: float = math.nan) -> str:
    """Compare two numbers of the same benchmark: "match", "close", "differs" or "not run" (`reproduced` is NaN).

    They match inside the rounding of the print, both ends included, and are close within 2 `sd`, the standard deviation
    over seeds, or within .005 where `sd` is NaN.
    """
    if math.isnan(reproduced):
        return "not run"
    gap = abs(reproduced - reported) - 1e-9  # .295 is inside 0.29's rounding, although .295 - .29 > .005 in binary
    if gap <= 0.5 * 10.0**-decimals:  # half a unit of the last printed decimal
        return "match"
    return "close" if gap <= (CLOSE if math.isnan(sd) else 2 * sd) else "differs"


def build(reported: pd.DataFrame, reproduced: pd.DataFrame) -> pd.DataFrame:
    """One row per cell of `paper.reported`, with what was reproduced of it on the same benchmark.

    Args:
        reproduced: column value and the columns that name the cell (those of PAPER_KEYS and dataset that `reported`
            uses). Optional: low, high (interval of the value), sd (over seeds). May be empty.

    Returns:
        table, the naming columns, reported, reproduced, difference (reproduced - reported), low, high, sd, verdict,
        decimals. What was not run is NaN.

    Raises:
        ValueError: a column is missing, or two rows for one cell.
    """
    keys = [key for key in (*PAPER_KEYS, "dataset") if (reported[key] != "").any()]
    needed, numbers = [*keys, "value"], ["reproduced", "low", "high", "sd"]
    if reproduced.empty:
        reproduced = pd.DataFrame(columns=needed, dtype=str)
    if lacking := [name for name in needed if name not in reproduced]:
        raise ValueError(f"the reproduced numbers lack the columns {lacking}; needed are {needed}")
    for cell in reproduced[reproduced.duplicated(keys)][keys].to_dict("records"):
        raise ValueError(f"two reproduced numbers for {cell}; keep one row per cell")
    measured = reproduced.rename(columns={"value": "reproduced"}).reindex(columns=[*keys, *numbers])
    frame = reported[["table", *keys, "value", "decimals"]].rename(columns={"value": "reported"})
    frame = frame.merge(measured.astype(dict.fromkeys(numbers, float)), on=keys, how="left")
    frame["difference"] = frame["reproduced"] - frame["reported"]
    cells = zip(frame["reported"], frame["reproduced"], frame["decimals"], frame["sd"], strict=True)
    frame["verdict"] = [verdict(*cell) for cell in cells]
    columns = ["reported", "reproduced", "difference", "low", "high", "sd", "verdict", "decimals"]
    return frame[["table", *keys, *columns]]


def study_cells(rows: pd.DataFrame, *, benchmark: str | None, checkpoint: str | None) -> pd.DataFrame:
    """Cells of Tables 1 to 8 from rows of an experiment, with interval and spread over seeds; what `build` takes.

    A cell is a macro mean of a strategy in a setting: over a query language's pools, or over all languages ("mean").

    benchmark, checkpoint: as the paper's tables call them; None for one that is not in them: then there is no cell.
    """
    columns = [*PAPER_KEYS, "value", "low", "high", "sd"]
    if benchmark is None or checkpoint is None:
        return pd.DataFrame(columns=columns)
    measures = [name for name in PAPER_MEASURES if name in rows]
    means = summaries.intervals(rows, ["strategy", "setting"], measures).assign(language="mean")
    each = summaries.intervals(rows, ["strategy", "setting", "query_lang"], measures)
    cells = pd.concat([means, each.rename(columns={"query_lang": "language"})], ignore_index=True)
    return cells.assign(benchmark=benchmark, checkpoint=checkpoint).rename(columns={"mean": "value"})[columns]


def reproduced_cells(folders: Sequence[Path], base: str | None) -> pd.DataFrame:
    """`study_cells` of folders that `summaries.write_rows` wrote, one for each benchmark, strategy and seed.

    base: what the paper's tables call the checkpoint that all of them were trained from.

    Raises:
        FileNotFoundError: a folder has no labels.json.
        ValueError: its checkpoint was not trained here, or two folders differ in more than the seed.
    """
    if not folders:
        return pd.DataFrame(columns=[*PAPER_KEYS, "value"])
    labels, cells = pd.DataFrame([_read_labels(folder) for folder in folders], index=list(folders)), []
    for benchmark, part in labels.groupby("benchmark"):
        for _, alike in part.groupby("strategy"):
            _check_alike(alike)
        of_a_run = part[["strategy", "seed"]].to_dict("index").items()
        rows = pd.concat([pd.read_parquet(folder / "rows.parquet").assign(**run) for folder, run in of_a_run])
        cells.append(study_cells(rows, benchmark=str(benchmark), checkpoint=base))
    return pd.concat(cells, ignore_index=True)


def _read_labels(folder: Path) -> dict:
    path = folder / "labels.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: no labels.json here; give folders that evaluate --rows wrote")
    labels = json.loads(path.read_text(encoding="utf-8"))
    if "strategy" not in labels:
        raise ValueError(f"{folder}: its checkpoint was not trained with hybridlib, so it belongs in no table")
    return labels


def _check_alike(labels: pd.DataFrame) -> None:
    """Rows of one strategy and benchmark are averaged as seeds, so nothing but the seed may differ."""
    if (twice := labels["seed"].duplicated(keep=False)).any():
        first, second, *_ = labels.index[twice]
        raise ValueError(f"{first} and {second} hold the same strategy and seed; give one of them")
    for name, values in labels.reindex(columns=ALIKE).map(str).items():
        for other in values.index[values != values.iloc[0]]:
            words = f"{labels.index[0]} and {other} differ in {name}, not only in the seed"
            raise ValueError(f"{words}; make two tables of them")


def side_by_side(frame: pd.DataFrame) -> pd.DataFrame:
    """Strategies side by side: a row per setting, measure and language, a column per strategy.

    frame: setting, measure, language, strategy, value and, where known, low and high. Returns text "value [low, high]"
    per strategy, "" where not run; three decimals, one of rank distances. ValueError for two values in one place.
    """
    keys = [*ROW, "strategy"]
    for cell in frame[frame.duplicated(keys)][keys].to_dict("records"):
        raise ValueError(f"two values for {cell}; average the seeds first")
    wide = frame.assign(text=frame.apply(_with_interval, axis=1)).pivot(index=ROW, columns="strategy", values="text")
    wide = wide.reindex(index=_in_order(frame, ROW), columns=frame["strategy"].unique())
    return wide.fillna("").rename_axis(columns=None).reset_index()


def _with_interval(cell: pd.Series) -> str:
    decimals = 1 if cell["measure"] == "rank_distance" else 3
    value, low, high = (_text(cell.get(name), decimals) for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]" if value and low and high else value


def paper_table(number: int) -> pd.DataFrame:
    """A table of the paper in its own shape (languages × settings and strategies), as printed text; "" where empty."""
    cells = paper.reported(number)
    rows, columns = (list(names) for names in LAYOUT[number])
    wide = cells.pivot(index=rows, columns=columns, values="printed")
    return wide.reindex(index=_in_order(cells, rows), columns=_in_order(cells, columns)).fillna("")


def _in_order(cells: pd.DataFrame, names: list[str]) -> pd.Index:
    """The labels of rows or columns as they come in `cells`; pivot sorts them."""
    labels = cells[names].drop_duplicates()
    return pd.MultiIndex.from_frame(labels) if len(names) > 1 else pd.Index(labels[names[0]])


def as_text(frame: pd.DataFrame, decimals: int = 4) -> pd.DataFrame:
    """Every cell as the text to print: floats with the row's `decimals` column where there is one, blank for NaN.

    Named index levels become columns, column levels one name with spaces; the column decimals is left out, and
    differences carry their sign.
    """
    if list(frame.index.names) != [None]:
        frame = frame.reset_index()
    names = [" ".join(filter(None, name)) if isinstance(name, tuple) else str(name) for name in frame.columns]
    frame = frame.set_axis(names, axis=1)
    places = frame["decimals"] if "decimals" in frame else [decimals] * len(frame)
    texts = {
        name: [_text(value, int(d), name == "difference") for value, d in zip(frame[name], places, strict=True)]
        for name in names
        if name != "decimals"
    }
    return pd.DataFrame(texts, columns=list(texts), dtype=str)


def _text(value: object, decimals: int, signed: bool = False) -> str:
    if value is None or pd.isna(value):
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:{'+' if signed else ''}z.{decimals}f}"  # z: no -0.000
    return str(value).replace("\n", " ")


def render(frame: pd.DataFrame, form: str, decimals: int = 4) -> str:
    """`as_text(frame)` as "md", a GitHub pipe table, "tex", a booktabs tabular, or "csv", special characters escaped.

    The csv has the digits of the print, so that the bytes repeat; `read_csv` reads it back.
    """
    text = as_text(frame, decimals)
    if form == "csv":
        return text.to_csv(index=False, lineterminator="\n")
    right = [text[name].str.fullmatch(r"[+-]?[\d.]*").all() for name in text.columns]
    if form == "md":
        text = text.map(_escape_markdown).rename(columns=_escape_markdown)
    return tabulate(
        text.to_numpy().tolist(),
        headers=list(text.columns),
        tablefmt={"md": "pipe", "tex": "latex_booktabs"}[form],
        disable_numparse=True,
        colalign=["right" if number else "left" for number in right] if len(text) else None,
    )


def read_csv(path: str | Path) -> pd.DataFrame:
    """A csv of `render`, as text, so that decimals and blanks stay as they are."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def write_tables(frame: pd.DataFrame, folder: str | Path, name: str, decimals: int = 4) -> list[Path]:
    """Write `folder`/`name`.md, .tex and .csv, none of them ever half written; return the three paths.

    ValueError if `name` is no plain file name; OSError if the folder cannot be made or written.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"{name!r} is no name for a table file; use letters, digits, _ and -")
    paths = [Path(folder) / f"{name}.{form}" for form in ("md", "tex", "csv")]
    with ExitStack() as stack:
        for path in paths:
            text = render(frame, path.suffix[1:], decimals).rstrip("\n") + "\n"
            stack.enter_context(replace_file(path)).write_text(text, encoding="utf-8", newline="\n")
    return paths


def evaluation_text(result: Evaluation, trained: Sequence[str] | None = None) -> str:
    """The mono / cross / multi / bias table; with `trained`, the trained and zero-shot means beside the macro mean."""
    queries, candidates = (sum(c[k] for c in result.counts.values()) for k in ("queries", "candidates"))
    head = f"{result.benchmark}: {len(result.languages)} languages, {queries} queries, {candidates} candidates"
    table = summaries.macro_table(result, trained).reset_index()
    excluded = sum(n for part in result.excluded.values() for n in part.values())
    notes = ["Means over languages (mono, multi) or language pairs (cross) of the means over queries."]
    if excluded:
        notes.append(f"Left out for having nothing relevant: {excluded} (query, setting) pairs.")
    return "\n".join([head, "", render(table, "md"), "", *notes])


def _escape_markdown(text: str) -> str:
    # An underscore inside a word is only an underscore: rank_distance stays readable in the source.
    return re.sub(r"[\\|*`<$]|\](?=\()|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)
