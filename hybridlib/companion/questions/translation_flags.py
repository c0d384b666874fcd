"""How well the flags for degenerate translations do: on good texts, on damaged ones, and on a few to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from hybridlib.companion.sources.flags import FLAGS, find_flags
from hybridlib.companion.sources.languages import scripts
from hybridlib.companion.sources.translator import Translator


def judge(texts: Mapping[str, Sequence[str]], translator: Translator, *, source: str = "en") -> pd.DataFrame:
    """Translate a few texts and show them with their flags.

    Args:
        texts: language -> texts, the same in every language.

    Returns:
        lang, source, given, translated, flags (joined by spaces): a row per text and language other than the source's.
    """
    rows = []
    for lang in (lang for lang in texts if lang != source):
        translations = translator.translate(texts[source], target=lang, source=source)
        for original, given, translated in zip(texts[source], texts[lang], translations, strict=True):
            flags = find_flags(original, translated, lang=lang, source_lang=source)
            rows.append((lang, original, given, translated, " ".join(flags)))
    return pd.DataFrame(rows, columns=["lang", "source", "given", "translated", "flags"])


def damage(kind: str, source: str, text: str, foreign: str) -> str:
    """Spoil a good translation as machine translation spoils it, so that the flag `kind` should be raised.

    Args:
        kind: "empty"; "copied" (the source); "repeated" (it begins well and loops over its last words); "length" (it
            stops after a tenth); "wrong_script" (`foreign`).
        foreign: the text in a language of another script.
    """
    half = text[: len(text) // 2 + 1]
    loop = half + " " + (half[-15:].strip() + " ") * 8
    short = text[: len(text) // 10]
    return {"empty": " .", "copied": source, "repeated": loop, "length": short, "wrong_script": foreign}[kind]


def rates(texts: Mapping[str, Sequence[str]], *, source: str = "en", damage_every: int = 1) -> pd.DataFrame:
    """Count how often the flags are raised on good translations and on damaged ones.

    Args:
        texts: language -> texts, the same in every language; a language of another script than each must be among them.
        damage_every: damage only one text in so many, since there are five ways to damage each.

    Returns:
        A row per language other than the source's: lang; texts, and how many of them have any flag (false alarms);
        damaged, and per flag how many of the texts damaged that way have that flag.

    Raises:
        ValueError: a language has none of another script beside it.
    """
    rows = []
    for lang in (lang for lang in texts if lang != source):
        others = [other for other in texts if other != source and not scripts(other) & scripts(lang)]
        if not others:
            raise ValueError(f"texts have no language beside {source!r} in another script than {lang!r}: add one")
        good, options = (
            list(zip(texts[source], texts[lang], texts[others[0]], strict=True)),
            {"lang": lang, "source_lang": source},
        )
        alarms = sum(bool(find_flags(original, text, **options)) for original, text, _ in good)
        some = good[::damage_every]
        counts = {"lang": lang, "texts": len(good), "false alarms": alarms, "damaged": len(some)}
        for kind in FLAGS:
            counts[kind] = sum(kind in find_flags(each[0], damage(kind, *each), **options) for each in some)
        rows.append(counts)
    return pd.DataFrame(rows)
