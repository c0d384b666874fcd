"""Languages that can be translated into: their codes in NLLB-200, and the scripts they are written in."""

from __future__ import annotations

import tomllib
import unicodedata
from functools import cache
from importlib.resources import files

_TABLES = tomllib.loads((files("hybridlib.companion") / "data" / "translation.toml").read_text(encoding="utf-8"))
NLLB: dict[str, str] = _TABLES["nllb"]  # ISO 639-1 -> FLORES-200 code
DENSITY: dict[str, float] = _TABLES["density"]  # characters for one of English; 1 where a language is not named
WITHOUT_SPACES = ("ja", "zh")  # sentences follow each other without a space; in Thai a space is what ends one


def check_language(lang: str) -> None:
    """Refuse a language that is not in the table, by a ValueError that lists those that are."""
    if lang not in NLLB:
        raise ValueError(f"unknown language {lang!r}; give one of {' '.join(NLLB)}")


def scripts(lang: str) -> frozenset[str]:
    """Name the scripts of a language's letters as `script_of` does.

    Raises:
        ValueError: a language that is not in the table.
    """
    check_language(lang)
    return frozenset(_TABLES["scripts"][NLLB[lang].partition("_")[2]])


@cache
def script_of(character: str) -> str | None:
    """Give the first word of a letter's Unicode name ("LATIN", "CJK", ...); None: no letter, or one of every script."""
    if not character.isalpha():
        return None
    first = unicodedata.name(character, "UNKNOWN").replace("-", " ").split()[0]
    return {"IDEOGRAPHIC": "CJK", "MODIFIER": None}.get(first, first)
