"""Gains on MIRACL against the size of a language's corpus: by hand, and against the same numbers got another way."""

from __future__ import annotations

import numpy as np
import pytest
from test_by_language import rows

from hybridlib import statistics
from hybridlib.companion.questions import by_size
from hybridlib.companion.questions.by_language import TABLES
from hybridlib.companion.report import paper, summaries
from hybridlib.companion.search import sources


def test_groups_are_split_at_the_median_of_table_11():
    sizes, high = by_size.corpus_sizes(), by_size.groups()[by_size.HIGH]
    assert sizes.to_dict() == {lang: sources.MIRACL_PASSAGES[lang] for lang in sizes.index}
    assert high == ["en", "fr", "es", "ru", "ja", "zh", "fa", "ar"]
    assert min(sizes[list(high)]) > max(sizes.drop(list(high)))
    assert {group: len(languages) for group, languages in by_size.groups().items()} == {
        "high-resource": 8, "other": 8, "all": 16
    }  # fmt: skip


def test_gains_are_paired_differences_of_each_language_and_group():
    frame = rows(["en", "fr", "sw", "te", "th"])
    gains, groups = by_size.compare(frame)
    assert gains["language"].unique().tolist() == ["en", "fr", "th", "te", "sw"], "the largest corpus first"
    own = gains[gains["b"] == "x-x-mono"].set_index("language")
    wins = summaries.wins(frame, "hybrid", "x-x-mono", "mono", "ndcg@10").set_index("query_lang")
    np.testing.assert_allclose(own["difference"], wins.loc[own.index, "difference"])
    assert own.loc["sw", ["difference", "seed_min", "seed_max"]].tolist() == pytest.approx([-0.195, -0.2, -0.19])
    found = groups.set_index(["group", "b"])
    assert found["languages"].unstack("b")["x-y"].to_dict() == {"all": 5, "high-resource": 2, "other": 3}
    assert found.loc[("high-resource", "x-x-mono"), "difference"] == pytest.approx(-0.095)
    assert found.loc[("all", "x-x-mono"), "difference"] == pytest.approx((2 * -0.095 + 3 * -0.195) / 5)
    np.testing.assert_allclose(found["p_holm"], statistics.holm(found["p"]))


def test_no_line_where_there_is_nothing_to_compare():
    for frame in (rows(["sw"], strategies=("hybrid",)), rows(["sw"]).assign(query_lang="de")):
        assert all(part.empty for part in by_size.compare(frame)) and by_size.between_groups(frame).empty
    assert by_size.between_groups(rows(["en", "fr", "ru"])).empty, "one group alone"


def test_the_difference_between_the_groups_and_its_seeds():
    frame = rows(["en", "fr", "sw", "te", "th"])
    line = by_size.between_groups(frame).set_index("b").loc["x-x-mono"]
    assert line[["difference", "seed_min", "seed_max"]].tolist() == pytest.approx([0.1] * 3)
    assert line["p"] == pytest.approx(1 / 10), "one of ten ways to choose two of five languages"
    assert line["low"] <= line["difference"] <= line["high"]


@pytest.mark.parametrize("base", ["xlm-r", "labse"])
def test_printed_gains_are_the_papers_differences(base):
    by_language, by_group = by_size.printed(base)
    gains = by_language.set_index("language")["difference"]
    cells = paper.reported(TABLES[base], measure="ndcg@10").set_index(["language", "strategy"])["value"]
    assert gains["sw"] == pytest.approx(cells["sw", "hybrid"] - cells["sw", "x-x-mono"])
    assert gains.mean() == pytest.approx(cells["mean", "hybrid"] - cells["mean", "x-x-mono"], abs=2e-4)
    assert len(gains) == 15 and by_language["low"].isna().all()
    groups = by_group.set_index("group")
    assert groups.loc["high-resource", "difference"] == pytest.approx(
        gains[gains.index.isin(by_size.groups()[by_size.HIGH])].mean()
    )
    assert 0 < groups["p"].iloc[0] <= 1
