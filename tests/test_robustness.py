"""Evenness over languages and losses to noise: by hand, and against the same numbers got another way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hybridlib.companion.questions import robustness

LANGUAGES = ["bn", "sw", "te"]
VARIANTS = {"clean": ("clean", 0.0, 0.0), "typos-0.1-0": ("typos", 0.1, 0.1), "typos-0.2-0": ("typos", 0.2, 0.3)}


def rows(strategies=("hybrid", "x-y"), languages=LANGUAGES, seeds=(0, 1)) -> pd.DataFrame:
    """One value per query: the language's level, a query's own part, and what a variant costs; x-y loses half more."""
    rng, lines = np.random.default_rng(0), []
    for seed in seeds:
        for place, lang in enumerate(languages):
            own = rng.uniform(-0.1, 0.1, 40)
            for strategy in strategies:
                for variant, (kind, rate, cost) in VARIANTS.items():
                    cost = cost * (1.5 if strategy == "x-y" else 1)
                    level = 0.5 + 0.1 * place + (0.05 if strategy == "hybrid" else 0)
                    for query, part in enumerate(own):
                        value = level + part - cost
                        lines.append((strategy, seed, lang, f"{lang}:{query}", variant, kind, rate, value))
    columns = ["strategy", "seed", "query_lang", "query_id", "variant", "kind", "rate", "ndcg@10"]
    frame = pd.DataFrame(lines, columns=columns).assign(setting="mono", alpha=0.5)
    frame = frame.assign(candidate_lang="c-" + frame["query_lang"], cluster=frame["query_id"])
    return frame.astype(dict.fromkeys(["strategy", "query_lang", "query_id", "candidate_lang"], "category"))


def clean(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["variant"] == "clean"]


def test_statistics_over_languages():
    frame = clean(rows())
    found = robustness.over_languages(frame, "ndcg@10")
    means = frame.groupby(["strategy", "query_lang"], observed=True)["ndcg@10"].mean().unstack()
    for strategy in ("hybrid", "x-y"):
        own = found[found["strategy"] == strategy].set_index("statistic")
        one = means.loc[strategy]
        wanted = {"mean": one.mean(), "worst language": one.min(), "largest - smallest": one.max() - one.min()}
        wanted["standard deviation"] = one.std()
        assert own["mean"].to_dict() == pytest.approx(wanted)
        assert set(own["lowest"]) == {"bn"} and set(own["languages"]) == {3}
        assert (own["low"] < own["mean"]).all() and (own["mean"] < own["high"]).all()


def test_one_language_has_a_mean_alone():
    frame = clean(rows(languages=["en"]))
    assert robustness.over_languages(frame, "ndcg@10")["statistic"].tolist() == ["mean"] * 2
    assert robustness.compare_over_languages(frame, "ndcg@10")["statistic"].tolist() == ["mean"]


def test_differences_over_languages_are_paired():
    found = robustness.compare_over_languages(clean(rows()), "ndcg@10").set_index("statistic")
    assert found["a"].tolist() == ["hybrid"] * 4 and found["b"].tolist() == ["x-y"] * 4, "x-x-mono is not there"
    wanted = {"mean": 0.05, "worst language": 0.05, "largest - smallest": 0, "standard deviation": 0}
    for column in ("difference", "low", "high", "seed_min", "seed_max"):  # the same in every query: no spread at all
        assert found[column].to_dict() == pytest.approx(wanted, abs=1e-12)
    turned = robustness.compare_over_languages(clean(rows()), "ndcg@10", [("x-y", "hybrid")]).set_index("statistic")
    assert turned["difference"].to_dict() == pytest.approx({k: -v for k, v in wanted.items()}, abs=1e-12)


def test_drops_pair_each_noisy_query_with_the_clean_one():
    frame = rows()
    found = robustness.drops(frame.sample(frac=1, random_state=1), "ndcg@10")
    assert len(found) == 2 / 3 * len(frame)
    cost = found["rate"].map({0.1: 0.1, 0.2: 0.3}) * np.where(found["strategy"] == "x-y", 1.5, 1)
    np.testing.assert_allclose(found["drop"], cost)
    np.testing.assert_allclose(found["clean"] - found["noisy"], found["drop"])
    missing = frame.drop(index=frame.index[frame["variant"] == "typos-0.1-0"][0])
    with pytest.raises(ValueError, match="search the same queries"):
        robustness.drops(missing, "ndcg@10")


def test_what_is_lost():
    found = robustness.lost(robustness.drops(rows(), "ndcg@10")).set_index(["strategy", "rate"])
    level = (
        clean(rows()).groupby(["strategy", "query_lang"], observed=True)["ndcg@10"].mean().groupby("strategy").mean()
    )
    for strategy, factor in (("hybrid", 1), ("x-y", 1.5)):
        for rate, cost in ((0.1, 0.1), (0.2, 0.3)):
            line = found.loc[(strategy, rate)]
            assert line["clean"] == pytest.approx(level[strategy]) and line["drop"] == pytest.approx(cost * factor)
            assert line["noisy"] == pytest.approx(line["clean"] - line["drop"])
            assert line["share"] == pytest.approx(line["drop"] / line["clean"])
            assert line["share_low"] < line["share"] < line["share_high"], "clean differs between queries"
            assert line["low"] == pytest.approx(line["high"]), "the drop does not"


def test_does_one_lose_more():
    found = robustness.drops(rows(), "ndcg@10")
    found["drop"] += np.random.default_rng(3).normal(scale=0.01, size=len(found))
    tests, shares = robustness.compare_lost(found)
    assert tests[["kind", "rate", "a", "b"]].values.tolist() == [["typos", r, "hybrid", "x-y"] for r in (0.1, 0.2)]
    assert tests["difference"].to_list() == pytest.approx([-0.05, -0.15], abs=0.003)
    assert (tests["high"] < 0).all() and (tests["seed_max"] < 0).all() and (tests["p_holm"] < 0.01).all()
    table = robustness.lost(found).set_index(["strategy", "rate"])["share"]
    gaps = [table["hybrid", rate] - table["x-y", rate] for rate in (0.1, 0.2)]
    assert shares["difference"].to_list() == pytest.approx(gaps)
    assert (shares["low"] < shares["difference"]).all() and (shares["difference"] < shares["high"]).all()


def test_no_pair_no_line():
    found = robustness.drops(rows(strategies=["none"]), "ndcg@10")
    tests, shares = robustness.compare_lost(found)
    assert tests.empty and shares.empty and "p_holm" in tests
    assert robustness.compare_over_languages(rows(strategies=["none"]), "ndcg@10").empty
    assert len(robustness.lost(found)) == 2
