"""Tables: reported beside reproduced, strategies side by side, the paper's own, as Markdown, LaTeX and CSV.

A number is compared with the paper's only on the paper's benchmark; of what was measured elsewhere `claims`
judges the direction. What was not run is blank, never 0.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from hybridlib import statistics
from hybridlib.companion.report import paper, summaries
from hybridlib.companion.report.summaries import PAPER_KEYS
from hybridlib.evaluation import Evaluation
from hybridlib.files import replace_file

VERDICTS = ("match", "close", "differs", "not run")
CLOSE = 0.005  # how near is "close" where no spread over seeds is known; on the 0-to-1 scale of the quality measures

PAPER_MEASURES = ("map", "recall@1", "recall@10", "rank_distance")  # of Tables 1 to 8
SIGNIFICANT = 0.05  # below it a corrected p-value says that two strategies differ
ROW = ("setting", "measure", "language")

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
    """One of VERDICTS, for two numbers of the same benchmark.

    "match": inside the rounding of the print, both ends included. "close": within 2 `sd`, the standard deviation over
    seeds, or within .005 where `sd` is NaN. "differs": farther. "not run": `reproduced` is NaN.
    """
    if math.isnan(reproduced):
        return "not run"
    gap = abs(reproduced - reported) - 1e-9  # .295 is inside 0.29's rounding, although .295 - .29 > .005 in binary
    if gap <= paper.rounding_half(decimals):
        return "match"
    return "close" if gap <= (CLOSE if math.isnan(sd) else 2 * sd) else "differs"


def build(reported: pd.DataFrame, reproduced: pd.DataFrame) -> pd.DataFrame:
    """One row per reported cell, with what was reproduced of it on the same benchmark.

    Args:
        reported: from `paper.reported`.
        reproduced: column value and the columns that name the cell (those of PAPER_KEYS and dataset that `reported`
            uses). Optional: low, high (interval of the value), sd (over seeds). May be empty. Rows that no reported
            cell asks for are left out.

    Returns:
        table, the naming columns, reported, reproduced, difference (reproduced - reported), low, high, sd, verdict,
        decimals. What was not run is NaN.

    Raises:
        ValueError: a column is missing, or two rows for one cell.
    """
    keys = [key for key in (*PAPER_KEYS, "dataset") if (reported[key] != "").any()]
    frame = reported[["table", *keys, "value", "decimals"]].rename(columns={"value": "reported"})
    frame = frame.merge(_measured(reproduced, keys), on=keys, how="left")
    frame["difference"] = frame["reproduced"] - frame["reported"]
    cells = zip(frame["reported"], frame["reproduced"], frame["decimals"], frame["sd"], strict=True)
    frame["verdict"] = [verdict(*cell) for cell in cells]
    columns = ["reported", "reproduced", "difference", "low", "high", "sd", "verdict", "decimals"]
    return frame[["table", *keys, *columns]]


def _measured(reproduced: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """`reproduced` checked and cut to `keys` and reproduced, low, high, sd."""
    needed = [*keys, "value"]
    if reproduced.empty:
        reproduced = pd.DataFrame(columns=needed, dtype=str)
    if lacking := [name for name in needed if name not in reproduced]:
        raise ValueError(f"the reproduced numbers lack the columns {lacking}; needed are {needed}")
    double = reproduced[reproduced.duplicated(keys)]
    if len(double):
        raise ValueError(f"two reproduced numbers for {double.iloc[0][keys].to_dict()}; keep one row per cell")
    numbers = ["reproduced", "low", "high", "sd"]
    frame = reproduced.rename(columns={"value": "reproduced"}).reindex(columns=[*keys, *numbers])
    return frame.astype(dict.fromkeys(numbers, float))


def study_cells(rows: pd.DataFrame, *, benchmark: str | None, checkpoint: str | None) -> pd.DataFrame:
    """Cells of Tables 1 to 8 from rows of an experiment, with interval and spread over seeds; what `build` takes.

    A cell is a macro mean of a strategy in a setting: over a query language's pools, or over all languages ("mean").

    Args:
        rows: strategy, seed and what `summaries` reads; a measure that they lack has no cell.
        benchmark, checkpoint: as the paper's tables call them; None for one that is not in them: then there is no cell.
    """
    lines = []
    measures = [name for name in PAPER_MEASURES if name in rows and None not in (benchmark, checkpoint)]
    for over in ([], ["query_lang"]):
        for (strategy, setting, *language), part in rows.groupby(["strategy", "setting", *over], observed=True):
            for measure in measures:
                if part[measure].notna().any():
                    interval = statistics.bootstrap_interval(statistics.cluster_sums(part, measure))
                    spread = statistics.seed_spread(summaries.seed_means(part, measure))
                    keys = (benchmark, checkpoint, strategy, setting, measure, *(language or ["mean"]))
                    lines.append((*keys, *interval, spread.sd))
    return pd.DataFrame(lines, columns=[*PAPER_KEYS, "value", "low", "high", "sd"])


def reproduced_cells(folders: Sequence[Path], base: str | None) -> pd.DataFrame:
    """`study_cells` of folders that `summaries.write_rows` wrote, one for each benchmark, strategy and seed.

    Args:
        base: what the paper's tables call the checkpoint that all of them were trained from.

    Raises:
        FileNotFoundError: a folder has no labels.json.
        ValueError: its checkpoint was not trained here, or two folders differ in more than the seed.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    seen: list[tuple[Path, dict]] = []
    for folder in folders:
        labels = _read_labels(folder)
        _check_alike(folder, labels, seen)
        rows = pd.read_parquet(folder / "rows.parquet").assign(strategy=labels["strategy"], seed=labels["seed"])
        parts.setdefault(labels["benchmark"], []).append(rows)
    cells = [study_cells(pd.concat(rows), benchmark=name, checkpoint=base) for name, rows in parts.items()]
    return pd.concat(cells, ignore_index=True) if cells else pd.DataFrame(columns=[*PAPER_KEYS, "value"])


def _read_labels(folder: Path) -> dict:
    path = folder / "labels.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: no labels.json here; give folders that evaluate --rows wrote")
    labels = json.loads(path.read_text(encoding="utf-8"))
    if "strategy" not in labels:
        raise ValueError(f"{folder}: its checkpoint was not trained with hybridlib, so it belongs in no table")
    return labels


def _check_alike(folder: Path, labels: dict, seen: list[tuple[Path, dict]]) -> None:
    """Rows of one strategy and benchmark are averaged as seeds, so nothing but the seed may differ."""
    for other, theirs in seen:
        if any(labels[name] != theirs[name] for name in ("benchmark", "strategy")):
            continue
        if labels["seed"] == theirs["seed"]:
            raise ValueError(f"{folder} and {other} hold the same strategy and seed; give one of them")
        alike = ("alpha", "steps", "batch_size", "pairs", "start")
        odd = [name for name in alike if labels.get(name) != theirs.get(name)]
        if odd:
            raise ValueError(f"{folder} and {other} differ in {odd[0]}, not only in the seed; make two tables of them")
    seen.append((folder, labels))


def side_by_side(frame: pd.DataFrame, tests: pd.DataFrame | None = None, *, decimals: int = 3) -> pd.DataFrame:
    """Strategies side by side: a row per setting, measure and language, a column per strategy.

    Args:
        frame: setting, measure, language, strategy, value and, where known, low and high.
        tests: setting, measure, language, a, b (strategies), p (corrected): the paired tests.
        decimals: of the values; rank distances have one.

    Returns:
        setting, measure, language, then text "value [low, high]" per strategy ("" where not run), and best: the
        strategy with the best value (the lowest rank distance, else the highest), if its tests against every other
        strategy of the row say so (p below .05), else "". Markdown and LaTeX print that cell bold.

    Raises:
        ValueError: two values for one strategy in one row.
    """
    double = frame[frame.duplicated([*ROW, "strategy"])]
    if len(double):
        raise ValueError(f"two values for {double.iloc[0][[*ROW, 'strategy']].to_dict()}; average the seeds first")
    differ = set() if tests is None else _told_apart(tests)
    columns = [*ROW, *frame["strategy"].unique(), "best"]
    rows = []
    for names, group in frame.groupby(list(ROW), sort=False):
        places = 1 if names[1] == "rank_distance" else decimals
        cells = dict(zip(group["strategy"], _with_interval(group, places), strict=True))
        rows.append(dict(zip(ROW, names, strict=True)) | cells | {"best": _best(names, group, differ)})
    return pd.DataFrame(rows, columns=columns).fillna("")


def _told_apart(tests: pd.DataFrame) -> set[tuple]:
    """(setting, measure, language, {a, b}) of the tests that say that a and b differ."""
    clear = tests[tests["p"] < SIGNIFICANT]
    return {(*names, frozenset((a, b))) for *names, a, b in clear[[*ROW, "a", "b"]].to_numpy()}


def _with_interval(group: pd.DataFrame, decimals: int) -> list[str]:
    texts = []
    for _, cell in group.iterrows():
        value, low, high = (_text(cell.get(name), decimals) for name in ("value", "low", "high"))
        texts.append(f"{value} [{low}, {high}]" if value and low and high else value)
    return texts


def _best(names: tuple, group: pd.DataFrame, differ: set[tuple]) -> str:
    ranked = group.dropna(subset="value").sort_values("value", ascending=names[1] == "rank_distance")["strategy"]
    if len(ranked) < 2:
        return ""
    first, *others = ranked
    return first if all((*names, frozenset((first, other))) in differ for other in others) else ""


def paper_table(number: int) -> pd.DataFrame:
    """A table of the paper in its own shape (languages × settings and strategies), as printed text; "" where empty.

    Raises:
        ValueError: no such table.
    """
    cells = paper.reported(number)
    rows, columns = (list(names) for names in LAYOUT[number])
    wide = cells.pivot(index=rows, columns=columns, values="printed")
    return wide.reindex(index=_as_printed(cells, rows), columns=_as_printed(cells, columns)).fillna("")


def _as_printed(cells: pd.DataFrame, names: list[str]) -> pd.Index:
    labels = cells[names].drop_duplicates()  # keeps the paper's order; pivot sorts
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


def to_markdown(frame: pd.DataFrame, decimals: int = 4) -> str:
    """A GitHub pipe table of `as_text(frame)`, special characters escaped; the cell named by column best is bold."""
    return _render(as_text(frame, decimals), "pipe", _escape_markdown, ("**", "**"))


def to_latex(frame: pd.DataFrame, decimals: int = 4) -> str:
    """A booktabs tabular of `as_text(frame)`, special characters escaped; the cell named by column best is bold."""
    # tabulate escapes what it is given, so bold goes in as two characters no text has and is put in its place after.
    table = _render(as_text(frame, decimals), "latex_booktabs", str, ("\x02", "\x03"))
    return table.replace("\x02", r"\textbf{").replace("\x03", "}")


def to_csv(frame: pd.DataFrame, decimals: int = 4) -> str:
    """`as_text(frame)` as CSV: the same digits as in print, so that the bytes repeat. `read_csv` reads it back."""
    return as_text(frame, decimals).to_csv(index=False, lineterminator="\n")


def read_csv(path: str | Path) -> pd.DataFrame:
    """What `to_csv` wrote, as text, so that decimals and blanks stay as they are.

    Raises:
        FileNotFoundError: there is no such file; the text names it.
    """
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def write_tables(frame: pd.DataFrame, folder: str | Path, name: str, decimals: int = 4) -> list[Path]:
    """Write `folder`/`name`.md, .tex and .csv, none of them ever half written; return the three paths.

    Raises:
        ValueError: `name` is no plain file name.
        OSError: the folder cannot be made or written; the text names it.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise ValueError(f"{name!r} is no name for a table file; use letters, digits, _ and -")
    texts = {
        ".md": to_markdown(frame, decimals),
        ".tex": to_latex(frame, decimals),
        ".csv": to_csv(frame, decimals),
    }
    paths = [Path(folder) / f"{name}{ending}" for ending in texts]
    with ExitStack() as stack:
        for path, text in zip(paths, texts.values(), strict=True):
            new = stack.enter_context(replace_file(path))
            new.write_text(text.rstrip("\n") + "\n", encoding="utf-8", newline="\n")
    return paths


def evaluation_text(result: Evaluation, trained: Sequence[str] | None = None) -> str:
    """The mono / cross / multi / bias table; with `trained`, the trained and zero-shot means beside the macro mean."""
    queries, candidates = (sum(c[k] for c in result.counts.values()) for k in ("queries", "candidates"))
    head = f"{result.benchmark}: {len(result.languages)} languages, {queries} queries, {candidates} candidates"
    lines = []
    for name in ("all",) if trained is None else summaries.SUBSETS:
        part = summaries.subset(result.rows, name, trained or ())
        macro = statistics.macro_means(part, summaries.measures_of(part), by=["setting"])
        macro = macro.reindex(summaries.SETTINGS).dropna(how="all")
        lines.append(macro.reset_index().assign(languages=name))
    table = pd.concat(lines, ignore_index=True)
    table.insert(0, "languages", table.pop("languages"))
    excluded = sum(n for part in result.excluded.values() for n in part.values())
    notes = ["Means over languages (mono, multi) or language pairs (cross) of the means over queries."]
    if excluded:
        notes.append(f"Left out for having nothing relevant: {excluded} (query, setting) pairs.")
    return "\n".join([head, "", to_markdown(table, decimals=4), "", *notes])


def _escape_markdown(text: str) -> str:
    # An underscore inside a word is only an underscore: rank_distance stays readable in the source.
    return re.sub(r"[\\|*`<$]|\](?=\()|(?<!\w)_|_(?!\w)", r"\\\g<0>", text)


def _render(text: pd.DataFrame, style: str, escape: Callable[[str], str], bold: tuple[str, str]) -> str:
    best = text["best"] if "best" in text else pd.Series("", index=text.index)
    shown = text.drop(columns="best", errors="ignore")
    columns = []
    for name in shown.columns:
        cells = [escape(cell) for cell in shown[name]]
        columns.append([cell.join(bold) if name == row else cell for cell, row in zip(cells, best, strict=True)])
    right = [shown[name].str.fullmatch(r"[+-]?[\d.]*").all() for name in shown.columns]
    return tabulate(
        list(zip(*columns, strict=True)),
        headers=[escape(name) for name in shown.columns],
        tablefmt=style,
        disable_numparse=True,
        colalign=["right" if number else "left" for number in right] if len(shown) else None,
    )
