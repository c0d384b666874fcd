"""Cutting texts into sentences and long sentences into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridlib.companion.sources.sentences import cut, split_sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["It rained.", "They stayed!", "Why?", "Nobody knows…"],
        ["Dr. Smith met J. R. R. Tolkien at 5 p.m. in the U.S. embassy.", "He left."],
        ["It is 3.5 km, e.g. by bus, i.e. far.", "(It was closed.)", '"Go!"', "So they did."],
        ["Is it yahoo! or not?", "No. 5 is alive."],
        ["किसने लिखा।", "कोई नहीं जानता।", "क्यों?"],
        ["من كتب هذا؟", "لا أحد يعلم."],
        ["It costs 5.", "10 people came."],
    ],
)
def test_sentences(sentences):
    assert split_sentences("  \n".join(sentences)) == sentences


def test_chinese_and_japanese_need_no_space():
    asked = "谁写的\uff1f"  # full-width question mark
    assert split_sentences(f"{asked}没有人知道。“真的\uff1f”他问。") == [
        asked,
        "没有人知道。",
        "“真的\uff1f”",
        "他问。",
    ]
    assert split_sentences("「はい。」と言った。終わり。") == ["「はい。」", "と言った。", "終わり。"]


def test_an_empty_line_ends_a_sentence():
    assert split_sentences("A title\n\nA line\nthat goes on") == ["A title", "A line that goes on"]
    assert split_sentences(" \n ") == []


@given(st.text(alphabet='ab C.!?"\n。', max_size=60))
def test_nothing_is_lost(text):
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


def letters(texts):
    """A tokenizer that counts: one token per character, one more per word."""
    return [len(text) + 1 for text in texts]


@given(st.lists(st.text("abc", min_size=1, max_size=30), min_size=1, max_size=12), st.integers(3, 20))
def test_pieces_keep_the_limit_and_the_text(words, limit):
    pieces = cut(" ".join(words), limit, letters)
    assert "".join(pieces).replace(" ", "") == "".join(words)
    assert all(sum(letters(piece.split(" "))) <= limit for piece in pieces)


def test_pieces_are_as_few_as_spaces_allow():
    assert cut("aa bb cc dd", 6, letters) == ["aa bb", "cc dd"]
    assert cut("aaaaaaaa b c", 5, letters) == ["aaaa", "aaaa", "b c"]


def test_a_limit_below_one_character_is_named():
    with pytest.raises(ValueError, match="raise max_source_tokens"):
        cut("ab", 1, letters)
