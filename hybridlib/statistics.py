"""Uncertainty over clusters: 95 % intervals, paired tests, Holm's correction, wins and losses.

The unit of resampling is the cluster: the paragraph or subject of a query, else the query. A cluster is drawn or
swapped in all languages at once: one question in 11 languages is not 11 questions. A cell is a query language and the
pool that is searched. The statistic is the macro mean: the mean over cells of each cell's mean over its queries. Sums
and counts per cluster and cell are enough to compute it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

CELL = ("query_lang", "pool")
ENDS = (0.025, 0.975)  # quantiles of a 95 % percentile interval
BLOCK_ENTRIES = 2_000_000  # entries of a weight matrix (resamples, clusters) held at once: 16 MB


@dataclass(frozen=True, eq=False)
class ClusterSums:
    """Sums and counts of one value by cluster and cell; intervals and tests need nothing else.

    Every cell and every cluster holds at least one value.

    Attributes:
        sums, counts: (n_clusters, n_cells) float64.
        clusters: names of the clusters, sorted.
        cells: the cells, sorted; the names of its levels are the cell columns.
        weights: (n_cells,) float64, weight of each cell in the macro mean; None gives all cells the same weight.
    """

    sums: np.ndarray
    counts: np.ndarray
    clusters: pd.Index
    cells: pd.MultiIndex
    weights: np.ndarray | None = None


class Interval(NamedTuple):
    """A mean and its percentile interval."""

    mean: float
    low: float
    high: float


class PairedTest(NamedTuple):
    """A difference of macro means, its interval, and the two-sided p-value of the randomisation test."""

    difference: float
    low: float
    high: float
    p: float


def cluster_sums(frame: pd.DataFrame, value: str, *, cell: str | Sequence[str] = CELL) -> ClusterSums:
    """Sum up the rows of `frame` (one per query and cell) by its columns cluster and `cell`.

    NaN in `value` is left out, and so are cells and clusters that hold nothing but NaN. The frame may hold rows of
    several seeds: a cell's mean is then over queries and seeds. A column `weight`, if there is one, holds one number
    above 0 per cell: the weight of the cell in the macro mean (BEIR: each of CQADupStack's twelve parts 1/12).
    Errors: ValueError for a missing column, a missing cluster or cell name, no value, or a cell with two weights.
    """
    cell = [cell] if isinstance(cell, str) else list(cell)
    _check_columns(frame, [value, "cluster", *cell], "cluster_sums")
    frame = frame[frame[value].notna()]
    if frame.empty:
        raise ValueError(f"cluster_sums: column {value!r} holds no value; choose other rows or another measure")
    if frame[["cluster", *cell]].isna().any(axis=None):
        raise ValueError(f"cluster_sums: a name is missing in {', '.join(['cluster', *cell])}; fill it in")
    row, clusters = pd.factorize(frame["cluster"], sort=True)
    groups = frame.groupby(cell, sort=True, observed=True)
    cells = pd.MultiIndex.from_frame(groups.size().reset_index()[cell])
    flat, shape = row * len(cells) + groups.ngroup().to_numpy(), (len(clusters), len(cells))
    sums, counts = (
        np.bincount(flat, weights=weights, minlength=shape[0] * shape[1]).reshape(shape).astype("float64")
        for weights in (frame[value].to_numpy(dtype="float64"), None)
    )
    return ClusterSums(sums, counts, pd.Index(clusters), cells, _weights(groups) if "weight" in frame else None)


def cell_means(cs: ClusterSums) -> pd.Series:
    """The mean over queries of each cell, indexed by cell."""
    return pd.Series(cs.sums.sum(axis=0) / cs.counts.sum(axis=0), index=cs.cells, name="mean")


def macro_mean(cs: ClusterSums) -> float:
    """The mean over cells of the cells' means: each language (or pair) counts the same, however many queries it has."""
    return float(_mean_over_cells(cell_means(cs).to_numpy()[None], cs.weights)[0])


def macro_means(
    frame: pd.DataFrame, values: Sequence[str], *, by: Sequence[str] = (), cell: str | Sequence[str] = CELL
) -> pd.DataFrame:
    """Macro means of several columns in each group of rows: the mean over cells of the mean over a cell's rows.

    NaN and a column `weight` are treated as in `cluster_sums`.

    Args:
        by: columns that define the groups, such as the setting and the seed; without columns all rows are one group.

    Returns:
        A row per group (the index is `by`, sorted) and a column per value; NaN where a group has no value.
    """
    values, by, cell = list(values), list(by), [cell] if isinstance(cell, str) else list(cell)
    _check_columns(frame, [*values, *by, *cell], "macro_means")
    groups = frame.groupby(by + cell, observed=True, dropna=False)
    means = groups[values].mean()
    over = by or np.zeros(len(means), dtype=int)
    if "weight" not in frame:
        return means.groupby(over, dropna=False).mean()
    weights = pd.Series(_weights(groups), index=means.index)
    held, total = (frame.mul(weights, axis=0).groupby(over, dropna=False).sum() for frame in (means.notna(), means))
    return total / held.where(held > 0)


def bootstrap_interval(cs: ClusterSums, *, resamples: int = 2000, seed: int = 0) -> Interval:
    """The macro mean and its percentile bootstrap interval; clusters are drawn with replacement.

    A drawn cluster brings its rows in all cells. A cell that gets no query in a resample is left out of that
    resample's mean. One cluster alone has no interval: low and high are NaN.
    The interval says how far other queries of this kind would move the macro mean; it does not include the spread
    over training seeds.
    Source: Davison and Hinkley 1997, Bootstrap Methods and their Application, 3.8 (clusters: their strategy 1).
    Errors: ValueError for resamples below 1.
    """
    return interval_of(cs, lambda means: _mean_over_cells(means, cs.weights), resamples=resamples, seed=seed)


def interval_of(
    cs: ClusterSums, function: Callable[[np.ndarray], np.ndarray], *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """A function of the cells' means and its percentile bootstrap interval; clusters as in `bootstrap_interval`.

    Examples of such a function: the mean of the worst language, or the spread between languages.

    Args:
        function: takes cell means (N, n_cells), in the order of `cs.cells`, and returns N values. A mean is NaN where a
            resample holds no query of the cell.

    Usual confusion: noise in the cells' means makes the smallest mean too small and the spread too large, once in the
    sample and once more in each resample. With few queries per cell the interval therefore lies too far out.
    Errors: ValueError for resamples below 1, or a function that returns another shape.
    """
    observed = function(cell_means(cs).to_numpy()[None])
    if np.shape(observed) != (1,):
        raise ValueError(f"interval_of: the function gives shape {np.shape(observed)} for 1 row of means; give 1 value")
    low, high = _ends(cs, function, resamples, seed)
    return Interval(float(observed[0]), float(low), float(high))


def paired_test(
    a: ClusterSums, b: ClusterSums, *, permutations: int = 10000, resamples: int = 2000, seed: int = 0
) -> PairedTest:
    """Test macro_mean(a) - macro_mean(b) by randomisation on the same queries, paired by cluster.

    Under the null hypothesis the labels a and b are exchangeable within a cluster: each permutation swaps them in
    each cluster with probability 1/2, in all cells at once. Two-sided p = (1 + #{|T*| >= |T|}) / (1 + permutations),
    never 0. The interval is a paired bootstrap over the same clusters.
    Usual confusion: p is about these runs of a and b; it does not say that another seed would give the same difference.
    Source: Smucker, Allan and Carterette 2007 (doi:10.1145/1321440.1321528); Phipson and Smyth 2010 for the + 1
    (doi:10.2202/1544-6115.1585).
    Errors: ValueError unless a and b hold the same clusters, cells, weights and numbers of queries.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be 1 or more, got {permutations!r}")
    delta = difference(a, b)
    # The statistic is linear in the signs, so a permutation needs only one number per cluster.
    share = np.average(delta.sums / delta.counts.sum(axis=0), axis=1, weights=delta.weights)
    observed = share.sum()
    tolerance = 1e-12 * np.abs(share).sum()  # sums that differ only by the order of addition count as equal
    rng = np.random.default_rng((seed, 1))
    extreme = sum(
        int((np.abs(rng.choice([-1.0, 1.0], size=(rows, len(share))) @ share) >= abs(observed) - tolerance).sum())
        for rows in _blocks(permutations, len(share))
    )
    interval = bootstrap_interval(delta, resamples=resamples, seed=seed)
    return PairedTest(*interval, p=(1 + extreme) / (1 + permutations))


def difference(a: ClusterSums, b: ClusterSums) -> ClusterSums:
    """a - b in each cluster and cell, for paired intervals. ValueError if a and b were measured on other queries."""
    for what, ours, theirs in (("clusters", a.clusters, b.clusters), ("cells", a.cells, b.cells)):
        if not ours.equals(theirs):
            odd = ours.symmetric_difference(theirs)
            raise ValueError(f"not the same {what} in a and b, e.g. {odd[0]!r}; compare runs on the same queries")
    if not np.array_equal(a.counts, b.counts):
        row, column = np.argwhere(a.counts != b.counts)[0]
        raise ValueError(
            f"a and b differ in their number of queries, e.g. {a.counts[row, column]:.0f} and "
            f"{b.counts[row, column]:.0f} in cluster {a.clusters[row]!r}, cell {a.cells[column]!r}; "
            "compare runs on the same queries and numbers of seeds"
        )
    if not np.array_equal(a.weights, b.weights):
        raise ValueError("a and b weigh their cells differently; give both the same column weight")
    return ClusterSums(a.sums - b.sums, a.counts, a.clusters, a.cells, a.weights)


def wins_ties_losses(
    a: ClusterSums, b: ClusterSums, *, resamples: int = 2000, seed: int = 0, lower_is_better: bool = False
) -> pd.DataFrame:
    """Compare a and b in each cell: a - b, its paired interval, and a win or loss of a where the interval excludes 0.

    Returns a frame with the cell columns, difference, low, high, outcome ("win", "tie", "loss" of a). The intervals
    are per cell, not corrected for the number of cells. lower_is_better: for rank distance. Errors: as paired_test's.
    """
    delta = difference(a, b)
    low, high = _ends(delta, lambda means: means, resamples, seed)
    frame = delta.cells.to_frame(index=False).assign(difference=cell_means(delta).to_numpy(), low=low, high=high)
    above, below = ("loss", "win") if lower_is_better else ("win", "loss")
    return frame.assign(outcome=np.select([low > 0, high < 0], [above, below], "tie"))


def count_outcomes(frame: pd.DataFrame) -> dict[str, int]:
    """Count each outcome in a frame of wins_ties_losses: {"win": n, "tie": n, "loss": n}."""
    return {outcome: int((frame["outcome"] == outcome).sum()) for outcome in ("win", "tie", "loss")}


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjusted p-values, in the given order; rejecting those below alpha has family-wise error alpha.

    The family of tests is `p_values`; name its tests under the table. Source: Holm 1979, Scandinavian Journal
    of Statistics 6, 65-70. Errors: ValueError for a p-value that is NaN or outside [0, 1].
    """
    p = np.asarray(p_values, dtype="float64")
    if p.ndim != 1 or not np.all((p >= 0) & (p <= 1)):
        raise ValueError("holm: p_values must be a list of numbers in [0, 1]; leave out tests that were not run")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def _ends(cs: ClusterSums, function: Callable[[np.ndarray], np.ndarray], resamples: int, seed: int) -> np.ndarray:
    """Ends (2, ...) of the interval of a function of the cells' means; clusters are drawn with replacement."""
    if resamples < 1:
        raise ValueError(f"resamples must be 1 or more, got {resamples!r}")
    rng, n, drawn = np.random.default_rng((seed, 0)), len(cs.clusters), []
    for rows in _blocks(resamples, max(cs.sums.shape)):
        weights = rng.multinomial(n, np.full(n, 1 / n), size=rows).astype("float64")  # (rows, n_clusters)
        counts = weights @ cs.counts
        means = np.divide(weights @ cs.sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
        drawn.append(function(means))
    ends = np.nanquantile(np.concatenate(drawn), ENDS, axis=0)
    return ends if n > 1 else np.full_like(ends, np.nan)


def _mean_over_cells(means: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Mean of each row over the cells that have a value; every drawn cluster holds one, so no row is empty."""
    held = np.where(np.isnan(means), 0.0, 1.0 if weights is None else weights)
    return (np.nan_to_num(means) * held).sum(axis=1) / held.sum(axis=1)


def _weights(groups: pd.api.typing.DataFrameGroupBy) -> np.ndarray:
    """The one weight of each group of rows."""
    ends = groups["weight"].agg(["min", "max"])
    if not ((ends["min"] == ends["max"]) & (ends["min"] > 0)).all():
        raise ValueError("column 'weight' must hold one number above 0 for all rows of a cell")
    return ends["min"].to_numpy(dtype="float64")


def _blocks(total: int, width: int) -> Iterator[int]:
    """Row counts that add up to total, each small enough for BLOCK_ENTRIES at this width."""
    rows = max(1, BLOCK_ENTRIES // width)
    for start in range(0, total, rows):
        yield min(rows, total - start)


def _check_columns(frame: pd.DataFrame, columns: Sequence[str], who: str) -> None:
    for column in columns:
        if column not in frame.columns:
            raise ValueError(f"{who}: no column {column!r}; the frame has {', '.join(map(str, frame.columns))}")
