"""The k best of many vectors for each query: exact, a block of vectors at a time.

Shapes: Q queries and V vectors of width D; a tile of the score matrix has B queries and n vectors.

For each query the scores above the k-th best so far are collected, and only when their places are full are the k best
of them found anew: of a million scores a few thousand are ever moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
import torch

BLOCK, AT_ONCE = 8192, 4  # vectors of a block, and blocks that are taken together
FEW = 64  # queries whose places are sorted out at once
CPU_TILE, GPU_TILE = (512, 2048), (1024, 16384)  # queries and vectors of one product


@dataclass(frozen=True, eq=False)
class Hits:
    """The k best of each query, best first.

    Attributes:
        rows: (Q, k) int64, rows of the corpus; -1 where it has fewer than k.
        scores: (Q, k) float32; -inf there.
        ids: (Q, k) str objects, the ids of these rows, "" there; None where no ids are known.
    """

    rows: np.ndarray
    scores: np.ndarray
    ids: np.ndarray | None = None


def top_k(
    queries: torch.Tensor,
    blocks: Iterable[torch.Tensor],
    k: int,
    *,
    score_dtype: torch.dtype = torch.float32,
    tile: tuple[int, int] | None = None,
) -> Hits:
    """The k vectors with the largest dot products with each query; of equal scores the vector that comes first.

    So that ties are broken as trec_eval breaks them, the vectors must come in descending order of their ids. The result
    is exact for the scores as computed, which are the same to the bit whatever the number of threads. Other blocks or
    tiles may change a score's last bit (not where all products are exact, as of small whole numbers).

    Memory beside the blocks at hand, AT_ONCE of them: 12 bytes for each query and each of k + tile[1] places.

    Args:
        queries: (Q, D), on the device that computes.
        blocks: tensors (any number, D), in float32 or half precision, together (V, D); each is used once, in turn.
        score_dtype: vectors are cast to it and scores computed in it; in bfloat16 and float16 many scores tie.
        tile: queries and vectors of one product. None: CPU_TILE or GPU_TILE.

    Raises:
        ValueError: k or tile is below 1, the shapes do not fit, or a vector is not finite.
    """
    size, room = tile = tile or default_tile(queries.device)
    if min(k, *tile) < 1:
        raise ValueError(f"k is {k} and tile {tile}: give at least 1")
    queries = _finite(queries.detach().to(score_dtype), "queries")
    best = [_Best(part, k, room) for part in queries.split(size)] if len(queries) else []
    with _each_on_a_thread(queries.device) as run:
        for several in _in_turn(blocks, queries, score_dtype):
            run(lambda part, several=several: [part.add(block, row) for block, row in several], best)
        run(_Best.finish, best)
    rows, scores = ([getattr(part, name) for part in best] for name in ("rows", "scores"))
    return Hits(np.concatenate([np.empty((0, k), np.int64), *rows]), np.concatenate([np.empty((0, k), "f4"), *scores]))


def top_k_distinct(queries: torch.Tensor, vectors: torch.Tensor, k: int, **options) -> Hits:
    """`top_k` of vectors (V, D) float32 on the CPU, all at hand; equal ones are scored once, so they tie exactly.

    In products of the same numbers a sum may be rounded otherwise where its column stands elsewhere.
    """
    groups: dict[bytes, int] = {}  # numbered in the order of their first members
    group = np.array([groups.setdefault(row.tobytes(), len(groups)) for row in vectors.numpy()], dtype=np.int64)
    if len(groups) == len(vectors):
        return top_k(queries, vectors.split(BLOCK), k, **options)
    leaders = torch.from_numpy(np.unique(group, return_index=True)[1])
    return _with_equals(top_k(queries, vectors[leaders].split(BLOCK), k, **options), group)


def _with_equals(hits: Hits, group: np.ndarray) -> Hits:
    """Hits among groups -> among their members; the group of each is given, (n,)."""
    k = hits.rows.shape[1]
    members, sizes = np.argsort(group, kind="stable"), np.bincount(group)
    starts = np.cumsum(sizes) - sizes
    found = Hits(np.full_like(hits.rows, -1), np.full_like(hits.scores, -np.inf))
    for query, groups in enumerate(hits.rows):
        groups = groups[groups >= 0]
        count = np.minimum(sizes[groups], k)
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        row = members[np.repeat(starts[groups], count) + within]
        score = np.repeat(hits.scores[query, : len(groups)], count)
        order = np.lexsort((row, -score))[:k]
        found.rows[query, : len(order)], found.scores[query, : len(order)] = row[order], score[order]
    return found


def merge(first: Hits, second: Hits) -> Hits:
    """The k best of both, of the same queries, k and corpus; of equal scores the greatest id (as Python compares).

    Each must have ids and stand in that order itself; their rows must differ.
    """
    k = first.rows.shape[1]
    wide = int((second.scores >= first.scores[:, -1:]).sum(axis=1).max(initial=0))  # the rest comes after the k-th
    rows, scores, ids = (np.hstack([getattr(first, name), getattr(second, name)[:, :wide]]) for name in vars(first))
    order = np.argsort(-scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=1)
    level = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > -np.inf)
    tied = np.pad(level, ((0, 0), (1, 0))) | np.pad(level, ((0, 0), (0, 1)))
    query, place = np.nonzero(tied)
    column = order[query, place]
    name = pd.factorize(ids[query, column], sort=True)[0]
    order[query, place] = column[np.lexsort((-name, -scores[query, column], query))]
    return Hits(*(np.take_along_axis(table, order[:, :k], axis=1) for table in (rows, scores, ids)))


def default_tile(device: torch.device) -> tuple[int, int]:
    """Queries and vectors of one product: what a processor's cache holds; a GPU likes large products."""
    return CPU_TILE if device.type == "cpu" else GPU_TILE


class _Best:
    """The best of one part of the queries (B, D): k places for each and, after them, `room` for what is found next.

    `scores` and `rows` are (B, k + room), in the order of the rows; `filled` places are taken. What scores higher than
    the k-th best when that was last looked for, `cut` (B,), is let through.
    """

    def __init__(self, queries: torch.Tensor, k: int, room: int) -> None:
        self.product, self.k, self.room = _product(queries), k, room
        self.scores = np.full((len(queries), k + room), -np.inf, dtype=np.float32)
        self.rows = np.full((len(queries), k + room), -1)
        self.filled = np.zeros(len(queries), dtype=np.int64)
        self.cut = queries.new_full((len(queries),), -torch.inf)

    def add(self, vectors: torch.Tensor, row: int) -> None:
        """Score vectors (any number, D), the first of which is `row`."""
        for start in range(0, len(vectors), self.room):
            scores = self.product(vectors[start : start + self.room])  # (n, B)
            if not torch.isfinite(scores[:, 0]).all():  # a vector that is not finite has no finite product
                _finite(vectors, f"the block that starts at row {row}")
            if self.cut[0] == -torch.inf:  # so far everything is let through
                self._take_all(scores, row + start)
                continue
            found, counts = self._above_cut(scores)
            if (self.filled + counts).max() > self.scores.shape[1]:
                self._drop_all_but_k()
                found, counts = self._above_cut(scores)
            first = np.arange(len(counts)) * self.scores.shape[1] + self.filled - np.cumsum(counts) + counts
            free = np.repeat(first, counts) + np.arange(len(found))
            self.scores.reshape(-1)[free] = _take(scores, found)
            self.rows.reshape(-1)[free] = found // len(counts) + (row + start)
            self.filled += counts

    def _take_all(self, scores: torch.Tensor, row: int) -> None:
        """Put scores (n, B) into the next places, and keep the k best."""
        places = slice(self.filled[0], self.filled[0] + len(scores))
        self.scores[:, places] = scores.T.float().cpu().numpy()
        self.rows[:, places] = np.arange(row, row + len(scores))
        self.filled += len(scores)
        self._drop_all_but_k()

    def _above_cut(self, scores: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Flat places in (n, B) of what is let through, by query, then by vector; their number for each query."""
        n = len(self.filled)
        found = _nonzero(scores, self.cut)
        query = (found - found // n * n).astype(np.min_scalar_type(n))  # numbers of 16 bits are sorted by radix
        return found[np.argsort(query, kind="stable")], np.bincount(query, minlength=n)

    def _drop_all_but_k(self) -> None:
        """Keep the k best of each query, of equal scores the first; they stay in the order of their rows."""
        width, k = self.filled.max(), self.k
        if width <= k:
            return
        cuts = [self._drop(slice(i, i + FEW), width) for i in range(0, len(self.scores), FEW)]
        self.filled[:] = k
        self.cut = torch.from_numpy(np.concatenate(cuts)).to(self.cut.device, self.cut.dtype)

    def _drop(self, queries: slice, width: int) -> np.ndarray:
        """The same for some of the queries; their new cuts."""
        k = self.k
        scores, rows = self.scores[queries, :width], self.rows[queries, :width]
        cut = np.partition(scores, width - k, axis=1)[:, width - k, None]
        keep = scores >= cut
        if np.count_nonzero(keep) > k * len(keep):
            level = scores == cut
            too_many = np.count_nonzero(keep, axis=1, keepdims=True) - k
            keep &= ~level | (level[:, ::-1].cumsum(axis=1)[:, ::-1] > too_many)
        rows[:, :k] = rows[keep].reshape(-1, k)
        scores[:, :k], scores[:, k:] = scores[keep].reshape(-1, k), -np.inf
        return cut[:, 0]

    def finish(self) -> None:
        """Leave (B, k) scores and rows, best first."""
        self._drop_all_but_k()
        scores, rows = self.scores[:, : self.k], self.rows[:, : self.k]
        order = np.argsort(-scores, axis=1)
        ordered = np.take_along_axis(scores, order, axis=1)
        tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)  # only these need the slower sort that keeps their order
        order[tied] = np.argsort(-scores[tied], axis=1, kind="stable")
        self.scores, self.rows = ordered, np.take_along_axis(rows, order, axis=1)


def _in_turn(
    blocks: Iterable[torch.Tensor], queries: torch.Tensor, dtype: torch.dtype
) -> Iterator[list[tuple[torch.Tensor, int]]]:
    """Blocks with their first rows, a few at a time: threads that meet after every block would often wait."""
    row = 0
    for several in _batched(blocks, AT_ONCE):
        checked = []
        for block in several:
            if block.ndim != 2 or block.shape[1] != queries.shape[1]:
                raise ValueError(f"a block has the shape {tuple(block.shape)}: it must be (any, {queries.shape[1]})")
            checked.append((block.to(queries.device, dtype), row))
            row += len(block)
        yield checked


def _batched(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while several := list(islice(items, size)):
        yield several


def _product(queries: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """From vectors (n, D) to scores (n, B). oneDNN multiplies by queries that were laid out for it once."""
    onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    if onednn and queries.device.type == "cpu" and queries.dtype == torch.float32:
        weights = torch.ops.mkldnn._reorder_linear_weight(queries.contiguous())
        return lambda vectors: torch.ops.mkldnn._linear_pointwise(vectors, weights, None, "none", [], "")
    return lambda vectors: vectors @ queries.T


def _nonzero(scores: torch.Tensor, cut: torch.Tensor) -> np.ndarray:
    """Flat places of scores (n, B) above the cut (B,); numpy finds them in a third of the time that torch takes."""
    if scores.device.type == "cpu" and scores.dtype == torch.float32:
        return np.flatnonzero(scores.numpy() > cut.numpy())
    return (scores > cut).flatten().nonzero().squeeze(1).cpu().numpy()


def _take(scores: torch.Tensor, places: np.ndarray) -> np.ndarray:
    """Scores at flat places, float32."""
    if scores.device.type == "cpu" and scores.dtype == torch.float32:
        return scores.numpy().reshape(-1)[places]
    return scores.flatten()[torch.from_numpy(places).to(scores.device)].float().cpu().numpy()


def _finite(vectors: torch.Tensor, what: str) -> torch.Tensor:
    """The same, if all are finite numbers."""
    if not torch.isfinite(vectors).all():
        raise ValueError(f"{what}: a vector is not finite in {vectors.dtype}; encode again or score in float32")
    return vectors


@contextmanager
def _each_on_a_thread(device: torch.device) -> Iterator[Callable[[Callable, list], list]]:
    """A function that calls another on each item; on a CPU each on one thread: no sum depends on their number."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1:
        yield lambda function, items: [function(item) for item in items]
        return
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield lambda function, items: list(pool.map(function, items))
        finally:
            torch.set_num_threads(threads)  # the last call of it, in whatever thread, is what new threads start with
