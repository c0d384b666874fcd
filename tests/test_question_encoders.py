"""BEIR's average by weights, and encoders used as they are beside trained ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made import encoder, parallel_corpus

from hybridlib.companion.experiment.study import open_study
from hybridlib.companion.questions import encoders, shared
from hybridlib.companion.search.collection import Collection

MEASURES = ["ndcg@10"]


def searched(values: dict[str, list[float]], strategy: str = "hybrid", seed: int = 0, name: str = "e") -> pd.DataFrame:
    """Rows of a search: pool -> a value per query."""
    lines = [(pool, f"{pool}:{i}", value) for pool, own in values.items() for i, value in enumerate(own)]
    frame = pd.DataFrame(lines, columns=["pool", "cluster", "ndcg@10"])
    alpha = 0.5 if strategy == "hybrid" else np.nan
    return frame.assign(encoder=name, strategy=strategy, seed=seed, query_lang="en", setting="mono", alpha=alpha)


def test_the_parts_of_cqadupstack_weigh_as_one_data_set_and_no_value_changes():
    values = {"nfcorpus-test": [0.2, 0.4], "cqadupstack-tex-test": [1.0], "cqadupstack-gis-test": [0.0, 0.0, 0.6]}
    rows = pd.concat([searched(values | {"msmarco-dev": [0.9]}, seed=seed) for seed in (0, 1)], ignore_index=True)
    parts = encoders.data_sets(rows)
    means = shared.means(parts, "data_set", MEASURES).set_index("data_set")["mean"]
    assert means.to_dict() == pytest.approx(
        {"nfcorpus": 0.3, "cqadupstack": (1.0 + 0.2) / 2, "msmarco": 0.9, "average": (0.3 + 0.6) / 2}
    )
    assert parts["average"]["ndcg@10"].max() == 1, "no value changes"
    alone = encoders.data_sets(rows[rows["pool"] == "msmarco-dev"])
    assert len(alone["average"]) == len(alone["msmarco"]) == 2


def test_differences_per_data_set_and_on_average():
    base = {"a-test": [0.1, 0.3], "b-test": [0.5, 0.5, 0.5], "msmarco-dev": [0.2]}
    rows = [searched(base, "en-en", 0), searched(base, "en-en", 1)]
    for seed, more in ((0, 0.1), (1, 0.2)):
        rows.append(searched(base | {"a-test": [0.1 + more, 0.3 + more]}, "hybrid", seed))
    parts = encoders.data_sets(pd.concat(rows))
    gaps = shared.compare(parts, "data_set", [("hybrid", "en-en"), ("hybrid", "x-x")]).set_index("data_set")
    assert gaps["difference"].to_dict() == pytest.approx({"a": 0.15, "b": 0, "msmarco": 0, "average": 0.075})
    assert gaps.loc["a", ["seed_min", "seed_max"]].tolist() == pytest.approx([0.1, 0.2])
    assert shared.compare(parts, "data_set", [("hybrid", "x-x")]).empty


def test_hybrid_is_compared_with_each_encoder_by_its_name():
    values = {"miracl-sw": [0.5, 0.6, 0.7], "miracl-te": [0.4, 0.5, 0.6]}
    lower = {pool: [value - 0.1 for value in own] for pool, own in values.items()}
    trained = pd.concat([searched(values), searched(lower, "x-y")])
    others = pd.concat([searched(lower, "none", name="mbert"), searched(values, "none", name="e5-base")])
    found = encoders.compare(trained, others, MEASURES).set_index("encoder")
    assert found["difference"].to_dict() == pytest.approx({"mbert": 0.1, "e5-base": 0.0})
    summary = encoders.summary(pd.concat([trained, others]), MEASURES).set_index(["encoder", "strategy"])
    assert summary["kind"].to_dict() == {
        ("e", "hybrid"): encoders.TRAINED, ("e", "x-y"): encoders.TRAINED,
        ("mbert", "none"): encoders.AS_IT_IS, ("e5-base", "none"): encoders.UPPER,
    }  # fmt: skip
    assert summary.loc[("mbert", "none"), "mean"] == pytest.approx(0.45)
    assert encoders.compare(trained, others[:0], MEASURES).empty
    assert encoders.compare(trained[trained["strategy"] == "x-y"], others, MEASURES).empty


def test_an_encoder_is_searched_with_once_and_one_that_cannot_be_had_is_left_out(tmp_path):
    texts = [f"deask thing{i}" for i in range(6)]
    collection = Collection.build(
        "made-de",
        queries=[(f"q{i}", "de", text) for i, text in enumerate(texts[:3])],
        judgements=[(f"q{i}", f"p{i}", 1) for i in range(3)],
        passages=[(f"p{i}", text.replace("ask", "tell")) for i, text in enumerate(texts)],
    )
    encoder(parallel_corpus()).save(tmp_path / "tiny")
    study = open_study("colab", {"seeds": [0, 1], "max_length": 20}, root=tmp_path)
    others = encoders.beside(study, [str(tmp_path / "tiny"), str(tmp_path / "nowhere")])
    rows, left_out = encoders.search_rows(others, [collection], MEASURES)
    assert list(left_out) == [str(tmp_path / "nowhere")] and study.store.made == 1
    assert rows.groupby(["encoder", "strategy", "seed"]).size().to_dict() == {
        (str(tmp_path / "tiny"), "none", seed): 3 for seed in (0, 1)
    }  # fmt: skip


def test_each_encoder_is_used_in_its_own_way(tmp_path):
    study = open_study("paper", {"pooling": "cls"}, root=tmp_path)
    used = encoders.how_used(encoders.beside(study, ["xlm-r-base", "e5-base", "labse", "a/b"])).set_index("encoder")
    assert used.loc["xlm-r-base", ["pooling", "query_prefix"]].tolist() == ["mean", ""]
    assert used.loc["e5-base", ["kind", "query_prefix"]].tolist() == [encoders.UPPER, "query: "]
    assert used.loc["labse", ["pooling", "passage_prefix", "max_length"]].tolist() == ["pooler", "", "256"]
    assert used.loc["a/b", ["checkpoint", "pooling", "query_prefix"]].tolist() == ["a/b", "its own", "its own"]
    changed = encoders.beside(study)["mbert"].settings
    assert (
        replace(changed, checkpoint="xlm-r-base", pooling="cls", query_prefix=None, passage_prefix=None)
        == study.settings
    )
