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
    frame = frame.assign(pool="c-" + frame["query_lang"], cluster=frame["query_id"])
    return frame.astype(dict.fromkeys(["strategy", "query_lang", "query_id", "pool"], "category"))


def clean(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["variant"] == "clean"]


def test_statistics_over_languages():
    frame = clean(rows())
    found = robustness.over_languages(frame, "ndcg@10")
    means = frame.groupby(["strategy", "query_lang"], observed=True)["ndcg@10"].mean().unstack()
    for strategy in ("hybrid", "x-y"):
        own = found[found["strategy"] == strategy].set_index("statistic")
        languages = means.loc[strategy]
        spread = languages.max() - languages.min()
        wanted = {"mean": languages.mean(), "worst language": languages.min(), "largest - smallest": spread}
        assert own["value"].to_dict() == pytest.approx(wanted)
        assert set(own["lowest"]) == {"bn"} and set(own["languages"]) == {3}
        assert (own["low"] < own["value"]).all() and (own["value"] < own["high"]).all()


def test_one_language_has_a_mean_alone():
    frame = clean(rows(languages=["en"]))
    assert robustness.over_languages(frame, "ndcg@10")["statistic"].tolist() == ["mean"] * 2
    assert robustness.compare_over_languages(frame, "ndcg@10")["statistic"].tolist() == ["mean"]


def test_differences_over_languages_are_paired():
    found = robustness.compare_over_languages(clean(rows()), "ndcg@10").set_index("statistic")
    assert found["a"].tolist() == ["hybrid"] * 3 and found["b"].tolist() == ["x-y"] * 3, "x-x-mono is not there"
    wanted = {"mean": 0.05, "worst language": 0.05, "largest - smallest": 0}
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
            assert line["drop_low"] == pytest.approx(line["drop_high"]), "the drop does not"


def test_does_one_lose_a_larger_share():
    found = robustness.drops(rows(), "ndcg@10")
    shares = robustness.compare_shares(found)
    assert shares[["kind", "rate", "a", "b"]].values.tolist() == [["typos", r, "hybrid", "x-y"] for r in (0.1, 0.2)]
    table = robustness.lost(found).set_index(["strategy", "rate"])["share"]
    gaps = [table["hybrid", rate] - table["x-y", rate] for rate in (0.1, 0.2)]
    assert shares["difference"].to_list() == pytest.approx(gaps)
    assert (shares["low"] < shares["difference"]).all() and (shares["difference"] < shares["high"]).all()
    assert (shares["seed_min"] <= shares["seed_max"]).all()


def test_no_pair_no_line():
    found = robustness.drops(rows(strategies=["none"]), "ndcg@10")
    assert robustness.compare_shares(found).empty and len(robustness.lost(found)) == 2
    assert robustness.compare_over_languages(rows(strategies=["none"]), "ndcg@10").empty


def test_groups_of_languages_are_taken_one_after_the_other():
    assert robustness.groups(["en", "sw"]) == {"low-resource": ["sw"], "other": ["en"], "all": ["en", "sw"]}
    assert robustness.groups(["en", "fi"]) == {"all": ["en", "fi"]}
    found = robustness.by_group(clean(rows(languages=["bn", "en", "sw"])), robustness.over_languages, "ndcg@10")
    sizes = found.drop_duplicates("group").set_index("group")["languages"]
    assert sizes.to_dict() == {"low-resource": 2, "other": 1, "all": 3}
