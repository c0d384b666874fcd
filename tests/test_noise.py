"""Noise in queries: letters whole, scripts kept, as many hits as asked for; collections with noisy variants."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridlib.companion.questions.noise import KINDS, Variant, add_noise, alphabet, graphemes, split, with_variants
from hybridlib.companion.search.collection import Collection
from hybridlib.companion.search.measure import without_own
from hybridlib.companion.search.search import Hits

QUESTIONS = {
    "ar": "مَتى وُلِدَ ابن خلدون؟",
    "bn": "কাজী নজরুল ইসলামের জন্ম কত সালে? ১৮৯৯, স্ত্রী",
    "en": "When was NATO's co-founder born, in 1899?",
    "fa": "می‌خواهم بدانم پایتخت ایران کجاست؟",
    "fi": "Missä Väinämöinen söi 3 omenaa?",
    "hi": "क्षत्रिय वंश का संस्थापक कौन था?",
    "ja": "アインシュタインは何年にノーベル賞を受賞しましたか",
    "ko": "대한민국의 수도는 어디인가?",
    "ru": "Когда родился Пушкин (1799)?",
    "sw": "Mji mkuu wa Kenya ni upi?",
    "te": "శ్రీకృష్ణదేవరాయలు ఎప్పుడు జన్మించాడు?",
    "th": "กรุงเทพมหานครก่อตั้งเมื่อใด น้ำ",
    "zh": "爱因斯坦出生于哪一年？",
}
SCRIPTS = "Arabic Bengali Latin Devanagari Hiragana Katakana Han Hangul Cyrillic Telugu Thai".split()
ALPHABET = alphabet(QUESTIONS.values())
every_language = pytest.mark.parametrize("lang", QUESTIONS)
kinds = st.sampled_from(KINDS)
rates = st.floats(0, 1)
seeds = st.integers(0, 5)
pieces = st.sampled_from([one for text in QUESTIONS.values() for one in graphemes(text)])
texts = st.lists(pieces, max_size=30).map("".join)


def letters(text: str) -> list[str]:
    """The letters of a text as readers see them, each once."""
    return sorted(letter for kin in alphabet([text]).values() for letter in kin)


def scripts(text: str) -> set[str]:
    """Scripts of the letters, by another table than the package's."""
    return {name for name in SCRIPTS if regex.search(rf"(?=\p{{L}})\p{{Script={name}}}", text)}


def kept(text: str) -> str:
    """What is no letter and belongs to none: digits, punctuation and spaces, in their order."""
    return "".join(one for one in graphemes(text) if unicodedata.category(one[0])[0] != "L")


@settings(deadline=None)
@given(text=texts, kind=kinds, rate=rates, seed=seeds)
def test_what_noise_leaves_alone(text, kind, rate, seed):
    variant = Variant(kind, rate, seed)
    noisy = add_noise(text, variant, ALPHABET)
    assert noisy == add_noise(text, variant, ALPHABET) and add_noise(text, Variant(kind, 0, seed), ALPHABET) == text
    assert kept(noisy) == kept(text) and scripts(noisy) <= scripts(text)
    assert bool(letters(noisy)) == bool(letters(text)), "never empty"
    known = {*graphemes(text), *(letters(" ".join(QUESTIONS.values())) if kind == "letters" else ())}
    whole = "|".join(regex.escape(one) for one in sorted(known, key=len, reverse=True)) or "(?!)"
    assert regex.fullmatch(f"(?:{whole})*", noisy), "a letter is torn"
    if kind == "letters":
        for before, after in zip(graphemes(text), graphemes(noisy), strict=True):
            assert scripts(before) == scripts(after)
            assert unicodedata.category(before[0]) == unicodedata.category(after[0])
        assert add_noise(text, variant, {}) == text, "without an alphabet there is nothing to become"


@every_language
@pytest.mark.parametrize("kind", KINDS)
def test_every_language_changes(lang, kind):
    text = QUESTIONS[lang]
    noisy = {add_noise(text, Variant(kind, 0.5, seed), alphabet([text])) for seed in range(5)}
    assert len(noisy) == 5 and text not in noisy, "another seed, another text"


def test_letters_are_what_readers_see():
    assert graphemes("क्षत्रिय") == ["क्ष", "त्रि", "य"], "a conjunct is one"
    assert graphemes("น้ำ") == ["น้ำ"] and graphemes("خوا‌ه")[2] == "ا\u200c" and graphemes("e\u0301t") == ["e\u0301", "t"]
    assert letters("b a1! স্কুল a") == ["a", "b", "ল", "স্কু"]


def test_typos_by_hand():
    found = {add_noise("1 ab", Variant("typos", 1, seed), {}) for seed in range(100)}
    dropped_first = {"1 ab", "1 bb"}  # then b dropped (nothing is left: the text stays) or doubled
    doubled_first = {"1 aa", "1 aabb"}
    swapped_first = {"1 b", "1 baa"}  # a, now second, is hit in its turn and has nothing to change places with
    assert found == dropped_first | doubled_first | swapped_first
    assert {add_noise("a", Variant("typos", 1, seed), {}) for seed in range(20)} == {"a", "aa"}, (
        "the only letter is not lost"
    )
    assert {add_noise("a1b", Variant("typos", 1, seed), {}) for seed in range(50)} == {"a1b", "1bb", "aa1", "aa1bb"}


@pytest.mark.parametrize("rate", [0.05, 0.2])
@pytest.mark.parametrize("kind", KINDS)
def test_rate_is_the_share_of_letters_hit(kind, rate):
    """Words of one letter show every hit: another letter, none, or two."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(list("abcdefghij"), 40)) for _ in range(500)]
    noisy = [add_noise(text, Variant(kind, rate), alphabet(texts[:1])) for text in texts]
    words = [
        (a, b)
        for one, two in zip(texts, noisy, strict=True)
        for a, b in zip(one.split(" "), two.split(" "), strict=True)
    ]
    hits, n = sum(a != b for a, b in words), len(words)
    assert n == 20_000 and abs(hits - n * rate) < 4 * (n * rate * (1 - rate)) ** 0.5


def test_the_letters_hit_at_a_low_rate_are_hit_at_a_higher():
    text = "когда родился пушкин, в москве или в деревне? " * 3
    before = graphemes(text)
    noisy = [graphemes(add_noise(text, Variant("letters", rate, 3), ALPHABET)) for rate in (0, 0.05, 0.1, 0.3, 1)]
    hit = [{i for i, one in enumerate(letters) if one != before[i]} for letters in noisy]
    assert all(fewer < more for fewer, more in zip(hit, hit[1:], strict=False))
    assert hit[-1] == {i for i, one in enumerate(before) if one.isalpha()}


def test_wrong_arguments_are_named():
    for wrong in ({"kind": "letter", "rate": 0.1}, {"kind": "typos", "rate": 1.5}, {"kind": "typos", "rate": -0.1}):
        with pytest.raises(ValueError, match="kind must be one of typos|rate must be in"):
            Variant(**wrong)


# ---- collections


def small() -> Collection:
    """Two queries in English, one in Swahili, whose ids hold the mark already."""
    return Collection.build(
        "small",
        queries=[("en:1", "en", "who was born here"), ("en:1#2", "en", "what is it"), ("sw:1", "sw", "jina lake nani")],
        judgements=[("en:1", "d1", 1), ("en:1", "d2", 0), ("en:1#2", "d2", 2), ("sw:1", "d1", 1)],
        passages=[("d1", "one"), ("d2", "two")],
    )


VARIANTS = [Variant("typos", 0.3), Variant("letters", 0.3), Variant("letters", 0.3, seed=1)]


def test_with_variants_repeats_queries_and_judgements():
    clean = small()
    noisy = with_variants(clean, VARIANTS)
    assert noisy.passages is clean.passages and noisy.name == "small-with-noise"
    assert noisy.fingerprint != clean.fingerprint and noisy.languages == clean.languages
    assert len(noisy.queries) == 4 * 3 and len(noisy.judgements) == 4 * 4
    assert noisy.queries.slice(0, 3).equals(clean.queries) and noisy.judgements.slice(0, 4).equals(clean.judgements)
    frame = split(noisy.queries.to_pandas())
    assert frame["query_id"].tolist() == clean.queries["query_id"].to_pylist() * 4
    swahili = frame[frame["query_id"] == "sw:1"]
    assert len(swahili) == 4 and set(letters(" ".join(swahili["text"]))) <= set(letters("jina lake nani")), "its own"
    judged = noisy.judgements.to_pandas()
    for variant in VARIANTS:
        own = judged[judged["query_id"].str.endswith(f"#{variant.name}")]
        assert own[["doc_id", "gain", "row"]].values.tolist() == judged[["doc_id", "gain", "row"]][:4].values.tolist()


def test_what_is_the_query_itself_stays_so_with_noise():
    """Of ArguAna the passage with the query's id is no find, for noisy queries neither."""
    clean = replace(small(), own=("d1", "d2", "d1"))
    noisy = with_variants(clean, VARIANTS)
    rows = np.array([[0, 1]] * len(noisy.queries))
    hits = Hits(rows, np.array([[0.9, 0.8]] * len(rows)), np.array(["d1", "d2"], dtype=object)[rows])
    assert without_own(noisy, hits).ids[:, 0].tolist() == ["d2", "d1", "d2"] * 4


def test_variants_are_told_apart():
    with pytest.raises(ValueError, match="name each once"):
        with_variants(small(), [VARIANTS[0], VARIANTS[0]])
    twice = with_variants(small(), VARIANTS[:1])
    with pytest.raises(ValueError, match="'en:1#typos-0.3-0' already names a variant"):
        with_variants(twice, VARIANTS[1:])


def test_split_gives_the_clean_query_and_its_cluster():
    rows = pd.DataFrame({"query_id": ["q", "q#typos-0.3-0", "q#2", "q#2#letters-1e-05-1"]})
    rows = rows.assign(cluster=("c:" + rows["query_id"]).astype("category"))
    found = split(rows)
    assert found["query_id"].tolist() == ["q", "q", "q#2", "q#2"]
    assert found["cluster"].tolist() == ["c:q", "c:q", "c:q#2", "c:q#2"]
    assert found["kind"].tolist() == ["clean", "typos", "clean", "letters"]
    assert found["rate"].tolist() == [0, 0.3, 0, 1e-05]
    assert set(split(rows.assign(cluster="subject"))["cluster"]) == {"subject"}, "a cluster that names no query stays"
