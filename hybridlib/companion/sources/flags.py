"""Degenerate translations found without a model: empty, copied, repeated, of a strange length, in the wrong script.

What a flag cannot see: a fluent text that says something else, or one in another language of the same script.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from hybridlib.companion.sources.languages import DENSITY, check_language, script_of, scripts

FLAGS = ("empty", "copied", "repeated", "length", "wrong_script")

_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class FlagLimits:
    """From where on a text is flagged.

    Of 29,779 human translations these limits, chosen on the same texts, flag 8 wrongly, for Latin phrases and for words
    spelled in Latin letters in another way than in the source, and 4 rightly (RESULTS.md).

    Attributes:
        few_words: a text with at most so many words may be a name, which stays as it is in many languages. A longer
            one may be so only if all its words are capitalised.
        same_words: share of the source's words without a capital that may recur unchanged. Names are not among them;
            words that two languages happen to spell alike are a few in a hundred.
        repeats, loop_characters: a run in which one unit follows itself so often and which has so many characters is
            a loop. Four times is more than rhetoric does; the characters leave out "no, no, no, no".
        longest_unit: characters of a unit; a loop of longer ones shows in the length.
        length_ratio, length_slack: a text may be so many times as long or as short as `DENSITY` lets expect, and so
            many characters (times `DENSITY`) beyond that, since the ratio of short texts varies much.
        script_share: least share of letters in the language's own script, words taken over from the source left out and
            letters weighed by 1 / `DENSITY`. Not higher, because a name may be in the Latin script in another form than
            the source's; with 0.5 a text of which half is in a wrong script passes.
    """

    few_words: int = 2
    same_words: float = 0.5
    repeats: int = 4
    loop_characters: int = 20
    longest_unit: int = 120
    length_ratio: float = 3.0
    length_slack: int = 8
    script_share: float = 0.7


def find_flags(
    source: str, text: str, *, lang: str, source_lang: str = "en", limits: FlagLimits | None = None
) -> tuple[str, ...]:
    """Judge `text` as a translation of `source` into `lang`: what is wrong, some of FLAGS in their order, often none.

    An empty text has that flag alone; beside a source without a letter or digit nothing else can be judged.

    Raises:
        ValueError: an unknown language.
    """
    limits = limits or FlagLimits()
    check_language(source_lang)
    expected_scripts = scripts(lang)
    source, text = unicodedata.normalize("NFKC", source), unicodedata.normalize("NFKC", text)
    if not text.strip() or _bare(source) and not _bare(text):
        return ("empty",)
    if not _bare(source):
        return ()
    raised = {
        "copied": is_copied(source, text, limits),
        "repeated": has_loop(text, limits) and not has_loop(source, limits),
        "length": not _length_fits(len(source), len(text), source_lang, lang, limits),
        "wrong_script": _in_wrong_script(source, text, expected_scripts, DENSITY.get(lang, 1.0), limits),
    }
    return tuple(flag for flag in FLAGS if raised.get(flag))


def is_copied(source: str, text: str, limits: FlagLimits) -> bool:
    """Whether the text is the source again, or most of the source's words without a capital recur in it."""
    if _may_be_name(source, limits):
        return False
    if _bare(source) == _bare(text):
        return True
    words = set(_uncapitalised(source))
    recurring = words.intersection(_WORD.findall(text))
    return len(words) > limits.few_words + 1 and len(recurring) > limits.same_words * len(words)


def has_loop(text: str, limits: FlagLimits) -> bool:
    """Whether a unit with a letter in it follows itself `repeats` times or more."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    for period in _distances(text, limits.loop_characters // 2):
        if period > min(limits.longest_unit, len(codes) // limits.repeats):
            continue
        breaks = np.flatnonzero(codes[period:] != codes[:-period])
        edges = np.concatenate([[-1], breaks, [len(codes) - period]])
        runs = np.diff(edges) - 1 + period  # characters, each but the first `period` equal to that a period before
        needed = max(limits.repeats * period, limits.loop_characters)
        for place in np.flatnonzero(runs >= needed):
            start = edges[place] + 1
            if any(map(str.isalpha, text[start : start + period])):
                return True
    return False


def _distances(text: str, n: int) -> set[int]:
    """How far apart equal n-grams that follow each other are: in a loop at least one of them stands a period apart."""
    last, distances = {}, set()
    for place in range(len(text) - n + 1):
        gram = text[place : place + n]
        if gram in last:
            distances.add(place - last[gram])
        last[gram] = place
    return distances


def _length_fits(source: int, text: int, source_lang: str, lang: str, limits: FlagLimits) -> bool:
    density = DENSITY.get(lang, 1.0)
    expected, slack = source * density / DENSITY.get(source_lang, 1.0), limits.length_slack * density
    return expected / limits.length_ratio - slack <= text <= expected * limits.length_ratio + slack


def _in_wrong_script(source: str, text: str, expected: frozenset[str], density: float, limits: FlagLimits) -> bool:
    known = {word.casefold() for word in _WORD.findall(source)}
    inside = outside = 0.0
    for script, letters in groupby(text, key=script_of):
        run = "".join(letters)
        if script in expected:
            inside += len(run) / density
        elif script is not None and run.casefold() not in known:
            outside += len(run)
    if not inside and not outside:  # numbers, and words of the source
        return not _may_be_name(source, limits) and bool(_WORD.search(text))
    return inside < limits.script_share * (inside + outside)


def _may_be_name(source: str, limits: FlagLimits) -> bool:
    return len(_WORD.findall(source)) <= limits.few_words or not _uncapitalised(source)


def _uncapitalised(text: str) -> list[str]:
    return [word for word in _WORD.findall(text) if not word[0].isupper()]


def _bare(text: str) -> str:
    """The letters and digits of a text, without their case."""
    return "".join(filter(str.isalnum, text.casefold()))
