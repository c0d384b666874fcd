"""The mixing ratio by task: which tasks there are, curves and best shares of rows made by hand, verdicts by rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hybridlib.companion.questions import by_task
from hybridlib.companion.questions.by_task import Task

STRATEGIES = {0.0: "x-y", 0.5: "hybrid", 1.0: "x-x-mono"}


def rows(means: dict[float, float], measure: str = "ndcg@10", n: int = 60) -> pd.DataFrame:
    """Rows of two seeds: query i of each share has its mean plus a noise that all shares have alike."""
    noise = np.tile(np.random.default_rng(0).normal(0, 0.05, n // 2), 2)
    noise -= noise.mean()
    query = pd.DataFrame({"query_id": [str(i) for i in range(n)], "query_lang": ["sw", "te"] * (n // 2)})
    parts = [
        query.assign(strategy=STRATEGIES[share], seed=seed, **{measure: mean + noise + 0.001 * seed})
        for share, mean in means.items()
        for seed in (0, 1)
    ]
    found = pd.concat(parts, ignore_index=True)
    alpha = np.where(found["strategy"] == "hybrid", 0.5, np.nan)
    return found.assign(setting="mono", pool=found["query_lang"], cluster=found["query_id"], alpha=alpha)


def test_the_best_share_and_those_as_good():
    task = Task("MIRACL")
    made = rows({0.0: 0.3, 0.5: 0.5, 1.0: 0.5})
    noisy = np.random.default_rng(1).normal(0, 0.05, 120)
    made.loc[made["strategy"] == "x-x-mono", "ndcg@10"] += noisy - noisy.mean() - 0.001
    found = by_task.best(made, task).set_index("monolingual_share")
    assert list(found.index) == [0.0, 0.5, 1.0] and found["mean"].to_list() == pytest.approx([0.3005, 0.5005, 0.4995])
    assert found["behind"].to_list() == pytest.approx([-0.2, 0.0, -0.001])
    assert found["among_the_best"].to_list() == [False, True, True]
    assert found.loc[0.0, ["low", "high", "seed_min", "seed_max"]].to_list() == pytest.approx([-0.2] * 4)
    alone = by_task.best(made[made["strategy"] == "hybrid"], task)
    assert alone["among_the_best"].all() and len(alone) == 1


def test_curve_contrasts_and_verdicts():
    made = {
        Task("MIRACL"): rows({0.0: 0.3, 0.5: 0.4, 1.0: 0.5}),
        Task("LAReQA"): rows({0.0: 0.5, 0.5: 0.6, 1.0: 0.4}, "map@20").assign(setting="multi"),
    }
    first = next(iter(made))
    means, seeds = by_task.curve(made[first], first)
    assert means["monolingual_share"].to_list() == [0.0, 0.5, 1.0] and set(means["n_queries"]) == {120}
    assert means["mean"].to_list() == pytest.approx([0.3005, 0.4005, 0.5005])
    assert seeds.groupby("monolingual_share").size().to_list() == [2, 2, 2]
    tests = by_task.contrasts(made, 0.5)
    found = tests.set_index(["task", "a", "b"])["difference"].round(6).to_dict()
    assert found["MIRACL", "x-x-mono", "x-y"] == 0.2 and found["LAReQA", "x-x-mono", "x-y"] == -0.1
    assert found["LAReQA", "hybrid", "x-y"] == 0.1 and len(found) == 6
    assert (tests["p_holm"] >= tests["p"]).all() and tests["p_holm"].iloc[0] == pytest.approx(6 * tests["p"].iloc[0])
    best = pd.concat([by_task.best(own, task) for task, own in made.items()])
    assert by_task.apart(best) == [("MIRACL", "LAReQA")]
    judged = by_task.judge(tests, best, list(made), 0.5)
    assert judged["verdict"].to_list() == ["holds", "does not hold", "does not hold", "holds", "holds"]
    assert judged["measured"].iloc[1].startswith("nDCG@10 hybrid - X-X-mono -0.100")
    assert judged["measured"].iloc[3].startswith("mAP@20 hybrid - X-Y +0.100"), "the nearer end decides"
    same = best.assign(among_the_best=True)
    assert by_task.judge(tests, same, list(made), 0.5)["verdict"].iloc[-1] == "undecided"


def test_what_was_not_run_is_not_judged():
    task = Task("MIRACL")
    made = rows({0.5: 0.4})
    assert by_task.contrasts({task: made}, 0.5).empty
    assert by_task.contrasts({task: rows({0.0: 0.3, 0.5: 0.4})}, 0.25).empty, "no such mixture was run"
    judged = by_task.judge(by_task.contrasts({task: made}, 0.5), by_task.best(made, task), [task], 0.5)
    assert judged["verdict"].str.startswith("not run: needs ").all()


def test_tasks_of_a_profile_and_of_collections(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path))
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path))
    found, left_out = by_task.tasks("colab", ["tatoeba-swh"])
    assert [task.name for task in found] == ["LAReQA"] and left_out["MIRACL"] == "not asked for"
    assert "swh-eng.tsv" in left_out["Tatoeba"]
    (tmp_path / "tatoeba-v1").mkdir()
    (tmp_path / "tatoeba-v1" / "swh-eng.tsv").write_text("jina\tname\nmji\ttown\n", encoding="utf-8")
    found, left_out = by_task.tasks("colab", ["tatoeba-swh"])
    assert [(task.name, task.measure) for task in found] == [("LAReQA", "map@20"), ("Tatoeba", "precision@1")]
    assert len(found[1].collections) == 2, "there and back"
    with pytest.raises(ValueError, match="collections: nfcorpus is of none of the tasks MIRACL, Tatoeba, Mewsli-X"):
        by_task.tasks("paper", ["nfcorpus"])
