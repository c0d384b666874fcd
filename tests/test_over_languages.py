"""Differences between groups of languages and rank correlations, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from hybridlib.companion.questions import over_languages
from hybridlib.statistics import ClusterSums


def sums(values: np.ndarray) -> ClusterSums:
    """ClusterSums from (n_clusters, n_cells) values, one per cluster and cell."""
    values = np.asarray(values, dtype=float)
    cells = pd.MultiIndex.from_arrays([[f"l{i:02}" for i in range(values.shape[1])]], names=["query_lang"])
    return ClusterSums(values, np.ones_like(values), pd.RangeIndex(len(values)), cells)


@pytest.mark.parametrize("inside", [(1, 1, 0, 0, 0, 1), (0, 1, 0, 1, 1, 0)])  # halves: scipy doubles the smaller tail
def test_a_difference_between_groups_of_cells_against_scipy(inside) -> None:
    rng = np.random.default_rng(3)
    delta, inside = sums(rng.normal(size=(40, 6)) + [0.4, 0, 0.2, 0, 0, 0.1]), np.array(inside, bool)
    found, means = over_languages.group_difference(delta, inside), delta.sums.mean(axis=0)
    theirs = stats.permutation_test(
        (means[inside], means[~inside]), lambda a, b: np.mean(a) - np.mean(b), permutation_type="independent"
    )
    assert (found.difference, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))
    more = sums(delta.sums + 1.0)
    assert over_languages.group_difference(more, inside)[:3] == pytest.approx(found[:3]), (
        "what all have in common is gone"
    )
    assert found.low < found.difference < found.high


def test_many_cells_have_their_groups_drawn_and_empty_groups_are_refused() -> None:
    delta = sums(np.random.default_rng(0).normal(size=(10, 20)))
    found = over_languages.group_difference(delta, np.arange(20) < 10)
    assert 0 < found.p <= 1
    for inside in (np.ones(20, bool), np.zeros(20, bool), np.ones(3, bool)):
        with pytest.raises(ValueError, match="needs cells in the group"):
            over_languages.group_difference(delta, inside)


def test_rank_correlation_against_hand_computed_cases():
    # ranks 1 3 2 4 against 1 2 3 4: 1 - 6 (0 + 1 + 1 + 0) / (4 (16 - 1)) = .8
    found = over_languages.rank_correlation(sums([[0.1, 0.3, 0.2, 0.9]] * 5), [10, 100, 1000, 10_000])
    assert found[:3] == pytest.approx((0.8, 0.8, 0.8)), "every cluster alike: no other queries, no other number"
    assert found.p == pytest.approx(8 / 24), "of 24 orders 4 have rho .8 or 1, and 4 the opposite"
    tied = over_languages.rank_correlation(sums([[1, 1, 2]]), [1, 2, 3])
    assert tied.rho == pytest.approx(np.sqrt(3) / 2) and np.isnan(tied.low)
    many = sums(np.random.default_rng(0).normal(size=(1, 9)))  # 9! orders: some are drawn
    again = [over_languages.rank_correlation(many, range(9), seed=seed).p for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
    with pytest.raises(ValueError, match="needs 3 cells and a value for each, got 2, 2"):
        over_languages.rank_correlation(sums([[1, 2]]), [1, 2])
