"""Summaries, comparisons and claims against numbers worked out by hand, and invariants."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hybridlib.companion.report import claims, summaries, tables
from hybridlib.evaluation import Evaluation

LANGUAGES = ("de", "el", "en")


def make_rows(values: dict[tuple[str, int], float], n: int = 12, noise: float = 0.0) -> pd.DataFrame:
    """Rows of n questions in three languages; `values` gives the mean by (strategy, seed)."""
    rng, lines = np.random.default_rng(0), []
    for (strategy, seed), value in values.items():
        for i in range(n):
            for a in LANGUAGES:
                pools = [("mono" if a == b else "cross", b) for b in LANGUAGES] + [("multi", "all")]
                for setting, b in pools:
                    shown = value + noise * rng.standard_normal()
                    distance = 100 * value if setting == "multi" else np.nan
                    alpha = 0.5 if strategy == "hybrid" else np.nan
                    line = (strategy, alpha, seed, setting, a, b, f"{a}:q{i}", f"q{i}", f"c{i // 3}", shown, distance)
                    lines.append(line)
    columns = ["strategy", "alpha", "seed", "setting", "query_lang", "pool", "query_id", "question_id"]
    return pd.DataFrame(lines, columns=[*columns, "cluster", "map", "rank_distance"])


MEANS = {"hybrid": (0.6, 0.8), "x-y": (0.5, 0.5), "x-x-mono": (0.1, 0.3)}
ROWS = make_rows({(strategy, seed): mean for strategy, means in MEANS.items() for seed, mean in enumerate(means)})
TRAINED = ("de", "en")


def test_summary_has_mean_and_spread_of_seeds():
    summary = summaries.summary(ROWS, TRAINED).set_index(["strategy", "setting", "measure", "subset"])
    hybrid = summary.loc[("hybrid", "mono", "map", "all")]
    assert hybrid["mean"] == pytest.approx(0.7) and hybrid["sd"] == pytest.approx(np.std([0.6, 0.8], ddof=1))
    assert hybrid["low"] == pytest.approx(0.7) and hybrid["n_seeds"] == 2
    assert ("hybrid", "mono", "rank_distance", "all") not in summary.index
    assert summary.loc[("x-x-mono", "multi", "rank_distance", "all"), "mean"] == pytest.approx(20)


def test_subsets_part_the_rows():
    for setting, trained, zero_shot in (("mono", 2, 1), ("cross", 2, 4), ("multi", 2, 1)):
        part = ROWS[ROWS["setting"] == setting]
        subsets = [summaries.subset(part, name, TRAINED) for name in summaries.SUBSETS]
        cells = [len(rows[["query_lang", "pool"]].drop_duplicates()) for rows in subsets]
        assert cells == [trained + zero_shot, trained, zero_shot]
    with pytest.raises(ValueError, match="subset must be one of"):
        summaries.subset(ROWS, "some", TRAINED)


def test_by_seed_averages_to_the_summary():
    rows = make_rows({("hybrid", 0): 0.6, ("hybrid", 1): 0.8}, noise=0.1)
    seeds = summaries.by_seed(rows, TRAINED).groupby(["setting", "measure", "subset"])["value"].mean()
    means = summaries.summary(rows, TRAINED).set_index(["setting", "measure", "subset"])["mean"]
    pd.testing.assert_series_equal(seeds.sort_index(), means.sort_index(), check_names=False)


def test_strategies_without_alpha_are_there_and_have_their_place_on_the_curve():
    rows = ROWS.assign(alpha=None, strategy=ROWS["strategy"].replace("x-y", "en-en"))
    assert set(summaries.summary(rows, TRAINED)["strategy"]) == {"hybrid", "x-x-mono", "en-en"}
    assert set(summaries.by_seed(rows, TRAINED)["strategy"]) == {"hybrid", "x-x-mono", "en-en"}
    frame = pd.DataFrame({"strategy": ["hybrid", "x-y", "en-en", "x-x-mono"], "alpha": [0.3, np.nan, np.nan, np.nan]})
    curve = summaries.monolingual_share(frame)
    assert curve.set_index("strategy")["monolingual_share"].to_dict() == {"hybrid": 0.3, "x-y": 0, "x-x-mono": 1}
    for bad in (frame.assign(alpha=np.nan), frame[frame["strategy"] == "en-en"]):
        with pytest.raises(ValueError, match="an alpha in those of hybrid"):
            summaries.monolingual_share(bad)


def test_compare_has_the_differences_and_corrects_for_all_its_tests():
    tests = summaries.compare(ROWS, TRAINED, subsets=["all", "zero-shot"])
    assert len(tests) == 2 * 4 * 2  # subsets x (three mAPs and a distance) x pairs
    first = tests.set_index(["setting", "measure", "subset", "b"]).loc[("cross", "map", "all", "x-x-mono")]
    assert first["difference"] == pytest.approx(0.5)
    assert first["seed_min"] == pytest.approx(0.5) and first["seed_max"] == pytest.approx(0.5)
    assert (tests["p_holm"] >= tests["p"]).all() and (tests["p_holm"] <= 1).all()


def test_by_language_groups_by_query_or_pool():
    rows = ROWS[ROWS["strategy"] == "hybrid"].copy()
    rows.loc[(rows["query_lang"] == "de") & (rows["pool"] == "en"), "map"] = 0.0
    by_query = summaries.by_language(rows).set_index(["setting", "query_lang"])["mean"]
    by_pool = summaries.by_language(rows, group="pool").set_index(["setting", "pool"])["mean"]
    assert by_query["cross", "de"] == pytest.approx(0.35) and by_query["cross", "en"] == pytest.approx(0.7)
    assert by_pool["cross", "en"] == pytest.approx(0.35) and by_pool["cross", "de"] == pytest.approx(0.7)
    with pytest.raises(ValueError, match="group must be"):
        summaries.by_language(rows, group="lang")


def test_first_ranked_counts_the_best_relevant_candidate():
    lines = [("de:1", "de", "de", 4), ("de:1", "de", "en", 2), ("en:1", "en", "de", 9), ("en:1", "en", "en", 1)]
    lines += [("en:2", "en", "en", 1), ("en:2", "en", "de", 3)]
    ranks = pd.DataFrame(lines, columns=["query_id", "query_lang", "candidate_lang", "rank_in_pool"])
    ranks = ranks.assign(strategy="hybrid", alpha=0.5, seed=0)
    (matrix,) = summaries.first_ranked(ranks).values()
    assert matrix.loc["de"].to_dict() == {"de": 0.0, "en": 1.0}
    assert matrix.loc["en"].to_dict() == {"de": 0.0, "en": 1.0}


def test_by_script_parts_pairs_by_script():
    rows = ROWS[ROWS["strategy"] == "hybrid"].copy()
    rows.loc[rows["query_lang"].eq("el") | rows["pool"].eq("el"), "map"] = 0.1
    means = summaries.by_script(rows).set_index("group")["mean"]
    assert means["same script"] == pytest.approx(0.7) and means["different script"] == pytest.approx(0.1)


def test_an_evaluation_is_written_with_its_macro_means():
    rows = ROWS[(ROWS["strategy"] == "hybrid") & (ROWS["seed"] == 0)].drop(columns=["strategy", "alpha", "seed"])
    rows = rows.assign(map=rows["map"] * rows["query_lang"].map({"de": 1, "el": 0.5, "en": 0.1}).astype(float))
    rows = rows.drop(rows.index[(rows["setting"] == "mono") & (rows["query_lang"] == "de")][:10])  # unlike sizes
    result = Evaluation("made", LANGUAGES, {"de": {"queries": 12, "candidates": 5}}, pd.DataFrame(), rows, {})
    numbers = summaries.to_json(result)
    assert numbers["settings"]["cross"]["de-en"] == {"map": pytest.approx(0.6)}
    assert numbers["macro"]["mono"]["map"] == pytest.approx(0.6 * 1.6 / 3)
    assert numbers["rank_distance"] == pytest.approx({"de": 60, "el": 60, "en": 60, "mean": 60})
    assert summaries.macro_scores(result)["map mono"] == numbers["macro"]["mono"]["map"]
    text = tables.evaluation_text(result, TRAINED)
    assert "0.3200" in text and "zero-shot" in text
    one = Evaluation("made", LANGUAGES, {}, pd.DataFrame(), rows.assign(rank_distance=np.nan), {})
    assert summaries.to_json(one)["rank_distance"] == {"mean": None}


@pytest.mark.parametrize(
    ("low", "high", "seed_min", "seed_max", "more", "less"),
    [
        (0.05, 0.2, 0.1, 0.1, "holds", "does not hold"),
        (-0.2, -0.05, -0.3, -0.1, "does not hold", "holds"),
        (-0.05, 0.2, 0.1, 0.1, "undecided", "undecided"),
        (0.05, 0.2, -0.1, 0.3, "undecided", "undecided"),
        (-0.2, -0.05, -0.3, 0.1, "undecided", "undecided"),
        (0.0, 0.2, 0.1, 0.1, "undecided", "undecided"),
    ],
)
def test_a_verdict_follows_interval_and_seeds(low, high, seed_min, seed_max, more, less):
    assert claims.verdict(low, high, seed_min, seed_max, 1) == more
    assert claims.verdict(low, high, seed_min, seed_max, -1) == less


@pytest.mark.parametrize("numbers", [(0.2, 0.1, 0, 0), (0, 0.1, 0.2, 0.1), (np.nan, 0.1, 0, 0), (0, 1, 0, np.nan)])
def test_there_is_no_verdict_without_numbers(numbers):
    with pytest.raises(ValueError, match="needs low <= high"):
        claims.verdict(*numbers, 1)


def test_a_line_says_what_was_measured_where_or_what_is_lacking():
    comparison = summaries.compare(ROWS, TRAINED)
    one = comparison[(comparison["setting"] == "cross") & (comparison["b"] == "x-y")]
    line = claims.line("Better?", one, what="mAP hybrid - X-Y", paper=".3 / .2")
    assert line["measured"].startswith("mAP hybrid - X-Y +0.200 [+0.") and line["verdict"] == "holds"
    assert line["same_benchmark"] == "" and list(line) == claims.COLUMNS
    assert claims.line("Less?", one, what="x", sign=-1, same_benchmark=True)["verdict"] == "does not hold"
    assert claims.line("?", one[:0], what="x")["verdict"] == "not run"
    assert claims.line("?", one[:0], what="x", needs="MIRACL")["verdict"] == "not run: needs MIRACL"
    with pytest.raises(ValueError, match="judged by one difference"):
        claims.line("?", comparison, what="x")


def test_claims_are_judged_from_the_comparison_and_not_in_a_smoke_run():
    comparison = summaries.compare(ROWS, TRAINED, subsets=["all", "zero-shot"])
    judged = claims.judge(comparison, run=True)
    verdicts = judged.set_index("claim")["verdict"]
    assert verdicts["Hybrid is better than X-X-mono in cross-lingual retrieval"] == "holds"
    assert verdicts["Hybrid has less language bias than X-Y (the paper: about the same)"] == "does not hold"
    smoke = claims.judge(comparison, run=False)
    assert set(smoke["verdict"]) == {"not run"} and set(smoke["measured"]) == {""}


def test_the_papers_numbers_are_the_papers():
    shown = {claim.text: claim.paper_numbers() for claim in claims.CLAIMS}
    assert shown["Hybrid has less language bias than X-X-mono"] == "XLM-R 286.6 / 410.2, LaBSE 221.1 / 261.5"
    assert claims.CLAIMS[0].paper_numbers("mlqa-r", "labse") == "LaBSE 0.6864 / 0.6710"
    for claim in claims.CLAIMS:  # the paper itself has each claim right for at least one of its two checkpoints
        pairs = [part.split()[1::2] for part in claim.paper_numbers().split(", ")]
        assert any(claim.sign * (float(a) - float(b)) > 0 for a, b in pairs), claim.text


def test_facts_are_counted_where_the_data_are_at_hand():
    facts = claims.facts((0, 151), None, None, run=True)
    assert facts["verdict"].tolist() == ["holds", "not run", "not run"]
    assert facts["measured"][0] == "0 of 151 test subjects have a question or passage in training"
    assert claims.facts((3, 151), None, None, run=True)["verdict"][0] == "does not hold"
    smoke = claims.facts((0, 151), None, None, run=False)
    assert set(smoke["verdict"]) == {"not run"} and set(smoke["measured"]) == {""}
