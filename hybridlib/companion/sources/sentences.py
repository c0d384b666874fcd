"""Cutting a text into sentences for translation, with a rule rather than a model.

A sentence ends at . ! ? or … (and the quotes or brackets that close after it) before a space and no small letter, at
the full stops of Chinese, Japanese, Hindi and Urdu, and at an empty line. A full stop after a single letter (J. Smith),
a word with a full stop inside (U.S., e.g.) or a title (Dr.) ends none. A missed end costs little; a cut inside a
sentence costs the translator its context, so the rule rather misses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_CLOSING = "[\"'”’»)\\]」』）]*"
_END = re.compile(rf"[.!?…]+{_CLOSING}\s+|[。！？｡]+{_CLOSING}\s*|[।॥؟۔]+{_CLOSING}\s+|\n\s*\n")
_TITLES = "Mr Mrs Ms Dr Prof St Sr Jr Gen Col Lt Capt Sgt Rev Hon Gov Sen Rep No vs etc cf al ca approx Inc Ltd Co Corp"
_NO_END = frozenset(_TITLES.split())


def split_sentences(text: str) -> list[str]:
    """Cut a text into sentences, white space in them reduced to single spaces; none for an empty text."""
    ends = [match.end() for match in _END.finditer(text) if not _goes_on(text, match)]
    parts = (text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True))
    return [sentence for sentence in (" ".join(part.split()) for part in parts) if sentence]


def _goes_on(text: str, match: re.Match) -> bool:
    """Whether what looks like an end is none."""
    mark, following = match.group(), text[match.end() : match.end() + 1]
    if not mark.strip() or mark[0] not in ".!?…":  # an empty line, or a mark that nothing but an end has
        return False
    if following.islower():
        return True
    word = re.search(r"\S*$", text[: match.start()]).group().lstrip("\"'“‘«([")
    return mark.rstrip() == "." and (len(word) == 1 and word.isalpha() or "." in word or word in _NO_END)


def cut(text: str, limit: int, count: Callable[[Sequence[str]], Sequence[int]]) -> list[str]:
    """Cut a text without white space at its ends into pieces of at most `limit` tokens, at spaces, else inside a word.

    Args:
        count: number of tokens of each of some texts; that of words is taken to add up.

    Raises:
        ValueError: one character has more tokens than `limit`.
    """
    words = text.split(" ")
    parts = [part for word in words for part in _cut_word(word, limit, count)]
    pieces, size = [], limit
    for part, length in zip(parts, count(parts), strict=True):
        if size + length > limit:
            pieces.append(part)
            size = length
        else:
            pieces[-1] += " " + part
            size += length
    return pieces


def _cut_word(word: str, limit: int, count: Callable[[Sequence[str]], Sequence[int]]) -> list[str]:
    if count([word])[0] <= limit:
        return [word]
    if len(word) == 1:
        raise ValueError(f"the character {word!r} alone has more than {limit} tokens: raise max_source_tokens")
    middle = len(word) // 2
    return _cut_word(word[:middle], limit, count) + _cut_word(word[middle:], limit, count)
