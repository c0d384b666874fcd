"""The k best of many vectors for each query, exact, a block of vectors at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

QUERIES_AT_ONCE, VECTORS_AT_ONCE = 512, 2048  # of one product


def top_k(
    queries: torch.Tensor, vectors: torch.Tensor, k: int, *, score_dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k vectors with the largest dot products with each query, block by block.

    On a CPU `torch.topk` of every block would take longer than the products. So what scores higher than the k-th best
    is collected, and the k best of that are looked for only when there is twice as much of it.

    Args:
        queries: (Q, D), on the device that computes.
        vectors: (V, D), on any device; memory-mapped ones are read once.
        score_dtype: scores are computed in it.

    Returns:
        scores (Q, k) float32, falling, -inf where there are fewer than k vectors; rows (Q, k) int64, -1 there. Equal
        scores are in any order.

    Raises:
        ValueError: a vector is not finite.
    """
    parts = _finite(queries.to(score_dtype), "queries").split(QUERIES_AT_ONCE)
    hits = [[no_hits(len(part), k, queries.device)] for part in parts]  # of each part the k best so far, then new ones
    cuts = [queries.new_full((len(part), 1), -torch.inf, dtype=torch.float32) for part in parts]
    for start in range(0, len(vectors), VECTORS_AT_ONCE):
        block = vectors[start : start + VECTORS_AT_ONCE].to(queries.device, score_dtype)
        for i, part in enumerate(parts):
            scores = (part @ block.T).float()
            if not torch.isfinite(scores[0]).all():  # a vector that is not finite has no finite product
                _finite(block, f"vectors {start} to {start + len(block)}")
            scores, columns = _above(scores, cuts[i], k)
            hits[i].append((scores, columns + start))
            if sum(scores.shape[1] for scores, _ in hits[i]) >= 2 * k:
                hits[i] = [best_of(hits[i], k)]
                cuts[i] = hits[i][0][0].amin(dim=1, keepdim=True)
    scores, rows = (torch.cat(column) for column in zip(*(best_of(lists, k) for lists in hits), strict=True))
    scores, places = scores.sort(dim=1, descending=True)
    return scores, rows.gather(1, places)


def _above(scores: torch.Tensor, cut: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gather the scores (Q, n) above the cut (Q, 1), and their columns, in tables as wide as needed.

    The k best of each query are enough where there is no cut yet, and a GPU finds these sooner.
    """
    if scores.device.type != "cpu" or not torch.isfinite(cut).all():
        return scores.topk(min(k, scores.shape[1]), sorted=False)
    places = np.flatnonzero((scores > cut).numpy())  # numpy finds them in a third of the time that torch takes
    query, column = np.divmod(places, scores.shape[1])
    counts = np.bincount(query, minlength=len(scores))
    place = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
    above = torch.full((len(scores), int(counts.max())), -torch.inf)
    columns = torch.full(above.shape, -1)
    above.numpy()[query, place], columns.numpy()[query, place] = scores.numpy().reshape(-1)[places], column
    return above, columns


def best_of(lists: Sequence[tuple[torch.Tensor, torch.Tensor]], k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keep the k best, in any order, of lists of scores (Q, any) and rows."""
    scores, rows = (torch.cat(tables, dim=1) for tables in zip(*lists, strict=True))
    scores, places = scores.topk(k, sorted=False)
    return scores, rows.gather(1, places)


def no_hits(queries: int, k: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Give lists without a hit: scores of -inf and rows of -1, both (queries, k)."""
    return torch.full((queries, k), -torch.inf, device=device), torch.full((queries, k), -1, device=device)


def _finite(vectors: torch.Tensor, what: str) -> torch.Tensor:
    if not torch.isfinite(vectors).all():
        raise ValueError(f"{what}: a vector is not finite in {vectors.dtype}; encode again or score in float32")
    return vectors
