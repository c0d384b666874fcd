"""Retrieval by language: names and forms, cells of Tables 12 and 13, gains against size, and their figures."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from test_figures import check_page, lines, words

from hybridlib import statistics
from hybridlib.companion.experiment import embedded_study
from hybridlib.companion.questions import by_language, by_language_figures, miracl, shared
from hybridlib.companion.report import figures, paper, summaries, tables
from hybridlib.companion.report.drawing import LOOKS, WIDTH

STRATEGIES = ("x-x-mono", "hybrid", "x-y")
TEXT = {"title": "A title that says what is seen", "note": "a note"}


@pytest.fixture
def study(tmp_path) -> embedded_study.Study:
    return embedded_study.study("paper", root=tmp_path)


def rows(languages: list[str], seeds: tuple[int, ...] = (0, 1), strategies: tuple[str, ...] = STRATEGIES):
    """Rows of a search, 12 queries a language; hybrid is .1 lower than X-X-mono in high-resource languages, else .2."""
    rng, parts = np.random.default_rng(0), []
    for lang in languages:
        base = rng.uniform(0.3, 0.9, 12)
        for strategy in strategies:
            loss = {"x-x-mono": 0.0, "hybrid": 0.1 if lang in shared.high_resource() else 0.2, "x-y": 0.3}[strategy]
            for seed in seeds:
                value = base - loss + 0.01 * seed * (strategy == "hybrid")
                part = pd.DataFrame({"query_id": range(12), "ndcg@10": value, "recall@100": value})
                part["cluster"] = [f"{lang}:{i}" for i in range(12)]
                parts.append(part.assign(query_lang=lang, strategy=strategy, seed=seed))
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(setting="mono", candidate_lang="miracl-" + frame["query_lang"], alpha=0.5)


FIFTEEN = miracl.paper_languages(12)


# ---- names and forms


def test_names_follow_form_and_profile(study, tmp_path):
    assert by_language.names(study, None, ["sw", "te"], None) == ["miracl-sw", "miracl-te"]
    assert by_language.names(study, None, ["sw"], "hard-negatives") == ["miracl-hard-negatives-sw"]
    colab = embedded_study.study("colab", root=tmp_path)
    assert by_language.names(colab, None, ["sw"], None) == ["miracl-hard-negatives-sw"]
    assert by_language.names(colab, None, ["sw"], "full") == ["miracl-sw"]
    assert by_language.names(study, ["nfcorpus"], None, None) == ["nfcorpus"]
    demo = embedded_study.study("demo", wider=True, root=tmp_path)
    assert by_language.searched(demo, by_language.names(demo, None, ["sw"], None)).startswith("embedded corpus")
    for one, given, form in ((demo, None, "full"), (study, ["nfcorpus"], "full")):
        with pytest.raises(ValueError, match="form is of MIRACL in colab and paper"):
            by_language.names(one, given, None, form)
    with pytest.raises(ValueError, match="form must be one of 'full', 'hard-negatives'"):
        by_language.names(study, None, None, "hard")


def test_forms_are_never_mixed(study):
    assert by_language.form_of(["miracl-sw", "miracl-te"]) == "full"
    assert by_language.form_of(["miracl-hard-negatives-sw"]) == "hard-negatives"
    assert by_language.form_of(["nfcorpus", "mr-tydi-sw"]) is None
    assert by_language.searched(study, ["miracl-hard-negatives-sw"]) == "MIRACL dev, hard negatives"
    for mixed in (["miracl-sw", "miracl-hard-negatives-te"], ["miracl-sw", "nfcorpus"]):
        with pytest.raises(ValueError, match="one benchmark"):
            by_language.form_of(mixed)


def test_table_11_counts_what_is_at_hand_and_downloads_nothing(data_folder, tmp_path, monkeypatch, study):
    monkeypatch.setattr(miracl, "fetch", lambda *_, **__: pytest.fail("nothing is to be fetched"))
    monkeypatch.setenv("HYBRIDLIB_DATA", str(data_folder))
    said = by_language.counted(study, []).set_index("language")["agrees"]
    assert said[said == "no"].index.tolist() == ["ar", "en", "es"]
    assert said[said == "not in Table 11"].index.tolist() == ["de", "yo"] and (said == "yes").sum() == 13
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path))
    nothing = by_language.counted(study, []).set_index("language")
    assert nothing["queries"].isna().all() and (nothing["agrees"] == "not counted").sum() == 16


# ---- cells of Tables 12 and 13


def test_cells_of_the_tables_are_means_over_queries_then_languages():
    frame = rows(FIFTEEN)
    cells = by_language.table_cells(frame, base="labse", form="full")
    beside = tables.build(paper.reported(13), cells)
    assert beside["reproduced"].notna().all() and len(beside) == 102
    of = cells[(cells["strategy"] == "hybrid") & (cells["measure"] == "ndcg@10")].set_index("language")
    own = frame[frame["strategy"] == "hybrid"]
    by_hand = own.groupby("query_lang")["ndcg@10"].mean()
    assert of.loc["sw", "value"] == pytest.approx(by_hand["sw"])
    assert of.loc["mean", "value"] == pytest.approx(by_hand.mean())
    assert of.loc["median", "value"] == pytest.approx(by_hand.median()) and np.isnan(of.loc["median", "low"])
    assert of["sd"].to_numpy() == pytest.approx(0.01 / np.sqrt(2))  # two seeds .01 apart, in each cell
    assert of.loc["sw", "low"] < of.loc["sw", "value"] < of.loc["sw", "high"]


def test_only_full_miracl_with_a_checkpoint_of_the_paper_fills_the_tables():
    assert by_language.table_cells(rows(["sw"]), base=None, form="full").empty
    assert by_language.table_cells(rows(["sw"]), base="labse", form="hard-negatives").empty
    some = by_language.table_cells(rows(["sw", "te", "en"]), base="xlm-r", form="full")
    assert set(some["language"]) == {"sw", "te"}, "no mean of some languages, and no en: the tables have none"


def test_claims_about_the_means(study):
    compared = by_language.compare_means(rows([*FIFTEEN, "en"]), "full")
    assert set(zip(compared["a"], compared["b"], strict=True)) == set(by_language.CLAIMED)
    judged = by_language.judge_means(compared, study, "full")
    assert judged["verdict"].tolist() == ["holds"] * 4 and (judged["measured"] == "").all()
    assert judged["same_benchmark"].str.contains("15 languages").all()
    assert judged["same_benchmark"][0].startswith("nDCG@10 X-X-mono - hybrid, 15 languages +0.1")
    some = by_language.judge_means(by_language.compare_means(rows(["sw", "te"]), "full"), study, "full")
    assert (some["same_benchmark"] == "").all() and some["measured"].str.contains("2 languages").all()
    printed = paper.reported(12, measure="ndcg@10", language="mean").set_index("strategy")["printed"]
    assert judged["paper"][0] == f"XLM-R {printed['x-x-mono']} / {printed['hybrid']}"
    hard = by_language.judge_means(compared, study, "hard-negatives")
    assert (hard["same_benchmark"] == "").all() and hard["measured"].str.contains("hard negatives").all()
    assert set(by_language.judge_means(compared, study, None)["verdict"]) == {"not run: needs MIRACL"}
    nothing = by_language.judge_means(compared[:0], study, "full")
    assert set(nothing["verdict"]) == {"not run: needs encoders of these strategies"}


# ---- gains against size


def test_gains_are_those_of_wins_and_name_size_and_group():
    frame = rows(["en", "sw", "te", "fr"])
    gains = by_language.gains(frame, "hybrid", "x-x-mono").set_index("language")
    assert gains.index.tolist() == ["en", "fr", "te", "sw"], "the largest corpus first"
    assert gains["group"].tolist() == ["high-resource"] * 2 + ["other"] * 2
    assert gains["passages"].tolist() == [miracl.PASSAGES[lang] for lang in gains.index]
    wins = summaries.wins(frame, "hybrid", "x-x-mono", "mono", "ndcg@10").set_index("query_lang")
    for column in ("difference", "low", "high"):
        np.testing.assert_allclose(gains[column], wins.loc[gains.index, column])
    assert gains.loc["sw", ["difference", "seed_min", "seed_max"]].tolist() == pytest.approx([-0.195, -0.2, -0.19])
    assert by_language.gains(frame, "hybrid", "en-en").empty and by_language.delta(frame, "hybrid", "none") is None
    assert by_language.gains(frame.assign(query_lang="de"), "hybrid", "x-y").empty, "Table 11 has no German"


def test_groups_are_compared_by_their_own_languages():
    found = by_language.compare_groups(rows(["en", "fr", "sw", "te", "th"])).set_index(["group", "b"])
    assert found["languages"].unstack("b")["x-y"].to_dict() == {"all": 5, "high-resource": 2, "other": 3}
    assert found.loc[("high-resource", "x-x-mono"), "difference"] == pytest.approx(-0.095)
    assert found.loc[("other", "x-x-mono"), "difference"] == pytest.approx(-0.195)
    assert found.loc[("all", "x-x-mono"), "difference"] == pytest.approx((2 * -0.095 + 3 * -0.195) / 5)
    np.testing.assert_allclose(found["p_holm"], statistics.holm(found["p"]))
    assert by_language.compare_groups(rows(["sw"], strategies=("hybrid",))).empty


def test_the_difference_between_the_groups_and_its_seeds():
    frame = rows(["en", "fr", "sw", "te", "th"])
    pair = ("hybrid", "x-x-mono")
    (line,) = by_language.between_groups(by_language.delta(frame, *pair), by_language.seed_gains(frame, *pair)).to_dict(
        "records"
    )
    assert [line[name] for name in ("difference", "seed_min", "seed_max")] == pytest.approx([0.1] * 3)
    assert line["p"] == pytest.approx(1 / 10), "one of ten ways to choose two of five languages"
    assert by_language.between_groups(by_language.delta(rows(["en", "fr", "ru"]), *pair)).empty
    assert by_language.between_groups(None).empty


@pytest.mark.parametrize("base", ["xlm-r", "labse"])
def test_printed_gains_are_the_papers_differences(base):
    gains = by_language.printed_gains(base, "hybrid", "x-x-mono").set_index("language")
    cells = paper.reported(by_language.TABLES[base], measure="ndcg@10", language="sw").set_index("strategy")["value"]
    assert gains.loc["sw", "difference"] == pytest.approx(cells["hybrid"] - cells["x-x-mono"])
    means = paper.reported(by_language.TABLES[base], measure="ndcg@10", language="mean").set_index("strategy")["value"]
    assert gains["difference"].mean() == pytest.approx(means["hybrid"] - means["x-x-mono"], abs=2e-4)
    assert len(gains) == 15 and gains["low"].isna().all()
    relation = by_language.between_groups(by_language.printed_delta(base, "hybrid", "x-x-mono")).iloc[0]
    assert np.isnan(relation["low"]) and 0 < relation["p"] <= 1 and 0 < relation["rho_p"] <= 1


def sums(means: list[float], clusters: int = 1) -> statistics.ClusterSums:
    cells = pd.MultiIndex.from_arrays([[f"l{i}" for i in range(len(means))]], names=["query_lang"])
    shape = (clusters, len(means))
    return statistics.ClusterSums(np.tile(means, (clusters, 1)), np.ones(shape), pd.RangeIndex(clusters), cells)


def test_rank_correlation_against_hand_computed_cases():
    # ranks 1 3 2 4 against 1 2 3 4: 1 - 6 (0 + 1 + 1 + 0) / (4 (16 - 1)) = .8
    found = statistics.rank_correlation(sums([0.1, 0.3, 0.2, 0.9], 5), [10, 100, 1000, 10_000])
    assert found[:3] == pytest.approx((0.8, 0.8, 0.8)), "every cluster alike: no other queries, no other number"
    assert found.p == pytest.approx(8 / 24, abs=0.02), "of 24 orders 4 have rho .8 or 1, and 4 the opposite"
    tied = statistics.rank_correlation(sums([1, 1, 2]), [1, 2, 3])
    assert tied.rho == pytest.approx(np.sqrt(3) / 2) and np.isnan(tied.low)
    again = [statistics.rank_correlation(sums([0.1, 0.3, 0.2, 0.9]), range(4), seed=seed).p for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
    with pytest.raises(ValueError, match="needs 3 cells and a value for each, got 2, 2"):
        statistics.rank_correlation(sums([1, 2]), [1, 2])


# ---- figures


@lru_cache
def gain_frames():
    frame = rows([*FIFTEEN, "en"])
    pairs = summaries.PAIRS
    gains = pd.concat([by_language.gains(frame, *pair) for pair in pairs])
    seeds = pd.concat([by_language.seed_gains(frame, *pair) for pair in pairs])
    return gains, by_language.panel_means(by_language.compare_groups(frame)), seeds


@lru_cache
def reported(base: str = "labse") -> pd.DataFrame:
    cells = by_language.table_cells(rows(FIFTEEN), base=base, form="full")
    return pd.concat([tables.build(paper.reported(number), cells) for number in (12, 13)], ignore_index=True)


DRAW = {
    "gain_by_size": lambda: by_language_figures.gain_by_size(*gain_frames(), **TEXT),
    "reported_by_language": lambda: by_language_figures.reported_by_language(reported(), **TEXT),
}


@pytest.mark.parametrize("name", DRAW)
def test_fits_the_page_says_what_it_shows_and_repeats(name, tmp_path):
    figure = DRAW[name]()
    assert isinstance(figure, Figure) and figure.get_size_inches()[0] == WIDTH
    assert figures.caption(name) in figure.get_supxlabel().replace("\n", " ")
    check_page(figure)
    first = [path.read_bytes() for path in figures.save(figure, tmp_path / "a", name)]
    assert first == [path.read_bytes() for path in figures.save(DRAW[name](), tmp_path / "b", name)]


def test_gains_are_drawn_where_the_frame_says():
    gains, means, seeds = gain_frames()
    figure = by_language_figures.gain_by_size(gains, means, seeds)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["hybrid minus X-X-mono", "hybrid minus X-Y"]
    for ax, b in zip(figure.axes, ("x-x-mono", "x-y"), strict=True):
        own = gains[gains["b"] == b].set_index("language")
        for lang, row in own.iterrows():
            ((x, y),) = lines(ax, f"_{lang}")
            assert y == row["difference"] and 0.7 < x / row["passages"] < 1.4, "near its size"
        places = np.log10(sorted(lines(ax, f"_{lang}")[0, 0] for lang in own.index))
        assert np.diff(places).min() > by_language_figures.GAP - 1e-9
        dots = lines(ax, "_seeds")[:, 1]
        assert sorted(dots) == sorted(seeds.loc[seeds["panel"] == ax.get_title(loc="left"), "difference"])
        mean = means[(means["b"] == b) & (means["group"] == "high-resource")].iloc[0]
        assert set(lines(ax, "_mean high-resource")[:, 1]) == {mean["difference"]}
        assert any(text.startswith("high-resource: mean") and "[" in text for text in words(ax))
    ahead = {lang: line.get_color() for lang in gains["language"] for line in figure.axes[0].get_lines()
             if line.get_label() == f"_{lang}"}  # fmt: skip
    assert set(ahead.values()) == {LOOKS["x-x-mono"].color}, "hybrid is behind in each"


def test_a_gain_that_is_not_clear_is_grey_and_printed_numbers_have_no_bar():
    gains, means, _ = gain_frames()
    ax = by_language_figures.gain_by_size(gains.assign(low=-1.0, high=1.0), means).axes[0]
    colors = {line.get_color() for line in ax.get_lines() if line.get_label() == "_sw"}
    assert colors == {by_language_figures.UNCLEAR}
    printed = by_language.printed_gains("labse", "hybrid", "x-x-mono")
    groups = printed.groupby(["panel", "group"], as_index=False)[["difference", "low", "high"]].mean()
    ax = by_language_figures.gain_by_size(printed, groups).axes[0]
    assert ax.get_title(loc="left") == "LaBSE: hybrid minus X-X-mono" and ax.get_legend() is None


def test_one_group_alone_can_be_drawn():
    for languages in (["sw", "te"], ["en"]):
        frame = rows(languages)
        groups = by_language.panel_means(by_language.compare_groups(frame))
        figure = by_language_figures.gain_by_size(by_language.gains(frame, "hybrid", "x-y"), groups)
        assert len(figure.axes) == 1


def test_places_are_moved_apart_and_no_further_than_needed():
    np.testing.assert_allclose(by_language_figures._apart(np.array([0.0, 0.0, 5.0]), 1.0), [-0.5, 0.5, 5.0])
    np.testing.assert_allclose(by_language_figures._apart(np.array([0.0, 1.0, 3.0]), 1.0), [0.0, 1.0, 3.0])
    np.testing.assert_allclose(by_language_figures._apart(np.array([0.0, 0.9, 1.0]), 0.5), [0.0, 0.7, 1.2])


def test_reported_and_reproduced_stand_apart():
    cells = reported("labse")
    figure = by_language_figures.reported_by_language(cells, languages=["sw", "mean"])
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["XLM-R", "LaBSE"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["sw", "mean"]
    own = cells[(cells["measure"] == "ndcg@10") & cells["language"].isin(["sw", "mean"]) & (cells["strategy"] == "x-y")]
    for ax, base in zip(figure.axes, ("xlm-r", "labse"), strict=True):
        part = own[own["checkpoint"] == base]
        np.testing.assert_array_equal(lines(ax, "X-Y")[:, 0], part["reported"])
        np.testing.assert_array_equal(lines(ax, "_reproduced x-y")[:, 0], part["reproduced"])
    assert np.isnan(lines(figure.axes[0], "_reproduced x-y")[:, 0]).all(), "not run: left blank"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: by_language_figures.gain_by_size(gain_frames()[0][:0], gain_frames()[1]), "gains has no rows"),
        (lambda: by_language_figures.gain_by_size(gain_frames()[0], pd.DataFrame()), "groups has no column 'panel'"),
        (lambda: by_language_figures.reported_by_language(reported(), measure="map"), "cells has no rows with measure"),
    ],
)
def test_errors_name_what_is_wrong(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
