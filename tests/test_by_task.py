"""The mixing ratio by task: which tasks there are, curves and best shares of rows made by hand, verdicts by rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hybridlib.companion.questions import by_task

STRATEGIES = {0.0: "x-y", 0.5: "hybrid", 1.0: "x-x-mono"}


def rows(means: dict[float, float], n: int = 60) -> pd.DataFrame:
    """Rows of two seeds: query i of each share has its mean plus a noise that all shares have alike."""
    noise = np.tile(np.random.default_rng(0).normal(0, 0.05, n // 2), 2)
    noise -= noise.mean()
    query = pd.DataFrame({"query_id": [str(i) for i in range(n)], "query_lang": ["sw", "te"] * (n // 2)})
    parts = [
        query.assign(strategy=STRATEGIES[share], monolingual_share=share, seed=seed, value=mean + noise + 0.001 * seed)
        for share, mean in means.items()
        for seed in (0, 1)
    ]
    frame = pd.concat(parts, ignore_index=True)
    alpha = np.where(frame["strategy"] == "hybrid", 0.5, np.nan)
    return frame.assign(setting="mono", pool=frame["query_lang"], cluster=frame["query_id"], alpha=alpha)


def test_the_best_share_and_those_as_good():
    made = rows({0.0: 0.3, 0.5: 0.5, 1.0: 0.5})
    noisy = np.random.default_rng(1).normal(0, 0.05, 120)
    made.loc[made["strategy"] == "x-x-mono", "value"] += noisy - noisy.mean() - 0.001
    best = by_task.best({"MIRACL": made}).set_index("monolingual_share")
    assert list(best.index) == [0.0, 0.5, 1.0] and best["mean"].to_list() == pytest.approx([0.3005, 0.5005, 0.4995])
    assert best["behind"].to_list() == pytest.approx([-0.2, 0.0, -0.001])
    assert best["among_the_best"].to_list() == [False, True, True]
    assert best.loc[0.0, ["low", "high", "seed_min", "seed_max"]].to_list() == pytest.approx([-0.2] * 4)
    alone = by_task.best({"MIRACL": made[made["strategy"] == "hybrid"]})
    assert alone["among_the_best"].all() and len(alone) == 1


def test_curve_contrasts_and_verdicts():
    made = {"MIRACL": rows({0.0: 0.3, 0.5: 0.4, 1.0: 0.5})}
    made["LAReQA"] = rows({0.0: 0.5, 0.5: 0.6, 1.0: 0.4}).assign(setting="multi")
    means, seeds = by_task.curve(made)
    means = means[means["task"] == "MIRACL"]
    assert means["monolingual_share"].to_list() == [0.0, 0.5, 1.0] and set(means["n_queries"]) == {120}
    assert means["mean"].to_list() == pytest.approx([0.3005, 0.4005, 0.5005]) and set(means["measure"]) == {"ndcg@10"}
    assert seeds.groupby(["task", "monolingual_share"]).size().to_list() == [2] * 6
    tests = by_task.contrasts(made, 0.5)
    gaps = tests.set_index(["task", "a", "b"])["difference"].round(6).to_dict()
    assert gaps["MIRACL", "x-x-mono", "x-y"] == 0.2 and gaps["LAReQA", "x-x-mono", "x-y"] == -0.1
    assert gaps["LAReQA", "hybrid", "x-y"] == 0.1 and len(gaps) == 6
    assert (tests["p_holm"] >= tests["p"]).all() and tests["p_holm"].iloc[0] == pytest.approx(6 * tests["p"].iloc[0])
    best = by_task.best(made)
    assert by_task.apart(best) == [("MIRACL", "LAReQA")]
    judged = by_task.judge(tests, best, 0.5)
    assert judged["verdict"].to_list() == ["holds", "does not hold", "does not hold", "holds", "holds"]
    assert judged["measured"].iloc[1].startswith("nDCG@10 hybrid - X-X-mono -0.100")
    assert judged["measured"].iloc[3].startswith("mAP@20 hybrid - X-Y +0.100"), "the nearer end decides"
    same = best.assign(among_the_best=True)
    assert by_task.judge(tests, same, 0.5)["verdict"].iloc[-1] == "undecided"


def test_what_was_not_run_is_not_judged():
    made = {"MIRACL": rows({0.5: 0.4})}
    tests = by_task.contrasts(made, 0.5)
    assert tests.empty and by_task.contrasts({"MIRACL": rows({0.0: 0.3, 0.5: 0.4})}, 0.25).empty, "not of this alpha"
    assert by_task.judge(tests, by_task.best(made), 0.5)["verdict"].str.startswith("not run: needs ").all()


def test_tasks_of_a_profile_and_of_collections(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDLIB_DATA", str(tmp_path))
    monkeypatch.setenv("HYBRIDLIB_CACHE", str(tmp_path))
    tasks, left_out = by_task.tasks("colab", ["tatoeba-swh"])
    assert list(tasks) == ["LAReQA"] and left_out["MIRACL"] == "not asked for"
    assert "swh-eng.tsv" in left_out["Tatoeba"]
    (tmp_path / "tatoeba-v1").mkdir()
    (tmp_path / "tatoeba-v1" / "swh-eng.tsv").write_text("jina\tname\nmji\ttown\n", encoding="utf-8")
    tasks, left_out = by_task.tasks("colab", ["tatoeba-swh"])
    assert {task: len(collections) for task, collections in tasks.items()} == {"LAReQA": 0, "Tatoeba": 2}, "both ways"
    with pytest.raises(ValueError, match="collections: nfcorpus is of none of the tasks MIRACL, Tatoeba, Mewsli-X"):
        by_task.tasks("paper", ["nfcorpus"])
