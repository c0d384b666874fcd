"""Does a difference between strategies depend on the language? A group against the others, and rank correlation.

Both take `statistics.difference` with a language per cell. Their intervals are over clusters: they hold for other
queries in these languages. Their p-values permute what is said of the languages: they are about other languages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import permutation_test, rankdata

from hybridlib.statistics import ClusterSums, PairedTest, cell_means, interval_of

MOST_GROUPS = 20_000  # of languages: above that they are drawn


class Correlation(NamedTuple):
    """Spearman's rank correlation, its interval, and the two-sided p-value of the permutation test."""

    rho: float
    low: float
    high: float
    p: float


def group_difference(delta: ClusterSums, inside: Sequence[bool], *, seed: int = 0) -> PairedTest:
    """Compute the mean over the cells of a group minus the mean over the others.

    Such as a gain in high-resource languages minus that in the others. p says how many ways of choosing a group of this
    size among the cells give a difference as large: two-sided, of all ways where there are at most 20,000, else of that
    many drawn, with 1 added to both counts.

    Args:
        delta: from `statistics.difference`.
        inside: of each of its cells, whether it belongs to the group.

    Raises:
        ValueError: a group is empty.
    """
    inside = np.asarray(inside, dtype=bool)
    if inside.shape != (len(delta.cells),) or inside.all() or not inside.any():
        raise ValueError(f"group_difference: needs cells in the group and others, among {len(delta.cells)} cells")
    weights = np.where(inside, 1 / inside.sum(), -1 / (~inside).sum())
    interval = interval_of(delta, lambda means: means @ weights, seed=seed)
    means = cell_means(delta).to_numpy()
    test = permutation_test(
        (means[inside], means[~inside]),
        lambda a, b, axis: np.abs(np.mean(a, axis=axis) - np.mean(b, axis=axis)),
        alternative="greater",  # of the absolute difference: scipy's two-sided p doubles the smaller tail instead
        n_resamples=MOST_GROUPS,
        vectorized=True,
        rng=np.random.default_rng((seed, 2)),
    )
    return PairedTest(*interval, p=float(test.pvalue))


def rank_correlation(delta: ClusterSums, values: Sequence[float], *, seed: int = 0) -> Correlation:
    """Compute Spearman's rank correlation of the cells' means with a value of each cell, such as a corpus size.

    The interval leans towards 0, since a resample adds noise to the means; one in which a cell got no query is left
    out. p says how many permutations of the values give a correlation as large: of all where there are at most 10,000.

    Args:
        delta: from `statistics.difference`.
        values: of each of its cells.

    Raises:
        ValueError: there are fewer than 3 cells, or not a value for each.
    """
    values = np.asarray(values, dtype="float64")
    if values.shape != (len(delta.cells),) or len(values) < 3:
        raise ValueError(f"rank_correlation: needs 3 cells and a value for each, got {len(delta.cells)}, {len(values)}")
    means = cell_means(delta).to_numpy()
    test = permutation_test(
        (values,),
        lambda values, axis: np.abs(_rank_correlations(means, values)),
        permutation_type="pairings",
        alternative="greater",
        n_resamples=9_999,
        vectorized=True,
        rng=np.random.default_rng((seed, 3)),
    )
    return Correlation(
        *interval_of(delta, lambda means: _rank_correlations(means, values), seed=seed), p=float(test.pvalue)
    )


def _rank_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's correlation along the last axis; NaN where a number is missing, or all are alike."""
    a, b = (rankdata(x, axis=-1, nan_policy="propagate") for x in (a, b))
    a, b = (x - x.mean(axis=-1, keepdims=True) for x in (a, b))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis=-1) / np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
