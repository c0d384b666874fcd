"""The loss against a batch worked by hand, torch's cross-entropy and numerical gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from hybridlib.loss import info_nce, not_negatives


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_three_by_three_batch_by_hand():
    q = torch.eye(3, dtype=torch.float64)
    p = torch.tensor([[0.5, 0.0, 0.0], [0.25, 1.0, 0.0], [0.0, 0.5, 0.75]], dtype=torch.float64)
    # scores at temperature 0.5:  [[1, .5, 0], [0, 2, 1], [0, 0, 1.5]]
    by_hand = [
        -math.log(math.exp(1) / (math.exp(1) + math.exp(0.5) + 1)),
        -math.log(math.exp(2) / (1 + math.exp(2) + math.exp(1))),
        -math.log(math.exp(1.5) / (2 + math.exp(1.5))),
    ]
    assert info_nce(q, p, temperature=0.5).item() == pytest.approx(sum(by_hand) / 3, abs=1e-12)
    mask = torch.zeros(3, 3, dtype=torch.bool)
    mask[0, 1] = True
    by_hand[0] = -math.log(math.exp(1) / (math.exp(1) + 1))
    assert info_nce(q, p, mask=mask, temperature=0.5).item() == pytest.approx(sum(by_hand) / 3, abs=1e-12)


@given(b=st.integers(1, 7), extra=st.integers(0, 5), temperature=st.floats(0.02, 2.0))
def test_equals_cross_entropy(b, extra, temperature):
    q, p = vectors(b, 5), vectors(b + extra, 5, seed=1)
    expected = F.cross_entropy(q @ p.T / temperature, torch.arange(b))
    assert info_nce(q, p, temperature=temperature).item() == pytest.approx(expected.item(), rel=1e-10)


def test_symmetric_is_the_mean_of_both_directions():
    q, p = vectors(4, 5), vectors(6, 5, seed=1)
    scores = q @ p.T / 0.1
    back = F.cross_entropy(scores[:, :4].T, torch.arange(4))
    expected = (F.cross_entropy(scores, torch.arange(4)) + back) / 2
    assert info_nce(q, p, temperature=0.1, symmetric=True).item() == pytest.approx(expected.item(), rel=1e-10)


def test_masked_columns_have_no_influence_and_the_target_cannot_be_masked():
    q, p = vectors(3, 5), vectors(5, 5, seed=1)
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[:, 4] = True
    assert info_nce(q, p, mask=mask, temperature=0.1) == info_nce(q, p[:4], temperature=0.1)
    everything = torch.ones(3, 5, dtype=torch.bool)
    assert info_nce(q, p, mask=everything, temperature=0.1).item() == 0


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients_are_those_of_finite_differences(symmetric):
    q, p = vectors(3, 4).requires_grad_(), vectors(5, 4, seed=1).requires_grad_()
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[1, 3] = True

    def f(q: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return info_nce(q, p, mask, temperature=0.2, symmetric=symmetric)

    assert torch.autograd.gradcheck(f, (q, p))


@pytest.mark.parametrize(
    ("mask_translations", "expected"),
    [
        (True, [[1, 1, 0, 0, 1], [1, 1, 0, 0, 1], [0, 0, 1, 1, 0]]),
        (False, [[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 1, 1, 0]]),
    ],
)
def test_masks_for_shared_passages_translations_and_other_positives(mask_translations, expected):
    """Queries 0 and 1 have passage 7 (en, de); query 2 passage 8 (en) and is also answered by 9; column 3 is 9 (en)."""
    positives = torch.tensor([[7, -1], [7, -1], [8, 9]])
    own, own_lang = torch.tensor([7, 7, 8]), torch.tensor([0, 1, 0])
    passage, passage_lang = torch.tensor([7, 7, 8, 9, 7]), torch.tensor([0, 1, 0, 0, 0])
    mask = not_negatives(positives, own, own_lang, passage, passage_lang, mask_translations=mask_translations)
    assert mask.int().tolist() == expected


@pytest.mark.parametrize(
    ("q", "p", "temperature", "message"),
    [
        ((3, 4), (3, 5), 0.1, "q must be"),
        ((3, 4), (2, 4), 0.1, "q must be"),
        ((0, 4), (0, 4), 0.1, "q must be"),
        ((3, 4), (3, 4), 0.0, "temperature"),
        ((3, 4), (3, 4), float("nan"), "temperature"),
    ],
)
def test_errors(q, p, temperature, message):
    with pytest.raises(ValueError, match=message):
        info_nce(torch.zeros(*q), torch.zeros(*p), temperature=temperature)
