"""InfoNCE over in-batch and explicit negatives (arXiv 2408.10536, equation 1) of tensors, without text or model.

The paper prints no temperature and does not say whether a translation of the positive passage counts as a negative;
both are arguments here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def info_nce(
    q: torch.Tensor,
    p: torch.Tensor,
    mask: torch.Tensor | None = None,
    *,
    temperature: float,
    symmetric: bool = False,
) -> torch.Tensor:
    """Mean over queries of -log softmax of the positive passage's score among all passages that are not masked.

    Args:
        q: (B, D) query vectors, L2-normalised for cosine similarity.
        p: (P, D) passage vectors, P >= B: the positive of query i in row i and, after them, explicit negatives.
        mask: (B, P) True where a passage is no negative of the query; the query's own positive is never masked.
        temperature: > 0; scores are divided by it (scale = 1 / temperature).
        symmetric: average this loss with the loss of the other direction, from each positive to its query.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: shapes do not fit, or the temperature is not positive.
    """
    _check(q, p, temperature)
    target = torch.arange(len(q), device=q.device)  # the positive of query i is column i
    scores = q @ p.T / temperature  # (B, P)
    if mask is not None:
        scores = scores.masked_fill(mask.clone().fill_diagonal_(False), float("-inf"))
    loss = F.cross_entropy(scores, target, reduction="sum")
    if symmetric:
        loss = (loss + F.cross_entropy(scores[:, : len(q)].T, target, reduction="sum")) / 2
    return loss / len(q)


def not_negatives(
    positives: torch.Tensor,
    own: torch.Tensor,
    own_lang: torch.Tensor,
    passage: torch.Tensor,
    passage_lang: torch.Tensor,
    *,
    mask_translations: bool = True,
) -> torch.Tensor:
    """Mark the passages that must not count as negatives of a query.

    A column is marked if it holds the passage paired with the query, in the language of the pair, or any other passage
    known to answer the query. With `mask_translations`, translations of the paired passage are marked too.

    Args:
        positives: (B, K) ids of all passages known to answer the query, padded with -1.
        own: (B,) id of the passage paired with the query; own_lang: (B,) language of that passage as a number.
        passage: (P,) id of the passage in each column; passage_lang: (P,) language of that passage.

    Returns:
        (B, P) bool, True where the column is no negative; the paired passage's column is among them.
    """
    known = (positives[:, :, None] == passage[None, None, :]).any(dim=1)  # (B, K, P) -> (B, P)
    same = own[:, None] == passage[None, :]
    if mask_translations:
        return known | same
    return (known & ~same) | (same & (own_lang[:, None] == passage_lang[None, :]))


def _check(q: torch.Tensor, p: torch.Tensor, temperature: float) -> None:
    if q.ndim != 2 or p.ndim != 2 or q.shape[1] != p.shape[1] or len(p) < len(q) or not len(q):
        raise ValueError(f"q must be (B, D) and p (P, D) with P >= B >= 1, not {tuple(q.shape)} and {tuple(p.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, not {temperature}")
