"""Figures of notebooks 10 and 12, and the numbers they show: BEIR's average, encoders used as they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import test_figures
from test_hub_checkpoints import FAMILIES

from hybridlib.companion.experiment import embedded_study
from hybridlib.companion.questions import beir_average, other_encoders, other_encoders_figures
from hybridlib.companion.report.drawing import LOOKS
from hybridlib.companion.search.collection import Collection

SETS = ["nfcorpus", "scifact", "fiqa", "climate-fever", beir_average.AVERAGE]
ENCODERS = ["hybrid", "x-y", "mbart-50", "xlm-r-base", "a/very/long/folder/of/somebody/encoder", "e5-base", "bge-m3"]


def gaps() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    keys = [(s, m, d) for s in ("x-x", "hybrid", "x-y") for m in ("ndcg@10", "recall@100") for d in SETS]
    frame = pd.DataFrame(keys, columns=["strategy", "measure", "dataset"])
    middle = rng.uniform(-0.05, 0.05, len(frame))
    span = {"low": middle - 0.01, "high": middle + 0.02, "seed_min": middle - 0.004, "seed_max": middle + 0.003}
    return frame.assign(difference=middle, **span)


def means() -> pd.DataFrame:
    cells = [(name, m) for name in ENCODERS for m in ("precision@1", "precision@10", "recall@10", "recall@100")]
    frame = pd.DataFrame(cells, columns=["strategy", "measure"])
    values = np.random.default_rng(1).uniform(0.1, 0.7, len(frame))
    return frame.assign(mean=values, low=values - 0.03, high=values + 0.03)


DRAW = {
    "to_baseline": (2, lambda: other_encoders_figures.to_baseline(gaps(), "en-en", **test_figures.text())),
    "encoders": (
        4,
        lambda: other_encoders_figures.encoders(means(), list(means()["measure"][:4]), **test_figures.text()),
    ),
}


@pytest.mark.parametrize("name", DRAW)
def test_fits_the_page_and_says_what_it_shows(name, monkeypatch):
    axes, draw = DRAW[name]
    monkeypatch.setitem(test_figures.DRAW, name, draw)
    monkeypatch.setitem(test_figures.AXES, name, axes)
    test_figures.test_fits_the_page_and_says_what_it_shows(name)


def test_differences_are_where_they_belong():
    frame = gaps()
    left, right = other_encoders_figures.to_baseline(frame, "en-en").axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == [beir_average.AVERAGE, *SETS[:-1]]
    for ax, measure in ((left, "ndcg@10"), (right, "recall@100")):
        own = frame[(frame["strategy"] == "hybrid") & (frame["measure"] == measure)]
        points = test_figures.lines(ax, LOOKS["hybrid"].label)
        assert dict(zip(np.round(points[:, 1]).astype(int), points[:, 0], strict=True)) == pytest.approx(
            dict(zip([1, 2, 3, 4, 0], own["difference"], strict=True))
        )
        low, high = ax.get_xlim()
        assert low == -high and high > frame["high"].max(), "one scale, 0 in the middle"


def test_encoders_stand_in_their_groups():
    frame = means()
    axes = other_encoders_figures.encoders(frame, ["precision@1", "recall@100"]).axes
    labels = [tick.get_text() for tick in axes[0].get_yticklabels()]
    assert set(labels[:2]) == {"hybrid", "X-Y"} and set(labels[2:5]) == {"mbart-50", "xlm-r-base", "encoder"}
    last = frame[frame["measure"] == "recall@100"].set_index("strategy")["mean"]
    assert last["e5-base"] > last["bge-m3"] if labels[5] == "e5-base" else last["bge-m3"] > last["e5-base"]
    with pytest.raises(ValueError, match="no rows with measure 'map'"):
        other_encoders_figures.encoders(frame, ["map"])


def searched(values: dict[str, list[float]], strategy: str = "hybrid", seed: int = 0) -> pd.DataFrame:
    """Rows of a search: collection -> a value per query."""
    lines = [(name, f"{name}:{i}", value) for name, own in values.items() for i, value in enumerate(own)]
    frame = pd.DataFrame(lines, columns=["candidate_lang", "cluster", "ndcg@10"])
    return frame.assign(strategy=strategy, seed=seed, query_lang="en", setting="mono", alpha=0.5)


def test_the_parts_of_cqadupstack_are_one_data_set():
    values = {"nfcorpus-test": [0.2, 0.4], "cqadupstack-tex-test": [1.0], "cqadupstack-gis-test": [0.0, 0.0, 0.6]}
    rows = pd.concat([searched(values | {"msmarco-dev": [0.9]}, seed=seed) for seed in (0, 1)])
    found = beir_average.data_sets(rows, ["ndcg@10"])
    by_set = found.groupby("candidate_lang")["ndcg@10"].mean()
    assert by_set.to_dict() == pytest.approx({"nfcorpus": 0.3, "cqadupstack": (1.0 + 0.2) / 2, "msmarco": 0.9})
    assert set(beir_average.averaged(found)["candidate_lang"]) == {"nfcorpus", "cqadupstack"}
    alone = found[found["candidate_lang"] == "msmarco"]
    assert beir_average.averaged(alone) is alone


def test_differences_per_data_set_and_on_average():
    base = {"a-test": [0.1, 0.3], "b-test": [0.5, 0.5, 0.5], "msmarco-dev": [0.2]}
    rows = [searched(base, "en-en", 0), searched(base, "en-en", 1)]
    for seed, more in ((0, 0.1), (1, 0.2)):
        rows.append(searched({"a-test": [0.1 + more, 0.3 + more]} | dict(list(base.items())[1:]), "hybrid", seed))
    rows = beir_average.data_sets(pd.concat(rows), ["ndcg@10"])
    found = beir_average.differences(rows, "en-en", ["ndcg@10"]).set_index("dataset")
    assert found["difference"].to_dict() == pytest.approx({"a": 0.15, "b": 0, "msmarco": 0, "average": 0.075})
    assert found.loc["a", ["seed_min", "seed_max"]].tolist() == pytest.approx([0.1, 0.2])
    assert list(found.index)[-1] == beir_average.AVERAGE
    assert beir_average.differences(rows, "x-x", ["ndcg@10"]).empty


# ---- encoders as they are


def collection(lang: str):
    texts = [f"{lang}ask thing{i}" for i in range(6)]
    queries = [(f"{lang}{i}", lang, text) for i, text in enumerate(texts[:3])]
    passages = [(f"p{i}", text.replace("ask", "tell")) for i, text in enumerate(texts)]
    judgements = [(f"{lang}{i}", f"p{i}", 1) for i in range(3)]
    return Collection.build(f"made-{lang}", queries=queries, judgements=judgements, passages=passages)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> embedded_study.Study:
    root = tmp_path_factory.mktemp("others")
    for name in ("mbart50", "xlm_roberta"):
        FAMILIES[name](root / name, 0)
    return embedded_study.study("colab", root=root, seeds=[0, 1], more={"max_length": 20})


def test_a_language_without_a_code_is_left_out_and_not_counted(study, monkeypatch):
    names = [str(study.root / name) for name in ("mbart50", "xlm_roberta")]
    others = other_encoders.studies(study, [*names, str(study.root / "nowhere")])
    rows, left_out = other_encoders.search_rows(others, [collection("de"), collection("yo")])
    assert set(left_out) == {(names[0], "made-yo"), (str(study.root / "nowhere"), other_encoders.EVERYWHERE)}
    assert left_out[names[0], "made-yo"] == "made-yo: this encoder has no code for 'yo'"
    counts = rows.groupby(["strategy", "candidate_lang", "seed"]).size()
    assert counts.to_dict() == {
        (name, made, seed): 3 for name, made in ((names[0], "made-de"), (names[1], "made-de"), (names[1], "made-yo"))
        for seed in (0, 1)
    }  # fmt: skip
    assert study.store.made == 4, "an encoder that is the same for every seed is searched with once"
    monkeypatch.setenv("HYBRIDLIB_ONLY_EXISTING", "1")
    again = embedded_study.study("colab", root=study.root, seeds=[0, 1], more={"max_length": 20})
    others = other_encoders.studies(again, names)
    for one in others.values():
        monkeypatch.setattr(one, "start_encoder", None)
    found = other_encoders.search_rows(others, [collection("de"), collection("yo")])
    assert list(found[1]) == [(names[0], "made-yo")] and len(found[0]) == len(rows), "no encoder is at hand any more"
    assert set(other_encoders.common(rows)["candidate_lang"]) == {"made-de"}
    with pytest.raises(ValueError, match="no collection was measured with all"):
        other_encoders.common(rows[(rows["strategy"] == names[0]) ^ (rows["candidate_lang"] == "made-yo")])


def test_other_faults_are_not_taken_for_a_lacking_code(study):
    def torn(*_):
        raise ValueError("torn")

    others = other_encoders.studies(study, [str(study.root / "mbart50")])
    for one in others.values():
        one.search_rows = torn
    with pytest.raises(ValueError, match="torn"):
        other_encoders.search_rows(others, [collection("de")])


def test_a_pool_of_several_languages_is_left_out_where_codes_are_wanted(study):
    asked = [("q1", "de", "deask thing1"), ("q2", "en", "enask thing2")]
    told = [("made", [("p1", "detell thing1"), ("p2", "entell thing2")])]
    pooled = Collection.build("pool", queries=asked, judgements=[("q1", "p1", 1), ("q2", "p2", 1)], passages=told)
    others = other_encoders.studies(study, [str(study.root / "mbart50")])
    rows, left_out = other_encoders.search_rows(others, [pooled])
    assert rows.empty and "pool: its passages are in several languages" in "".join(left_out.values())


def test_each_encoder_is_used_in_its_own_way(study):
    one = embedded_study.study("paper", root=study.root, more={"pooling": "cls"})
    used = other_encoders.how_used(other_encoders.studies(one, ["xlm-r-base", "e5-base", "labse", "a/b"]))
    used = used.set_index("encoder")
    assert used.loc["xlm-r-base", ["pooling", "query_prefix"]].tolist() == ["mean", ""]
    assert used.loc["e5-base", ["kind", "query_prefix"]].tolist() == [other_encoders.UPPER, "query: "]
    assert used.loc["labse", ["pooling", "passage_prefix", "max_length"]].tolist() == ["pooler", "", "256"]
    assert used.loc["a/b", ["checkpoint", "pooling", "query_prefix"]].tolist() == ["a/b", "its own", "its own"]
    assert list(other_encoders.studies(one)) == list(other_encoders.OTHERS)


def test_stand_ins_of_the_embedded_corpus(tmp_path):
    small = embedded_study.study("smoke", wider=True, root=tmp_path)
    others = other_encoders.studies(small)
    assert [one.settings.dictionary for one in others.values()] == ["all", "none"]
    assert all(one.store is small.store and one.corpus is small.corpus for one in others.values())
    with pytest.raises(ValueError, match="on the embedded corpus they are dictionary stage, random weights"):
        other_encoders.studies(small, ["xlm-r-base"])
