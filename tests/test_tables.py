"""Tables: the verdicts by hand-made cases, blanks, printed decimals, escapes, files."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hybridlib.companion.report import paper, summaries, tables

NAN = math.nan


def measured(value: float, **more) -> dict:
    cell = {"benchmark": "xquad-r", "checkpoint": "xlm-r", "strategy": "hybrid", "setting": "multi", "measure": "map"}
    return cell | {"language": "mean", "value": value} | more


def cell_of(table: int = 3, **filters) -> pd.DataFrame:
    cell = {"strategy": "hybrid", "setting": "multi", "measure": "map", "language": "mean"}
    return paper.reported(table, **(cell | filters))


@pytest.mark.parametrize(
    ("reported", "reproduced", "decimals", "sd", "expected"),
    [
        (0.29, 0.2949, 2, NAN, "match"),
        (0.29, 0.295, 2, NAN, "match"),  # the edge of the rounding, not exact in binary
        (0.29, 0.285, 2, NAN, "match"),
        (0.29, 0.2951, 2, 0.001, "differs"),
        (0.593, 0.5936, 3, NAN, "close"),
        (0.593, 0.598, 3, NAN, "close"),
        (0.593, 0.5981, 3, NAN, "differs"),
        (0.593, 0.5981, 3, 0.003, "close"),  # within 2 sd
        (0.593, 0.5965, 3, 0.001, "differs"),  # a known spread replaces .005, also where it is narrower
        (410, 410.4, 0, NAN, "match"),
        (410, 411, 0, NAN, "differs"),
        (0.593, NAN, 3, 0.003, "not run"),
    ],
)
def test_verdict(reported, reproduced, decimals, sd, expected):
    assert tables.verdict(reported, reproduced, decimals, sd) == expected


def test_same_benchmark_is_compared():
    reproduced = pd.DataFrame([measured(0.5931, low=0.58, high=0.61), measured(0.1, strategy="x-x")])
    frame = tables.build(cell_of(), reproduced)
    row = frame.iloc[0]
    assert len(frame) == 1
    assert (row["reported"], row["reproduced"], row["low"], row["high"]) == (0.5927, 0.5931, 0.58, 0.61)
    assert row["difference"] == pytest.approx(0.0004) and row["verdict"] == "close"
    shown = tables.as_text(frame).iloc[0][["reported", "reproduced", "difference", "low"]]
    assert shown.tolist() == ["0.5927", "0.5931", "+0.0004", "0.5800"]
    assert set(tables.build(paper.reported(1), pd.DataFrame())["verdict"]) == {"not run"}


@pytest.mark.parametrize(
    "other", [{"benchmark": "demo"}, {"checkpoint": "labse"}, {"strategy": "x-y"}, {"language": "en"}, {"value": NAN}]
)
def test_what_was_not_run_is_blank_and_never_0(other):
    frame = tables.build(cell_of(), pd.DataFrame([measured(0.5931) | other]))
    assert frame.loc[0, "verdict"] == "not run"
    assert frame.loc[0, ["reproduced", "difference", "low", "high"]].isna().all()
    text = tables.as_text(frame).iloc[0]
    assert text[["reproduced", "difference", "low", "high"]].tolist() == [""] * 4
    assert (text["reported"], text["verdict"]) == ("0.5927", "not run")


def study_rows(seeds: tuple[int, ...] = (0, 1)) -> pd.DataFrame:
    """Rows of two strategies in two languages, more queries in one than in the other."""
    rng, lines = np.random.default_rng(0), []
    for strategy, seed, (lang, n) in itertools.product(("hybrid", "x-y"), seeds, (("de", 30), ("en", 10))):
        for query, pool in itertools.product(range(n), ("de", "en", "all")):
            setting = {lang: "mono", "all": "multi"}.get(pool, "cross")
            distance = rng.integers(1, 90) if pool == "all" else NAN
            lines.append((strategy, seed, setting, lang, pool, f"c{query}", rng.random(), distance))
    columns = ["strategy", "seed", "setting", "query_lang", "pool", "cluster", "map", "rank_distance"]
    return pd.DataFrame(lines, columns=columns)


def test_cells_of_an_experiment_have_intervals_and_seeds():
    rows = study_rows()
    cells = tables.study_cells(rows, benchmark="xquad-r", checkpoint="xlm-r")
    assert list(cells.columns) == [*summaries.PAPER_KEYS, "value", "low", "high", "sd"]
    cells = cells.set_index(["strategy", "setting", "measure", "language"]).sort_index()
    cross = rows[(rows["strategy"] == "hybrid") & (rows["setting"] == "cross")]
    by_language = cross.groupby("query_lang")["map"].mean()
    assert cells.loc[("hybrid", "cross", "map", "de"), "value"] == pytest.approx(by_language["de"])
    mean = cells.loc[("hybrid", "cross", "map", "mean")]
    assert mean["value"] == pytest.approx(by_language.mean()) and mean["low"] < mean["value"] < mean["high"]
    by_seed = cross.groupby(["seed", "query_lang"])["map"].mean().groupby("seed").mean()
    assert mean["sd"] == pytest.approx(by_seed.std())
    assert ("hybrid", "mono", "rank_distance", "en") not in cells.index  # of pools of several languages only
    assert cells["benchmark"].eq("xquad-r").all()
    for elsewhere in ({"benchmark": None, "checkpoint": "xlm-r"}, {"benchmark": "xquad-r", "checkpoint": None}):
        assert tables.study_cells(rows, **elsewhere).empty


def saved(folder: Path, seed: int, **labels) -> Path:
    """What `summaries.write_rows` leaves of one seed."""
    folder.mkdir()
    rows = study_rows((0, 1)).query("strategy == 'hybrid' and seed == @seed")
    rows.drop(columns=["strategy", "seed"]).to_parquet(folder / "rows.parquet")
    known = {"benchmark": "xquad-r", "strategy": "hybrid", "seed": seed, "alpha": 0.5, "steps": 9} | labels
    (folder / "labels.json").write_text(json.dumps(known))
    return folder


def test_saved_rows_of_several_seeds_make_the_same_cells(tmp_path):
    folders = [saved(tmp_path / str(seed), seed) for seed in (0, 1)]
    cells = tables.reproduced_cells(folders, "xlm-r")
    same = tables.study_cells(study_rows().query("strategy == 'hybrid'"), benchmark="xquad-r", checkpoint="xlm-r")
    pd.testing.assert_frame_equal(cells, same)
    assert tables.reproduced_cells([], None).empty
    again, longer = saved(tmp_path / "again", 0), saved(tmp_path / "longer", 1, steps=10)
    with pytest.raises(ValueError, match="hold the same strategy and seed"):
        tables.reproduced_cells([folders[0], again], "xlm-r")
    with pytest.raises(ValueError, match="differ in steps, not only in the seed"):
        tables.reproduced_cells([folders[0], longer], "xlm-r")
    with pytest.raises(FileNotFoundError, match="no labels.json here"):
        tables.reproduced_cells([tmp_path], "xlm-r")


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([measured(0.5), measured(0.6)], "two reproduced numbers for .*hybrid"),
        ([{"strategy": "hybrid", "value": 0.5}], "lack the columns .*'benchmark'.*needed are"),
    ],
)
def test_build_says_what_is_wrong(rows, text):
    with pytest.raises(ValueError, match=text):
        tables.build(cell_of(), pd.DataFrame(rows))


def test_printed_decimals_are_kept():
    arabic = cell_of(strategy="x-x-mono", language="ar")
    assert all("0.4870" in tables.render(arabic, form) for form in ("md", "tex", "csv"))
    assert tables.as_text(cell_of(2, measure="rank_distance")).loc[0, "value"] == "287"
    signed = tables.as_text(pd.DataFrame({"difference": [-0.00001, 0.5], "n": [3, 4]}), 2)
    assert signed.values.tolist() == [["+0.00", "3"], ["+0.50", "4"]]


ODD = pd.DataFrame({"a|b_c": ["x|y", "50 % & #1", "_$\\*](u)"], "value": [0.5, 1.0, NAN]})


def test_markdown_is_escaped():
    head, rule, *lines = tables.render(ODD, "md", 1).splitlines()
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in (head, *lines[:2])]
    assert cells == [[r"a\|b_c", "value"], [r"x\|y", "0.5"], ["50 % & #1", "1.0"]]
    assert r"\_\$\\\*\](u)" in lines[2]
    assert rule.endswith(":|")  # numbers stand to the right


def test_latex_is_escaped():
    text = tables.render(ODD, "tex", 1)
    assert r"\toprule" in text and r"\bottomrule" in text
    assert r"50 \% \& \#1" in text
    assert r"\_\$\textbackslash{}*](u)" in text
    assert r"a|b\_c" in text


def test_strategies_stand_side_by_side_with_their_intervals():
    columns = ["setting", "measure", "language", "strategy", "value", "low", "high"]
    lines = [("mono", "map", "mean", "x-y", 0.8, 0.75, 0.85), ("mono", "map", "mean", "hybrid", 0.9, 0.85, 0.95)]
    lines += [("multi", "rank_distance", "mean", "x-y", 20, 19, 21.0), ("cross", "map", "mean", "x-y", 0.8, NAN, NAN)]
    frame = pd.DataFrame(lines, columns=columns)
    table = tables.side_by_side(frame)
    assert list(table.columns) == ["setting", "measure", "language", "x-y", "hybrid"]
    assert table["setting"].tolist() == ["mono", "multi", "cross"]
    assert table["x-y"].tolist() == ["0.800 [0.750, 0.850]", "20.0 [19.0, 21.0]", "0.800"]
    assert table["hybrid"].tolist() == ["0.900 [0.850, 0.950]", "", ""]
    with pytest.raises(ValueError, match="average the seeds first"):
        tables.side_by_side(pd.concat([frame, frame]))


@pytest.mark.parametrize("number", range(1, 14))
def test_paper_tables_hold_every_cell(number):
    table = tables.paper_table(number)
    texts = [text for text in table.to_numpy().ravel() if text]
    assert sorted(texts) == sorted(paper.reported(number)["printed"])


def test_paper_table_has_the_shape_of_the_print():
    table = tables.paper_table(5)
    assert table.index.tolist() == "ar de el en es hi ru th tr vi zh mean".split()
    assert table.loc["el", ("map", "mono", "hybrid")] == "0.8121"
    assert tables.paper_table(10).loc["el"].tolist() == ["1190", "1234", "", ""]
    head = tables.render(tables.paper_table(2), "md").splitlines()[0].split()
    assert head == "| checkpoint | strategy | xquad-r | mlqa-r |".split()


def test_csv_round_trip(tmp_path):
    frame = tables.build(paper.reported(3), pd.DataFrame([measured(0.5931)]))
    *_, path = tables.write_tables(frame, tmp_path / "new", "table_3")
    back = tables.read_csv(path)
    pd.testing.assert_frame_equal(back, tables.as_text(frame), check_dtype=False)
    assert back["reported"].tolist() == paper.reported(3)["printed"].tolist()
    assert tables.render(back, "csv") == path.read_text()


def test_a_torn_write_leaves_the_old_files(tmp_path, monkeypatch):
    paths = tables.write_tables(paper.reported(1), tmp_path, "t")
    before = [path.read_bytes() for path in paths]
    whole = Path.write_text

    def torn(path: Path, text: str, **options) -> int:
        if ".csv" in path.name:
            whole(path, text[:10], **options)
            raise OSError("no space left")
        return whole(path, text, **options)

    monkeypatch.setattr(Path, "write_text", torn)
    with pytest.raises(OSError, match="no space left"):
        tables.write_tables(paper.reported(2), tmp_path, "t")
    assert [path.read_bytes() for path in paths] == before
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.parametrize("name", ["", "../t", "a/b", "t.md"])
def test_names_that_are_no_file_names(tmp_path, name):
    with pytest.raises(ValueError, match="no name for a table file"):
        tables.write_tables(paper.reported(1), tmp_path, name)
    assert not list(tmp_path.iterdir())
