"""The mixing ratio by task: which tasks there are, curves and best alphas of rows made by hand, answers by rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hybridlib import metrics
from hybridlib.companion.experiment import embedded_study
from hybridlib.companion.questions import by_task
from hybridlib.companion.questions.by_task import Task

ALPHAS = {0.0: "x-y", 0.5: "hybrid", 1.0: "x-x-mono"}


def rows(means: dict[float, float], measure: str = "ndcg@10", n: int = 60) -> pd.DataFrame:
    """Rows of two seeds: query i of each alpha has its mean plus a noise that all alphas share."""
    noise = np.tile(np.random.default_rng(0).normal(0, 0.05, n // 2), 2)
    noise -= noise.mean()
    query = pd.DataFrame({"query_id": [str(i) for i in range(n)], "query_lang": ["sw", "te"] * (n // 2)})
    parts = [
        query.assign(alpha=alpha, strategy=ALPHAS[alpha], seed=seed, **{measure: mean + noise + 0.001 * seed})
        for alpha, mean in means.items()
        for seed in (0, 1)
    ]
    found = pd.concat(parts, ignore_index=True)
    return found.assign(setting="mono", candidate_lang=found["query_lang"], cluster=found["query_id"])


def test_the_best_alpha_and_those_as_good():
    task = Task("MIRACL")
    made = rows({0.0: 0.3, 0.5: 0.5, 1.0: 0.5})
    noisy = np.random.default_rng(1).normal(0, 0.05, 120)
    made.loc[made["alpha"] == 1.0, "ndcg@10"] += noisy - noisy.mean() - 0.001
    found = by_task.best(made, task).set_index("alpha")
    assert list(found.index) == [0.0, 0.5, 1.0] and found["mean"].to_list() == pytest.approx([0.3005, 0.5005, 0.4995])
    assert found["behind"].to_list() == pytest.approx([-0.2, 0.0, -0.001])
    assert found["among_the_best"].to_list() == [False, True, True]
    assert found.loc[0.0, ["low", "high", "seed_min", "seed_max"]].to_list() == pytest.approx([-0.2] * 4)
    alone = by_task.best(made[made["alpha"] == 0.5], task)
    assert alone["among_the_best"].all() and len(alone) == 1


def test_curve_contrasts_and_answers(tmp_path):
    study = embedded_study.study("paper", root=tmp_path)
    made = {
        Task("MIRACL"): rows({0.0: 0.3, 0.5: 0.4, 1.0: 0.5}),
        Task("LAReQA"): rows({0.0: 0.5, 0.5: 0.6, 1.0: 0.4}, "map@20").assign(setting="multi"),
    }
    first = next(iter(made))
    curve = by_task.summary(made[first], first)
    assert curve["mean"].to_list() == pytest.approx([0.3005, 0.4005, 0.5005]) and set(curve["n_queries"]) == {120}
    assert by_task.by_seed(made[first], first).groupby("alpha").size().to_list() == [2, 2, 2]
    tests = by_task.contrasts(made)
    found = tests.set_index(["task", "a", "b"])["difference"].round(6).to_dict()
    assert found["MIRACL", "x-x-mono", "x-y"] == 0.2 and found["LAReQA", "x-x-mono", "x-y"] == -0.1
    assert found["LAReQA", "hybrid", "x-y"] == 0.1 and len(found) == 6
    assert (tests["p_holm"] >= tests["p"]).all() and tests["p_holm"].iloc[0] == pytest.approx(6 * tests["p"].iloc[0])
    best = pd.concat([by_task.best(own, task) for task, own in made.items()])
    assert by_task.apart(best) == [("MIRACL", "LAReQA")]
    lines = by_task.answers(tests, best, study, list(made)).set_index("claim")
    assert lines["verdict"].to_list() == ["yes", "no", "no", "yes", "yes"]
    assert lines["measured"].iloc[1].startswith("nDCG@10 hybrid - X-X-mono -0.100")
    assert lines["measured"].iloc[3].startswith("mAP@20 hybrid - X-Y +0.100"), "the nearer end decides"
    same = best.assign(among_the_best=True)
    assert by_task.answers(tests, same, study, list(made))["verdict"].iloc[-1] == "undecided"
    stand_in = by_task.answers(tests, best, embedded_study.study("demo", root=tmp_path), list(made))
    assert set(stand_in["verdict"]) == {"not run: needs MIRACL and XTREME-R"} and set(stand_in["measured"]) == {""}


def test_nothing_trained_is_not_run(tmp_path):
    study, task = embedded_study.study("paper", root=tmp_path), Task("MIRACL")
    made = rows({0.5: 0.4}).assign(strategy="none", alpha=np.nan)
    tests = by_task.contrasts({task: made})
    assert tests.empty
    answers = by_task.answers(tests, pd.DataFrame(columns=by_task.BEST), study, [task])
    assert set(answers["verdict"]) == {"not run: needs encoders of these strategies"}
    assert by_task.contrasts({task: rows({0.0: 0.3, 0.5: 0.4})}, mixture=0.25).empty, "no such mixture was run"


def test_average_precision_cut_at_20_follows_from_that_of_a_list_of_100():
    ranks = np.array([1, 2, 20, 21, 100, np.inf])
    one = metrics.Ranking(np.arange(6), ranks, np.ones(6), 6)
    frame = pd.DataFrame({"map": metrics.measure("map", one)})
    np.testing.assert_array_equal(by_task.cut_at_20(frame)["map@20"], metrics.measure("map@20", one))


def test_tasks_of_a_profile_and_of_collections(tmp_path, monkeypatch):
    study = embedded_study.study("smoke", wider=True, root=tmp_path, extra_candidates=0)
    found, left_out = by_task.tasks(study)
    assert [task.name for task in found] == ["MIRACL", "LAReQA", "Tatoeba"]
    assert left_out == {"Mewsli-X": "not in profile smoke"}
    assert [one.name for one in found[2].collections][:2] == ["embedded-sentences-ru-en", "embedded-sentences-en-ru"]
    found, left_out = by_task.tasks(study, ["MIRACL"], ["embedded-sw"])
    assert [one.name for task in found for one in task.collections] == ["embedded-sw"] and not left_out
    with pytest.raises(ValueError, match="tasks must be of 'MIRACL', .*, not 'BEIR'"):
        by_task.tasks(study, ["BEIR"])
    with pytest.raises(ValueError, match="no task is left; Tatoeba: not asked for"):
        by_task.tasks(study, ["Tatoeba"], ["embedded-sw"])
    real = embedded_study.study("colab", root=tmp_path)
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path))
    found, left_out = by_task.tasks(real, ["LAReQA", "Tatoeba", "Mewsli-X"], languages=["sw"])
    assert [task.name for task in found] == ["LAReQA"] and left_out["Mewsli-X"] == "not in profile colab"
    assert "swh-eng.tsv[.gz]: no such file" in left_out["Tatoeba"]
