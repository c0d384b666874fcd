"""Searches of a study, collections made of the embedded corpus, and answers by rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hybridlib.companion.experiment import embedded_study
from hybridlib.companion.experiment.embedded_study import Run
from hybridlib.companion.questions import shared
from hybridlib.companion.report import paper, summaries
from hybridlib.companion.search.collection import NOT_THERE

QUICK = {"steps": 4, "dictionary_steps": 4, "extra_candidates": 20}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> embedded_study.Study:
    return embedded_study.study("smoke", wider=True, root=tmp_path_factory.mktemp("wider"), **QUICK)


def test_a_search_gives_what_the_evaluation_gives(study):
    run = Run("hybrid", 0, 0.5)
    searched = study.search_rows([run, Run("none", 0)], shared.names(study, "miracl"))
    evaluated = study.rows([run])
    evaluated = evaluated[evaluated["setting"] == "mono"]
    for measure in ("ndcg@10", "precision@1", "recall@10"):
        ours = searched[searched["strategy"] == "hybrid"].set_index("query_id")[measure]
        theirs = evaluated.set_index("query_id")[measure]
        pd.testing.assert_series_equal(ours.sort_index(), theirs.sort_index(), check_categorical=False)
    clusters = evaluated.set_index("query_id")["cluster"]
    assert (searched["cluster"].astype(str).to_numpy() == clusters[searched["query_id"]].astype(str).to_numpy()).all()
    assert set(searched["strategy"]) == {"hybrid", "none"} and set(searched["setting"]) == {"mono"}
    made = study.store.made
    study.search_rows([run], shared.names(study, "miracl"))
    assert study.store.made == made, "what was searched is used again"
    folder = study.searched(run, study.collections("embedded-sw")[0])
    assert {p.name for p in folder.iterdir()} >= {"run.gz", "qrels.gz", "rows.parquet", "retrieval.json"}
    assert not (folder / "shards").exists()


def test_collections_of_the_embedded_corpus(study):
    (mono,) = study.collections("embedded-sw")
    assert {id.partition(":")[0] for id in mono.passages.ids(0, len(mono.passages))} == {"sw"}
    assert len(mono.judgements) == len(mono.queries)
    (pooled,) = study.collections("embedded-pooled-bn-sw")
    judged = pooled.judgements.to_pandas()
    assert (judged["query_id"] == judged["doc_id"]).all() and set(judged["query_id"].str[:2]) == {"bn", "sw"}
    assert len(pooled.passages) == 2 * len(mono.passages)
    there, back = study.collections("embedded-sentences-sw")
    assert (there.languages, back.languages) == (("sw",), ("en",))
    assert set(there.passages.ids(0, 5)) <= {f"en:{id[3:]}" for id in there.queries["query_id"].to_pylist()}
    for collection in (mono, pooled, there, back):
        assert NOT_THERE not in collection.judgements["row"].to_pylist()
    for name in ("embedded-xx", "embedded-pooled-sw-xx", "nfcorpus"):
        with pytest.raises(ValueError, match="no such collection"):
            study.collections(name)


def test_thinning_follows_table_11(study):
    share, printed = study.settings.share, paper.reported(11, measure="candidates").set_index("language")["value"]
    assert share["en"] == 1 and share["sw"] == printed["sw"] / printed["en"]
    gentle = embedded_study.resolve("demo", wider=True, thinning="square root of table 11").share
    assert gentle["sw"] == pytest.approx(share["sw"] ** 0.5) and len(gentle) == 16
    passages = study.corpus.train.passages
    counts = {lang: len(passages) - passages[lang].null_count for lang in study.settings.languages}
    for lang, number in counts.items():
        assert number == max(1, round(share[lang] * counts["en"]))
    with pytest.raises(ValueError, match="Table 11 has no 'de'"):
        _ = embedded_study.resolve("demo", thinning="table 11").share
    with pytest.raises(ValueError, match="thinning must be one of"):
        embedded_study.resolve("demo", thinning="half")


def test_the_wider_demo_is_the_demo(tmp_path):
    assert embedded_study.study("demo", wider=True, root=tmp_path).label == "demo"
    assert embedded_study.study("demo", wider=True, root=tmp_path, steps=7).label == "demo-custom"
    assert "pairs thinned in proportion to Table 11" in shared.title(
        embedded_study.study("demo", wider=True, root=tmp_path), "T"
    )
    stand_in, text = embedded_study.study("smoke", root=tmp_path), "e, embedded corpus (smoke profile), 2 steps"
    assert shared.note(stand_in, text, ["a"]) == text
    paper_study = embedded_study.study("paper", wider=True, root=tmp_path)
    assert paper_study.settings == embedded_study.PROFILES["paper"] and shared.title(paper_study, "T") == "T"
    noted = shared.note(paper_study, "xquad-r-e, xquad-r (paper profile), 2 steps", ["a", "b", "c", "d"])
    assert noted == "xquad-r-e, a, b, c and 1 more collections (paper profile), 2 steps"


def test_groups_of_languages():
    sizes = shared.corpus_sizes()
    assert len(sizes) == 16 and sizes.index[0] == "en" and sizes.index[-1] == "sw"
    assert (
        shared.high_resource() == ("en", "es", "fr", "ru", "ja", "zh", "ar", "fa") or len(shared.high_resource()) == 8
    )
    assert min(sizes[list(shared.high_resource())]) > max(sizes.drop(list(shared.high_resource())))


@pytest.mark.parametrize(
    ("profile", "benchmark", "languages", "found"),
    [
        ("demo", "tydiqa", None, "embedded-ar embedded-bn embedded-en embedded-fi"),
        ("demo", "miracl", ("sw", "ar"), "embedded-sw embedded-ar"),
        ("demo", "beir", None, "embedded-en"),
        ("demo", "tatoeba", ("sw", "en"), "embedded-sentences-sw"),
        ("paper", "miracl", ("sw", "te"), "miracl-sw miracl-te"),
        ("colab", "miracl", ("sw", "te"), "miracl-hard-negatives-sw miracl-hard-negatives-te"),
        ("paper", "tydiqa", ("sw",), "tydiqa-goldp-sw"),
        ("paper", "tatoeba", ("sw", "zh"), "tatoeba-swh tatoeba-cmn"),
        ("colab", "beir", None, "nfcorpus scifact fiqa"),
    ],
)
def test_names(profile, benchmark, languages, found, tmp_path):
    names = shared.names(embedded_study.study(profile, wider=True, root=tmp_path), benchmark, languages)
    assert names[: len(found.split())] == found.split()


def test_names_that_are_not_there(tmp_path):
    one = embedded_study.study("paper", root=tmp_path)
    assert len(shared.names(one, "miracl")) == 16 and "msmarco" in shared.names(one, "beir")
    with pytest.raises(ValueError, match="miracl has none of"):
        shared.names(one, "miracl", ["xx"])
    with pytest.raises(ValueError, match="benchmark must be one of"):
        shared.names(one, "mrtydi")


@pytest.mark.parametrize(
    ("span", "yes", "verdict"),
    [
        ((0.01, 0.02, 0.005, 0.03), 1, "yes"),
        ((0.01, 0.02, 0.005, 0.03), -1, "no"),
        ((-0.02, -0.01, -0.03, -0.001), -1, "yes"),
        ((0.01, 0.02, -0.001, 0.03), 1, "undecided"),
        ((-0.01, 0.02, 0.0, 0.01), 1, "undecided"),
    ],
)
def test_an_answer_follows_from_interval_and_seeds(span, yes, verdict, tmp_path):
    found = pd.DataFrame([dict(zip(("low", "high", "seed_min", "seed_max"), span, strict=True)) | {"difference": 0.01}])
    options = {"needs": "MIRACL", "yes": yes, "what": "nDCG@10 a - b"}
    line = shared.answer("Q?", found, study=embedded_study.study("paper", root=tmp_path), **options)
    assert line["verdict"] == verdict and line["measured"].startswith("nDCG@10 a - b +0.010 [")
    stand_in = shared.answer("Q?", found, study=embedded_study.study("demo", root=tmp_path), **options)
    assert (stand_in["verdict"], stand_in["measured"]) == ("not run: needs MIRACL", "")
    nothing = shared.answer("Q?", found[:0], study=embedded_study.study("paper", root=tmp_path), **options)
    assert nothing["verdict"] == "not run: needs encoders of these strategies"


def test_compare_takes_the_pairs_that_are_there():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"query_id": range(40), "cluster": range(40), "query_lang": "sw", "candidate_lang": "c"})
    rows = pd.concat([rows.assign(strategy=s, ndcg=rng.random(40)) for s in ("hybrid", "x-y")])
    rows = rows.assign(setting="mono", seed=0, alpha=0.5).rename(columns={"ndcg": "ndcg@10"})
    found = shared.compare(rows, summaries.PAIRS)
    assert found[["a", "b"]].values.tolist() == [["hybrid", "x-y"]]
    assert shared.compare(rows, [("hybrid", "en-en")]).empty
