"""The reported numbers: complete, and consistent with each other wherever the notes do not say otherwise."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pandas as pd
import pytest

from hybridlib.companion.report import paper

CELLS = {1: 36, 2: 12, 3: 216, 4: 144, 5: 216, 6: 144, 7: 72, 8: 48, 9: 9, 10: 36, 11: 32, 12: 102, 13: 102}
DECIMALS = {1: 3, 2: 0, 3: 4, 4: 4, 5: 4, 6: 4, 7: 1, 8: 1, 9: 0, 10: 0, 11: 0, 12: 4, 13: 4}
CELL = ["benchmark", "checkpoint", "strategy", "setting", "measure"]


def exact(cells: pd.DataFrame) -> pd.DataFrame:
    return cells.assign(exact=[Decimal(text) for text in cells["printed"]])


def languages_of(*tables: int) -> pd.DataFrame:
    """The cells of single languages, as exact decimals."""
    cells = pd.concat([paper.reported(table) for table in tables])
    return exact(cells[~cells["language"].isin(["mean", "median"])])


def average(values: pd.Series) -> Decimal:
    return sum(values) / len(values)


def test_every_cell_is_there_once():
    cells = paper.reported()
    assert len(cells) == sum(CELLS.values()) == 1169
    assert cells["table"].value_counts().to_dict() == CELLS
    assert not cells.duplicated(["table", *CELL, "language", "dataset"]).any()


def test_decimals_are_those_of_the_print():
    cells = paper.reported()
    assert {table: set(rows) for table, rows in cells.groupby("table")["decimals"]} == {
        table: {decimals} for table, decimals in DECIMALS.items()
    }
    arabic = paper.reported(3, strategy="x-x-mono", setting="multi", measure="map", language="ar")
    assert arabic[["printed", "value", "decimals"]].values.tolist() == [["0.4870", 0.487, 4]]


def test_names_are_ours():
    cells = paper.reported()
    assert set(cells["strategy"]) == {"", "x-x-mono", "x-y", "hybrid"}  # x-x would be LAReQA's mixed batches
    measures = {"map", "recall@1", "recall@10", "rank_distance", "ndcg@10", "recall@100"}
    assert set(cells["measure"]) == measures | {"queries", "candidates", "size_per_language"}
    assert set(paper.reported(3)["language"]) - {"mean"} == set("ar de el en es hi ru th tr vi zh".split())
    assert set(paper.reported(4)["language"]) - {"mean"} == set("ar de en es hi vi zh".split())


@pytest.mark.parametrize("table", [3, 4, 5, 6, 7, 8, 12, 13])
def test_printed_mean_is_the_average_of_its_languages(table):
    averages = languages_of(table).groupby(CELL)["exact"].agg(average)
    printed = exact(paper.reported(table, language="mean")).set_index(CELL)["exact"]
    half = Decimal(5).scaleb(-DECIMALS[table] - 1)  # .005 for 2 decimals
    assert len(printed) == len(averages)
    assert (printed - averages).abs().max() <= half


@pytest.mark.parametrize("table", [12, 13])
def test_printed_median_is_the_median_of_its_languages(table):
    middles = languages_of(table).groupby(CELL)["exact"].agg(lambda values: sorted(values)[len(values) // 2])
    printed = exact(paper.reported(table, language="median")).set_index(CELL)["exact"]
    assert printed.sort_index().equals(middles.sort_index())


def test_table_1_is_tables_3_to_6_but_for_the_three_cells_in_the_notes():
    averages = languages_of(3, 4, 5, 6).groupby(CELL)["exact"].agg(average)
    rounded = averages.map(lambda value: value.quantize(Decimal("0.001"), ROUND_HALF_UP))
    printed = exact(paper.reported(1)).set_index(CELL)["exact"]
    off = printed[printed != rounded.reindex(printed.index)]
    assert {index[:4]: str(value) for index, value in off.items()} == {
        ("xquad-r", "xlm-r", "x-x-mono", "multi"): "0.547",
        ("mlqa-r", "xlm-r", "x-x-mono", "mono"): "0.648",
        ("mlqa-r", "labse", "x-y", "multi"): "0.576",
    }
    for value in (".547", ".648", ".576"):
        assert any(value in note for note in paper.notes(1))


def test_table_2_is_the_means_of_tables_7_and_8():
    means = exact(pd.concat([paper.reported(7, language="mean"), paper.reported(8, language="mean")]))
    rounded = means.set_index(CELL)["exact"].map(lambda value: value.quantize(Decimal(1), ROUND_HALF_UP))
    printed = exact(paper.reported(2)).set_index(CELL)["exact"]
    assert printed.equals(rounded.reindex(printed.index))


def test_notes_hold():
    miracl = languages_of(12, 13).pivot(index=["table", "measure", "language"], columns="strategy", values="value")
    place = miracl.rank(axis=1, ascending=False)["hybrid"]
    assert (len(place), (place == 1).sum(), (place == 3).sum()) == (60, 9, 6)
    sizes = paper.reported(9).set_index("dataset")["value"]
    translated = paper.reported(9).query("languages.str.contains('th')")["value"].sum()
    shares = [round(100 * size / sizes.sum(), 1) for size in (sizes["mMARCO"], sizes["MFAQ"], translated)]
    assert shares == [90.7, 8.1, 1.2]
    assert any("90.7 %" in note and "8.1 %" in note and "1.2 %" in note for note in paper.notes(9))


def test_notes_stand_with_their_tables():
    assert len(paper.notes()) == len(set(paper.notes())) == 25
    assert sum("MIRACL" in note for note in paper.notes(12)) == 2
    assert all(paper.notes(table) for table in range(1, 14))
    assert [note for note in paper.notes() if "SQuADShifts" in note][0] not in sum(map(paper.notes, range(1, 14)), [])


@pytest.mark.parametrize("table", [0, 14, "table3"])
def test_unknown_table(table):
    with pytest.raises(ValueError, match="choose from 1 to 13"):
        paper.reported(table)
    with pytest.raises(ValueError, match="choose from 1 to 13"):
        paper.notes(table)


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ({"seed": "1"}, "'seed' is no column .* choose from benchmark, checkpoint, strategy"),
        ({"strategy": "x-x"}, r"no \['x-x'\]; choose from \['x-x-mono', 'x-y', 'hybrid'\]"),
        ({"language": []}, "empty list; choose from"),
    ],
)
def test_unknown_filters_say_what_is_known(filters, text):
    with pytest.raises(ValueError, match=text):
        paper.reported(3, **filters)
