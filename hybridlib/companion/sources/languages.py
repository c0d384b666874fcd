"""Languages that can be translated into: their codes in NLLB-200 and M2M-100, and the scripts they are written in."""

from __future__ import annotations

import unicodedata
from functools import cache

# ISO 639-1 -> FLORES-200 code, which NLLB-200 (arXiv 2207.04672) uses. Where FLORES-200 has several for a
# language it is the standard one: Modern Standard Arabic, Western Persian, simplified Chinese, Bokmål.
NLLB = {
    "ar": "arb_Arab",
    "bg": "bul_Cyrl",
    "bn": "ben_Beng",
    "cs": "ces_Latn",
    "da": "dan_Latn",
    "de": "deu_Latn",
    "el": "ell_Grek",
    "en": "eng_Latn",
    "es": "spa_Latn",
    "fa": "pes_Arab",
    "fi": "fin_Latn",
    "fr": "fra_Latn",
    "he": "heb_Hebr",
    "hi": "hin_Deva",
    "hu": "hun_Latn",
    "id": "ind_Latn",
    "it": "ita_Latn",
    "ja": "jpn_Jpan",
    "ko": "kor_Hang",
    "nl": "nld_Latn",
    "no": "nob_Latn",
    "pl": "pol_Latn",
    "pt": "por_Latn",
    "ro": "ron_Latn",
    "ru": "rus_Cyrl",
    "sv": "swe_Latn",
    "sw": "swh_Latn",
    "ta": "tam_Taml",
    "te": "tel_Telu",
    "th": "tha_Thai",
    "tr": "tur_Latn",
    "uk": "ukr_Cyrl",
    "ur": "urd_Arab",
    "vi": "vie_Latn",
    "yo": "yor_Latn",
    "zh": "zho_Hans",
}
WITHOUT_SPACES = ("ja", "zh")  # sentences follow each other without a space; in Thai a space is what ends one

# The end of a FLORES-200 code -> scripts of the language's letters, by the first word of their Unicode names.
_SCRIPTS = {
    "Arab": {"ARABIC"},
    "Beng": {"BENGALI"},
    "Cyrl": {"CYRILLIC"},
    "Deva": {"DEVANAGARI"},
    "Grek": {"GREEK"},
    "Hang": {"HANGUL", "CJK"},
    "Hans": {"CJK"},
    "Hebr": {"HEBREW"},
    "Jpan": {"CJK", "HIRAGANA", "KATAKANA"},
    "Latn": {"LATIN"},
    "Taml": {"TAMIL"},
    "Telu": {"TELUGU"},
    "Thai": {"THAI"},
}


def scripts(lang: str) -> frozenset[str]:
    """Scripts of a language's letters, as `script_of` names them.

    Raises:
        ValueError: a language that is not in the table.
    """
    check_language(lang)
    return frozenset(_SCRIPTS[NLLB[lang].partition("_")[2]])


def check_language(lang: str) -> None:
    """ValueError for a language that is not in the table; it lists those that are."""
    if lang not in NLLB:
        raise ValueError(f"unknown language {lang!r}; give one of {' '.join(NLLB)}")


@cache
def script_of(character: str) -> str | None:
    """First word of a letter's Unicode name ("LATIN", "CJK", ...); None for what is no letter, or of every script."""
    if not character.isalpha():
        return None
    first = unicodedata.name(character, "UNKNOWN").replace("-", " ").split()[0]
    return {"IDEOGRAPHIC": "CJK", "MODIFIER": None}.get(first, first)
