"""Evenness over languages and losses to noise: by hand, and against the same numbers got another way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hybridlib.companion.questions import robustness, shared

COSTS = {("clean", 0.0): 0.0, ("typos", 0.1): 0.1, ("typos", 0.2): 0.3}
SPAN = ["difference", "low", "high", "seed_min", "seed_max"]


def rows(strategies=("hybrid", "x-y"), languages=("bn", "sw", "te"), seeds=(0, 1)) -> pd.DataFrame:
    """One value per query: the language's level, a query's own part, and what noise costs; x-y loses half more."""
    rng, lines = np.random.default_rng(0), []
    for seed in seeds:
        for place, lang in enumerate(languages):
            for query, part in enumerate(rng.uniform(-0.1, 0.1, 40)):
                for strategy in strategies:
                    level = 0.5 + 0.1 * place + part + (0.05 if strategy == "hybrid" else 0)
                    for (kind, rate), cost in COSTS.items():
                        value = level - cost * (1.5 if strategy == "x-y" else 1)
                        lines.append((strategy, seed, lang, f"{lang}:{query}", kind, rate, value))
    columns = ["strategy", "seed", "query_lang", "query_id", "kind", "rate", "ndcg@10"]
    frame = pd.DataFrame(lines, columns=columns)
    frame = frame.assign(pool="c-" + frame["query_lang"], cluster=frame["query_id"])
    return frame.astype(dict.fromkeys(["strategy", "query_lang", "query_id", "pool"], "category"))


def clean(**made) -> dict[tuple, pd.DataFrame]:
    frame = rows(**made)
    return {("all",): frame[frame["kind"] == "clean"]}


def even(function, parts: dict) -> pd.DataFrame:
    return function(parts, ["group"], robustness.OVER_LANGUAGES, "ndcg@10", robustness.EVEN)


def noisy(function, frame: pd.DataFrame) -> pd.DataFrame:
    parts = {key: part for key, part in robustness.by_noise(frame).items() if key[0] == "all"} or frame
    return function(parts, ["group", "kind", "rate"], robustness.OF_NOISE, "ndcg@10", robustness.NOISY)


def test_values_over_languages():
    values = even(shared.values, clean())
    means = clean()["all",].groupby(["strategy", "query_lang"], observed=True)["ndcg@10"].mean().unstack()
    for strategy, languages in means.iterrows():
        part = values[values["strategy"] == strategy].set_index("statistic")
        spread = languages.max() - languages.min()
        wanted = {"mean": languages.mean(), "worst language": languages.min(), "largest - smallest": spread}
        assert part["value"].to_dict() == pytest.approx(wanted)
        assert (part["low"] < part["value"]).all() and (part["value"] < part["high"]).all()


def test_differences_over_languages_are_paired():
    gaps = even(shared.contrasts, clean()).set_index("statistic")
    assert gaps["a"].tolist() == ["hybrid"] * 3 and gaps["b"].tolist() == ["x-y"] * 3, "x-x-mono is not there"
    wanted = {"mean": 0.05, "worst language": 0.05, "largest - smallest": 0}
    for column in SPAN:  # the same in every query: no spread at all
        assert gaps[column].to_dict() == pytest.approx(wanted, abs=1e-12)
    assert even(shared.contrasts, clean(strategies=["none"])).empty


def test_what_is_lost_to_noise():
    frame = rows()
    values = (
        noisy(shared.values, frame.sample(frac=1, random_state=1))
        .set_index(["strategy", "rate", "statistic"])
        .sort_index()
    )
    level = (
        clean()["all",].groupby(["strategy", "query_lang"], observed=True)["ndcg@10"].mean().groupby("strategy").mean()
    )
    for strategy, factor in (("hybrid", 1), ("x-y", 1.5)):
        for rate, cost in ((0.1, 0.1 * factor), (0.2, 0.3 * factor)):
            line = values.loc[(strategy, rate)]
            wanted = {"clean": level[strategy], "noisy": level[strategy] - cost, "drop": cost}
            assert line["value"].to_dict() == pytest.approx(wanted | {"share": cost / level[strategy]})
            assert line.loc["share", "low"] < line.loc["share", "high"], "clean differs between queries"
            assert line.loc["drop", "low"] == pytest.approx(line.loc["drop", "high"]), "the drop does not"
    gaps = noisy(shared.contrasts, frame)
    gaps = gaps[gaps["statistic"] == "share"].set_index("rate")
    for rate in (0.1, 0.2):
        wanted = values["value"]["hybrid", rate, "share"] - values["value"]["x-y", rate, "share"]
        assert gaps.loc[rate, "difference"] == pytest.approx(wanted)
    assert (gaps["low"] < gaps["difference"]).all() and (gaps["difference"] < gaps["high"]).all()
    assert (gaps["seed_min"] <= gaps["seed_max"]).all()


def test_clean_and_noisy_queries_are_the_same():
    frame = rows()
    missing = frame.drop(index=frame.index[frame["rate"] == 0.1][0])
    with pytest.raises(ValueError, match="search the same queries"):
        robustness.by_noise(missing)


def test_groups_of_languages():
    assert robustness.groups(["en", "sw"]) == {"low-resource": ["sw"], "other": ["en"], "all": ["en", "sw"]}
    assert robustness.groups(["en", "fi"]) == {"all": ["en", "fi"]}
    parts = robustness.by_group(rows(languages=["bn", "en", "sw"]))
    assert {group: part["query_lang"].nunique() for group, part in parts.items()} == {
        "low-resource": 2, "other": 1, "all": 3
    }  # fmt: skip
