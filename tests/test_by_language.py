"""MIRACL by language: its forms, what is counted, the cells of Tables 12 and 13, the claim about their means."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hybridlib.companion.questions import by_language, by_size
from hybridlib.companion.report import paper, tables
from hybridlib.companion.search import sources

STRATEGIES = ("x-x-mono", "hybrid", "x-y")
FIFTEEN, FULL, HARD_NEGATIVES = by_language.languages_of(12), by_language.FULL, by_language.HARD_NEGATIVES
HIGH = by_size.groups()[by_size.HIGH]


def rows(languages: list[str], seeds: tuple[int, ...] = (0, 1), strategies: tuple[str, ...] = STRATEGIES):
    """Rows of a search, 12 queries a language; hybrid is .1 lower than X-X-mono in high-resource languages, else .2."""
    rng, parts = np.random.default_rng(0), []
    for lang in languages:
        base = rng.uniform(0.3, 0.9, 12)
        for strategy in strategies:
            loss = {"x-x-mono": 0.0, "hybrid": 0.1 if lang in HIGH else 0.2, "x-y": 0.3}[strategy]
            for seed in seeds:
                value = base - loss + 0.01 * seed * (strategy == "hybrid")
                part = pd.DataFrame({"query_id": range(12), "ndcg@10": value, "recall@100": value})
                part["cluster"] = [f"{lang}:{i}" for i in range(12)]
                parts.append(part.assign(query_lang=lang, strategy=strategy, seed=seed))
    frame = pd.concat(parts, ignore_index=True)
    alpha = np.where(frame["strategy"] == "hybrid", 0.5, np.nan)
    return frame.assign(setting="mono", pool="miracl-" + frame["query_lang"], alpha=alpha)


def test_forms_are_never_mixed():
    assert by_language.searched(["miracl-sw", "miracl-te"]) == FULL
    assert by_language.searched(["miracl-hard-negatives-sw"]) == HARD_NEGATIVES
    assert by_language.searched(["a", "b", "c", "d"]) == "a, b, c and 1 more collections"
    for mixed in (["miracl-sw", "miracl-hard-negatives-te"], ["miracl-sw", "nfcorpus"]):
        with pytest.raises(ValueError, match="one benchmark"):
            by_language.searched(mixed)


def test_table_11_counts_what_is_at_hand_and_downloads_nothing(data_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("hybridlib.files.fetch", lambda *_, **__: pytest.fail("nothing is to be fetched"))
    monkeypatch.setenv("HYBRIDLIB_DATA", str(data_folder))
    table = by_language.counted([]).set_index("language")
    agrees = table["agrees"]
    assert agrees[agrees == "no"].index.tolist() == ["ar", "en", "es"]
    assert agrees[agrees == "not in Table 11"].index.tolist() == ["de", "yo"] and (agrees == "yes").sum() == 13
    assert table.loc["ar", ["queries_paper", "queries"]].tolist() == [2869, 2896]
    assert table.loc["en", "queries"] == table.loc["es", "queries_paper"] == 799
    assert table.loc["es", "queries"] == table.loc["en", "queries_paper"] == 648
    printed = table.dropna(subset=["passages_paper"])
    assert (printed["passages_paper"] == printed["passages_published"]).all()
    assert table["queries"].sum() == 13_495 and table["passages_published"].sum() == 106_332_152  # MTEB's, of all 18
    (swahili,) = sources.load("miracl-sw", passages=False)
    assert by_language.counted([swahili]).set_index("language").loc["sw", "agrees"] == "yes"
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path))
    nothing = by_language.counted([]).set_index("language")
    assert nothing["queries"].isna().all() and (nothing["agrees"] == "not counted").sum() == 16


def test_cells_of_the_tables_are_means_over_queries_then_languages():
    frame = rows(FIFTEEN)
    cells = by_language.table_cells(frame, base="labse", where=FULL)
    beside = tables.build(paper.reported(13), cells)
    assert beside["reproduced"].notna().all() and len(beside) == 102
    of = cells[(cells["strategy"] == "hybrid") & (cells["measure"] == "ndcg@10")].set_index("language")
    by_hand = frame[frame["strategy"] == "hybrid"].groupby("query_lang")["ndcg@10"].mean()
    assert of.loc["sw", "value"] == pytest.approx(by_hand["sw"])
    assert of.loc["mean", "value"] == pytest.approx(by_hand.mean())
    assert of.loc["median", "value"] == pytest.approx(by_hand.median()) and np.isnan(of.loc["median", "low"])
    assert of["sd"].to_numpy() == pytest.approx(0.01 / np.sqrt(2))  # two seeds .01 apart, in each cell
    assert of.loc["sw", "low"] < of.loc["sw", "value"] < of.loc["sw", "high"]


def test_only_full_miracl_with_a_checkpoint_of_the_paper_fills_the_tables():
    assert by_language.table_cells(rows(["sw"]), base=None, where=FULL).empty
    assert by_language.table_cells(rows(["sw"]), base="labse", where=HARD_NEGATIVES).empty
    some = by_language.table_cells(rows(["sw", "te", "en"]), base="xlm-r", where=FULL)
    assert set(some["language"]) == {"sw", "te"}, "no mean of some languages, and no en: the tables have none"


def test_claims_about_the_means():
    compared = by_language.compare_means(rows([*FIFTEEN, "en"]), FULL)
    assert set(zip(compared["a"], compared["b"], strict=True)) == set(by_language.CLAIMED)
    judged = by_language.judge_means(compared, FULL, "xlm-r")
    assert judged["verdict"].tolist() == ["holds"] * 4 and (judged["measured"] == "").all()
    assert judged["claim"][0] == "On MIRACL dev X-X-mono is better than hybrid, mean nDCG@10"
    assert judged["same_benchmark"][0].startswith("nDCG@10 X-X-mono - hybrid, 15 languages +0.1")
    printed = paper.reported(12, measure="ndcg@10", language="mean").set_index("strategy")["printed"]
    assert judged["paper"][0] == f"XLM-R {printed['x-x-mono']} / {printed['hybrid']}"
    some = by_language.compare_means(rows(["sw", "te"]), FULL)
    for means, where in ((some, FULL), (compared, HARD_NEGATIVES)):
        elsewhere = by_language.judge_means(means, where, "xlm-r")
        assert (elsewhere["same_benchmark"] == "").all() and (elsewhere["measured"] != "").all()
    both = by_language.judge_means(compared, FULL, None)
    assert both["paper"].str.contains("XLM-R .*, LaBSE ").all() and (both["same_benchmark"] == "").all()
    assert set(by_language.judge_means(compared, "nfcorpus", None)["paper"]) == {""}
    nothing = by_language.judge_means(compared[:0], FULL, "xlm-r")
    assert set(nothing["verdict"]) == {"not run: needs encoders of these strategies"}
