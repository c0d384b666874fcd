"""The measures: by hand, their properties, and bad input. Agreement with trec_eval stands in test_trec.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridlib import metrics
from hybridlib.metrics import MEASURES, Ranking, measure, rank_distance

LOG3 = math.log2(3)
ALL_NAMES = (*MEASURES, "map@3", "mrr@2", "ndcg", "ndcg@3", "recall@3", "precision@3")


def ranking(*queries: list[tuple[float, float]], level: float = 0.0) -> Ranking:
    """A Ranking from one list of (rank, gain) per query."""
    entries = [(number, rank, gain) for number, query in enumerate(queries) for rank, gain in query]
    query, rank, gain = np.array(entries, dtype=float).reshape(-1, 3).T
    return Ranking(query.astype(np.int64), rank, gain, len(queries), level)


# Relevant at 3 and 1 (in this order), a third never retrieved; nothing relevant; one at rank 2.
HAND = ranking([(3, 1), (1, 2), (np.inf, 1)], [], [(2, 1)])
BY_HAND = {
    "map": [(1 + 2 / 3) / 3, 1 / 2],
    "map@1": [1 / 3, 0],
    "map@2": [1 / 3, 1 / 2],
    "recall@1": [1 / 3, 0],
    "recall@3": [2 / 3, 1],
    "precision@1": [1, 0],
    "precision@10": [2 / 10, 1 / 10],
    "mrr": [1, 1 / 2],
    "mrr@1": [1, 0],
    "ndcg": [(2 + 1 / 2) / (2 + 1 / LOG3 + 1 / 2), 1 / LOG3],
    "ndcg@2": [2 / (2 + 1 / LOG3), 1 / LOG3],
    "ndcg@1": [1, 0],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name: str) -> None:
    first, third = BY_HAND[name]
    np.testing.assert_allclose(measure(name, HAND), [first, np.nan, third], rtol=1e-14)


def test_gains_are_linear_not_exponential() -> None:
    swapped = ranking([(1, 1), (2, 3)])
    linear = (1 + 3 / LOG3) / (3 + 1 / LOG3)
    exponential = (1 + 7 / LOG3) / (7 + 1 / LOG3)
    assert measure("ndcg", swapped)[0] == pytest.approx(linear, abs=1e-14)
    assert abs(linear - exponential) > 0.05


def test_relevance_level_applies_to_binary_measures_only() -> None:
    graded = [(1, 1), (2, 2)]
    low, high = ranking(graded), ranking(graded, level=2)
    assert measure("map", low)[0] == 1 and measure("map", high)[0] == 1 / 2
    assert measure("mrr", high)[0] == 1 / 2 and measure("precision@1", high)[0] == 0 and measure("recall@2", high) == 1
    np.testing.assert_array_equal(measure("ndcg", low), measure("ndcg", high))
    only_low = ranking([(1, 1)], level=2)
    assert np.isnan([measure(name, only_low)[0] for name in ("map", "mrr", "recall@1", "precision@1")]).all()


def test_no_query_and_no_entry() -> None:
    for name in ALL_NAMES:
        assert measure(name, ranking()).shape == (0,)
        assert np.isnan(measure(name, ranking([], []))).tolist() == [True, True]


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    """Up to 5 queries with up to 6 relevant candidates at different ranks, some not retrieved, in any order."""
    entry = st.tuples(st.one_of(st.integers(1, 12).map(float), st.just(np.inf)), st.integers(1, 4))
    query = st.lists(entry, max_size=6, unique_by=lambda e: e[0] if np.isfinite(e[0]) else object())
    return ranking(*draw(st.lists(query, min_size=1, max_size=5)))


def slow(name: str, entries: list[tuple[float, float]]) -> float:
    """The measure of one query, straight from its definition, over an explicit list of gains by rank."""
    kind, _, cutoff = name.partition("@")
    k = int(cutoff) if cutoff else 100
    shown = [0.0] * 100
    for rank, gain in entries:
        if np.isfinite(rank):
            shown[int(rank) - 1] = gain
    relevant_at = [place for place, gain in enumerate(shown[:k], start=1) if gain]
    ideal = sorted((gain for _, gain in entries), reverse=True)[:k]
    return {
        "map": sum(sum(g > 0 for g in shown[:place]) / place for place in relevant_at) / len(entries),
        "recall": len(relevant_at) / len(entries),
        "precision": len(relevant_at) / k,
        "mrr": 1 / relevant_at[0] if relevant_at else 0,
        "ndcg": sum(g / math.log2(p + 1) for p, g in enumerate(shown[:k], start=1))
        / sum(g / math.log2(p + 1) for p, g in enumerate(ideal, start=1)),
    }[kind]


@settings(deadline=None)
@given(rankings(), st.sampled_from(ALL_NAMES))
def test_equals_the_definition_query_by_query_and_lies_in_0_1(given_ranking: Ranking, name: str) -> None:
    values = measure(name, given_ranking)
    for number, value in enumerate(values):
        here = given_ranking.query == number
        if not here.any():
            assert np.isnan(value)
            continue
        entries = list(zip(given_ranking.rank[here], given_ranking.gain[here], strict=True))
        assert value == pytest.approx(slow(name, entries), abs=1e-12)
        assert 0 <= value <= 1


def test_rank_distance_by_hand() -> None:
    query = np.array([0, 0, 0, 0, 1, 1, 3, 3])
    lang = np.array(["de", "en", "de", "th", "en", "en", "ar", "vi"])
    rank = np.array([7.0, 2, 3, 40, 1, 9, 2, 1])
    # query 0: best ranks de 3, en 2, th 40; query 1 has one language, query 2 none; query 3: 2 - 1
    np.testing.assert_array_equal(rank_distance(query, lang, rank, 4), [38, np.nan, np.nan, 1])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abc")), max_size=20), st.integers(1, 100), st.data())
def test_rank_distance_ignores_order_names_and_a_shift(entries, shift: int, data) -> None:
    query, lang = np.array([e[0] for e in entries], dtype=int), np.array([e[1] for e in entries], dtype=str)
    rank = np.array(data.draw(st.permutations(range(1, len(entries) + 1))), dtype=float)
    value = rank_distance(query, lang, rank, 4)
    order = data.draw(st.permutations(range(len(entries))))
    order = np.array(order, dtype=int)
    np.testing.assert_array_equal(rank_distance(query[order], lang[order], rank[order] + shift, 4), value)
    np.testing.assert_array_equal(rank_distance(query, np.char.add(lang, "!"), rank, 4), value)
    few = np.array([len(set(lang[query == number])) < 2 for number in range(4)])
    np.testing.assert_array_equal(np.isnan(value), few)


def test_rank_distance_needs_the_whole_pool() -> None:
    with pytest.raises(ValueError, match="finite"):
        rank_distance(np.array([0, 0]), np.array(["en", "de"]), np.array([1, np.inf]), 1)
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        rank_distance(np.array([0, 1]), np.array(["en", "de"]), np.array([1.0, 2]), 1)


@pytest.mark.parametrize(
    "name", ["", "MAP", "recall", "precision", "recall@0", "recall@-1", "recall@1.5", "map@", "map@05", "ndcg@9 ", "p"]
)
def test_unknown_names_are_told_the_known(name: str) -> None:
    with pytest.raises(ValueError, match="recall@K"):
        measure(name, HAND)


@pytest.mark.parametrize("cutoff", [0, -1, 1.5, "3", None])
def test_bad_cutoffs(cutoff: object) -> None:
    with pytest.raises(ValueError, match="whole number from 1"):
        metrics.recall(HAND, cutoff)


@pytest.mark.parametrize(
    ("query", "rank", "gain", "text"),
    [
        ([1, 0], [1, 1], [1, 1], "sorted"),
        ([0, 2], [1, 1], [1, 1], r"\[0, 2\)"),
        ([0, 1], [0, 1], [1, 1], "1 or more"),
        ([0, 1], [np.nan, 1], [1, 1], "1 or more"),
        ([0, 0], [2, 2], [1, 1], "same rank"),
        ([0, 1], [1, 1], [1, 0], "above 0"),
        ([0, 1], [1, 1], [1], "equally long"),
    ],
)
def test_impossible_rankings_are_refused(query: list, rank: list, gain: list, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Ranking(np.array(query), np.array(rank, dtype=float), np.array(gain, dtype=float), 2)
