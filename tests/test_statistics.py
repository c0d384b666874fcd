"""Intervals and tests over clusters: by hand, against scipy, and calibrated on simulated data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybridlib import statistics
from hybridlib.statistics import (
    ClusterSums,
    bootstrap_interval,
    cell_means,
    cluster_sums,
    count_outcomes,
    difference,
    holm,
    macro_mean,
    macro_means,
    paired_test,
    wins_ties_losses,
)

ROWS = pd.DataFrame(
    [
        ("p2", "en", "de", 1.0),
        ("p1", "en", "de", 0.0),
        ("p1", "en", "de", 0.5),
        ("p1", "ar", "de", 0.8),
        ("p2", "ar", "de", np.nan),
        ("p3", "vi", "de", np.nan),
    ],
    columns=["cluster", "query_lang", "pool", "map"],
)


def sums(values: np.ndarray, counts: np.ndarray | None = None) -> ClusterSums:
    """ClusterSums from (n_clusters, n_cells) sums."""
    values = np.asarray(values, dtype=float)
    counts = np.ones_like(values) if counts is None else np.asarray(counts, dtype=float)
    cells = pd.MultiIndex.from_arrays([[f"l{i:02}" for i in range(values.shape[1])]], names=["query_lang"])
    return ClusterSums(values, counts, pd.RangeIndex(len(values)), cells)


def rows_of(rng: np.random.Generator, n_clusters: int, per_cluster: int, cells: int) -> np.ndarray:
    """(n_clusters, per_cluster, cells) rows of a cluster model: a shared part with sd 1, a part per row with sd 1/2."""
    shared = rng.normal(size=(n_clusters, 1, 1))
    return shared + rng.normal(scale=0.5, size=(n_clusters, per_cluster, cells))


def by_cluster(rows: np.ndarray) -> ClusterSums:
    return sums(rows.sum(axis=1), np.full((len(rows), rows.shape[2]), rows.shape[1]))


def by_row(rows: np.ndarray) -> ClusterSums:
    """The mistake: every row its own cluster, so that one question in several languages is several questions."""
    flat = rows.reshape(-1)
    return sums(flat[:, None])


def test_cluster_sums_by_hand() -> None:
    cs = cluster_sums(ROWS, "map")
    assert list(cs.clusters) == ["p1", "p2"]
    assert list(cs.cells) == [("ar", "de"), ("en", "de")] and list(cs.cells.names) == ["query_lang", "pool"]
    np.testing.assert_array_equal(cs.sums, [[0.8, 0.5], [0, 1]])
    np.testing.assert_array_equal(cs.counts, [[1, 2], [0, 1]])
    assert cell_means(cs).to_dict() == {("ar", "de"): 0.8, ("en", "de"): 0.5}
    assert macro_mean(cs) == pytest.approx(0.65)
    one_column = cluster_sums(ROWS, "map", cell="query_lang")
    assert list(one_column.cells) == [("ar",), ("en",)]
    np.testing.assert_array_equal(one_column.sums, cs.sums)


def many_rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {name: rng.choice(["ar", "de", "en"], 900) for name in ("query_lang", "pool")}
    frame = pd.DataFrame({"cluster": rng.integers(30, size=900), "seed": rng.integers(2, size=900), **columns})
    return frame.assign(map=rng.random(900), mrr=rng.random(900))


def test_means_equal_those_of_pandas_and_one_macro_mean_the_other() -> None:
    frame = many_rows()
    by_cell = frame.groupby(["query_lang", "pool"])["map"].mean()
    pd.testing.assert_series_equal(cell_means(cluster_sums(frame, "map")), by_cell, check_names=False)
    assert macro_mean(cluster_sums(frame, "map")) == pytest.approx(by_cell.mean())
    (row,) = macro_means(frame, ["map", "mrr"]).itertuples(index=False)
    assert row == pytest.approx([macro_mean(cluster_sums(frame, name)) for name in ("map", "mrr")])
    by_seed = macro_means(frame, ["map"], by=["seed"])["map"]
    assert by_seed.to_dict() == pytest.approx(
        {seed: macro_mean(cluster_sums(part, "map")) for seed, part in frame.groupby("seed")}
    )
    assert np.isnan(macro_means(frame.assign(map=np.nan), ["map"]).iloc[0, 0])
    with pytest.raises(ValueError, match="macro_means: no column 'ndcg'"):
        macro_means(frame, ["ndcg"])


def weighed() -> pd.DataFrame:
    """A data set that counts 1, and two halves of another that count 1/2 each, of unlike sizes."""
    rng = np.random.default_rng(1)
    sizes, weights = {"whole": 40, "part 1": 10, "part 2": 70}, {"whole": 1.0, "part 1": 0.5, "part 2": 0.5}
    frame = pd.DataFrame({"pool": np.repeat(list(sizes), list(sizes.values())), "query_lang": "en"})
    frame = frame.assign(weight=frame["pool"].map(weights), cluster=range(len(frame)))
    return frame.assign(map=rng.random(len(frame)) * frame["pool"].map({"whole": 1, "part 1": 0.2, "part 2": 0.5}))


def test_a_weight_says_how_much_a_cell_counts() -> None:
    frame = weighed()
    means = frame.groupby("pool")["map"].mean()
    expected = (means["whole"] + (means["part 1"] + means["part 2"]) / 2) / 2
    cs = cluster_sums(frame, "map")
    assert macro_mean(cs) == pytest.approx(expected) == macro_means(frame, ["map"]).iloc[0, 0]
    interval = bootstrap_interval(cs)
    assert interval.mean == macro_mean(cs) and interval.low < interval.mean < interval.high
    other = cluster_sums(frame.assign(map=frame["map"] * 0.9), "map")
    test = paired_test(cs, other, permutations=99)
    assert test.difference == pytest.approx(0.1 * expected) and test.p == 0.01
    with pytest.raises(ValueError, match="one number above 0"):
        cluster_sums(frame.assign(weight=range(len(frame))), "map")
    with pytest.raises(ValueError, match="weigh their cells differently"):
        difference(cs, replace(cs, weights=np.ones(3)))


def slow_bootstrap(cs: ClusterSums, resamples: int) -> np.ndarray:
    """Macro means of cluster resamples, row by row with the textbook loop."""
    rng, means = np.random.default_rng(99), []
    for _ in range(resamples):
        drawn = rng.integers(len(cs.sums), size=len(cs.sums))
        total, count = cs.sums[drawn].sum(axis=0), cs.counts[drawn].sum(axis=0)
        means.append((total[count > 0] / count[count > 0]).mean())
    return np.array(means)


def test_bootstrap_equals_the_loop_with_uneven_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 4, size=(12, 3)) * [1, 1, 0]
    counts[:2, 2] = 1  # the last cell lives in two clusters: it is missing from one resample in nine
    counts[:, 0] += 1
    cs = sums(rng.normal(size=(12, 3)) * counts + [0, 3, 9] * counts, counts)
    interval, slow = bootstrap_interval(cs, resamples=40_000), slow_bootstrap(cs, 40_000)
    assert interval.mean == macro_mean(cs)
    spread = slow.std()
    np.testing.assert_allclose(interval[1:], np.quantile(slow, [0.025, 0.975]), atol=0.05 * spread)
    monkeypatch.setattr(statistics, "BLOCK_ENTRIES", 700)  # many small blocks, the last one shorter
    np.testing.assert_allclose(bootstrap_interval(cs, resamples=40_000), interval, rtol=1e-12)


def test_one_cluster_has_no_interval() -> None:
    mean, low, high = bootstrap_interval(sums([[0.5, 0.7]]))
    assert mean == pytest.approx(0.6) and np.isnan(low) and np.isnan(high)
    assert paired_test(sums([[0.5]]), sums([[0.1]]), permutations=99).p == 1


def test_coverage_holds_and_ignoring_clusters_breaks_it() -> None:
    rng, trials = np.random.default_rng(3), 400
    covered, covered_by_row, ratio = 0, 0, []
    for trial in range(trials):
        rows = rows_of(rng, n_clusters=40, per_cluster=3, cells=4)
        right = bootstrap_interval(by_cluster(rows), resamples=400, seed=trial)
        wrong = bootstrap_interval(by_row(rows), resamples=200, seed=trial)
        assert wrong.mean == pytest.approx(right.mean)
        covered += right.low <= 0 <= right.high
        covered_by_row += wrong.low <= 0 <= wrong.high
        ratio.append((wrong.high - wrong.low) / (right.high - right.low))
    # .95 less the known shortfall of percentile intervals at 40 clusters, and the noise of 400 trials (sd .012)
    assert 0.90 <= covered / trials <= 0.98
    # theory: 12 rows of a cluster correlate by .8, so the width is off by 1 / sqrt(1 + 11 * .8) = .32
    assert np.mean(ratio) == pytest.approx(0.32, abs=0.03)
    assert covered_by_row / trials < 0.6


def test_p_values_are_uniform_under_the_null_and_not_if_clusters_are_ignored() -> None:
    rng, trials = np.random.default_rng(4), 600
    p, p_by_row = [], []
    for trial in range(trials):
        a, b = rows_of(rng, 20, 3, 2), rows_of(rng, 20, 3, 2)
        p.append(paired_test(by_cluster(a), by_cluster(b), permutations=199, resamples=1, seed=trial).p)
        p_by_row.append(paired_test(by_row(a), by_row(b), permutations=199, resamples=1, seed=trial).p)
    for level in (0.05, 0.5):
        low, high = stats.binom.interval(0.999, trials, level)
        assert low <= np.sum(np.array(p) <= level) <= high
    assert np.mean(np.array(p_by_row) <= 0.05) > 0.25


def all_signs(n: int) -> np.ndarray:
    """(2 ** n, n) every way to swap n clusters."""
    return np.array(np.meshgrid(*[[-1, 1]] * n)).reshape(n, -1).T


def test_p_equals_swapping_the_labels_by_hand_with_uneven_cells() -> None:
    rng = np.random.default_rng(10)
    counts = np.array([[1, 3], [2, 1], [0, 4], [5, 0], [1, 1], [2, 2], [3, 1], [1, 6]])
    a, b = sums(rng.normal(0.8, size=(8, 2)) * counts, counts), sums(rng.normal(size=(8, 2)) * counts, counts)
    swapped = []
    for signs in all_signs(8):
        keep = signs[:, None] > 0
        left, right = np.where(keep, a.sums, b.sums), np.where(keep, b.sums, a.sums)
        swapped.append(macro_mean(sums(left, counts)) - macro_mean(sums(right, counts)))
    observed = macro_mean(a) - macro_mean(b)
    exact = np.mean(np.abs(swapped) >= abs(observed) - 1e-12)
    result = paired_test(a, b, permutations=40_000)
    assert 0.02 < exact < 0.5 and result.difference == pytest.approx(observed)
    assert result.p == pytest.approx(exact, abs=5 * np.sqrt(exact * (1 - exact) / 40_000))


def test_ties_of_the_statistic_count_as_at_least_as_large() -> None:
    values = np.array([0, -0.1, -0.5, 0.1, 0.5, 0.1])  # tenths that add up to 1 tenth, an odd number under any signs:
    a = sums(values[:, None])  # no permutation is closer to 0, though rounding makes some seem so
    assert paired_test(a, sums(np.zeros((6, 1))), permutations=500).p == 1
    assert paired_test(a, a, permutations=99).p == 1


def test_swaps_and_draws_are_joint_over_cells() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(30, 1)), rng.normal(size=(30, 1))
    one = paired_test(sums(a), sums(b), permutations=500)
    eleven = paired_test(sums(np.repeat(a, 11, axis=1)), sums(np.repeat(b, 11, axis=1)), permutations=500)
    np.testing.assert_allclose(eleven, one, rtol=1e-9)  # the same question eleven times is no more evidence


def test_same_seed_same_result_other_seed_other_result() -> None:
    rng = np.random.default_rng(8)
    a, b = sums(rng.normal(0.2, size=(40, 3))), sums(rng.normal(size=(40, 3)))
    assert bootstrap_interval(a, seed=1) == bootstrap_interval(a, seed=1)
    assert bootstrap_interval(a, seed=1)[1:] != bootstrap_interval(a, seed=2)[1:]
    assert paired_test(a, b, seed=1) == paired_test(a, b, seed=1)
    assert paired_test(a, b, seed=1).p != paired_test(a, b, seed=2).p


def test_wins_ties_losses() -> None:
    rng = np.random.default_rng(9)
    noise = rng.normal(scale=0.1, size=(50, 3))
    a, b = sums(noise + [0.5, 0.0, -0.5]), sums(np.zeros((50, 3)))
    frame = wins_ties_losses(a, b)
    assert list(frame.columns) == ["query_lang", "difference", "low", "high", "outcome"]
    assert frame["outcome"].tolist() == ["win", "tie", "loss"] and frame["query_lang"].tolist() == ["l00", "l01", "l02"]
    np.testing.assert_allclose(frame["difference"], a.sums.mean(axis=0))
    for cell, row in enumerate(frame.itertuples()):
        alone = bootstrap_interval(sums(a.sums[:, [cell]]))
        np.testing.assert_allclose([row.difference, row.low, row.high], alone, rtol=1e-9)
    assert count_outcomes(frame) == {"win": 1, "tie": 1, "loss": 1}
    assert wins_ties_losses(a, b, lower_is_better=True)["outcome"].tolist() == ["loss", "tie", "win"]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.sampled_from([0.01, 0.05, 0.2]))
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float], alpha: float) -> None:
    rejected = np.zeros(len(p), dtype=bool)
    for step, index in enumerate(np.argsort(p, kind="stable")):
        if p[index] * (len(p) - step) > alpha:
            break
        rejected[index] = True
    adjusted = holm(p)
    np.testing.assert_array_equal(adjusted <= alpha, rejected)
    assert np.all(adjusted >= p) and np.all(adjusted <= 1)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (replace(sums(np.ones((2, 1))), clusters=pd.Index([0, 7])), "clusters"),
        (replace(sums(np.ones((2, 1))), cells=pd.MultiIndex.from_tuples([("xx",)])), "cells"),
        (sums(np.ones((2, 1)), [[1], [2]]), "1 and 2 in cluster 1, cell"),
    ],
)
def test_only_the_same_queries_are_compared(other: ClusterSums, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        difference(sums(np.ones((2, 1))), other)
    with pytest.raises(ValueError, match="same queries"):
        paired_test(sums(np.ones((2, 1))), other)


def test_bad_arguments_are_named() -> None:
    cs = sums(np.ones((3, 2)))
    with pytest.raises(ValueError, match="no column 'mrr'"):
        cluster_sums(ROWS, "mrr")
    with pytest.raises(ValueError, match="holds no value"):
        cluster_sums(ROWS[ROWS["map"].isna()], "map")
    with pytest.raises(ValueError, match="name is missing"):
        cluster_sums(ROWS.assign(cluster=[None, *ROWS["cluster"][1:]]), "map")
    with pytest.raises(ValueError, match="resamples"):
        bootstrap_interval(cs, resamples=0)
    with pytest.raises(ValueError, match="permutations"):
        paired_test(cs, cs, permutations=0)
    for p in ([0.1, np.nan], [1.2], [-0.1]):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            holm(p)


def test_the_interval_of_a_function_equals_the_loop() -> None:
    """The worst language and the spread, one resample after another."""
    rng = np.random.default_rng(4)
    cs = sums(rng.normal(size=(25, 3)) + [0, 0.1, 0.3])
    for function in (np.min, np.ptp, np.std):
        found = statistics.interval_of(cs, lambda means, f=function: f(means, axis=1), resamples=5000)
        slow = [function(cs.sums[rng.integers(25, size=25)].mean(axis=0)) for _ in range(5000)]
        assert found.mean == pytest.approx(function(cs.sums.mean(axis=0)))
        assert [found.low, found.high] == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.25 * np.std(slow))
    with pytest.raises(ValueError, match=r"gives shape \(\) for 1 row"):
        statistics.interval_of(cs, np.min)
