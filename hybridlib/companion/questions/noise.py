"""Noise in queries, typos or other letters of the same script, to measure how robust a retriever is.

The unit is the letter as its reader sees it: a base with its combining marks, a vowel sign, a conjunct (Unicode's
extended grapheme cluster, UAX 29) is hit as a whole or not at all. Digits, punctuation and spaces are never touched.
Noise is a pure function of the text and the arguments; the same seed hits at a higher rate all letters that it hits at
a lower one, so that rates compare on the same letters.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Collection as Letters
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa
import regex

from hybridlib.companion.search.collection import JUDGEMENTS, QUERIES, Collection

KINDS = ("typos", "letters")
CLEAN = "clean"  # the name of the variant without noise
MARK = "#"  # stands between a query's id and its variant


@dataclass(frozen=True)
class Variant:
    """A kind of noise at a rate.

    Attributes:
        kind: "typos": a hit letter changes places with the next one, is dropped, or doubled, each as likely, as fingers
            do. "letters": it becomes another letter of its script and case.
        rate: share of the letters that are hit, in expectation, from 0 to 1.
        seed: another seed hits other letters.
    """

    kind: str
    rate: float
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self.kind, self.rate)

    @property
    def name(self) -> str:
        """What the ids of its queries end with."""
        return f"{self.kind}-{self.rate:g}-{self.seed}"


def graphemes(text: str) -> list[str]:
    """The text cut into what its reader sees as characters."""
    return regex.findall(r"\X", text)


def letters(texts: Iterable[str]) -> tuple[str, ...]:
    """The letters that occur in texts, each once, sorted."""
    return tuple(sorted({letter for text in texts for letter in graphemes(text) if _is_letter(letter)}))


def add_noise(text: str, kind: str, rate: float, seed: int = 0, alphabet: Letters[str] = ()) -> str:
    """The text with noise; see `Variant`.

    Every letter is hit on its own with probability `rate`. Where two typos meet they may undo each other. A text all of
    whose letters would be dropped stays as it is. Of kind "letters" a letter stays where the alphabet has no other one
    of its script and case.

    Args:
        alphabet: for "letters": what hit letters become, such as `letters` of all queries in the language.

    Raises:
        ValueError: no such kind, or a rate outside [0, 1].
    """
    _check(kind, rate)
    cells = graphemes(text)
    rng = random.Random(f"{seed} {kind} {text}")  # by SHA-512: the same on every machine
    draws = [(rng.random() < rate, rng.random()) for _ in cells]
    hits = [(i, draw) for i, (hit, draw) in enumerate(draws) if hit and _is_letter(cells[i])]
    if not hits:
        return text
    if kind == "letters":
        kin = _by_kind_of_letter(alphabet)
        for i, draw in hits:
            others = [other for other in kin.get(_kind_of_letter(cells[i]), ()) if other != cells[i]]
            cells[i] = _pick(others, draw) if others else cells[i]
        return "".join(cells)
    for i, draw in hits:
        _slip(cells, i, draw)
    noisy = "".join(cells)
    return noisy if letters([noisy]) else text


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
    if (taken := split(queries, variants)["variant"] != CLEAN).any():
        raise ValueError(f"{collection.name}: {queries['query_id'][taken].iloc[0]!r} already names a variant")
    alphabets = {lang: letters(part["text"]) for lang, part in queries.groupby("lang")}
    noisy_queries, noisy_judgements = [queries], [judgements]
    for variant in variants:
        texts = [
            add_noise(text, variant.kind, variant.rate, variant.seed, alphabets[lang])
            for text, lang in zip(queries["text"], queries["lang"], strict=True)
        ]
        ending = MARK + variant.name
        noisy_queries.append(queries.assign(query_id=queries["query_id"] + ending, text=texts))
        noisy_judgements.append(judgements.assign(query_id=judgements["query_id"] + ending))
    return replace(
        collection,
        name=f"{collection.name}-with-noise",
        own=collection.own and collection.own * (1 + len(variants)),
        queries=pa.Table.from_pandas(pd.concat(noisy_queries), QUERIES, preserve_index=False),
        judgements=pa.Table.from_pandas(
            pd.concat(noisy_judgements), JUDGEMENTS.append(pa.field("row", pa.int64())), preserve_index=False
        ),
    )


def split(rows: pd.DataFrame, variants: Sequence[Variant]) -> pd.DataFrame:
    """Rows of a search of `with_variants`, the variant apart: what statistics resample is the clean query.

    Args:
        rows: with query_id and, for statistics, cluster.

    Returns:
        The rows with query_id and cluster of the clean query and the columns variant (its name, or "clean"), kind
        ("clean" too) and rate (0 for clean).
    """
    by_name = {variant.name: variant for variant in variants}
    ids = rows["query_id"].astype(str)
    name = ids.str.rpartition(MARK)[2].where(ids.str.contains(MARK, regex=False), "")
    name = name.where(name.isin(by_name), CLEAN)
    cut = {column: _without(rows[column], name) for column in ("query_id", "cluster") if column in rows}
    kinds = {n: variant.kind for n, variant in by_name.items()} | {CLEAN: CLEAN}
    rates = {n: variant.rate for n, variant in by_name.items()} | {CLEAN: 0.0}
    return rows.assign(**cut, variant=name, kind=name.map(kinds), rate=name.map(rates).astype(float))


def _without(column: pd.Series, name: pd.Series) -> pd.Series:
    """The column without the variant's name at its end, where it stands there."""
    pairs = zip(column.astype(str), name, strict=True)
    return pd.Series([value.removesuffix(MARK + ending) for value, ending in pairs], column.index)


def _check(kind: str, rate: float) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, not {kind!r}")
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be in [0, 1], not {rate!r}")


def _is_letter(grapheme: str) -> bool:
    return unicodedata.category(grapheme[0])[0] == "L"


def _kind_of_letter(grapheme: str) -> tuple[str, str]:
    """Its script, the first word of the Unicode name (CYRILLIC, HIRAGANA, CJK), and its case."""
    return unicodedata.name(grapheme[0], "").partition(" ")[0].partition("-")[0], unicodedata.category(grapheme[0])


def _by_kind_of_letter(alphabet: Iterable[str]) -> Mapping[tuple[str, str], list[str]]:
    kin: dict[tuple[str, str], list[str]] = {}
    for letter in sorted(set(alphabet)):
        kin.setdefault(_kind_of_letter(letter), []).append(letter)
    return kin


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
