"""Noise in queries, typos or other letters of the same script, to measure how robust a retriever is.

The unit is the letter as its reader sees it: a base with its combining marks, a vowel sign, a conjunct (Unicode's
extended grapheme cluster, UAX 29) is hit as a whole or not at all. Digits, punctuation and spaces are never touched.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa
import regex

from hybridlib.companion.search.collection import Collection

KINDS = ("typos", "letters")
CLEAN = "clean"  # the name of the variant without noise
ENDING = r"#(typos|letters)-([\d.e-]+)-\d+$"  # of a noisy query's id: its variant
Alphabet = Mapping[tuple[str, str], Sequence[str]]  # (script, case) -> letters


@dataclass(frozen=True)
class Variant:
    """A kind of noise at a rate.

    Attributes:
        kind: "typos": a hit letter changes places with the next one, is dropped, or doubled, each as likely, as fingers
            do. "letters": it becomes another letter of its script and case.
        rate: share of the letters that are hit, in expectation, from 0 to 1.
        seed: another seed hits other letters.

    Raises:
        ValueError: no such kind, or a rate outside [0, 1].
    """

    kind: str
    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {self.kind!r}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must be in [0, 1], not {self.rate!r}")

    @property
    def name(self) -> str:
        """What the ids of its queries end with."""
        return f"{self.kind}-{self.rate}-{self.seed}"


def graphemes(text: str) -> list[str]:
    """The text cut into what its reader sees as characters."""
    return regex.findall(r"\X", text)


def alphabet(texts: Iterable[str]) -> Alphabet:
    """The letters that occur in texts, each once, sorted, by script and case."""
    kin: dict[tuple[str, str], list[str]] = {}
    for letter in sorted({letter for text in texts for letter in graphemes(text) if _is_letter(letter)}):
        kin.setdefault(_script_and_case(letter), []).append(letter)
    return kin


def add_noise(text: str, variant: Variant, letters: Alphabet) -> str:
    """The text with noise, a pure function of the arguments.

    Every letter is hit on its own with probability `rate`; those hit at a low rate are hit at a higher one too, so that
    rates compare on the same letters. Where two typos meet they may undo each other. A text all of whose letters would
    be dropped stays as it is.

    Args:
        letters: what hit letters become, such as the `alphabet` of all queries in the language; one stays where there
            is no other of its script and case. Typos need none.
    """
    cells = graphemes(text)
    rng = random.Random(f"{variant.seed} {variant.kind} {text}")  # by SHA-512: the same on every machine
    for i, (hit, draw) in enumerate([(rng.random() < variant.rate, rng.random()) for _ in cells]):
        if not hit or not _is_letter(cells[i]):
            continue
        if variant.kind == "typos":
            _slip(cells, i, draw)
        elif others := [letter for letter in letters.get(_script_and_case(cells[i]), ()) if letter != cells[i]]:
            cells[i] = _pick(others, draw)
    return "".join(cells) if any(map(_is_letter, cells)) else text


def with_variants(collection: Collection, variants: Sequence[Variant]) -> Collection:
    """The collection with each query once as it is and once per variant: one search encodes every passage once.

    A noisy query's id is `<id>#<name of the variant>`; it has the judgements of the clean one. "letters" draws from
    those of the clean queries in its language.

    Raises:
        ValueError: two variants have one name, or a query's id ends as those of a variant do.
    """
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise ValueError(f"variants: {', '.join(names)}: name each once")
    queries, judgements = collection.queries.to_pandas(), collection.judgements.to_pandas()
    if (taken := queries["query_id"].str.extract(ENDING)[0].notna()).any():
        raise ValueError(f"{collection.name}: {queries['query_id'][taken].iloc[0]!r} already names a variant")
    alphabets = {lang: alphabet(part["text"]) for lang, part in queries.groupby("lang")}
    tables = {"queries": [queries], "judgements": [judgements]}
    for variant in variants:
        pairs = zip(queries["text"], queries["lang"], strict=True)
        texts = [add_noise(text, variant, alphabets[lang]) for text, lang in pairs]
        for name, frame in (("queries", queries.assign(text=texts)), ("judgements", judgements)):
            tables[name].append(frame.assign(query_id=frame["query_id"] + f"#{variant.name}"))
    changed = {
        name: pa.Table.from_pandas(pd.concat(frames), getattr(collection, name).schema, preserve_index=False)
        for name, frames in tables.items()
    }
    own = collection.own and collection.own * (1 + len(variants))
    return replace(collection, name=f"{collection.name}-with-noise", own=own, **changed)


def split(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of a search of `with_variants`, the variant apart: what statistics resample is the clean query.

    Returns:
        The rows, their query_id and cluster (where there is one) those of the clean query, with kind ("clean" where
        there is no noise) and rate (0 for clean).
    """
    found = rows["query_id"].astype(str).str.extract(ENDING)
    cut = {
        column: rows[column].astype(str).str.replace(ENDING, "", regex=True)
        for column in {"query_id", "cluster"} & set(rows)
    }
    return rows.assign(**cut, kind=found[0].fillna(CLEAN), rate=found[1].astype(float).fillna(0.0))


def _is_letter(grapheme: str) -> bool:
    return unicodedata.category(grapheme[:1] or " ")[0] == "L"


def _script_and_case(grapheme: str) -> tuple[str, str]:
    """Its script, the first word of the Unicode name (CYRILLIC, HIRAGANA, CJK), and its case."""
    return unicodedata.name(grapheme[0], "").partition(" ")[0].partition("-")[0], unicodedata.category(grapheme[0])


def _slip(cells: list[str], i: int, draw: float) -> None:
    """Make one typo at place i; a letter changes places only with another letter beside it, so never across words."""
    swaps = i + 1 < len(cells) and _is_letter(cells[i + 1]) and cells[i + 1] != cells[i]
    match _pick(["drop", "double", "swap"] if swaps else ["drop", "double"], draw):
        case "drop":
            cells[i] = ""
        case "double":
            cells[i] *= 2
        case "swap":
            cells[i], cells[i + 1] = cells[i + 1], cells[i]


def _pick(options: Sequence[str], draw: float) -> str:
    """The option that a draw from [0, 1) falls on."""
    return options[int(draw * len(options))]
